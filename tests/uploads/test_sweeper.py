"""The sweeper of a server."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

import pytest

import trove_async as trove
from tests.uploads.memory_store import MemoryStore
from trove_async.uploads import FileInfo, SweeperDataStore, TroveDataStore, TusApp
from trove_async.uploads.sweeper import Sweeper

pytestmark = pytest.mark.asyncio


@dataclass
class Swept(MemoryStore):
    """A data store that counts its sweeps, and says when the next one is due."""

    answers: list[float | Exception] = field(default_factory=list)
    sweeps: list[tuple[float, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        MemoryStore.__init__(self)

    async def sweep_if_due(self, every: float, *, orphans: bool) -> float:
        self.sweeps.append((every, orphans))
        answer = self.answers[len(self.sweeps) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Waits:
    """A clock: waits end at once until there are enough of them."""

    def __init__(self, most: int) -> None:
        self.seen: list[float] = []
        self.over = asyncio.Event()
        self._most = most

    async def __call__(self, seconds: float) -> None:
        self.seen.append(seconds)
        if len(self.seen) == self._most:
            self.over.set()
            await asyncio.Event().wait()


async def test_it_sweeps_when_it_is_due_and_goes_on_after_errors(caplog: pytest.LogCaptureFixture) -> None:
    store = Swept(answers=[100.0, trove.BackendUnavailableError("away"), 30.0])
    waits = Waits(4)
    sweeper = Sweeper(store, 100.0, orphans=False, sleep=waits, random=lambda: 0.5)
    with caplog.at_level(logging.ERROR, "trove_async.uploads"):
        sweeper.start()
        await waits.over.wait()
    assert waits.seen == [45.0, 105.0, 105.0, 35.0]
    assert store.sweeps == [(100.0, False)] * 3
    assert [record.getMessage() for record in caplog.records] == ["uploads could not be swept: away"]
    await sweeper.aclose()
    await sweeper.aclose()


async def test_the_first_sweep_is_soon() -> None:
    waits = Waits(1)
    sweeper = Sweeper(Swept(), 86_400.0, sleep=waits, random=lambda: 1.0)
    sweeper.start()
    await waits.over.wait()
    await sweeper.aclose()
    assert waits.seen == [60.0]


async def test_an_app_sweeps_from_its_start_to_its_end() -> None:
    async with trove.open("memory://") as t:
        await t.create_bucket("b")
        assert isinstance(TroveDataStore(t, "b"), SweeperDataStore)

        def sweepers() -> int:
            return sum(task.get_name() == "trove-uploads-sweeper" for task in asyncio.all_tasks())

        app = TusApp(t, bucket="b")
        assert sweepers() == 0
        async with app:
            assert sweepers() == 1
        assert sweepers() == 0
        async with TusApp(t, bucket="b", sweep_every=None), TusApp(MemoryStore()):
            assert sweepers() == 0


async def test_the_store_of_an_app_is_swept() -> None:
    async with trove.open("memory://") as t:
        await t.create_bucket("b")
        store = TroveDataStore(t, "b", expires=1e-6)
        await store.new_upload(FileInfo(id="old", size=1))
        waits = Waits(2)
        sweeper = Sweeper(store, 100.0, sleep=waits, random=lambda: 0.0)
        sweeper.start()
        await waits.over.wait()
        await sweeper.aclose()
        assert [info.id async for info in store.list_uploads()] == []
