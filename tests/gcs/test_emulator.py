"""The driver on gcp-storage-emulator, a second implementation of the JSON API, where that is correct.

The emulator's errors, which the tests avoid:

- it treats every condition as fulfilled, on writes, copies and deletions, and checks no token and no signature;
- its downloads name no generation, so objects can only be read through the JSON API (``api=json``);
- it has no multipart uploads of the XML API, and cannot cancel a resumable upload;
- it lists everything in one page, and ignores offsets;
- a change of one entry of an object's metadata removes the others;
- it has no noncurrent generations, no holds, and no notifications;
- its answer to the deletion of a bucket that is not empty gives no reason;
- it answers a suffix range with the complete object.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import trove_async as trove
from tests.gcs.stores import PART, pattern
from tests.servers import running
from trove_async.types import LifecycleRule

pytestmark = [pytest.mark.asyncio, pytest.mark.long]


@pytest_asyncio.fixture
async def store() -> AsyncIterator[trove.Trove]:
    server = running("gcs_emulator")
    dsn = f"gcs://{server.project}/?endpoint={server.endpoint}&anonymous=1&api=json&part_size={PART}&min_part_size=1"
    async with trove.open(dsn) as store:
        yield store


@pytest_asyncio.fixture
async def bucket(store: trove.Trove) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4().hex[:16]}"
    await store.create_bucket(name)
    yield name
    for found in await store.list(name).all():
        await store.delete(name, found.key)
    await store.delete_bucket(name)


@pytest.mark.parametrize("size", [0, 4, PART, PART + 1, 4 * PART + 77])
async def test_put_and_get(store: trove.Trove, bucket: str, size: int) -> None:
    data = pattern(size)
    info = await store.put(bucket, "a/ü ?&#%", data, metadata={"a": "ä"}, content_type="text/x-a")
    head = await store.head(bucket, "a/ü ?&#%")
    assert (head.size, head.etag, dict(head.metadata), head.content_type) == (size, info.etag, {"a": "ä"}, "text/x-a")
    assert await store.read(bucket, "a/ü ?&#%") == data
    if size > 3:
        assert await store.read(bucket, "a/ü ?&#%", range=(1, 2)) == data[1:3]


async def test_a_replaced_object_has_another_etag(store: trove.Trove, bucket: str) -> None:
    one = await store.put(bucket, "key", b"1")
    two = await store.put(bucket, "key", b"2")
    assert one.etag != two.etag
    assert await store.read(bucket, "key") == b"2"


async def test_listing_copying_and_deleting(store: trove.Trove, bucket: str) -> None:
    for key in ("a/1", "a/2", "b"):
        await store.put(bucket, key, b"x")
    await store.copy(bucket, "b", bucket, "c")
    assert [found.key for found in await store.list(bucket).all()] == ["a/1", "a/2", "b", "c"]
    assert [found.key for found in await store.list(bucket, delimiter="/").all()] == ["a/", "b", "c"]
    assert [found.key for found in await store.list(bucket, prefix="a/").all()] == ["a/1", "a/2"]
    await store.delete(bucket, "a/1")
    await store.delete(bucket, "a/1")
    assert await store.delete_many(bucket, ["a/2", "b", "c", "missing"]) == 4
    assert await store.list(bucket).all() == []


async def test_tags(store: trove.Trove, bucket: str) -> None:
    await store.put(bucket, "key", b"data")
    await store.set_tags(bucket, "key", {"x": "ü"})
    assert await store.get_tags(bucket, "key") == {"x": "ü"}
    await store.delete_tags(bucket, "key")
    assert await store.get_tags(bucket, "key") == {}


async def test_lifecycle_rules_and_buckets(store: trove.Trove, bucket: str) -> None:
    rules = [LifecycleRule("old", prefix="a/", expiration_days=3)]
    await store.set_lifecycle(bucket, rules)
    assert await store.get_lifecycle(bucket) == rules
    assert bucket in [found.name for found in await store.list_buckets()]
    with pytest.raises(trove.BucketAlreadyExistsError):
        await store.create_bucket(bucket)


async def test_missing_objects_and_buckets(store: trove.Trove, bucket: str) -> None:
    with pytest.raises(trove.ObjectNotFoundError):
        await store.read(bucket, "missing")
    with pytest.raises(trove.BucketNotFoundError):
        await store.read("missing-bucket", "key")
    with pytest.raises(trove.BucketNotFoundError):
        await store.put("missing-bucket", "key", b"data")


async def test_a_body_that_is_corrupted_in_transit_is_not_stored(
    store: trove.Trove, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trove_async.drivers.gcs import objects

    monkeypatch.setattr(objects, "extend", lambda value, _chunks: value ^ 1)
    with pytest.raises(trove.ChecksumError):
        await store.put(bucket, "key", b"data")
    assert not await store.exists(bucket, "key")
