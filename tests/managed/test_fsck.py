"""`fsck`: each kind of damage is found at its depth, and repaired if asked."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

import trove_async
from tests.managed.state import BUCKET, check, path_in, rows, sha384, stored
from trove_async import Trove
from trove_async.database import connect
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    CollectionRefusedError,
    InvalidArgumentError,
    NotFoundError,
    ResourceDeletedError,
    TroveError,
    UnauthenticatedError,
)
from trove_async.managed import (
    Dedup,
    Depth,
    FsckReport,
    ManagedStorage,
    Problem,
    ProblemKind,
    ResourceCatalog,
    StoreResourceStorage,
    collect,
    fsck,
)
from trove_async.managed.schema import BLOBS, LINKS, State
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader

pytestmark = pytest.mark.asyncio

CONTENT = b"some content"
CONDEMNED = {"state": State.CONDEMNED, "condemned_at": BLOBS.c.created_at, "refs": 0, "held": 0}
Damage = Callable[[ManagedStorage], Awaitable[None]]


async def look(m: ManagedStorage, depth: Depth, *, repair: bool = False) -> list[ProblemKind]:
    return [problem.kind for problem in (await report(m, depth, repair=repair)).problems]


async def report(m: ManagedStorage, depth: Depth | str, **options: Any) -> FsckReport:
    assert isinstance(m.storage, StoreResourceStorage)
    return await fsck(m.catalogue, m.storage, depth=depth, **{"grace": 0, **options})


async def change(m: ManagedStorage, table: Any, **values: Any) -> None:
    def unit(connection: Connection) -> None:
        connection.execute(update(table).where(table.c.space == m.catalogue.space).values(**values))

    await m.catalogue.database.write(unit)


async def only_key(m: ManagedStorage) -> str:
    (blob,) = (await rows(m)).blobs
    return str(blob.key)


async def replace_bytes(m: ManagedStorage, data: bytes | None) -> None:
    storage, key = m.storage, await only_key(m)
    assert isinstance(storage, StoreResourceStorage)
    await storage.remove(key)
    if data is not None:
        await storage.store.put(BUCKET, key, data)


async def too_many(m: ManagedStorage) -> None:
    await change(m, BLOBS, refs=5)


async def too_few(m: ManagedStorage) -> None:
    await change(m, BLOBS, refs=0)


async def condemned(m: ManagedStorage) -> None:
    await change(m, BLOBS, state=State.CONDEMNED, condemned_at=BLOBS.c.created_at)


async def sweeping(m: ManagedStorage) -> None:
    await change(m, BLOBS, state=State.SWEEPING, condemned_at=BLOBS.c.created_at, refs=0)


async def missing(m: ManagedStorage) -> None:
    await replace_bytes(m, None)


async def shorter(m: ManagedStorage) -> None:
    await replace_bytes(m, CONTENT[:-1])


async def other(m: ManagedStorage) -> None:
    await replace_bytes(m, CONTENT[::-1])


async def abandoned(m: ManagedStorage) -> None:
    assert isinstance(m.storage, StoreResourceStorage)
    await m.storage.store.put(BUCKET, await path_in(m, "abandoned"), b"1234")


CORRECTED: list[tuple[Damage, Depth, list[ProblemKind]]] = [
    (too_many, Depth.ROWS, [ProblemKind.COUNT]),
    (too_few, Depth.ROWS, [ProblemKind.COUNT]),
    (condemned, Depth.ROWS, [ProblemKind.DANGLING]),
    (sweeping, Depth.ROWS, [ProblemKind.DANGLING]),
    (abandoned, Depth.HEADS, [ProblemKind.ORPHAN]),
]
LOST: list[tuple[Damage, Depth, ProblemKind]] = [
    (missing, Depth.HEADS, ProblemKind.MISSING),
    (shorter, Depth.HEADS, ProblemKind.LENGTH),
    (other, Depth.BYTES, ProblemKind.BYTES),
]


async def test_nothing_is_wrong_with_what_is_whole(m: ManagedStorage) -> None:
    for number in range(12):
        await m.put_for_bucket("b", f"{number}", b"%d" % number)
    await m.put_for_user("u", "empty", b"")
    await m.catalogue.put("ab" * 48, 5)
    await m.remove_for_bucket("b", "0")
    found = await report(m, "bytes")
    assert found == FsckReport(Depth.BYTES, 14, 13, ())
    assert found.clean


@pytest.mark.parametrize(("damage", "depth", "kinds"), CORRECTED, ids=lambda value: getattr(value, "__name__", None))
async def test_damage_is_found_at_its_depth_and_corrected(
    m: ManagedStorage, damage: Damage, depth: Depth, kinds: list[ProblemKind]
) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    await damage(m)
    if depth is Depth.HEADS:
        assert await look(m, Depth.ROWS) == []
    before = await rows(m)
    first = await look(m, depth)
    assert first[: len(kinds)] == kinds
    assert await rows(m) == before
    found = await report(m, depth, repair=True)
    assert [problem.kind for problem in found.problems][: len(kinds)] == kinds
    assert found.clean
    if damage is sweeping:  # nobody knew whether its bytes were still there
        assert await look(m, Depth.HEADS, repair=True) == [ProblemKind.RECOVERED]
    async with m.get_for_bucket("b", "one") as reader:
        assert await reader.read() == CONTENT
    assert (await report(m, Depth.BYTES)).problems == ()
    if damage is not abandoned:
        await check(m)


@pytest.mark.parametrize(("damage", "depth", "kind"), LOST, ids=lambda value: getattr(value, "__name__", None))
async def test_lost_content_is_restored_by_whoever_stores_it_again(
    m: ManagedStorage, damage: Damage, depth: Depth, kind: ProblemKind
) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    await m.put_for_user("u", "two", CONTENT)
    await damage(m)
    if depth is Depth.BYTES:
        assert await look(m, Depth.HEADS) == []
    assert await look(m, depth) == [kind]
    (problem,) = (await report(m, depth, repair=True)).problems
    assert (problem.kind, problem.repaired) == (kind, True)
    found = await report(m, Depth.HEADS)
    assert [one.kind for one in found.problems] == ([kind] if kind is not ProblemKind.BYTES else [ProblemKind.BYTES])
    assert not found.clean
    with pytest.raises(ResourceDeletedError):
        await m.get_for_bucket("b", "one")
    await m.put_for_bucket("another", "three", CONTENT)
    for opening in (m.get_for_bucket("b", "one"), m.get_for_user("u", "two"), m.get_for_bucket("another", "three")):
        async with opening as reader:
            assert await reader.read() == CONTENT
    await report(m, Depth.BYTES, repair=True)  # the bytes that are wrong are an orphan now
    assert (await report(m, Depth.BYTES)).problems == ()


@pytest.mark.parametrize("counted_again", [False, True])
async def test_lost_content_that_nobody_keeps_is_not_taken_back(m: ManagedStorage, counted_again: bool) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    await other(m)
    assert await look(m, Depth.BYTES, repair=True) == [ProblemKind.BYTES]
    if counted_again:
        mine = delete(LINKS).where(LINKS.c.space == m.catalogue.space)
        await m.catalogue.database.write(lambda connection: connection.execute(mine).rowcount)
        assert await look(m, Depth.ROWS, repair=True) == [ProblemKind.COUNT]
    else:
        await m.remove_for_bucket("b", "one")
    with pytest.raises(NotFoundError):
        await m.put_for_bucket_request("b", "two", sha384(CONTENT))
    assert await look(m, Depth.BYTES) == []
    assert isinstance(m.storage, StoreResourceStorage)
    assert (await collect(m.catalogue, m.storage, dry_run=False)).deleted == 1
    assert await stored(m) == {}


async def test_no_content_is_lost_because_the_bucket_is_missing(m: ManagedStorage, store: Trove) -> None:
    await m.put_for_bucket("b", "one", CONTENT)

    class Vanishing(StoreResourceStorage):
        """Lists a bucket that is deleted after that."""

        async def get(self, path: str, *, range: RangeLike | None = None) -> ObjectReader:
            return await self.store.get("deleted", path, range=range)

    with pytest.raises(BucketNotFoundError):
        await fsck(m.catalogue, Vanishing(store, BUCKET), depth="bytes", repair=True)
    async with m.get_for_bucket("b", "one") as reader:
        assert await reader.read() == CONTENT


async def test_bytes_that_come_back_are_recovered(m: ManagedStorage, store: Trove) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    key = await only_key(m)
    await missing(m)
    assert await look(m, Depth.HEADS, repair=True) == [ProblemKind.MISSING]
    await store.put(BUCKET, key, CONTENT)
    assert await look(m, Depth.HEADS) == [ProblemKind.RECOVERED]
    found = await report(m, Depth.HEADS, repair=True)
    assert found.clean
    assert (await report(m, Depth.BYTES)).problems == ()
    await check(m)


@pytest.mark.parametrize("error", [AccessDeniedError("no"), BackendError("the object is archived; restore it first")])
@pytest.mark.parametrize("opened", [False, True])
async def test_bytes_that_the_store_refuses_do_not_hide_other_damage(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch, error: TroveError, opened: bool
) -> None:
    await m.put_for_bucket("b", "damaged", CONTENT)
    await other(m)
    refused = await m.put_for_bucket("b", "refused", b"of the archive")
    key = next(blob.key for blob in (await rows(m)).blobs if blob.digest == refused.sha384)
    get, following = StoreResourceStorage.get, ObjectReader.__anext__
    readers: list[ObjectReader] = []

    async def refuse(self: StoreResourceStorage, path: str, **options: Any) -> ObjectReader:
        if path == key and not opened:
            raise error
        reader = await get(self, path, **options)
        if path == key:
            readers.append(reader)
        return reader

    async def fail(self: ObjectReader) -> bytes:
        if self in readers:
            raise error
        return await following(self)

    monkeypatch.setattr(ObjectReader, "__anext__", fail)

    monkeypatch.setattr(StoreResourceStorage, "get", refuse)
    found = await report(m, "bytes", repair=True)
    assert {problem.kind for problem in found.problems} == {ProblemKind.BYTES, ProblemKind.UNREADABLE}
    assert not found.clean


async def test_without_credentials_nothing_is_looked_at(m: ManagedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*arguments: Any, **options: Any) -> ObjectReader:
        raise UnauthenticatedError

    await m.put_for_bucket("b", "one", CONTENT)
    monkeypatch.setattr(StoreResourceStorage, "get", refuse)
    with pytest.raises(UnauthenticatedError):
        await report(m, "bytes")


async def test_a_name_whose_content_is_unknown_is_removed(on_sqlite: ManagedStorage) -> None:
    m = on_sqlite
    await m.put_for_bucket("b", "one", CONTENT)
    await m.put_for_bucket("b", "two", b"other")

    elsewhere = update(BLOBS).where(BLOBS.c.length == len(CONTENT)).values(space="another")
    await m.catalogue.database.write(lambda connection: connection.execute(elsewhere).rowcount)
    (problem,) = (await report(m, Depth.ROWS, repair=True)).problems
    assert (problem.kind, problem.subject, problem.repaired) == (ProblemKind.DANGLING, "b/one", True)
    assert (await report(m, Depth.BYTES)).problems[0].kind is ProblemKind.ORPHAN
    with pytest.raises(NotFoundError):
        await m.stat_for_bucket("b", "one")


async def test_condemned_content_that_was_stored_again_gives_its_names_to_the_new_one(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    await condemned(m)
    await m.put_for_bucket("b", "two", CONTENT)
    assert await look(m, Depth.ROWS, repair=True) == [ProblemKind.DANGLING]
    assert await look(m, Depth.BYTES) == []
    (live,) = [blob for blob in (await rows(m)).blobs if blob.condemned_at is None]
    assert live.refs == 2
    await check(m)


async def test_content_that_nobody_refers_to_is_condemned(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", CONTENT)

    def unit(connection: Connection) -> None:
        connection.execute(delete(LINKS).where(LINKS.c.space == m.catalogue.space))

    await m.catalogue.database.write(unit)
    assert await look(m, Depth.ROWS, repair=True) == [ProblemKind.COUNT]
    assert [blob.state for blob in (await rows(m)).blobs] == [State.CONDEMNED]
    assert await look(m, Depth.ROWS) == []
    await check(m)


async def test_references_without_names_keep_condemned_content(m: ManagedStorage) -> None:
    id, _ = await m.catalogue.put("ab" * 48, 5)
    await m.catalogue.upload_complete(id, "chosen")
    await condemned(m)
    assert await look(m, Depth.ROWS, repair=True) == [ProblemKind.COUNT]
    assert (await m.catalogue.get(id)).path == "chosen"
    assert await look(m, Depth.ROWS) == []


async def test_paths_that_others_have_chosen_are_looked_at(m: ManagedStorage, store: Trove) -> None:
    await store.put(BUCKET, "aa", b"12345")
    for digest, path in (("aa" * 48, "aa"), ("bb" * 48, "z/missing")):
        id, _ = await m.catalogue.put(digest, 5)
        await m.catalogue.upload_complete(id, path)
    assert await look(m, Depth.HEADS) == [ProblemKind.MISSING]
    assert await look(m, Depth.BYTES) == [ProblemKind.MISSING, ProblemKind.BYTES]


async def test_orphans_are_collected_after_they_were_repaired(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", CONTENT)
    await abandoned(m)
    (problem,) = (await report(m, Depth.HEADS, repair=True)).problems
    assert problem == Problem(
        ProblemKind.ORPHAN, await path_in(m, "abandoned"), "no content has these 4 bytes", repaired=True
    )
    assert await look(m, Depth.HEADS) == []
    assert isinstance(m.storage, StoreResourceStorage)
    await collect(m.catalogue, m.storage, grace=0, dry_run=False, force=True)
    assert [*(await stored(m)).values()] == [CONTENT]


async def test_young_orphans_are_no_problem(m: ManagedStorage) -> None:
    await abandoned(m)
    assert (await report(m, Depth.HEADS, grace=3600)).problems == ()


async def test_many_blobs_are_compared_in_pages(on_sqlite: ManagedStorage, monkeypatch: pytest.MonkeyPatch) -> None:

    from trove_async.managed import fsck as module  # noqa: F401 - the name of the function hides the module

    monkeypatch.setattr(sys.modules["trove_async.managed.fsck"], "_BATCH", 3)
    for number in range(10):
        await on_sqlite.put_for_bucket("b", f"{number}", b"%d" % number)
    assert (await report(on_sqlite, Depth.BYTES)) == FsckReport(Depth.BYTES, 10, 10, ())
    assert isinstance(on_sqlite.storage, StoreResourceStorage)
    for key in [*(await stored(on_sqlite))][::3]:
        await on_sqlite.storage.remove(key)
    found = await report(on_sqlite, Depth.HEADS, repair=True, force=True)
    assert [(one.kind, one.repaired) for one in found.problems] == [(ProblemKind.MISSING, True)] * 4


@pytest.mark.parametrize("depth", [Depth.HEADS, Depth.BYTES])
async def test_a_repair_in_the_wrong_bucket_is_refused(m: ManagedStorage, store: Trove, depth: Depth) -> None:
    for number in range(5):
        await m.put_for_bucket("b", f"{number}", b"%d" % number)
    await store.create_bucket("wrong")
    wrong = StoreResourceStorage(store, "wrong")
    assert len((await fsck(m.catalogue, wrong, depth=depth)).problems) == 5
    before = sorted((await rows(m)).blobs)
    with pytest.raises(CollectionRefusedError, match="5 of 5 blobs would be marked as lost, more than 10%; nothing"):
        await fsck(m.catalogue, wrong, depth=depth, repair=True)
    assert sorted((await rows(m)).blobs) == before
    found = await fsck(m.catalogue, wrong, depth=depth, repair=True, force=True)
    assert [problem.repaired for problem in found.problems] == [True] * 5
    assert await look(m, Depth.HEADS, repair=True) == [ProblemKind.RECOVERED] * 5  # that brings content back: no brake
    assert sorted((await rows(m)).blobs) == before


@pytest.mark.parametrize(("lost", "of", "refused"), [(1, 1, False), (1, 3, False), (2, 3, True), (2, 20, False)])
async def test_the_share_that_a_repair_may_mark_as_lost(
    on_sqlite: ManagedStorage, lost: int, of: int, refused: bool
) -> None:
    m = on_sqlite
    for number in range(of):
        await m.put_for_bucket("b", f"{number}", b"%d" % number)
    for key in [*await stored(m)][:lost]:
        await m.storage.remove(key)
    if refused:
        with pytest.raises(CollectionRefusedError):
            await look(m, Depth.HEADS, repair=True)
    else:
        assert await look(m, Depth.HEADS, repair=True) == [ProblemKind.MISSING] * lost
    marked = [blob for blob in (await rows(m)).blobs if blob.state == State.LOST]
    assert len(marked) == (0 if refused else lost)


async def test_the_objects_of_a_dedup_are_not_taken_for_its_blobs(url: str, space: str) -> None:
    async with trove_async.open("memory://") as inner, connect(url) as db:
        layers = [Dedup(db, bucket=BUCKET, space=space)]
        async with trove_async.open(inner.driver, layers=layers) as t:
            await t.create_bucket("one")
            await t.put("one", "a", CONTENT)
            catalogue, storage = ResourceCatalog(db, space), StoreResourceStorage(t, "one")
            for call in (
                fsck(catalogue, storage, depth="heads", repair=True, force=True),
                fsck(catalogue, storage),
                collect(catalogue, storage, grace=0, dry_run=False, force=True),
                collect(catalogue, storage),
            ):
                with pytest.raises(InvalidArgumentError, match="name the store without this layer"):
                    await call
            assert await t.read("one", "a") == CONTENT
            other = ResourceCatalog(db, f"{space}/other")
            assert (await fsck(other, storage, depth="heads")).clean  # blobs of others may be objects of a Dedup


@pytest.mark.parametrize("options", [{"depth": "deep"}, {"depth": None}, {"depth": "rows", "grace": -1}])
async def test_arguments_out_of_range_are_refused(on_sqlite: ManagedStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await report(on_sqlite, **options)


async def test_a_count_of_references_without_a_name_that_is_below_0(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", CONTENT)
    await change(m, BLOBS, refs=0, held=-1)
    assert await look(m, Depth.ROWS, repair=True) == [ProblemKind.COUNT]
    await check(m)
    (blob,) = (await rows(m)).blobs
    assert (blob.refs, blob.held) == (1, 0)


async def test_the_references_of_a_dedup_are_counted(url: str, space: str) -> None:
    async with (
        trove_async.open("memory://") as inner,
        connect(url) as db,
    ):
        await inner.create_bucket(BUCKET)
        catalogue, storage = ResourceCatalog(db, space), StoreResourceStorage(inner, BUCKET)
        async with trove_async.open(inner.driver, layers=[Dedup(db, bucket=BUCKET, space=space)]) as t:
            await t.create_bucket("one")
            await t.put("one", "a", CONTENT)
            await t.copy("one", "a", "one", "b")
            assert (await fsck(catalogue, storage, depth="bytes", grace=0)).problems == ()
            for wrong in ({"refs": 5, "held": 5}, {"refs": 0, "held": 0}, CONDEMNED):
                await change(ManagedStorage(catalogue, storage), BLOBS, **wrong)
                assert (await collect(catalogue, storage, grace=0, dry_run=False, force=True)).deleted == 0
                (problem,) = (await fsck(catalogue, storage, repair=True)).problems
                assert (problem.kind, problem.repaired) == (ProblemKind.COUNT, True)
                assert (await fsck(catalogue, storage, depth="bytes", grace=0)).problems == ()
                assert await t.read("one", "b") == CONTENT
            await t.delete_many("one", ["a", "b"])
            assert (await collect(catalogue, storage, grace=0, dry_run=False, force=True)).deleted == 1
