"""Blobs of other types than the library writes: append and page blobs, and directory markers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import trove_async as trove
from tests.azure.stores import PART, azure_error, driver_of, opened, pattern, through
from trove_async.drivers.azure.pages import parse_page
from trove_async.testing.answers import AnsweringProxy

pytestmark = pytest.mark.asyncio

SIZES = pytest.mark.parametrize("size", [5, 3 * PART], ids=["one request", "blocks"])
KINDS = pytest.mark.parametrize("kind", ["append", "page"])


async def make(store: trove.Trove, bucket: str, key: str, kind: str) -> None:
    """Create an append or page blob with the SDK."""
    blob = (await driver_of(store).sdk_client()).get_blob_client(bucket, key)
    if kind == "append":
        await blob.create_append_blob()
        await blob.append_block(b"old")
    else:
        await blob.create_page_blob(512)


@KINDS
async def test_append_and_page_blobs_are_read(bucket: str, kind: str) -> None:
    async with opened() as store:
        await make(store, bucket, "key", kind)
        content = b"old" if kind == "append" else bytes(512)
        assert await store.read(bucket, "key") == content
        assert await store.read(bucket, "key", range=(-2, None)) == content[-2:]
        assert [(found.key, found.size) for found in await store.list(bucket).all()] == [("key", len(content))]
        await store.copy(bucket, "key", bucket, "copy")
        assert await store.read(bucket, "copy") == content


@KINDS
@SIZES
async def test_they_can_be_replaced_if_the_service_permits_it(bucket: str, kind: str, size: int) -> None:
    """Azurite does; a body in blocks, which such a blob does not accept, is first stored in a hidden blob."""
    async with opened() as store:
        await make(store, bucket, "key", kind)
        data = pattern(size)
        info = await store.put(bucket, "key", data, metadata={"a": "1"}, content_type="a/b", checksum="sha256")
        head = await store.head(bucket, "key")
        assert (head.etag, head.content_type, dict(head.metadata)) == (info.etag, "a/b", {"a": "1"})
        assert head.checksums == info.checksums
        assert await store.read(bucket, "key") == data


@KINDS
async def test_conditions_apply_to_them_too(bucket: str, kind: str) -> None:
    async with opened() as store:
        await make(store, bucket, "key", kind)
        for size in (5, 3 * PART):
            with pytest.raises(trove.ObjectAlreadyExistsError):
                await store.put(bucket, "key", pattern(size), if_none_match="*")


@SIZES
async def test_the_error_of_a_service_that_does_not_replace_them_is_quoted(
    bucket: str, service: AnsweringProxy, size: int
) -> None:
    """Azure itself answers 409 to every request that would change the type of a blob, and keeps the blob."""
    async with opened(through(service)) as store:
        await make(store, bucket, "key", "append")
        service.answer(azure_error(409, "InvalidBlobType"), method="PUT", path=f"{bucket}/key", times=None)
        with pytest.raises(trove.UnsupportedError, match="append blob or a page blob"):
            await store.put(bucket, "key", pattern(size))
        service.clear()
        assert await store.read(bucket, "key") == b"old"


async def test_a_stream_larger_than_one_request_does_not_replace_them(bucket: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(PART)

    async with opened() as store:
        await make(store, bucket, "key", "append")
        with pytest.raises(trove.UnsupportedError, match="append blob or a page blob"):
            await store.put(bucket, "key", chunks())
        assert await store.read(bucket, "key") == b"old"


async def test_an_object_too_large_for_one_copy_is_refused_before_the_upload(
    bucket: str, service: AnsweringProxy
) -> None:
    async with opened(through(service), max_copy_size=2 * PART) as store:
        await make(store, bucket, "key", "append")
        with pytest.raises(trove.UnsupportedError, match="append blob or a page blob"):
            await store.put(bucket, "key", pattern(3 * PART))
        assert service.count("PUT", "staging") == 0


# Directories


async def test_directory_markers_are_not_listed(bucket: str) -> None:
    async with opened() as store:
        client = (await driver_of(store).sdk_client()).get_container_client(bucket)
        await client.upload_blob("dir", b"", metadata={"hdi_isfolder": "true"})
        await client.upload_blob("dir/empty", b"", metadata={"hdi_isfolder": "True"})
        await store.put(bucket, "dir/key", b"x")
        await store.put(bucket, "full", b"x", metadata={"hdi_isfolder": "true"})
        await store.put(bucket, "none", b"", metadata={"other": "true"})
        assert [found.key for found in await store.list(bucket).all()] == ["dir/key", "full", "none"]
        found: list[Any] = await store.list(bucket, delimiter="/").all()
        assert [item.key for item in found] == ["dir/", "full", "none"]


async def test_a_container_with_only_directories_is_empty(bucket: str) -> None:
    async with opened() as store:
        name = f"{bucket}-d"
        await store.create_bucket(name)
        client = (await driver_of(store).sdk_client()).get_container_client(name)
        await client.upload_blob("dir", b"", metadata={"hdi_isfolder": "true"})
        await store.delete_bucket(name)
        with pytest.raises(trove.BucketNotFoundError):
            await store.list(name).all()


async def test_directories_of_a_hierarchical_namespace_are_recognised_by_their_type() -> None:
    page = await parse_page(
        b"<EnumerationResults><Blobs>"
        b"<Blob><Name>d</Name><Properties><Etag>0x1</Etag><ResourceType>directory</ResourceType>"
        b"<Content-Length>0</Content-Length></Properties></Blob>"
        b"<Blob><Name>d/f</Name><Properties><Etag>0x2</Etag><ResourceType>file</ResourceType>"
        b"<Content-Length>0</Content-Length></Properties></Blob>"
        b"</Blobs><NextMarker /></EnumerationResults>"
    )
    assert [(blob.info.key, blob.directory) for blob in page.blobs] == [("d", True), ("d/f", False)]
