"""A process that dies, at each step and by SIGKILL: the next one settles what it had reserved; the sums are right."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

import trove_async as trove
from tests.quota.truth import AMPLE, expire_leases, held, layers, quota_of, reserved, used
from tests.quota.victim import LIMITS, Victim
from trove_async.database import Database, connect
from trove_async.driver import Driver
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.layers.quota.books import Work
from trove_async.layers.quota.database.ledger import DatabaseLedger
from trove_async.layers.quota.layer import QuotaDriver
from trove_async.layers.quota.limits import check_limits

pytestmark = pytest.mark.asyncio

R = TypeVar("R")


class Died(BaseException):
    """What a process sees that does not exist any more."""


@dataclass
class Mortal:
    """Dies before or after a transaction, or an operation of the backend. Nothing that it does then counts."""

    last: int | None = None
    step: int = 0

    async def live(self, work: Callable[[], Awaitable[R]]) -> R:
        if self.last is None:
            return await work()
        self._step()
        result = await work()
        self._step()
        return result

    def _step(self) -> None:
        self.step += 1
        if self.last is not None and self.step > self.last:
            raise Died


class MortalDriver(LayerDriver):
    def __init__(self, inner: Driver, mortal: Mortal) -> None:
        super().__init__(inner)
        self._mortal = mortal

    async def around(self, operation: Operation, call: Call[R]) -> R:
        return await self._mortal.live(call)


class MortalLedger(DatabaseLedger):
    mortal = Mortal()

    async def write(self, work: Work[R]) -> R:
        return await self.mortal.live(lambda: super(MortalLedger, self).write(work))


def mortal_layers(mortal: Mortal, ledger: DatabaseLedger) -> list[trove.Layer]:
    return [
        lambda driver: MortalDriver(driver, mortal),
        lambda driver: QuotaDriver(driver, check_limits(LIMITS), ledger),
    ]


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 2**20


@dataclass
class Scene:
    """What an operation finds: the objects ``a`` and ``v`` with versions, and an upload with two parts."""

    store: trove.Trove
    upload: str
    parts: list[trove.PartInfo]
    version: str


OPERATIONS: Mapping[str, Callable[[Scene], Awaitable[object]]] = {
    "create": lambda s: s.store.put("b", "new", b"x" * 5),
    "replace": lambda s: s.store.put("b", "a", b"x" * 5),
    "stream": lambda s: s.store.put("b", "a", chunks()),
    "version": lambda s: s.store.put("kept", "v", b"x" * 5),
    "delete": lambda s: s.store.delete("b", "a"),
    "delete many": lambda s: s.store.delete_many("b", ["a", "c"]),
    "delete version": lambda s: s.store.delete_version("kept", "v", s.version),
    "copy": lambda s: s.store.copy("kept", "v", "b", "a"),
    "part": lambda s: s.store.upload_part("b", "u", s.upload, 2, b"x" * 50),
    "complete": lambda s: s.store.complete_multipart("b", "u", s.upload, s.parts),
    "abort": lambda s: s.store.abort_multipart("b", "u", s.upload),
    "versioning": lambda s: s.store.set_versioning("b", True),
    "delete bucket": lambda s: s.store.delete_bucket("empty"),
}


ORDINARY = {"replace", "stream", "delete many", "copy", "complete"}
"""The operations of an ordinary run."""


async def prepared(dsn: str, url: Database) -> Scene:
    async with trove.open(dsn, layers=layers(LIMITS, url)) as t:
        for bucket in ("b", "kept", "empty"):
            await t.create_bucket(bucket)
        await t.set_versioning("kept", True)
        await t.put("b", "a", b"x" * 100)
        await t.put("b", "c", b"x" * 10)
        version = (await t.put("kept", "v", b"x" * 20)).version_id
        await t.put("kept", "v", b"x" * 30)
        upload = await t.initiate_multipart("b", "u")
        parts = [await t.upload_part("b", "u", upload, n, b"x" * 40) for n in (1, 2)]
        assert version is not None
        return Scene(t, upload, parts, version)


@pytest.mark.parametrize(
    "operation",
    [name if name in ORDINARY else pytest.param(name, marks=pytest.mark.long) for name in OPERATIONS],
)
async def test_killed_at_every_step(operation: str, sqlite_url: str, tmp_path: Path) -> None:
    steps = 0
    async with connect(sqlite_url) as db:
        while True:
            dsn = f"memory://{tmp_path.name}-{steps}?min_part_size=1"
            async with trove.open(dsn) as holder:
                scene = await prepared(dsn, db)
                mortal, ledger = Mortal(), MortalLedger(db, 30.0)
                async with trove.open(dsn, layers=mortal_layers(mortal, ledger)) as t:
                    mortal.last, ledger.mortal = steps, mortal
                    scene.store = t
                    done = await died_in(OPERATIONS[operation](scene))
                    # What the process would still do after its death does not count; its lease ends by itself.
                    mortal.last, ledger._held = -1, None
                await expire_leases(db)
                async with trove.open(dsn, layers=layers(None, db)) as survivor:
                    assert await reserved(db) == 0
                    for bucket in ("b", "kept"):
                        assert await used(survivor, bucket) == await held(holder, bucket), f"died after step {steps}"
                    for bucket in ("b", "kept", "empty"):
                        if await exists(survivor, bucket):
                            await survivor.empty_bucket(bucket, versions=True)
                    await survivor.abort_multipart("b", "u", scene.upload)
                    assert await used(survivor, "b") == (0, 0) == await used(survivor, "kept")
                    for bucket in ("b", "kept", "empty"):
                        if await exists(survivor, bucket):
                            await survivor.delete_bucket(bucket)
            if done:
                break
            steps += 1
    assert steps >= 4


async def died_in(work: Awaitable[object]) -> bool:
    """Tell whether an operation ended before the process died."""
    try:
        await work
    except Died:
        return False
    return True


async def exists(store: trove.Trove, bucket: str) -> bool:
    return bucket in [found.name for found in await store.list_buckets()]


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 12))])
async def test_killed_by_a_signal(seed: int, sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(exist_ok=True)
    dsn = f"local://{tmp_path}/root?min_part_size=1&fsync=0"
    with Victim(dsn, sqlite_url) as victim:
        for _ in range(random.Random(seed).randrange(40, 120)):
            assert await victim.line()
        victim.kill()
    async with connect(sqlite_url) as db:
        await expire_leases(db)
        async with trove.open(dsn, layers=layers(LIMITS, db)) as survivor:
            assert await reserved(db) == 0
            for bucket in ("b", "kept"):
                assert await used(survivor, bucket) == await held(survivor, bucket)
            before = await quota_of(survivor).usage()
            assert await quota_of(survivor).recount() == before


async def until(look: Callable[[], Awaitable[R]], is_enough: Callable[[R], bool]) -> None:
    while not is_enough(await look()):  # noqa: ASYNC110 - another store changes it
        await asyncio.sleep(0.01)


async def test_the_living_settle_for_the_dead(sqlite_url: str, tmp_path: Path) -> None:
    """Without a restart: who is open already looks for leases that have ended."""
    dsn = f"memory://{tmp_path.name}"
    limits = {"b": trove.QuotaLimit(bytes=100)}
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 80
        await never.wait()
        yield b"x" * 10

    async with connect(sqlite_url) as db, trove.open(dsn, layers=layers(limits, db, lease=0.05)) as living:
        await living.create_bucket("b")
        async with connect(sqlite_url) as theirs:
            dying = await trove.open(dsn, layers=layers(limits, theirs))
            writing = asyncio.create_task(dying.put("b", "a", endless()))
            await until(lambda: used(living), lambda found: found[0] >= 80)
            with pytest.raises(trove.QuotaExceededError):
                await living.put("b", "c", b"x" * 90)
            await expire_leases(db)
            await until(lambda: reserved(db), lambda found: found == 0)
            assert await used(living) == (0, 0)
            await living.put("b", "c", b"x" * 90)
            # It was not dead, only slow: what it had reserved is gone, and it cannot write past the limit.
            never.set()
            with pytest.raises(trove.LeaseLostError, match="stood still for too long"):
                await writing
            with pytest.raises(trove.QuotaExceededError):
                await dying.put("b", "a", b"x" * 80)
            await dying.aclose()
        assert await used(living) == (90, 1) == await held(living)


async def test_a_database_that_cannot_be_reached_lets_nothing_be_written(sqlite_url: str, tmp_path: Path) -> None:
    async with trove.open(f"memory://{tmp_path.name}") as plain:
        db = await connect(sqlite_url)
        store: Any = await trove.open(
            f"memory://{tmp_path.name}", layers=layers({"b": trove.QuotaLimit(bytes=100)}, db)
        )
        await store.create_bucket("b")
        await store.put("b", "a", b"x")
        await db.aclose()
        with pytest.raises(trove.ClosedError, match="the database was closed"):
            await store.put("b", "c", b"x")
        with pytest.raises(trove.ClosedError):
            await store.delete("b", "a")
        assert await store.read("b", "a") == b"x"
        assert [info.key async for info in plain.list("b")] == ["a"]
        await store.aclose()


async def test_a_write_that_goes_on_when_the_store_was_closed_fails_as_on_any_closed_store(
    sqlite_url: str, tmp_path: Path
) -> None:
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await go_on.wait()
        yield bytes(2 * 2**20)

    dsn = f"memory://{tmp_path.name}"
    async with trove.open(dsn):
        store = await trove.open(dsn, layers=layers({"b": AMPLE}, sqlite_url))
        await store.create_bucket("b")
        writing = asyncio.create_task(store.put("b", "a", slow()))
        await until(lambda: used(store), lambda found: found[1] == 1)
        await store.aclose()
        go_on.set()
        with pytest.raises(trove.ClosedError, match="the store was closed"):
            await writing
        async with trove.open(dsn, layers=layers({"b": AMPLE}, sqlite_url)) as store:
            assert await used(store) == (0, 0)
