"""Expiry, and what is swept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

import trove_async as trove
from tests.uploads.store.conftest import Clock
from tests.uploads.store.stores import PART, chunks, upload
from trove_async.errors import UploadExpiredError, UploadNotFoundError
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, SweepReport, TroveDataStore
from trove_async.uploads.store.states import States, Stored

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.parametrize("driver", ["memory", "parts", "local", "ceph"], indirect=True),
]

LATER = datetime.now(UTC) + timedelta(days=8)
"""When what a test has begun is old, by the clock of the backend."""


async def keys(store: trove.Trove, bucket: str) -> list[str]:
    return [each.key async for each in store.list(bucket)]


async def test_an_upload_that_is_not_continued_expires(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, clock: Clock
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=2 * PART))
    assert (await uploads.get_info(upload_id)).expires_at == clock.time + timedelta(days=7)
    clock.advance(days=6)
    await uploads.write_chunk(upload_id, 0, chunks(b"x" * 100))
    assert (await other.get_info(upload_id)).expires_at == clock.time + timedelta(days=7)
    clock.advance(days=6)
    assert (await other.get_info(upload_id)).offset == 100
    assert (await uploads.sweep()).expired == []
    clock.advance(days=1)
    for process in (uploads, other):
        with pytest.raises(UploadExpiredError):
            await process.get_info(upload_id)
        with pytest.raises(UploadExpiredError):
            await process.write_chunk(upload_id, 100, chunks(b"x"))
    assert [info.id async for info in other.list_uploads()] == [upload_id]
    report = await other.sweep(orphans=None)
    assert (report.expired, report.failed) == ([upload_id], [])
    with pytest.raises(UploadNotFoundError):
        await other.get_info(upload_id)
    assert await keys(store, bucket) == []
    assert await store.list_multipart_uploads(bucket) == []


@pytest.mark.parametrize("is_verified", [False, True])
async def test_an_upload_does_not_expire_while_a_chunk_is_received(
    uploads: TroveDataStore, other: TroveDataStore, clock: Clock, is_verified: bool
) -> None:
    data = random_bytes(2 * PART + 1000)
    upload_id = await uploads.new_upload(FileInfo(size=len(data)))
    await uploads.write_chunk(upload_id, 0, chunks(data[:500]))

    async def slowly() -> AsyncIterator[bytes]:
        async for chunk in chunks(data[500:], PART // 4):
            clock.advance(days=2)
            yield chunk
            assert (await other.get_info(upload_id)).offset >= 500
            assert (await other.sweep(orphans=None)).expired == []

    if is_verified:
        await uploads.write_verified_chunk(upload_id, 500, slowly(), lambda: None)
    else:
        await uploads.write_chunk(upload_id, 500, slowly())
    await uploads.finish_upload(upload_id)
    async with await other.get_reader(upload_id) as reader:
        assert b"".join([bytes(chunk) async for chunk in reader]) == data


async def test_the_object_of_a_finished_upload_stays(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, clock: Clock
) -> None:
    whole, partial = await upload(uploads, b"whole"), await upload(uploads, b"partial", is_partial=True)
    clock.advance(days=7)
    assert (await uploads.get_info(whole)).is_finished
    report = await uploads.sweep(orphans=None)
    assert sorted(report.forgotten) == sorted([whole, partial])
    assert await keys(store, bucket) == [whole]
    assert await store.read(bucket, whole) == b"whole"


async def test_nothing_expires_if_not_wanted(store: trove.Trove, bucket: str, clock: Clock) -> None:
    uploads = TroveDataStore(store, bucket, expires=None, part_size=PART, now=clock)
    upload_id = await uploads.new_upload(FileInfo(size=1))
    clock.advance(days=10_000)
    assert (await uploads.get_info(upload_id)).expires_at is None
    assert await uploads.sweep(orphans=None) == SweepReport()


async def test_what_no_state_names_is_removed_when_it_is_old(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, clock: Clock
) -> None:
    clock.time = LATER
    known = await uploads.new_upload(FileInfo(size=PART))
    partial = await upload(uploads, b"partial", is_partial=True)
    foreign = await store.initiate_multipart(bucket, "foreign")
    await store.put(bucket, ".trove-uploads/gone.data", b"x")
    young = await uploads.sweep(datetime.now(UTC))
    assert young == SweepReport()
    assert await uploads.sweep(orphans=None) == SweepReport()
    report = await uploads.sweep()
    assert (report.aborted, report.deleted) == (["foreign"], [".trove-uploads/gone.data"])
    assert [each.upload_id for each in await store.list_multipart_uploads(bucket)] != [foreign]
    await uploads.write_chunk(known, 0, chunks(b"x" * PART))
    await uploads.finish_upload(known)
    async with await uploads.get_reader(partial) as reader:
        assert b"".join([bytes(chunk) async for chunk in reader]) == b"partial"


async def test_a_state_that_cannot_be_read_stays(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, clock: Clock
) -> None:
    clock.time = LATER
    foreign = await store.initiate_multipart(bucket, "foreign")
    await store.put(bucket, ".trove-uploads/broken", b"no state")
    report = await uploads.sweep()
    assert [(what, type(error)) for what, error in report.failed] == [("broken", trove.BackendError)]
    assert report.aborted == []
    assert [each.upload_id for each in await store.list_multipart_uploads(bucket)] == [foreign]
    with pytest.raises(trove.BackendError):
        await uploads.get_info("broken")


async def test_one_process_at_a_time_sweeps(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, clock: Clock
) -> None:
    expired = await uploads.new_upload(FileInfo(size=1))
    clock.advance(days=7)
    assert await uploads.sweep_if_due(100, orphans=False) == 100
    with pytest.raises(UploadNotFoundError):
        await other.get_info(expired)
    clock.advance(seconds=40)
    await uploads.new_upload(FileInfo(size=1, id="later"))
    clock.advance(seconds=30)
    assert await other.sweep_if_due(100, orphans=False) == 30
    clock.advance(seconds=30, days=7)
    assert [await each.sweep_if_due(100, orphans=False) for each in (other, uploads)] == [100, 100]
    assert await keys(store, bucket) == [".trove-uploads/place/swept"]
    clock.advance(days=-1)  # a clock that was wrong
    await uploads.new_upload(FileInfo(size=1, id="after"))
    assert await other.sweep_if_due(100, orphans=False) == 100


async def test_of_two_processes_that_come_at_once_one_sweeps(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, other: TroveDataStore, clock: Clock
) -> None:
    swept: list[timedelta | None] = []

    async def sweep(
        now: datetime | None = None, *, orphans: timedelta | None = None, dry_run: bool = False
    ) -> SweepReport:
        swept.append(orphans)
        return SweepReport()

    for process in (uploads, other):
        process.sweep = sweep  # type: ignore[method-assign]
    for _ in range(3):
        await asyncio.gather(*(each.sweep_if_due(100, orphans=False) for each in (uploads, other) * 5))
        clock.advance(seconds=100)
    assert swept == [None] * 3 or not store.supports("put_if_match")


async def test_an_upload_that_is_being_written_is_not_swept(
    uploads: TroveDataStore, other: TroveDataStore, clock: Clock
) -> None:
    upload_id = await uploads.new_upload(FileInfo(size=200))

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 100
        clock.advance(days=8)
        assert (await uploads.sweep(orphans=None)).expired == []

    await uploads.write_chunk(upload_id, 0, slow())
    assert (await other.get_info(upload_id)).offset == 100
    assert (await other.sweep(orphans=None)).expired == []


async def test_a_dry_run_removes_nothing(
    store: trove.Trove, bucket: str, uploads: TroveDataStore, clock: Clock
) -> None:
    clock.time = LATER
    await store.initiate_multipart(bucket, "foreign")
    await store.put(bucket, ".trove-uploads/gone.data", b"x")
    expired = await uploads.new_upload(FileInfo(size=1))
    clock.advance(days=7)
    report = await uploads.sweep(dry_run=True)
    assert report == SweepReport(expired=[expired], aborted=["foreign"], deleted=[".trove-uploads/gone.data"])
    assert await uploads.sweep() == report


async def test_several_states_are_read_at_once(
    uploads: TroveDataStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await uploads.new_upload(FileInfo(size=1)) for _ in range(40)]
    describe, reading = States.describe, [0]

    async def counted(self: States, upload_id: str) -> Stored:
        reading.append(reading[-1] + 1)
        try:
            await asyncio.sleep(0)
            return await describe(self, upload_id)
        finally:
            reading.append(reading[-1] - 1)

    monkeypatch.setattr(States, "describe", counted)
    clock.advance(days=7)
    report = await uploads.sweep(orphans=None)
    assert (report.expired, report.failed) == (sorted(ids), [])
    assert max(reading) == 16
