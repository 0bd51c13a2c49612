"""The memory driver's behaviour beyond the conformance suite."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime, tzinfo
from typing import Self
from uuid import uuid4

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.body import Body
from trove_async.driver import GetOptions, OpenOptions, PresignOptions, PutOptions, WatchOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.dsn import parse_dsn
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumError,
    ClosedError,
    InvalidDSNError,
    InvalidPartError,
    ObjectNotFoundError,
    UploadNotFoundError,
    VersionNotFoundError,
    WatchOverflowError,
)
from trove_async.types import EventType

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store() -> AsyncIterator[trove.Trove]:
    async with trove.open("memory://", min_part_size=4) as t:
        await t.create_bucket("b")
        yield t


def unique_dsn() -> str:
    return f"memory://{uuid4().hex}"


# Stores and their names


async def test_a_private_store_is_not_shared() -> None:
    async with trove.open("memory://") as one, trove.open("memory://") as other:
        await one.create_bucket("b")
        assert await other.list_buckets() == []


async def test_a_named_store_is_shared_in_the_process_and_outlives_its_drivers() -> None:
    dsn = unique_dsn()
    async with trove.open(dsn) as one, trove.open(dsn) as other:
        await one.create_bucket("b")
        await one.put("b", "k", b"data")
        assert await other.read("b", "k") == b"data"
    async with trove.open(dsn) as later:
        assert await later.read("b", "k") == b"data"


async def test_closing_a_private_store_frees_its_data() -> None:
    driver = MemoryDriver()
    await driver.open(parse_dsn("memory://"), OpenOptions())
    private = weakref.ref(driver._open_store())
    await driver.close()
    await driver.close()
    gc.collect()
    assert private() is None


async def test_a_named_store_can_be_used_from_several_threads() -> None:
    dsn = unique_dsn()
    count = 300

    async def write(prefix: str) -> None:
        async with trove.open(dsn) as t:
            for number in range(count):
                await t.put("b", f"{prefix}{number:04}", b"")
                assert [item async for item in t.list("b", prefix=prefix, start_after=f"{prefix}{number:04}")] == []

    async with trove.open(dsn) as t:
        await t.create_bucket("b")
        async with t.watch("b", events=["object.created"]) as events:
            threads = [threading.Thread(target=asyncio.run, args=(write(prefix),)) for prefix in "xy"]
            for thread in threads:
                thread.start()
            seen = [(await anext(events)).key for _ in range(2 * count)]
            for thread in threads:
                await asyncio.to_thread(thread.join)
        listed = [item.key async for item in t.list("b")]
    assert listed == sorted(seen)
    assert len(set(listed)) == 2 * count


@pytest.mark.parametrize(
    ("dsn", "named"),
    [
        ("memory://user@name", "user"),
        ("memory://user:secret@name", "user"),
        ("memory://name:80", "port"),
        ("memory://name/path", "path"),
        ("memory:///path", "path"),
        ("memory://?colour=red", "colour"),
        ("memory://?min_part_size=0", "min_part_size"),
        ("memory://?presign_url=nowhere", "http"),
        ("memory://?presign_key=0123456789abcdef", "presign_url"),
        ("memory://?presign_url=http://h&presign_key=short", "bytes"),
    ],
)
async def test_invalid_dsns_are_refused_with_the_name_of_the_parameter(dsn: str, named: str) -> None:
    with pytest.raises(InvalidDSNError, match=named) as caught:
        await trove.open(dsn)
    assert "secret" not in str(caught.value)


async def test_presign_is_declared_only_with_a_base_url() -> None:
    async with trove.open("memory://") as t:
        assert not t.supports(trove.PresignDriver)
        assert t.features.presign_methods == frozenset()
        with pytest.raises(trove.UnsupportedError):
            await t.presign_get("b", "k")
    async with trove.open("memory://", presign_url="http://h/x") as t:
        assert t.supports(trove.PresignDriver)
        assert (await t.presign_get("b", "k")).startswith("http://h/x/b/")


async def test_instances_of_a_named_store_share_a_signing_key_unless_one_is_given() -> None:
    dsn = unique_dsn()
    options = PresignOptions()
    async with (
        trove.open(dsn, presign_url="http://h") as one,
        trove.open(dsn, presign_url="http://h") as other,
        trove.open(dsn, presign_url="http://h", presign_key="another key of its own") as third,
    ):
        signers = [trove.unwrap(t.driver, MemoryDriver).url_signer for t in (one, other, third)]
        first, second, own = [signer.sign("GET", "b", "k", options, 0.0) for signer in signers if signer]
    assert first == second
    assert first != own


# Bytes


async def test_bytes_are_stored_and_read_without_copying(store: trove.Trove) -> None:
    data = bytes(4096)
    await store.put("b", "k", data)
    assert await store.read("b", "k") is data
    await store.copy("b", "k", "b", "l")
    assert await store.read("b", "l") is data


async def test_put_head_get_and_list_return_one_description(store: trove.Trove) -> None:
    info = await store.put("b", "k", b"data")
    assert await store.head("b", "k") is info
    assert (await store.get("b", "k")).info is info
    assert await store.list("b").all() == [info]


async def test_a_listing_has_no_metadata(store: trove.Trove) -> None:
    await store.put("b", "k", b"data", metadata={"a": "b"})
    (listed,) = await store.list("b").all()
    assert listed.metadata == {}
    assert (await store.head("b", "k")).metadata == {"a": "b"}


async def test_a_streamed_body_is_kept_in_memory_once(store: trove.Trove) -> None:
    count, chunk = 64, bytes(256 * 1024)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield chunk

    tracemalloc.start()
    try:
        await store.put("b", "k", chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * count * len(chunk)


async def test_times_increase_with_every_write_even_if_the_clock_does_not(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2100, 1, 1, tzinfo=tz)

    monkeypatch.setattr("trove_async.drivers.memory.store.datetime", StoppedClock)
    infos = [await store.put("b", "k", b"") for _ in range(3)]
    times = [info.last_modified for info in infos if info.last_modified is not None]
    assert [time.microsecond for time in times] == [0, 1, 2]
    assert len({info.etag for info in infos}) == 3


async def test_a_driver_that_is_not_open_raises() -> None:
    driver = MemoryDriver()
    for _ in range(2):
        with pytest.raises(ClosedError):
            await driver.get("b", "k", GetOptions())
        with pytest.raises(ClosedError):
            await driver.put("b", "k", Body(b""), PutOptions())
        await driver.close()


async def test_a_put_that_is_running_at_close_stores_nothing() -> None:
    dsn = unique_dsn()
    closing = MemoryDriver()
    await closing.open(parse_dsn(dsn), OpenOptions())

    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"
        await closing.close()

    async with trove.open(dsn) as t:
        await t.create_bucket("b")
        with pytest.raises(ClosedError):
            await closing.put("b", "k", Body(chunks()), PutOptions())
        assert not await t.exists("b", "k")


async def test_a_put_into_a_bucket_that_is_deleted_meanwhile_stores_nothing(store: trove.Trove) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"
        await store.delete_bucket("b")
        await store.create_bucket("b")

    with pytest.raises(BucketNotFoundError):
        await store.put("b", "k", chunks())
    assert not await store.exists("b", "k")


async def test_conditions_are_checked_before_the_body_is_read(store: trove.Trove) -> None:
    await store.put("b", "k", b"old")
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        taken += 1
        yield b"new"

    with pytest.raises(trove.ObjectAlreadyExistsError):
        await store.put("b", "k", chunks(), if_none_match="*")
    with pytest.raises(trove.BucketNotFoundError):
        await store.put("missing", "k", chunks())
    assert taken == 0


async def test_a_copy_into_a_missing_bucket_names_that_bucket(store: trove.Trove) -> None:
    await store.put("b", "k", b"")
    with pytest.raises(BucketNotFoundError) as caught:
        await store.copy("b", "k", "missing", "target")
    assert (caught.value.bucket, caught.value.key) == ("missing", "target")


async def test_listing_lets_other_tasks_run_between_pages(store: trove.Trove) -> None:
    for number in range(50):
        await store.put("b", f"{number:02}", b"")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.ensure_future(count())
    assert len(await store.list("b", page_size=10).all()) == 50
    counter.cancel()
    assert turns >= 4


# Versions, which follow the rules of S3


async def ids(store: trove.Trove, key: str = "k") -> list[tuple[str, bool, bool]]:
    return [(v.version_id, v.is_latest, v.is_delete_marker) for v in await store.list_versions("b", key)]


async def test_versions_are_kept_after_versioning_is_enabled(store: trove.Trove) -> None:
    before = await store.put("b", "k", b"0")
    await store.set_versioning("b", True)
    one = await store.put("b", "k", b"1")
    two = await store.put("b", "k", b"2")
    assert before.version_id is None
    assert one.version_id is not None
    assert two.version_id is not None
    assert one.version_id < two.version_id
    assert await ids(store) == [(two.version_id, True, False), (one.version_id, False, False), ("null", False, False)]
    assert await (await store.get_version("b", "k", "null")).read() == b"0"
    assert await (await store.get("b", "k", version_id=one.version_id)).read() == b"1"


async def test_an_object_from_before_versioning_is_the_null_version(store: trove.Trove) -> None:
    await store.put("b", "k", b"0")
    assert await ids(store) == [("null", True, False)]
    assert await (await store.get_version("b", "k", "null")).read() == b"0"
    with pytest.raises(VersionNotFoundError):
        await store.get_version("b", "k", "other")
    await store.delete_version("b", "k", "other")
    await store.delete_version("b", "k", "null")
    assert await ids(store) == []
    assert not await store.exists("b", "k")


async def test_suspended_writes_and_deletes_replace_the_null_version(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    kept = await store.put("b", "k", b"1")
    await store.set_versioning("b", False)
    assert await store.get_versioning("b") == "suspended"
    suspended = await store.put("b", "k", b"2")
    assert suspended.version_id is None
    await store.put("b", "k", b"3")
    assert await ids(store) == [("null", True, False), (kept.version_id, False, False)]
    await store.delete("b", "k")
    assert await ids(store) == [("null", True, True), (kept.version_id, False, False)]
    with pytest.raises(ObjectNotFoundError):
        await store.get("b", "k")
    await store.delete_version("b", "k", "null")
    assert await store.read("b", "k") == b"1"


async def test_versioning_that_was_never_enabled_cannot_be_suspended(store: trove.Trove) -> None:
    await store.set_versioning("b", False)
    assert await store.get_versioning("b") == "unversioned"


async def test_a_bucket_with_only_delete_markers_is_not_empty(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    await store.delete("b", "never was")
    ((marker, *_),) = await ids(store, "never was")
    with pytest.raises(trove.BucketNotEmptyError):
        await store.delete_bucket("b")
    with pytest.raises(VersionNotFoundError, match="delete marker"):
        await store.get_version("b", "never was", marker)
    await store.delete_version("b", "never was", marker)
    await store.delete_bucket("b")


async def test_noncurrent_versions_have_the_time_of_their_replacement(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    one = await store.put("b", "k", b"1")
    two = await store.put("b", "k", b"2")
    await store.put("b", "other", b"")
    await store.delete("b", "k")
    driver = trove.unwrap(store.driver, MemoryDriver)
    marker = (await store.list_versions("b", "k"))[0]
    found = [(v.version_id, v.last_modified, v.is_latest) for v in await driver.list_noncurrent("b", "k")]
    assert found == [(two.version_id, marker.last_modified, False), (one.version_id, two.last_modified, False)]
    assert await driver.list_noncurrent("b", "other") == []


async def test_tags_belong_to_their_version(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    one = await store.put("b", "k", b"1", tags={"a": "1"})
    await store.put("b", "k", b"2")
    assert await store.get_tags("b", "k") == {}
    assert one.version_id is not None
    await store.restore_version("b", "k", one.version_id)
    assert await store.get_tags("b", "k") == {"a": "1"}


async def test_a_transition_changes_only_the_storage_class(store: trove.Trove) -> None:
    info = await store.put("b", "k", b"1", metadata={"a": "b"})
    driver = trove.unwrap(store.driver, MemoryDriver)
    await driver.transition("b", "k", "COLD", info.etag)
    moved = await store.head("b", "k")
    assert moved.storage_class == "COLD"
    assert (moved.etag, moved.last_modified, moved.metadata) == (info.etag, info.last_modified, info.metadata)
    with pytest.raises(trove.PreconditionFailedError):
        await driver.transition("b", "k", "COLD", "another")


# Multipart


async def test_the_default_part_size_is_that_of_s3() -> None:
    async with trove.open("memory://") as t:
        await t.create_bucket("b")
        upload = await t.initiate_multipart("b", "k")
        parts = [await t.upload_part("b", "k", upload, number, b"small") for number in (1, 2)]
        with pytest.raises(InvalidPartError, match="5242880"):
            await t.complete_multipart("b", "k", upload, parts)
        assert t.features.limits.min_part_size == 5 * 1024 * 1024


async def test_a_checksum_applies_to_the_complete_object(store: trove.Trove) -> None:
    for checksum, fits in (("crc32:" + "0" * 8, False), ("crc32", True)):
        upload = await store.initiate_multipart("b", "k", checksum=checksum)
        parts = [await store.upload_part("b", "k", upload, number, b"data") for number in (1, 2)]
        if fits:
            info = await store.complete_multipart("b", "k", upload, parts)
            assert info.checksums == {"crc32": f"{zlib.crc32(b'datadata'):08x}"}
        else:
            with pytest.raises(ChecksumError):
                await store.complete_multipart("b", "k", upload, parts)
            assert not await store.exists("b", "k")
            assert [u.upload_id for u in await store.list_multipart_uploads("b")] == [upload]
            await store.abort_multipart("b", "k", upload)


async def test_only_one_of_two_concurrent_completions_succeeds(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "k")
    parts = [await store.upload_part("b", "k", upload, number, b"data") for number in (1, 2)]
    outcomes = await asyncio.gather(
        *(store.complete_multipart("b", "k", upload, parts) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ObjectInfo", "UploadNotFoundError"]


async def test_a_part_that_grows_during_the_completion_is_not_in_the_object(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "k")
    parts = [await store.append_part("b", "k", upload, number, 0, b"data") for number in (1, 2)]
    completion = asyncio.create_task(store.complete_multipart("b", "k", upload, parts))
    await asyncio.sleep(0)  # the first part is joined
    grown = await store.append_part("b", "k", upload, 2, 4, b"more")
    with pytest.raises(InvalidPartError, match="part 2 has the ETag"):
        await completion
    assert not await store.exists("b", "k")
    await store.complete_multipart("b", "k", upload, [parts[0], grown])
    assert await store.read("b", "k") == b"datadatamore"


async def test_a_part_does_not_grow_in_a_store_that_was_closed() -> None:
    store = await trove.open("memory://")
    await store.create_bucket("b")
    upload = await store.initiate_multipart("b", "k")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"
        await store.aclose()
        yield b"more"

    with pytest.raises(trove.ClosedError):
        await store.append_part("b", "k", upload, 1, 0, chunks())


async def test_an_upload_belongs_to_its_key(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "k")
    with pytest.raises(UploadNotFoundError):
        await store.upload_part("b", "other", upload, 1, b"")
    await store.abort_multipart("b", "other", upload)
    assert len(await store.list_multipart_uploads("b")) == 1
    await store.delete_bucket("b")


# Events


async def test_every_instance_of_a_store_sees_all_changes_in_order() -> None:
    dsn = unique_dsn()
    async with trove.open(dsn) as writer, trove.open(dsn) as watcher:
        await writer.create_bucket("b")
        async with watcher.watch("b", prefix="k") as events:
            await writer.put("b", "other", b"")
            created = await writer.put("b", "k", b"1")
            await writer.copy("b", "other", "b", "k")
            await writer.set_tags("b", "k", {"a": "b"})
            await writer.delete("b", "k")
            await writer.delete("b", "k")
            await writer.put("b", "k", b"22")
            seen = [await anext(events) for _ in range(4)]
    assert [event.type for event in seen] == ["object.created", "object.updated", "object.deleted", "object.created"]
    assert (seen[0].etag, seen[0].size, seen[0].time) == (created.etag, 1, created.last_modified)
    assert (seen[2].etag, seen[2].size) == (None, None)
    assert seen[3].size == 2


async def test_deleting_versions_reports_the_change_of_the_object(store: trove.Trove) -> None:
    await store.set_versioning("b", True)
    one = await store.put("b", "k", b"1")
    two = await store.put("b", "k", b"2")
    assert one.version_id is not None
    assert two.version_id is not None
    async with store.watch("b") as events:
        await store.delete_version("b", "k", two.version_id)
        await store.delete("b", "k")
        marker = (await store.list_versions("b", "k"))[0].version_id
        await store.delete_version("b", "k", marker)
        await store.delete_version("b", "k", one.version_id)
        seen = [(await anext(events)).type for _ in range(4)]
    assert seen == [EventType.UPDATED, EventType.DELETED, EventType.CREATED, EventType.DELETED]


async def test_a_buffer_overflow_raises_and_frees_the_buffer(store: trove.Trove) -> None:
    driver = trove.unwrap(store.driver, MemoryDriver)
    async with aclosing(driver.watch("b", WatchOptions(buffer_size=3))) as events:
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        for number in range(3):
            await store.put("b", str(number), b"")
        assert (await first).key == "0"
        for number in range(3, 5):
            await store.put("b", str(number), b"")
        with pytest.raises(WatchOverflowError, match="3"):
            await anext(events)


async def test_a_full_buffer_does_not_overflow(store: trove.Trove) -> None:
    async with store.watch("b", buffer_size=3) as events:
        for number in range(3):
            await store.put("b", str(number), b"")
        assert [(await anext(events)).key for _ in range(3)] == ["0", "1", "2"]


async def test_a_watch_ends_only_with_its_own_driver() -> None:
    dsn = unique_dsn()
    async with trove.open(dsn) as other, trove.open(dsn) as closing:
        await other.create_bucket("b")
        async with other.watch("b") as lasting, closing.watch("b") as ending:
            waiting = asyncio.ensure_future(anext(ending))
            await asyncio.sleep(0)
            await closing.aclose()
            with pytest.raises(ClosedError):
                await waiting
            await other.put("b", "k", b"")
            assert (await anext(lasting)).key == "k"


async def test_a_watch_ends_with_its_bucket(store: trove.Trove) -> None:
    async with store.watch("b") as events:
        await store.delete_bucket("b")
        await store.create_bucket("b")
        with pytest.raises(BucketNotFoundError, match="deleted"):
            await anext(events)


async def test_an_abandoned_watch_is_removed(store: trove.Trove) -> None:
    driver = trove.unwrap(store.driver, MemoryDriver)
    bucket = driver._open_store().bucket("b")
    async with store.watch("b"):
        assert len(bucket.subscriptions) == 1
    assert bucket.subscriptions == set()
    assert driver._subscriptions == set()
