"""Requests about an object, checks of the answers, and known faults of other libraries."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable
from datetime import UTC, datetime

import pytest

import trove_async as trove
from tests.gcs.stores import PART, busy, driver_of, json_error, opened, pattern, xml_error
from trove_async.testing.answers import Answer, AnsweringProxy, When
from trove_async.testing.gcs import GCSServer
from trove_async.testing.proxy import FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]

LARGE = pattern(200_000)
SIZES = pytest.mark.parametrize("data", [b"", b"data", LARGE], ids=["empty", "small", "large"])
APIS = pytest.mark.parametrize("api", ["xml", "json"])


def targets(service: AnsweringProxy) -> list[str]:
    return [f"{request.method} {request.target.partition('?')[0]}" for request in service.requests]


# One request, one object


@SIZES
async def test_reader_and_description_come_from_one_answer(
    server: GCSServer, bucket: str, service: AnsweringProxy, data: bytes
) -> None:
    async with opened(server, service.url()) as store:
        info = await store.put(bucket, "key", data, metadata={"a": "b"}, content_type="text/x-a")
        async with store.get(bucket, "key") as reader:
            assert (reader.info.etag, dict(reader.info.metadata)) == (info.etag, {"a": "b"})
            assert reader.info.content_type == "text/x-a"
            assert await reader.read() == data
    assert targets(service) == ["PUT /bucket/key", "GET /bucket/key"]


async def test_the_json_api_reads_the_generation_that_was_described(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    """There a get takes two requests; the bytes of a replaced object are never mixed with the new description."""
    async with opened(server, service.url(), api="json") as store, opened(server) as direct:
        await direct.put(bucket, "key", b"old", metadata={"of": "old"})
        async with store.get(bucket, "key") as reader:
            assert (dict(reader.info.metadata), await reader.read()) == ({"of": "old"}, b"old")
        [described, read] = service.requests
        assert "generation=" in read.target
        assert "alt=media" in read.target
        assert "alt=media" not in described.target

        stale = json.dumps({"generation": "7", "size": "3", "metadata": {"of": "another"}}).encode()
        service.answer(Answer(200, {}, stale), method="GET", path="fields=")
        async with store.get(bucket, "key") as reader:
            assert (dict(reader.info.metadata), await reader.read()) == ({"of": "old"}, b"old")
        service.answer(Answer(200, {}, stale), method="GET", path="fields=", times=None)
        with pytest.raises(trove.TransientError, match="replaced"):
            await store.read(bucket, "key")


@APIS
async def test_the_description_of_an_object(server: GCSServer, bucket: str, api: str) -> None:
    given = {
        "content_type": "text/x-a",
        "cache_control": "public, max-age=6000",
        "content_disposition": 'attachment; filename="a"',
        "content_encoding": "x-none",
        "content_language": "de",
        "storage_class": "COLDLINE",
    }
    metadata = {"plain": "text", "unicode": "ä☺", "blank": "", "two-spaces": "a  b", "looks": "=?utf-8?q?so?="}
    async with opened(server, api=api) as store:
        for number, data in enumerate((b"data", pattern(PART + 1))):
            key = f"key-{number}"
            info = await store.put(bucket, key, data, metadata=metadata, checksum="sha256", tags={"t": "ü"}, **given)  # type: ignore[arg-type]
            head = await store.head(bucket, key)
            async with store.get(bucket, key) as reader:
                assert reader.info == head
            for seen in (info, head):
                assert {name: getattr(seen, name) for name in given} == given
                assert dict(seen.metadata) == metadata
                assert seen.checksums == info.checksums
                assert set(seen.checksums) == {"sha256"}
            assert await store.get_tags(bucket, key) == {"t": "ü"}
            copied = await store.copy(bucket, key, bucket, f"{key}-copy")
            assert dict(copied.metadata) == metadata
            assert await store.get_tags(bucket, f"{key}-copy") == {"t": "ü"}
    [stored, *_] = server.objects(bucket)
    assert all(value.isascii() for value in stored.fields["metadata"].values())


async def test_metadata_names_that_the_library_reserves(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        for name in ("trove-tags", "Trove-Checksum"):
            with pytest.raises(trove.InvalidMetadataError, match="the library uses"):
                await store.put(bucket, "key", b"data", metadata={name: "x"})
        with pytest.raises(trove.InvalidMetadataError, match="8192"):
            await store.put(bucket, "key", b"data", metadata={"a": "ä" * 4000})
    assert server.objects(bucket) == []


# Bytes are bytes


@APIS
@pytest.mark.parametrize("size", [100, 500_000])
async def test_nothing_is_decompressed(server: GCSServer, bucket: str, api: str, size: int) -> None:
    packed = gzip.compress(pattern(size), mtime=0)
    async with opened(server, api=api) as store:
        await store.put(bucket, "key", packed, content_encoding="gzip", content_type="text/plain")
        async with store.get(bucket, "key") as reader:
            assert (reader.info.content_encoding, reader.info.size) == ("gzip", len(packed))
            assert await reader.read() == packed
        assert await store.read(bucket, "key", range=(10, 50)) == packed[10:60]


async def test_an_object_that_was_transformed_in_transit(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    headers = {"x-goog-generation": "1", "x-goog-stored-content-length": "4"}
    service.answer(Answer(200, headers, b"more than four"), method="GET")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.BackendError, match="changes what is stored"):
            await store.read(bucket, "key")


# Checksums, both ways


@APIS
async def test_a_body_that_is_corrupted_in_transit_is_not_stored(
    server: GCSServer, bucket: str, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service compares: the sent bytes do not match the checksum."""
    from trove_async.drivers.gcs import objects, resumable, uploads

    def wrong(value: int, _chunks: object) -> int:
        return value ^ 0x12345678

    for module in (objects, uploads, resumable):
        monkeypatch.setattr(module, "extend", wrong)
    async with opened(server, api=api) as store:
        for data in (b"data", pattern(3 * PART)):
            with pytest.raises(trove.ChecksumError):
                await store.put(bucket, "key", data)
            with pytest.raises(trove.ChecksumError):
                await store.put(bucket, "key", data, if_none_match="*")
            assert server.objects(bucket) == []
            assert server.open_uploads() == []


