"""Copies on the server."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.azure.stores import PART, driver_of, opened, pattern, tier_of

pytestmark = pytest.mark.asyncio

DESCRIBED = {
    "content_type": "a/b",
    "metadata": {"with-hyphen": "\u00fc"},
    "tags": {"t": "1"},
    "cache_control": "no-store",
    "content_language": "nb",
}


async def test_all_properties_are_kept(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"data", storage_class="COOL", checksum="sha256", **DESCRIBED)  # type: ignore[arg-type]
        source = await store.head(bucket, "key")
        info = await store.copy(bucket, "key", bucket, "copy")
        head = await store.head(bucket, "copy")
        assert (info.etag, info.checksums) == (head.etag, source.checksums)
        assert (head.content_type, head.metadata, head.cache_control) == ("a/b", DESCRIBED["metadata"], "no-store")
        assert (head.content_language, head.checksums, head.storage_class) == ("nb", source.checksums, "COOL")
        assert await store.get_tags(bucket, "copy") == {"t": "1"}


@pytest.mark.parametrize("versions", ["none", "snapshots"])
@pytest.mark.parametrize("size", [10, 3 * PART])
async def test_replace_replaces_all_properties(bucket: str, versions: str, size: int) -> None:
    async with opened(versions=versions, max_copy_size=PART) as store:
        data = pattern(size)
        await store.put(bucket, "key", data, **DESCRIBED)  # type: ignore[arg-type]
        await store.copy(bucket, "key", bucket, "copy", replace=True, content_type="c/d", storage_class="COLD")
        head = await store.head(bucket, "copy")
        assert (head.content_type, dict(head.metadata), head.cache_control) == ("c/d", {}, None)
        assert await tier_of(store, bucket, "copy") == "Cold"
        assert await store.get_tags(bucket, "copy") == {}
        assert await store.read(bucket, "copy") == data
        await store.copy(bucket, "key", bucket, "key", replace=True, metadata={"m": "1"}, tags={"u": "2"})
        assert dict((await store.head(bucket, "key")).metadata) == {"m": "1"}
        assert await store.get_tags(bucket, "key") == {"u": "2"}
        assert await driver_of(store).leftovers(bucket) == []


async def test_a_failing_copy_leaves_no_temporary_blob(bucket: str) -> None:
    async with opened() as store:
        await store.put(bucket, "key", b"data")
        await store.put(bucket, "there", b"old")
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.copy(bucket, "key", bucket, "there", replace=True, metadata={"m": "1"}, if_none_match="*")
        assert await store.read(bucket, "there") == b"old"
        assert await driver_of(store).leftovers(bucket) == []


async def test_a_store_of_another_tier_copies_and_completes(bucket: str) -> None:
    """Temporary blobs are in no tier from which they could not be copied."""
    async with opened(storage_class="ARCHIVE") as store:
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        await store.complete_multipart(bucket, "key", upload, [part])
        assert await tier_of(store, bucket, "key") == "Archive"
        await store.put(bucket, "hot", b"data", storage_class="HOT")
        await store.copy(bucket, "hot", bucket, "copy", replace=True, content_type="a/b")
        assert await tier_of(store, bucket, "copy") == "Archive"
