"""Broken or malicious S3 and Azure services; those of Cloud Storage are in ``tests/gcs``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest

import trove_async as trove
from tests.evil_answers import EVIL_HEADERS, check
from trove_async.testing.answers import Answer, AnsweringProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

_HEADERS: Final = {
    "Content-Type": "application/xml",
    "ETag": '"abc"',
    "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT",
    "x-amz-request-id": "1",
    "x-ms-request-id": "1",
    "x-ms-version": "2024-08-04",
}
_STATUS: Final = {"Content-Range": 206, "Location": 301, "Retry-After": 503}
"""The status with which a header has its meaning, if it is not 200; a long run sends each header with each status."""

_KEY: Final = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U="

DSNS: Final = {
    "s3": "s3://user:password@us-east-1/?endpoint={url}&profile=generic&attempts=1&part_size=100000&min_part_size=1",
    "azure": f"azure:///?endpoint={{url}}/account&account=account&account_key={_KEY}&attempts=1&part_size=100000",
}


def opened(service: str, proxy: AnsweringProxy) -> AbstractAsyncContextManager[trove.Trove]:
    """Open a store whose requests a proxy answers, without a server behind it."""
    return trove.open(DSNS[service].format(url=proxy.url()))


@pytest.mark.parametrize("service", DSNS)
@pytest.mark.parametrize("name", [*EVIL_HEADERS, "x-ms-blob-type", "x-ms-copy-status", "x-amz-bucket-region"])
async def test_headers(service: str, name: str, request: pytest.FixtureRequest) -> None:
    everywhere = request.config.getoption("trove_long")
    async with AnsweringProxy("127.0.0.1", 1) as proxy, opened(service, proxy) as store:
        for value in EVIL_HEADERS.get(name, ("", "x", "9" * 5000, "\u00b2", "pending")):
            for status in (200, 206, 301, 503) if everywhere else (_STATUS.get(name, 200),):
                answer = Answer(status, {**_HEADERS, name: value}, b"data")
                proxy.clear()
                proxy.answer(answer, times=None)
                await check(store, answer)


@pytest.mark.parametrize("service", DSNS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"<Error>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</Error>",
        b"<a>" * 20_000,
        b"<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>",
        b"<a><UploadId>x</UploadId><Part><PartNumber>\xc2\xb2</PartNumber><Size>-1</Size><ETag/></Part></a>",
        b"<a><Upload><UploadId/><Key/><Initiated>9999-12-31T23:59:59-23:59</Initiated></Upload></a>",
        b"<a><Version><Key>key</Key><VersionId/><Size>1</Size></Version></a>",
        b"<ListBucketResult><Contents><Key>key</Key><Size>9</Size><LastModified>0001-01-01T00:00:00+23:59"
        b"</LastModified></Contents></ListBucketResult>",
        b"<EnumerationResults><Blobs><Blob><Name>key</Name><Properties><Content-Length>-1</Content-Length>"
        b"<Last-Modified>Fri, 31 Dec 9999 23:59:59 -0100</Last-Modified></Properties></Blob></Blobs>"
        b"</EnumerationResults>",
        b"<EnumerationResults><Blobs><Blob/></Blobs><Containers><Container/></Containers></EnumerationResults>",
        b"<BlockList><CommittedBlocks><Block><Name>!</Name><Size>x</Size></Block></CommittedBlocks></BlockList>",
        b"<Tags><TagSet><Tag/></TagSet></Tags>",
        b"<LifecycleConfiguration><Rule><ID>x</ID></Rule></LifecycleConfiguration>",
    ],
    ids=lambda content: content[:30].decode("latin-1"),
)
async def test_documents(service: str, content: bytes) -> None:
    async with AnsweringProxy("127.0.0.1", 1) as proxy, opened(service, proxy) as store:
        for status in (200, 404):
            answer = Answer(status, _HEADERS, content)
            proxy.clear()
            proxy.answer(answer, times=None)
            await check(store, answer)