@pytest.mark.parametrize("data", [b"data", LARGE], ids=["small", "large"])
async def test_a_complete_read_is_checked(server: GCSServer, bucket: str, service: AnsweringProxy, data: bytes) -> None:
    headers = {"x-goog-generation": "1", "x-goog-hash": "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    service.answer(Answer(200, headers, data), method="GET", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ChecksumError, match="crc32c"):
            await store.read(bucket, "key")
        assert busy(store) == 0
    async with opened(server, service.url(), verify_reads=False) as store:
        assert await store.read(bucket, "key") == data


async def test_a_partial_read_is_not_checked(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        await store.put(bucket, "key", LARGE)
        assert await store.read(bucket, "key", range=(1, 150_000)) == LARGE[1:150_001]
        async with store.get(bucket, "key") as reader:
            assert await reader.read(1000) == LARGE[:1000]
            await reader.seek(150_000)
            assert await reader.read() == LARGE[150_000:]


async def test_a_session_whose_object_differs_from_the_sent_bytes(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    """A service that did not compare has stored it: exactly that object is deleted."""
    async with opened(server, service.url(), uploads="resumable") as store:
        made = await store.put(bucket, "key", b"stands for what was stored")
        answer = json.dumps({"generation": made.etag, "crc32c": "AAAAAA=="}).encode()

        service.answer(Answer(308, {"Range": f"bytes=0-{PART - 1}"}), method="PUT", path="upload_id=")
        service.answer(Answer(200, {}, answer), method="PUT", path="upload_id=")
        with pytest.raises(trove.ChecksumError):
            await store.put(bucket, "key", pattern(PART + 7))
        assert not await store.exists(bucket, "key")
    server.expire_uploads()  # the server did not see the end of the upload


# Conditions


async def test_a_cached_object_is_not_sent_again(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url()) as store:
        info = await store.put(bucket, "key", LARGE)
        with pytest.raises(trove.NotModifiedError):
            await store.get(bucket, "key", if_none_match=info.etag)
        assert all("/storage/v1/" in request.target for request in service.requests[1:])
        assert await store.read(bucket, "key", if_none_match="1") == LARGE


async def test_etags_that_no_object_can_have(server: GCSServer, bucket: str) -> None:
    """They match no object."""
    async with opened(server) as store:
        await store.put(bucket, "key", b"data")
        for wrong in ("abc", "0", "-1", "1.5", "1" * 30, "0x10"):
            for call in (
                store.put(bucket, "key", b"other", if_match=wrong),
                store.put(bucket, "key", pattern(2 * PART), if_match=wrong),
                store.delete(bucket, "key", if_match=wrong),
                store.copy(bucket, "key", bucket, "copy", if_match=wrong),
            ):
                with pytest.raises(trove.PreconditionFailedError):
                    await call
            with pytest.raises(trove.PreconditionFailedError):
                await store.get(bucket, "key", if_match=wrong)
            with pytest.raises(trove.PreconditionFailedError):
                await store.head(bucket, "key", if_match=wrong)
        with pytest.raises(trove.ObjectNotFoundError):
            await store.get(bucket, "missing", if_match="abc")
        assert await store.read(bucket, "key", if_none_match="abc") == b"data"


async def test_the_service_evaluates_dates(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", LARGE)
        with pytest.raises(trove.NotModifiedError):
            await store.get(bucket, "key", if_modified_since=later)
        with pytest.raises(trove.PreconditionFailedError):
            await store.get(bucket, "key", if_unmodified_since=datetime(2000, 1, 1, tzinfo=UTC))
    assert [request.status for request in service.requests] == [200, 304, 412]


# Missing objects


async def test_the_missing_object_or_bucket_is_named(server: GCSServer, bucket: str) -> None:
    async with opened(server) as store:
        present: tuple[Awaitable[object], ...] = (
            store.head(bucket, "key"),
            store.read(bucket, "key"),
            store.get_tags(bucket, "key"),
        )
        for call in present:
            with pytest.raises(trove.ObjectNotFoundError):
                await call
        absent: tuple[Awaitable[object], ...] = (
            store.head("missing", "key"),
            store.read("missing", "key"),
            store.put("missing", "key", b"data"),
            store.put("missing", "key", pattern(2 * PART)),
            store.put("missing", "key", pattern(2 * PART), if_none_match="*"),
            store.delete("missing", "key"),
            store.delete_many("missing", ["key"]),
            store.list("missing").all(),
            store.initiate_multipart("missing", "key"),
            store.copy("missing", "key", bucket, "key"),
        )
        for call in absent:
            with pytest.raises(trove.BucketNotFoundError) as caught:
                await call
            assert caught.value.bucket == "missing"


async def test_an_answer_that_does_not_say_what_is_missing(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(json_error(404, "notFound", "Not Found"), method="GET", path="/o/", times=None)
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.ObjectNotFoundError):
            await store.head(bucket, "key")
        with pytest.raises(trove.BucketNotFoundError):
            await store.head("missing", "key")


# Listing and deletion


async def test_a_listing_after_a_key_in_a_group(server: GCSServer, bucket: str) -> None:
    """The service's offset includes the key itself and groups it; the listing must begin after the key."""
    async with opened(server) as store:
        for key in ("a", "a/b", "b", "b/c", "b/d"):
            await store.put(bucket, key, b"x")
        assert [item.key for item in await store.list(bucket, delimiter="/", start_after="a/b").all()] == ["b", "b/"]
        assert [item.key for item in await store.list(bucket, delimiter="/", start_after="b/c").all()] == ["b/"]
        assert await store.list(bucket, delimiter="/", start_after="b/d").all() == []
        longest = "c" * 1024
        await store.put(bucket, longest, b"x")
        assert await store.list(bucket, start_after=longest).all() == []
        assert [item.key for item in await store.list(bucket, start_after=longest[:-1]).all()] == [longest]


async def test_a_hundred_deletions_take_one_request(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    keys = [f"key-{number}☺ /?" for number in range(250)]
    async with opened(server, service.url()) as store:
        await asyncio.gather(*(store.put(bucket, key, b"x") for key in keys))
        assert await store.delete_many(bucket, [*keys, "missing"]) == 251
        assert service.count("POST", "/batch/storage/v1") == 3
        assert service.count("DELETE") == 0
        assert server.objects(bucket) == []


async def test_a_deletion_that_failed_in_a_batch_is_retried_alone(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url()) as store:
        for key in ("a", "b", "c"):
            await store.put(bucket, key, b"x")
        service.answer(_batch_answer([(204, ""), (503, "backendError"), (403, "forbidden")]), path="/batch/")
        with pytest.raises(trove.BulkError) as caught:
            await store.delete_many(bucket, ["a", "b", "c"])
        assert [(failed.key, type(failed.error)) for failed in caught.value.failed] == [("c", trove.AccessDeniedError)]
        assert service.count("DELETE") == 1


def _batch_answer(parts: list[tuple[int, str]]) -> Answer:
    parts_text = ""
    for number, (status, reason) in enumerate(parts):
        body = (
            json.dumps({"error": {"code": status, "message": "no", "errors": [{"reason": reason}]}}) if reason else ""
        )
        parts_text += (
            f"--batch_x\r\nContent-Type: application/http\r\nContent-ID: <response-z+{number}>\r\n\r\n"
            f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n\r\n{body}\r\n"
        )
    return Answer(200, {"Content-Type": "multipart/mixed; boundary=batch_x"}, f"{parts_text}--batch_x--\r\n".encode())


# Copies


async def test_a_copy_that_takes_several_requests() -> None:
    async with GCSServer(rewrite_bytes_per_call=1 << 20) as server, opened(server, part_size=32 * PART) as store:
        await store.create_bucket("bucket")
        data = pattern(5 << 20)
        await store.put("bucket", "key", data, metadata={"a": "ä"}, storage_class="NEARLINE")
        info = await store.copy("bucket", "key", "bucket", "copy")
        assert (info.size, info.storage_class, dict(info.metadata)) == (len(data), "NEARLINE", {"a": "ä"})
        assert await store.read("bucket", "copy") == data
        assert server.requests.count("POST", "/rewriteTo/") > 1


async def test_a_source_that_is_replaced_during_the_copy(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    """The described generation is copied; if it is gone, the new one is, and never a mixture."""
    stale = json.dumps({"generation": "5", "size": "4", "metadata": {"of": "another"}}).encode()
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data", metadata={"of": "this"})
        service.answer(Answer(200, {}, stale), method="GET", path="/o/key", times=2)
        copied = await store.copy(bucket, "key", bucket, "copy")
        assert dict(copied.metadata) == {"of": "this"}
        assert service.count("POST", "/rewriteTo/") == 3
        service.answer(Answer(200, {}, stale), method="GET", path="/o/key", times=None)
        with pytest.raises(trove.TransientError, match="replaced"):
            await store.copy(bucket, "key", bucket, "other")


# Transient errors


async def test_the_requested_wait_is_kept(
    server: GCSServer, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    service.answer(xml_error(503, "SlowDown", headers={"Retry-After": "7"}), method="PUT", times=2)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"data")
    assert service.count("PUT") == 3
    assert [7 <= delay <= 7 + 2**number for number, delay in enumerate(delays)] == [True, True]


async def test_a_service_that_stays_busy_is_given_up(
    server: GCSServer, bucket: str, service: AnsweringProxy, delays: list[float]
) -> None:
    answer = json_error(
        429, "rateLimitExceeded", "please", headers={"Retry-After": "2", "X-GUploader-UploadID": "id-7"}
    )
    service.answer(answer, times=None)
    async with opened(server, service.url(), attempts=4) as store:
        with pytest.raises(trove.ThrottledError) as caught:
            await store.head(bucket, "key")
    error = caught.value
    assert (error.status, error.request_id, error.retry_after, error.retryable) == (429, "id-7", 2, True)
    assert not error.ambiguous
    assert "rateLimitExceeded: please" in str(error)
    assert [2 <= delay <= 2 + 2**number for number, delay in enumerate(delays)] == [True] * 3


async def test_a_write_that_reportedly_failed_is_ambiguous(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    service.answer(xml_error(500, "InternalError"), method="PUT", when="after", times=2)
    async with opened(server, service.url(), attempts=2) as store:
        with pytest.raises(trove.TransientError) as caught:
            await store.put(bucket, "key", b"data", if_none_match="17")
        assert caught.value.ambiguous
        assert await store.read(bucket, "key") == b"data"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("when", ["before", "after"])
@APIS
async def test_an_uncertain_put_is_settled_by_a_look_up(
    server: GCSServer, bucket: str, service: AnsweringProxy, status: int, when: When, api: str
) -> None:
    method = "PUT" if api == "xml" else "POST"
    service.answer(json_error(status, "x"), method=method, when=when, times=2)
    async with opened(server, service.url(), attempts=2, api=api) as store:
        if when == "after":
            info = await store.put(
                bucket, "key", b"data", metadata={"a": "ü"}, tags={"a": "b"}, cache_control="no-store"
            )
            assert info.etag == (await store.head(bucket, "key")).etag
        else:
            with pytest.raises(trove.TransientError) as caught:
                await store.put(bucket, "key", b"data")
            assert caught.value.ambiguous


@pytest.mark.parametrize("operation", ["put", "part", "delete"])
async def test_an_unread_answer_releases_its_connection(
    server: GCSServer, bucket: str, service: AnsweringProxy, operation: str
) -> None:
    async with opened(server, service.url()) as store:
        upload = await store.initiate_multipart(bucket, "key")
        headers = {"ETag": '"one"', "x-goog-generation": "1"}
        service.answer(Answer(200, headers, b"{}" + b" " * 200_000), path="/key")
        if operation == "put":
            assert (await store.put(bucket, "key", b"data")).etag == "1"
        elif operation == "part":
            assert (await store.upload_part(bucket, "key", upload, 1, b"data")).etag == "one"
        else:
            service.clear()
            await store.delete(bucket, "key")
        assert driver_of(store).busy_connections == 0
        await store.abort_multipart(bucket, "key", upload)


@pytest.mark.parametrize("content_type", ["image/jpeg", "text/plain; charset=utf-8"])
async def test_a_json_upload_sends_the_bytes_with_the_type_of_the_object(
    server: GCSServer, bucket: str, network: FaultProxy, content_type: str
) -> None:
    """The service refuses bytes with another type than the object's."""
    async with opened(server, network.url(), api="json") as store:
        await store.put(bucket, "key", b"data", content_type=content_type)
        await store.put(bucket, "key", b"data", content_type=content_type, if_match="*")
        assert (await store.head(bucket, "key")).content_type == content_type
    sent = b"".join(connection.transcript for connection in network.connections).decode()
    assert sent.count("multipart/related") == 2
    assert sent.count(f"\r\ncontent-type: {content_type}\r\n\r\ndata\r\n") == 2


@APIS
async def test_an_answer_without_a_length_has_the_size_of_the_stored_object(
    server: GCSServer, bucket: str, service: AnsweringProxy, api: str
) -> None:
    """Some proxies send bodies in chunks."""
    async with opened(server, service.url(), api=api) as store:
        info = await store.put(bucket, "key", b"some data")
        headers = {"x-goog-generation": info.etag, "ETag": '"of the service"', "Transfer-Encoding": "chunked"}
        path = "/bucket/key" if api == "xml" else "alt=media"
        answer = Answer(200, headers, b"9\r\nsome data\r\n0\r\n\r\n")
        service.answer(answer, method="GET", path=path, times=2)
        assert await store.read(bucket, "key") == b"some data"
        assert await store.read(bucket, "key", range=(5, 4)) == b"data"
