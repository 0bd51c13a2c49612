"""What is stored at the targets of a transfer is asked by listings."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

import trove_async
from trove_async import Trove
from trove_async.driver import Driver
from trove_async.errors import AccessDeniedError
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.transfers import Job, LocalFile, Outcome, Result, StoredObject, Transfer, files_below, transfer
from trove_async.transfers.listed import Listed, Listings
from trove_async.transfers.looking import Look, look_at

pytestmark = pytest.mark.asyncio

R = TypeVar("R")


class Counting(LayerDriver):
    """Counts the operations, and refuses some."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self.refused: set[str] = set()

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self.calls[operation.name] += 1
        if operation.name in self.refused:
            raise AccessDeniedError("refused")
        return await call()


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove_async.open("memory://", layers=[Counting]) as opened:
        await opened.create_bucket("b")
        yield opened


@pytest.fixture
def calls(store: Trove) -> Counting:
    found = trove_async.unwrap(store.driver, Counting)
    found.calls.clear()
    return found


async def copy_all(folder: Path, store: Trove, prefix: str = "tree") -> Counter[Outcome]:
    async def jobs() -> AsyncIterator[Job]:
        async for found in files_below(str(folder)):
            yield Job(found.end, StoredObject(store, "b", f"{prefix}/{found.name}"), found.size)

    results: list[Result] = []
    await Transfer().run(jobs(), results.append)
    return Counter(result.outcome for result in results)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(300):
        path = tmp_path / f"d{number % 7}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number)
    return tmp_path


async def test_a_first_copy_takes_one_request_for_each_file_and_a_listing(
    store: Trove, calls: Counting, folder: Path
) -> None:
    assert await copy_all(folder, store) == {Outcome.COPIED: 300}
    assert calls.calls == {"put": 300, "list_page": 1}


async def test_what_has_another_size_is_copied_without_a_look(store: Trove, calls: Counting, folder: Path) -> None:
    await copy_all(folder, store)
    calls.calls.clear()
    (folder / "d0" / "0").write_bytes(b"longer")
    assert await copy_all(folder, store) == {Outcome.COPIED: 1, Outcome.UNCHANGED: 299}
    assert calls.calls == {"put": 1, "head": 299, "list_page": 1}


async def test_without_the_right_to_list_each_target_is_asked_for(store: Trove, calls: Counting, folder: Path) -> None:
    await copy_all(folder, store)
    calls.calls.clear()
    calls.refused = {"list_page"}
    assert await copy_all(folder, store) == {Outcome.UNCHANGED: 300}
    assert calls.calls == {"head": 300, "list_page": 1}


async def test_listings_agree_with_the_store(store: Trove) -> None:
    """For keys in order and not, that are there and not, close to each other and far apart."""
    numbers = random.Random(5)
    stored = sorted({f"{numbers.randrange(3)}/{numbers.randrange(30_000):05}" for _ in range(6_000)})
    for key in stored:
        await store.put("b", key, key.encode())
    there = frozenset(stored)
    for pick in (stored, sorted(numbers.sample(stored, 40)), [stored[-1], stored[0], "2/", "z", "\U0010ffff", "!"]):
        listings, unknown = Listings(), 0
        for key in [one for name in pick for one in (name, f"{name}x")]:
            found = await listings.find(StoredObject(store, "b", key))
            if found is None:
                unknown += 1
            elif key in there:
                assert found.info is not None
                assert (found.info.key, found.info.size) == (key, len(key))
            else:
                assert found == Listed(None)
        assert unknown <= 1


async def test_few_keys_among_many_others_are_not_listed_for_long(store: Trove, calls: Counting) -> None:
    for number in range(5_000):
        await store.put("b", f"kk{number:05}", b"")
    calls.calls.clear()
    assert await Listings().find(StoredObject(store, "b", "kz")) is None
    assert calls.calls == {"list_page": 2}


async def test_a_target_that_is_a_file_is_not_listed(store: Trove, calls: Counting, tmp_path: Path) -> None:
    await store.put("b", "key", b"data")

    async def jobs() -> AsyncIterator[Job]:
        yield Job(StoredObject(store, "b", "key"), LocalFile(str(tmp_path / "file")), 4)

    calls.calls.clear()
    await Transfer().run(jobs(), lambda _: None)
    assert calls.calls == {"get": 1}


async def test_files_are_read_only_where_their_bytes_are_needed(
    store: Trove, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ETags of the store prove nothing about bytes, so a copy that changes nothing reads no file."""
    read: list[bool] = []

    def look_at_counted(path: str, *, read: bool, counted: list[bool] = read) -> Look:
        counted.append(read)
        return look_at(path, read=read)

    monkeypatch.setattr(transfer, "look_at", look_at_counted)
    assert await copy_all(folder, store) == {Outcome.COPIED: 300}
    assert read == [True] * 300
    read.clear()
    assert await copy_all(folder, store) == {Outcome.UNCHANGED: 300}
    assert read == [False] * 300


async def test_files_that_are_read_in_one_hop_have_few_bytes() -> None:
    sizes = [4096] * 20 + [200_000] * 12 + [10**12] + [1]
    jobs = [Job(LocalFile(f"/{number}"), LocalFile("/"), size) for number, size in enumerate(sizes)]
    parts = list(transfer._divided(jobs))
    assert [job for part in parts for job in part] == jobs
    assert max(sum(job.size for job in part if job.size < 10**12) for part in parts) <= 2**20
    assert len(parts) == 3
