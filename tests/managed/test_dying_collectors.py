"""A process dies between any two steps of a collection or a repair; another one goes on."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, update

from tests.managed.dying import Death, Process
from tests.managed.state import BUCKET, age, path_in, rows, sha384, stored
from trove_async import Trove
from trove_async.database.leases import _leases
from trove_async.managed import (
    CollectionReport,
    FsckReport,
    ListableStorage,
    ManagedStorage,
    ProblemKind,
    ResourceCatalog,
    StoreResourceStorage,
    collect,
    fsck,
)
from trove_async.managed.schema import BLOBS, State
from trove_async.managed.transitions import doom

pytestmark = pytest.mark.asyncio

KEPT = {"one": b"content", "two": b"content", "three": b"", "four": b"stored again"}


def storage_of(m: ManagedStorage) -> ListableStorage:
    storage: Any = m.storage
    found: ListableStorage = storage
    return found


async def gc(m: ManagedStorage) -> CollectionReport:
    return await collect(m.catalogue, storage_of(m), grace=0, dry_run=False, force=True)


async def repair(m: ManagedStorage) -> FsckReport:
    return await fsck(m.catalogue, storage_of(m), depth="bytes", repair=True, grace=0)


async def prepare(m: ManagedStorage, store: Trove) -> None:
    """Store content that must stay, and all that must go."""
    for number in range(3):
        await m.put_for_user("u", f"{number}", b"%d" % number)
    await m.put_for_user("u", "again", b"stored again")
    for number in range(3):
        await m.remove_for_user("u", f"{number}")
    await m.remove_for_user("u", "again")
    half_done = [blob.id for blob in (await rows(m)).blobs if blob.digest == sha384(b"0")]
    space = m.catalogue.space
    await m.catalogue.database.write(lambda connection: doom(connection, space, half_done, grace=0))
    for path, content in KEPT.items():
        await m.put_for_bucket("b", path, content)
    await m.catalogue.put(sha384(b"never stored"), 12)
    assert isinstance(m.storage, StoreResourceStorage)
    await store.put(BUCKET, m.storage.prefix + await path_in(m, "0abandoned"), b"1234")
    await age(m, 3600)


async def damage(m: ManagedStorage, store: Trove) -> None:
    """Damage what can be repaired, and lose the bytes of a content."""
    await m.put_for_bucket("lost", "p", b"will be lost")
    await m.storage.remove((await m.catalogue.get(await m.catalogue.find(sha384(b"will be lost")))).path)

    def unit(connection: Connection) -> None:
        here = BLOBS.c.space == m.catalogue.space
        wrong = {"state": State.CONDEMNED, "condemned_at": BLOBS.c.created_at, "refs": 0}
        connection.execute(update(BLOBS).where(here, BLOBS.c.digest == sha384(b"content")).values(**wrong))
        connection.execute(update(BLOBS).where(here, BLOBS.c.digest == sha384(b"")).values(refs=7))

    await m.catalogue.database.write(unit)


async def places(m: ManagedStorage, store: Trove, step: int) -> AsyncIterator[tuple[ManagedStorage, Process]]:
    """Yield storage in new spaces, and a process that dies at the next place in each, until one lives on."""
    for place in itertools.count(1, 1 if m.catalogue.database.driver == "sqlite" else step):
        process = Process(place)
        catalogue = ResourceCatalog(m.catalogue.database, f"{m.catalogue.space} {place}")
        fresh = ManagedStorage(catalogue, StoreResourceStorage(store, BUCKET, str(place)))
        await prepare(fresh, store)
        yield fresh, process
        if not process.dead:
            return


async def dies(work: Callable[[ManagedStorage], Awaitable[object]], m: ManagedStorage, process: Process) -> None:
    try:
        await work(process.managed(m))
    except Death:
        assert process.dead
    await m.catalogue.database.leases.acquire("so that there is the table", owner="test", seconds=1)

    def expire(connection: Connection) -> None:
        connection.exec_driver_sql(f"UPDATE {_leases.name} SET expires_at = 0")

    await m.catalogue.database.write(expire)


async def verify_kept(m: ManagedStorage) -> None:
    for path, content in KEPT.items():
        async with m.get_for_bucket("b", path) as reader:
            assert await reader.read() == content


async def test_collections(
    m: ManagedStorage, store: Trove, await_point_step: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    last = 0
    async for fresh, process in places(m, store, await_point_step):
        await dies(gc, fresh, process)
        last = process.places
        await verify_kept(fresh)
        found = await fsck(fresh.catalogue, storage_of(fresh), depth="bytes", grace=0)
        assert [problem.kind for problem in found.problems] in (
            [],
            [ProblemKind.ORPHAN],
        )
        await gc(fresh)
        await verify_kept(fresh)
        assert sorted((await stored(fresh)).values()) == sorted({*KEPT.values()})
        left = [blob.state for blob in (await rows(fresh)).blobs]
        assert sorted(left) == sorted([State.STORED] * 3 + [State.SWEPT])
        assert (await fsck(fresh.catalogue, storage_of(fresh), depth="bytes", grace=0)).problems == ()
    assert last > 20


async def test_repairs(
    m: ManagedStorage, store: Trove, await_point_step: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    last = 0
    async for fresh, process in places(m, store, await_point_step):
        await damage(fresh, store)
        await dies(repair, fresh, process)
        last = process.places
        left = await repair(fresh)
        assert {problem.kind for problem in left.problems if not problem.repaired} <= {ProblemKind.MISSING}
        await verify_kept(fresh)
        await gc(fresh)
        await verify_kept(fresh)
        await fresh.put_for_bucket("again", "p", b"will be lost")
        async with fresh.get_for_bucket("lost", "p") as reader:
            assert await reader.read() == b"will be lost"
        assert (await fsck(fresh.catalogue, storage_of(fresh), depth="bytes", grace=0)).problems == ()
    assert last > 10
