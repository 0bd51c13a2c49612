"""Parts that the service copies: the requests, and the answers that would lead to wrong bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import trove_async as trove
from tests.s3.stores import PART, ServerName, opened, pattern
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

DATA = pattern(3 * PART)
COPIED = Answer(200, {"x-amz-request-id": "1"}, b'<CopyPartResult><ETag>"0c"</ETag></CopyPartResult>')


@asynccontextmanager
async def prepared(
    server: ServerName, bucket: str, service: AnsweringProxy, key: str = "source", **settings: Any
) -> AsyncIterator[tuple[trove.Trove, str]]:
    """Yield a store, with an object and an open upload of ``key``; no request is counted yet.

    The upload is aborted at the end.
    """
    async with opened(server, service.url(), **settings) as store:
        await store.put(bucket, key, DATA)
        upload = await store.initiate_multipart(bucket, "key")
        service.requests.clear()
        yield store, upload
        await store.abort_multipart(bucket, "key", upload)


async def copy(store: trove.Trove, bucket: str, upload: str, length: int = 2 * PART, number: int = 1) -> trove.PartInfo:
    return await store.copy_part(bucket, "key", upload, number, trove.ObjectRef(bucket, "source"), 5, length)


async def test_a_part_is_copied_in_one_request_that_moves_no_bytes(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    async with prepared(server, bucket, service, "a b+ü", profile="aws", addressing="path") as (store, upload):
        source = trove.ObjectRef(bucket, "a b+ü")
        part = await store.copy_part(bucket, "key", upload, 3, source, 5, 2 * PART)
        [request] = service.requests
        assert (request.method, request.body_size, f"partNumber=3&uploadId={upload}" in request.target) == (
            "PUT",
            0,
            True,
        )
        assert request.header("x-amz-copy-source") == f"/{bucket}/a%20b%2B%C3%BC"
        assert request.header("x-amz-copy-source-range") == f"bytes=5-{2 * PART + 4}"
        await store.complete_multipart(bucket, "key", upload, [part])
        assert await store.read(bucket, "key") == DATA[5 : 2 * PART + 5]


async def test_the_size_of_a_part_is_looked_up_where_the_service_may_copy_less(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    async with prepared(server, bucket, service, profile="generic") as (store, upload):
        await store.upload_part(bucket, "key", upload, 1, DATA)
        service.requests.clear()
        part = await copy(store, bucket, upload, number=2)
        assert [request.method for request in service.requests] == ["PUT", "GET"]
        assert (part.number, part.size) == (2, 2 * PART)
        service.answer(COPIED, method="PUT", path="partNumber=")
        with pytest.raises(trove.RangeNotSatisfiableError) as caught:
            await copy(store, bucket, upload, 3 * PART - 5, number=2)
        assert (caught.value.key, caught.value.copy_phase) == ("source", "read")
        service.answer(COPIED, method="PUT", path="partNumber=")
        with pytest.raises(trove.BackendError, match="part 3 was stored, and the service does not list it"):
            await copy(store, bucket, upload, number=3)


@pytest.mark.parametrize(
    ("answer", "expected", "key"),
    [
        (s3_error(404, "NoSuchKey"), trove.ObjectNotFoundError, "source"),
        (s3_error(404, "NoSuchUpload"), trove.UploadNotFoundError, "key"),
        (s3_error(416, "InvalidRange"), trove.RangeNotSatisfiableError, "source"),
        (
            s3_error(400, "InvalidArgument", "Range specified is not valid for source object of size: 9"),
            trove.RangeNotSatisfiableError,
            "source",
        ),
        (
            s3_error(400, "InvalidRequest", "The specified copy source is not supported as a byte-range copy source"),
            trove.CopyNotSupportedError,
            "key",
        ),
        (s3_error(501, "NotImplemented"), trove.CopyNotSupportedError, "key"),
        (s3_error(403, "AccessDenied"), trove.AccessDeniedError, "key"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_errors_name_what_they_are_about(
    server: ServerName,
    bucket: str,
    service: AnsweringProxy,
    answer: Answer,
    expected: type[trove.TroveError],
    key: str,
) -> None:
    async with prepared(server, bucket, service) as (store, upload):
        service.answer(answer, method="PUT")
        with pytest.raises(expected) as caught:
            await copy(store, bucket, upload)
    assert (type(caught.value), caught.value.key, caught.value.ambiguous) == (expected, key, False)


async def test_a_missing_version_is_one(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    async with prepared(server, bucket, service) as (store, upload):
        service.answer(s3_error(404, "NoSuchKey"), method="PUT")
        with pytest.raises(trove.VersionNotFoundError) as caught:
            await store.copy_part(bucket, "key", upload, 1, trove.ObjectRef(bucket, "source", "v/1"), 0, PART)
        assert service.requests[0].header("x-amz-copy-source") == f"/{bucket}/source?versionId=v%2F1"
    assert caught.value.key == "source"


async def test_the_missing_bucket_is_named(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    async with prepared(server, bucket, service) as (store, upload):
        with pytest.raises(trove.BucketNotFoundError) as caught:
            await store.copy_part(bucket, "key", upload, 1, trove.ObjectRef("no-such-bucket", "k"), 0, PART)
        with pytest.raises(trove.BucketNotFoundError) as other:
            await store.copy_part("no-such-bucket", "key", upload, 1, trove.ObjectRef(bucket, "source"), 0, PART)
    assert (caught.value.bucket, caught.value.copy_phase) == ("no-such-bucket", "read")
    assert (other.value.bucket, other.value.copy_phase) == ("no-such-bucket", None)


@pytest.mark.parametrize("answer", [s3_error(200, "InternalError"), s3_error(503, "SlowDown")], ids=["200", "503"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_failure_is_tried_again(
    server: ServerName, bucket: str, service: AnsweringProxy, answer: Answer, when: Any
) -> None:
    async with prepared(server, bucket, service) as (store, upload):
        service.answer(answer, method="PUT", when=when)
        part = await copy(store, bucket, upload)
        assert service.count("PUT") == 2
        assert await store.list_parts(bucket, "key", upload) == [part]


async def test_a_lost_copy_is_ambiguous(server: ServerName, bucket: str, service: AnsweringProxy) -> None:
    async with prepared(server, bucket, service, attempts=2) as (store, upload):
        service.answer(s3_error(500, "InternalError"), method="PUT", when="after", times=None)
        with pytest.raises(trove.TransientError) as caught:
            await copy(store, bucket, upload)
    assert caught.value.ambiguous


@pytest.mark.parametrize("profile", ["ceph", "generic", "r2"])
async def test_a_percent_sign_that_a_service_may_decode_twice_is_refused_before_any_request(
    server: ServerName, bucket: str, service: AnsweringProxy, profile: str
) -> None:
    async with prepared(server, bucket, service, profile=profile) as (store, upload):
        with pytest.raises(trove.CopyNotSupportedError, match="percent sign") as caught:
            await store.copy_part(bucket, "key", upload, 1, trove.ObjectRef(bucket, "%41"), 0, PART)
        assert (service.requests, caught.value.ambiguous) == ([], False)


async def test_a_large_object_whose_key_has_a_percent_sign_is_copied(
    server: ServerName, bucket: str, service: AnsweringProxy
) -> None:
    async with prepared(server, bucket, service, "%41", max_copy_size=PART) as (store, _):
        await store.put(bucket, "A", bytes(len(DATA)))
        await store.copy(bucket, "%41", bucket, "copy")
        assert await store.read(bucket, "copy") == DATA


async def test_a_service_without_copies_of_parts_declares_none(server: ServerName, bucket: str) -> None:
    async with opened(server, profile="gcs") as store:
        assert not store.supports(trove.PartCopyDriver)
        with pytest.raises(trove.UnsupportedError, match="no part copy"):
            await copy(store, bucket, "upload")
