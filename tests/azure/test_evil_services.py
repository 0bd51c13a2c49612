"""The driver and a broken or malicious service."""

from __future__ import annotations

from typing import ClassVar

import pytest

import trove_async as trove
from tests.azure.stores import PART, driver_of, opened, through
from tests.evil_services import EvilAnswers
from tests.network_faults import Target
from trove_async.drivers.azure.configuration import Configuration
from trove_async.drivers.azure.multipart import UPLOADS
from trove_async.drivers.azure.notifications import read_notifications
from trove_async.drivers.azure.pages import parse_page
from trove_async.testing.answers import Answer, AnsweringProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


@pytest.fixture
def target() -> Target:
    return Target(open_store=opened, part_size=PART, endpoint=through, range_header="x-ms-range")


class TestEvilAnswers(EvilAnswers):
    """The tests that all HTTP drivers share."""

    own: ClassVar = {"x-ms-request-id": "1", "x-ms-version": "2023-11-03"}


def page(inner: str, marker: str = "") -> bytes:
    return f"<EnumerationResults><Blobs>{inner}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>".encode()


@pytest.mark.parametrize("size", ["-5", "NaN", "9" * 5000, "1.5", "0x1", "\u0661"])
async def test_sizes_in_listings(size: str) -> None:
    blob = f"<Blob><Name>a</Name><Properties><Content-Length>{size}</Content-Length></Properties></Blob>"
    with pytest.raises(trove.BackendError, match="size"):
        await parse_page(page(blob))


@pytest.mark.parametrize(
    "blob", ["<Blob/>", "<Blob><Name/></Blob>", "<BlobPrefix/>", "<BlobPrefix><Name/></BlobPrefix>"]
)
async def test_blobs_without_names_in_listings(blob: str) -> None:
    with pytest.raises(trove.BackendError, match="name"):
        await parse_page(page(blob))


async def test_a_listing_that_repeats_its_markers_ends(bucket: str, service: AnsweringProxy) -> None:
    async with opened(through(service)) as store:
        for marker in ("a", "b", "a"):
            service.answer(Answer(200, {"x-ms-request-id": "1"}, page("", marker)), method="GET", path="comp=list")
        with pytest.raises(trove.BackendError, match="does not end"):
            await store.list_multipart_uploads(bucket)
        service.clear()
        for marker in ("a", "b", "a"):
            service.answer(Answer(200, {"x-ms-request-id": "1"}, page("", marker)), method="GET", path="comp=list")
        with pytest.raises(trove.BackendError):
            await store.list(bucket).all()
        service.clear()


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{}", b'{"lifecycle": 5}', b'{"lifecycle": [5], "versioning": "x"}', b"[" * 99_999],
)
async def test_foreign_settings(content: bytes) -> None:
    with pytest.raises(trove.BackendError, match="settings"):
        Configuration.load(content)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{}", b'{"metadata": 5}', b"[" * 99_999])
async def test_a_foreign_manifest(bucket: str, content: bytes) -> None:
    async with opened() as store:
        upload = await store.initiate_multipart(bucket, "key")
        part = await store.upload_part(bucket, "key", upload, 1, b"part")
        driver = driver_of(store)
        [manifest] = [blob.info.key for blob in await driver._multipart._listing.all(bucket, prefix=UPLOADS)]
        headers = [("x-ms-blob-type", "BlockBlob")]
        await driver._client.write("PUT", bucket, manifest, headers=headers, body=[content] if content else [])
        with pytest.raises(trove.BackendError, match="manifest"):
            await store.complete_multipart(bucket, "key", upload, [part])
        await store.abort_multipart(bucket, "key", upload)


def block(name: str, size: str) -> Answer:
    listed = f"<Block><Name>{name}</Name><Size>{size}</Size></Block>"
    body = f"<BlockList><UncommittedBlocks>{listed}</UncommittedBlocks></BlockList>"
    return Answer(200, {"x-ms-request-id": "1"}, body.encode())


@pytest.mark.parametrize("size", ["", "-1", "NaN", "9" * 5000])
async def test_sizes_of_parts(bucket: str, service: AnsweringProxy, size: str) -> None:
    async with opened(through(service)) as store:
        upload = await store.initiate_multipart(bucket, "key")
        service.answer(block("YQ==", size), method="GET", path="comp=blocklist")
        with pytest.raises(trove.BackendError, match="size"):
            await store.list_parts(bucket, "key", upload)
        body = (
            "<BlockList><UncommittedBlocks><Block><Name>*</Name><Size>1</Size></Block></UncommittedBlocks></BlockList>"
        )
        service.answer(Answer(200, {"x-ms-request-id": "1"}, body.encode()), method="GET", path="comp=blocklist")
        with pytest.raises(trove.BackendError, match="base64"):
            await store.list_parts(bucket, "key", upload)
        await store.abort_multipart(bucket, "key", upload)


@pytest.mark.parametrize("etag", ["", "zz", "ü", "00" * 200])
async def test_parts_of_other_uploads(bucket: str, etag: str) -> None:
    async with opened() as store:
        upload = await store.initiate_multipart(bucket, "key")
        with pytest.raises(trove.InvalidPartError):
            await store.complete_multipart(bucket, "key", upload, [trove.PartInfo(1, etag, 4)])
        await store.abort_multipart(bucket, "key", upload)


EVENT = (
    '{"type": "Microsoft.Storage.BlobCreated", "time": "%s", '
    '"subject": "/blobServices/default/containers/c/blobs/k", "data": %s}'
)


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[[]]", "[5]", "{}", "[" * 99_999,
        EVENT % ("0001-01-01T00:00:00+01:00", "{}"),
        EVENT % ("2026-01-01", "{}"),
        EVENT % ("2026-01-01T00:00:00Z", "5"),
        EVENT % ("2026-01-01T00:00:00Z", '{"eTag": 5}'),
        EVENT % ("2026-01-01T00:00:00Z", '{"contentLength": "5"}'),
        EVENT % ("2026-01-01T00:00:00Z", '{"sequencer": 5}'),
    ],
)  # fmt: skip
async def test_messages_that_are_not_events(text: str) -> None:
    with pytest.raises(ValueError, match="Event Grid"):
        read_notifications(text)
