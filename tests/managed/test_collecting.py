"""`collect`: what it deletes, what it leaves, and when it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, update

from tests.managed.state import BUCKET, age, check, path_in, rows, stored
from trove_async import Trove
from trove_async.errors import (
    AccessDeniedError,
    CollectionRefusedError,
    ConflictError,
    InvalidArgumentError,
    TransientError,
)
from trove_async.managed import (
    CollectionReport,
    ManagedStorage,
    ProblemKind,
    ResourceCatalog,
    StoreResourceStorage,
    collect,
    fsck,
)
from trove_async.managed.schema import BLOBS, SPACES, State
from trove_async.managed.storage import Unfinished

pytestmark = pytest.mark.asyncio

HOUR = 3600.0


async def gc(m: ManagedStorage, **options: Any) -> CollectionReport:
    assert isinstance(m.storage, StoreResourceStorage)
    return await collect(m.catalogue, m.storage, **{"grace": HOUR, "dry_run": False, "force": True, **options})


async def put_and_remove(m: ManagedStorage, *contents: bytes) -> None:
    for number, content in enumerate(contents):
        await m.put_for_bucket("b", f"old/{number}", content)
    for number, _ in enumerate(contents):
        await m.remove_for_bucket("b", f"old/{number}")


async def test_what_is_referred_to_stays(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", b"content")
    await age(m, 2 * HOUR)
    assert await gc(m) == CollectionReport(dry_run=False)
    await check(m)


async def test_what_is_condemned_stays_within_the_grace(m: ManagedStorage) -> None:
    await put_and_remove(m, b"content")
    assert (await gc(m)).waiting == 1
    await check(m)


async def test_what_is_condemned_goes_after_the_grace(m: ManagedStorage) -> None:
    await put_and_remove(m, b"content", b"more content")
    await m.put_for_bucket("b", "kept", b"kept")
    await age(m, 2 * HOUR)
    report = await gc(m)
    assert (report.deleted, report.bytes, report.waiting) == (2, 19, 0)
    assert [*(await stored(m)).values()] == [b"kept"]
    assert len((await rows(m)).blobs) == 1
    await check(m)


async def test_a_dry_run_changes_nothing_and_says_what_another_would_do(m: ManagedStorage, store: Trove) -> None:
    await put_and_remove(m, b"content")
    await m.catalogue.put("ab" * 48, 5)
    await store.put(BUCKET, await path_in(m, "abandoned"), b"1234")
    await age(m, 2 * HOUR)
    before = await rows(m), await stored(m)
    preview = await gc(m, dry_run=True, grace=0)
    assert preview == CollectionReport(True, expired=1, orphans=1, deleted=2, bytes=11)
    assert (await rows(m), await stored(m)) == before
    assert await gc(m, grace=0) == CollectionReport(False, expired=1, orphans=1, deleted=2, bytes=11)
    assert await stored(m) == {}


async def test_content_that_is_stored_again_survives(m: ManagedStorage) -> None:
    await put_and_remove(m, b"content")
    await m.put_for_bucket("b", "new", b"content")
    await age(m, 2 * HOUR)
    assert (await gc(m)).deleted == 1  # the old bytes, under another key
    async with m.get_for_bucket("b", "new") as reader:
        assert await reader.read() == b"content"
    await check(m)


async def test_announcements_of_dead_writers_go(m: ManagedStorage) -> None:
    await m.catalogue.put("ab" * 48, 5)
    await age(m, 2 * HOUR)
    assert (await gc(m)).expired == 1
    assert (await rows(m)).blobs == []


async def test_a_late_writer_gets_an_error_and_not_bytes_that_were_collected(
    m: ManagedStorage, store: Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = StoreResourceStorage.put

    async def slow(self: StoreResourceStorage, *arguments: Any, **options: Any) -> Any:
        written = await put(self, *arguments, **options)
        assert (await gc(m, grace=0)).deleted == 1  # as if the writer had slept for longer than the grace
        return written

    await gc(m)  # so that it knows the database
    with monkeypatch.context() as patch:
        patch.setattr(StoreResourceStorage, "put", slow)
        with pytest.raises(TransientError, match="collected"):
            await m.put_for_bucket("b", "one", b"content")
    assert await stored(m) == {}
    await m.put_for_bucket("b", "one", b"content")
    async with m.get_for_bucket("b", "one") as reader:
        assert await reader.read() == b"content"
    assert [blob.state for blob in (await rows(m)).blobs].count(State.SWEPT) == 1


async def test_orphans_are_forgotten_after_a_month(m: ManagedStorage, store: Trove) -> None:
    await store.put(BUCKET, await path_in(m, "abandoned"), b"1234")
    await put_and_remove(m, b"content")
    assert (await gc(m, grace=0)).deleted == 2
    assert (await gc(m, grace=0)).deleted == 0
    assert [blob.state for blob in (await rows(m)).blobs] == [State.SWEPT]
    await age(m, 31 * 24 * HOUR)
    await gc(m, grace=0)
    assert (await rows(m)).blobs == []


async def test_unfinished_uploads_of_dead_writers_are_aborted(m: ManagedStorage, store: Trove) -> None:
    await store.initiate_multipart(BUCKET, await path_in(m, "unfinished"))
    await store.initiate_multipart(BUCKET, "theirs")
    assert (await gc(m)).unfinished == 0
    assert (await gc(m, grace=0, dry_run=True)).unfinished == 1
    assert len(await store.list_multipart_uploads(BUCKET)) == 2
    assert isinstance(m.storage, StoreResourceStorage)
    (problem,) = (await fsck(m.catalogue, m.storage, depth="heads", grace=0)).problems
    assert (problem.kind, problem.repaired) == (ProblemKind.UNFINISHED, False)
    assert (await gc(m, grace=0)).unfinished == 1
    assert [upload.key for upload in await store.list_multipart_uploads(BUCKET)] == ["theirs"]
    await store.initiate_multipart(BUCKET, await path_in(m, "unfinished"))
    assert (await fsck(m.catalogue, m.storage, depth="heads", grace=0, repair=True)).clean
    assert [upload.key for upload in await store.list_multipart_uploads(BUCKET)] == ["theirs"]


async def test_an_upload_that_cannot_be_aborted_keeps_nothing_else_from_being_collected(
    m: ManagedStorage, store: Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = [await path_in(m, name) for name in ("dead/1", "dead/2")]
    for path in dead:
        await store.initiate_multipart(BUCKET, path)
    await put_and_remove(m, b"content")
    abort = StoreResourceStorage.abort

    async def refuse_one(self: StoreResourceStorage, upload: Unfinished) -> None:
        if upload.path == dead[0]:
            raise AccessDeniedError
        await abort(self, upload)

    monkeypatch.setattr(StoreResourceStorage, "abort", refuse_one)
    report = await gc(m, grace=0, max_deletes=1)
    assert (report.unfinished, report.deleted) == (1, 1)
    assert [(path, type(error)) for path, error in report.failed] == [(dead[0], AccessDeniedError)]
    assert isinstance(m.storage, StoreResourceStorage)
    (problem,) = (await fsck(m.catalogue, m.storage, depth="bytes", grace=0, repair=True)).problems
    assert (problem.kind, problem.subject, problem.repaired) == (ProblemKind.UNFINISHED, dead[0], False)


async def test_young_orphans_stay(m: ManagedStorage, store: Trove) -> None:
    await m.put_for_bucket("b", "one", b"content")
    await store.put(BUCKET, await path_in(m, "in-progress"), b"1234")
    assert await gc(m) == CollectionReport(dry_run=False)
    assert len(await stored(m)) == 2


async def test_others_may_use_the_bucket(m: ManagedStorage, store: Trove) -> None:
    await store.put(BUCKET, "theirs", b"1234")
    assert (await gc(m, grace=0)).orphans == 0
    assert len(await stored(m)) == 1


async def test_more_than_a_tenth_is_refused(m: ManagedStorage) -> None:
    for number in range(8):
        await m.put_for_bucket("b", f"kept/{number}", b"%d" % number)
    await put_and_remove(m, b"content", b"more")
    await age(m, 2 * HOUR)
    for dry_run in (True, False):
        with pytest.raises(CollectionRefusedError, match="2 of 10 blobs would be deleted, more than 10%"):
            await gc(m, force=False, dry_run=dry_run)
    assert len(await stored(m)) == 10
    assert (await gc(m, force=False, max_share=0.2)).deleted == 2


async def test_several_spaces_and_databases_share_a_bucket(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", b"content")
    catalogue = ResourceCatalog(m.catalogue.database, f"{m.catalogue.space} another")
    other = ManagedStorage(catalogue, m.storage)
    assert (await gc(other, grace=0)) == CollectionReport(False)
    await other.put_for_bucket("b", "one", b"content")
    assert (await gc(other, grace=0)) == CollectionReport(False)
    assert len(await stored(m)) == 2
    assert (await gc(m, grace=0)) == CollectionReport(False)
    for each in (m, other):
        async with each.get_for_bucket("b", "one") as reader:
            assert await reader.read() == b"content"


async def test_deletions_can_be_limited_and_go_on(m: ManagedStorage) -> None:
    await put_and_remove(m, b"1", b"2", b"3")
    await age(m, 2 * HOUR)
    assert (await gc(m, max_deletes=2, dry_run=True)).deleted == 2
    assert [(await gc(m, max_deletes=2)).deleted for _ in range(3)] == [2, 1, 0]


async def turn_back(m: ManagedStorage, seconds: float) -> None:
    """Let the last collection have seen a time in the future."""
    shift = round(seconds * 1_000_000)

    def unit(connection: Connection) -> None:
        connection.exec_driver_sql(f"UPDATE {SPACES.name} SET seen_at = seen_at + {shift}")

    await m.catalogue.database.write(unit)


async def test_a_clock_that_went_back_is_refused(m: ManagedStorage) -> None:
    await put_and_remove(m, b"content")
    await gc(m)
    await age(m, 2 * HOUR)
    await turn_back(m, 60)
    for dry_run in (True, False):
        with pytest.raises(CollectionRefusedError, match="clock went back"):
            await gc(m, dry_run=dry_run)
    assert len(await stored(m)) == 1
    assert (await gc(m, trust_clock=True)).deleted == 1
    assert (await gc(m)).deleted == 0


async def test_a_collector_that_slept_for_longer_than_the_grace_stops(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_remove(m, b"content")
    await age(m, 2 * HOUR)
    listing = StoreResourceStorage.list

    async def slow(self: StoreResourceStorage, *arguments: Any, **options: Any) -> Any:
        async for one in listing(self, *arguments, **options):
            yield one
        await turn_back(m, -2 * HOUR)  # as if two hours had passed

    with monkeypatch.context() as patch:
        patch.setattr(StoreResourceStorage, "list", slow)
        with pytest.raises(CollectionRefusedError, match="suspended"):
            await gc(m)
    assert len(await stored(m)) == 1
    assert (await gc(m)).deleted == 1


async def test_only_one_collects(m: ManagedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = StoreResourceStorage.list

    async def meanwhile(self: StoreResourceStorage, *arguments: Any, **options: Any) -> Any:
        with pytest.raises(ConflictError):
            await gc(m)
        async for one in listing(self, *arguments, **options):
            yield one

    await m.put_for_bucket("b", "one", b"content")
    monkeypatch.setattr(StoreResourceStorage, "list", meanwhile)
    await gc(m)
    await gc(m)  # the first has let go


async def test_bytes_that_cannot_be_deleted_are_reported_and_tried_again(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_and_remove(m, b"content", b"more")
    await age(m, 2 * HOUR)
    remove = StoreResourceStorage.remove_many
    (bad, _) = await stored(m)

    async def failing(self: StoreResourceStorage, paths: Any) -> Any:
        return {**await remove(self, [path for path in paths if path != bad]), bad: TransientError("no")}

    with monkeypatch.context() as patch:
        patch.setattr(StoreResourceStorage, "remove_many", failing)
        report = await gc(m)
    assert report.deleted == 1
    assert [path for path, _ in report.failed] == [bad]
    assert [*await stored(m)] == [bad]
    assert (await gc(m)).deleted == 1
    assert (await rows(m)).blobs == []


async def test_a_condemned_blob_that_a_name_has_stays(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "one", b"content")

    def unit(connection: Connection) -> None:
        wrong = {"state": State.CONDEMNED, "refs": 0, "condemned_at": BLOBS.c.created_at}
        connection.execute(update(BLOBS).where(BLOBS.c.space == m.catalogue.space).values(**wrong))

    await m.catalogue.database.write(unit)
    await age(m, 2 * HOUR)
    assert (await gc(m)).deleted == 0
    assert len(await stored(m)) == 1


@pytest.mark.parametrize(
    "options",
    [{"grace": -1}, {"grace": "1d"}, {"grace": True}, {"max_share": 1.5}, {"max_share": None}, {"max_deletes": -1}],
)
async def test_arguments_out_of_range_are_refused(on_sqlite: ManagedStorage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await gc(on_sqlite, **options)
