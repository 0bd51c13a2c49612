"""Bodies that are larger than a part: in parts, and in one session that continues from the persisted bytes."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trove_async as trove
from tests.gcs.stores import MIN_PART, PART, driver_of, json_error, opened, pattern, xml_error
from tests.servers import running
from trove_async.driver import OpenOptions
from trove_async.driver import retry as retry_module
from trove_async.drivers.gcs.settings import CHUNK, MAX_PART_SIZE, GCSSettings
from trove_async.drivers.gcs.uploads import MAX_PARTS, MAX_SIZE, plan_for, session_plan_for
from trove_async.dsn import parse_dsn
from trove_async.testing.answers import Answer, AnsweringProxy, When
from trove_async.testing.gcs import GCSServer

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


async def in_chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def ranges(service: AnsweringProxy) -> list[str]:
    """Return the Content-Range of each request to a session."""
    return [request.header("content-range") or "" for request in service.requests if "upload_id=" in request.target]


# The sizes of parts


def settings(size: int) -> GCSSettings:
    return GCSSettings.of(parse_dsn(f"gcs://p/?anonymous=1&part_size={size}"), OpenOptions())


@pytest.mark.parametrize("size", [1, 8 << 20, 80_000 << 20, (80_000 << 20) + 1, MAX_SIZE])
async def test_a_body_of_known_length_has_parts_of_one_sufficient_size(size: int) -> None:
    plan = plan_for(settings(8 << 20))
    part = plan.size_for(1, size)
    assert part * MAX_PARTS >= size
    assert part % CHUNK == 0
    with pytest.raises(trove.InvalidArgumentError):
        plan.size_for(1, MAX_SIZE + 1)


@pytest.mark.parametrize("total", [None, MAX_SIZE])
async def test_parts_are_enough_for_the_largest_object(total: int | None) -> None:
    plan = plan_for(settings(8 << 20))
    sizes = [plan.size_for(number, total) for number in range(1, MAX_PARTS + 1)]
    assert sum(sizes) >= MAX_SIZE
    assert max(sizes) <= MAX_PART_SIZE


@pytest.mark.parametrize("total", [None, MAX_SIZE])
async def test_a_session_has_requests_of_one_size_for_the_largest_object(total: int | None) -> None:
    plan = session_plan_for(settings(8 << 20))
    assert plan.size_for(plan.max_parts, total) == 8 << 20
    assert plan.max_parts * (8 << 20) >= MAX_SIZE


# Requests


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_the_number_of_requests_of_a_put(
    server: GCSServer, bucket: str, service: AnsweringProxy, size: int, known: bool
) -> None:
    data = pattern(size)
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", in_chunks(data, 100_000), size=size if known else None)
        whole = size <= PART
        assert service.count("PUT") == (1 if whole else -(-size // PART))
        assert service.count("POST") == (0 if whole else 2)
        assert await store.read(bucket, "key") == data


@pytest.mark.parametrize("size", [PART + 1, 2 * PART, 3 * PART + 5, 3 * PART + MIN_PART])
async def test_a_session_takes_chunks_of_256_kib(
    server: GCSServer, bucket: str, service: AnsweringProxy, size: int
) -> None:
    data = pattern(size)
    async with opened(server, service.url(), uploads="resumable") as store:
        info = await store.put(bucket, "key", in_chunks(data, 70_001))
        assert await store.read(bucket, "key") == data
        assert (await store.head(bucket, "key")).etag == info.etag
    content_ranges = [re.fullmatch(r"bytes (\d+)-(\d+)/(\*|\d+)", text) for text in ranges(service)]
    assert all(content_ranges)
    spans = [(int(found[1]), int(found[2]) + 1, found[3]) for found in content_ranges if found]
    assert [start for start, _, _ in spans] == [0, *[stop for _, stop, _ in spans[:-1]]]
    assert all((stop - start) % CHUNK == 0 and total == "*" for start, stop, total in spans[:-1])
    # The commit is small, so a cancellation waits only for a small request.
    start, stop, total = spans[-1]
    assert 0 < stop - start <= CHUNK
    assert (stop, total) == (size, str(size))


async def test_an_object_without_a_checksum_of_the_service_is_kept(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    data = pattern(PART + 1)
    made = Answer(200, {"Content-Type": "application/json"}, b'{"generation": "7", "size": "%d"}' % len(data))
    service.answer(made, method="PUT", path="upload_id=", when="after", skip=1)
    async with opened(server, service.url(), uploads="resumable") as store:
        assert (await store.put(bucket, "key", data)).size == len(data)
        assert service.count("DELETE") == 0
        assert await store.read(bucket, "key") == data


async def test_a_session_continues_from_the_persisted_bytes(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    """After a failed chunk the persisted range is queried, and no persisted byte is sent again."""
    data = pattern(6 * PART)
    async with opened(server, service.url(), uploads="resumable", part_size=2 * PART) as store:
        service.answer(json_error(503, "backendError"), method="PUT", path="upload_id=", when="after")
        service.answer(json_error(500, "internalError"), method="PUT", path="upload_id=", when="before")
        await store.put(bucket, "key", in_chunks(data, 50_000))
        assert await store.read(bucket, "key") == data
    content_ranges = ranges(service)
    assert "bytes */*" in content_ranges
    sent = [text for text in content_ranges if not text.startswith("bytes */")]
    assert len(sent) == len(set(sent)), "a persisted chunk was sent again"


async def test_after_a_partly_persisted_chunk_the_remainder_is_sent(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    data = pattern(4 * PART)
    async with opened(server, service.url(), uploads="resumable", part_size=2 * PART) as store:
        # It persisted nothing, and says so by omitting the range.
        service.answer(Answer(308), method="PUT", path="upload_id=")
        await store.put(bucket, "key", in_chunks(data, 50_000))
        assert await store.read(bucket, "key") == data
    assert ranges(service)[:2] == [f"bytes 0-{PART - 1}/*"] * 2  # the last 256 KiB are kept for the commit


async def test_a_service_that_persists_nothing_is_given_up(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url(), uploads="resumable", attempts=3) as store:
        service.answer(Answer(308), method="PUT", path="upload_id=", times=None)
        with pytest.raises(trove.TransientError, match="none of the bytes"):
            await store.put(bucket, "key", in_chunks(pattern(3 * PART), 50_000))
        assert len(ranges(service)) == 3 + 1  # and the session is cancelled


async def test_a_service_that_loses_persisted_bytes_is_an_error(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url(), uploads="resumable") as store:
        service.answer(Answer(308, {"Range": f"bytes=0-{PART - 1}"}), method="PUT", path="upload_id=")
        service.answer(Answer(308, {"Range": "bytes=0-99"}), method="PUT", path="upload_id=")
        with pytest.raises(trove.BackendError, match="said before"):
            await store.put(bucket, "key", in_chunks(pattern(4 * PART), 50_000))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_answered_with_an_error_is_settled(
    server: GCSServer, bucket: str, service: AnsweringProxy, when: str
) -> None:
    size = 2 * PART + 7
    async with opened(server, service.url(), uploads="resumable") as store:

        async def source() -> AsyncIterator[bytes]:
            yield pattern(size)[: 2 * PART]
            service.answer(json_error(503, "backendError"), method="PUT", path="upload_id=", when=when)  # type: ignore[arg-type]
            yield pattern(size)[2 * PART :]

        info = await store.put(bucket, "key", source())
        assert (await store.head(bucket, "key")).etag == info.etag
        assert await store.read(bucket, "key") == pattern(size)
        assert len(server.objects(bucket, versions=True)) == 1


GONE = {
    "JSON 404": json_error(404, "notFound"),
    "JSON 410": json_error(410, "backendError"),
    "XML 404": xml_error(404, "NoSuchKey"),
    "text 404": Answer(404, {"Content-Type": "text/plain"}, b"Not Found"),
    "text 410": Answer(410, {"Content-Type": "text/plain"}, b"Gone"),
    "HTML 410": Answer(410, {"Content-Type": "text/html"}, b"<html>Error 410"),
    "empty 410": Answer(410),
}


@pytest.mark.parametrize("uploads", ["parts", "resumable"])
async def test_a_file_is_sent_while_it_is_read(server: GCSServer, bucket: str, uploads: str, tmp_path: Path) -> None:
    size = 2 << 20
    data = pattern(5 * size + 77)
    (tmp_path / "file").write_bytes(data)
    async with opened(server, uploads=uploads, part_size=size, transfer_memory=0) as store:
        assert (await store.put(bucket, "key", tmp_path / "file")).size == len(data)
        assert await store.read(bucket, "key") == data


@pytest.mark.parametrize("form", GONE)
@pytest.mark.parametrize("skip", [0, 1, 2], ids=["first", "second", "commit"])
async def test_an_expired_session_is_restarted(
    server: GCSServer, bucket: str, service: AnsweringProxy, form: str, skip: int, tmp_path: Path
) -> None:
    data = pattern(3 * PART)
    (tmp_path / "file").write_bytes(data)
    for source in (data, tmp_path / "file"):
        service.clear()
        begun = service.count("POST")
        service.answer(GONE[form], method="PUT", path="upload_id=", skip=skip, times=2)
        async with opened(server, service.url(), uploads="resumable", part_size=PART) as store:
            info = await store.put(bucket, "key", source, checksum="sha256")
            assert await store.read(bucket, "key") == data
            assert info.checksums == {"sha256": hashlib.sha256(data).hexdigest()}
        assert service.count("POST") == begun + 2
        assert server.open_uploads() == []


async def test_sessions_that_always_expire_end_the_put(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    service.answer(GONE["JSON 410"], method="PUT", path="upload_id=", times=None)
    async with opened(server, service.url(), uploads="resumable") as store:
        await store.put(bucket, "key", b"old")
        with pytest.raises(trove.TransientError, match="session") as caught:
            await store.put(bucket, "key", pattern(3 * PART))
        assert not caught.value.ambiguous
        assert service.count("POST") == 3
        assert await store.read(bucket, "key") == b"old"


async def test_a_stream_cannot_restart_a_session(server: GCSServer, bucket: str) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield pattern(2 * PART)
        server.expire_uploads()
        yield pattern(2 * PART)

    async with opened(server, uploads="resumable") as store:
        await store.put(bucket, "key", b"old")
        with pytest.raises(trove.TransientError, match="session"):
            await store.put(bucket, "key", source())
        assert await store.read(bucket, "key") == b"old"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("condition", [{}, {"if_none_match": "*"}])
async def test_a_commit_that_never_succeeds_is_settled_by_asking_the_session(
    server: GCSServer, bucket: str, service: AnsweringProxy, when: When, condition: dict[str, Any]
) -> None:
    data = pattern(2 * PART)
    async with opened(server, service.url(), uploads="resumable", attempts=1) as store:
        service.answer(json_error(503, "backendError"), method="PUT", path="upload_id=", when=when, skip=1)
        if when == "after":
            info = await store.put(bucket, "key", data, **condition)
            assert (await store.head(bucket, "key")).etag == info.etag
        else:
            with pytest.raises(trove.TransientError) as caught:
                await store.put(bucket, "key", data, **condition)
            assert caught.value.ambiguous
            assert not await store.exists(bucket, "key")


@pytest.mark.parametrize("location", ["", "http://[", "upload", "/a b?upload_id=1", "http://host"])
async def test_a_session_without_a_url(server: GCSServer, bucket: str, service: AnsweringProxy, location: str) -> None:
    service.answer(Answer(200, {"Location": location}), method="POST", path="uploadType=resumable")
    async with opened(server, service.url(), uploads="resumable") as store:
        with pytest.raises(trove.BackendError, match="location"):
            await store.put(bucket, "key", pattern(2 * PART))


@pytest.mark.parametrize("range_header", ["bytes=0-", "bytes=1-5", "bytes=0-²", "0-5", "bytes=0-" + "9" * 5000])
async def test_an_invalid_range_of_a_session(
    server: GCSServer, bucket: str, service: AnsweringProxy, range_header: str
) -> None:
    service.answer(Answer(308, {"Range": range_header}), method="PUT", path="upload_id=")
    async with opened(server, service.url(), uploads="resumable") as store:
        with pytest.raises(trove.BackendError, match="range"):
            await store.put(bucket, "key", pattern(2 * PART))


async def test_a_session_s_answer_that_is_not_an_object(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    async with opened(server, service.url(), uploads="resumable") as store:
        service.answer(Answer(200, {}, b"{}"), method="PUT", path="upload_id=")
        with pytest.raises(trove.BackendError):
            await store.put(bucket, "key", in_chunks(pattern(3 * PART), 50_000))
        service.clear()
        service.answer(Answer(200, {}, b"{}"), method="POST", path="uploadType=resumable")
        with pytest.raises(trove.BackendError, match="location"):
            await store.put(bucket, "key", in_chunks(pattern(3 * PART), 50_000))


# Conditions, which the parts of the XML API do not support


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
async def test_a_condition_on_a_large_body(
    server: GCSServer, bucket: str, service: AnsweringProxy, known: bool
) -> None:
    data = pattern(3 * PART + 1)
    size = len(data) if known else None
    async with opened(server, service.url()) as store:
        info = await store.put(bucket, "key", in_chunks(data, 100_000), size=size, if_none_match="*")
        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put(bucket, "key", in_chunks(data, 100_000), size=size, if_none_match="*")
        with pytest.raises(trove.PreconditionFailedError):
            await store.put(bucket, "key", in_chunks(data, 100_000), size=size, if_match="1")
        other = await store.put(bucket, "key", in_chunks(data[::-1], 100_000), size=size, if_match=info.etag)
        assert (await store.head(bucket, "key")).etag == other.etag
        assert service.count("POST", "uploads=") == 0


async def test_a_condition_is_checked_again_on_completion(server: GCSServer, bucket: str) -> None:
    """Of two writers that create the same key, the one that commits second fails, however early it began."""
    async with opened(server) as store:

        async def source() -> AsyncIterator[bytes]:
            yield pattern(2 * PART)
            await store.put(bucket, "key", b"first", if_none_match="*")
            yield pattern(PART)

        with pytest.raises(trove.ObjectAlreadyExistsError):
            await store.put(bucket, "key", source(), if_none_match="*")
        assert await store.read(bucket, "key") == b"first"


async def test_a_put_if_the_object_is_not_that_one(server: GCSServer, bucket: str) -> None:
    """The service's own condition of this kind requires an object; ours does not."""
    large = pattern(2 * PART)
    async with opened(server) as store:
        info = await store.put(bucket, "key", b"1", if_none_match="17")
        with pytest.raises(trove.PreconditionFailedError):
            await store.put(bucket, "key", b"2", if_none_match=info.etag)
        with pytest.raises(trove.PreconditionFailedError):
            await store.put(bucket, "key", large, if_none_match=info.etag)
        await store.put(bucket, "key", b"3", if_none_match="17")
        await store.put(bucket, "other", large, if_none_match=info.etag)
        with pytest.raises(trove.PreconditionFailedError):
            await store.put(bucket, "missing", b"4", if_match="*")
        await store.put(bucket, "key", large, if_match="*")
        assert await store.read(bucket, "key") == large


async def test_metadata_that_xml_cannot_express_uses_a_session(
    server: GCSServer, bucket: str, service: AnsweringProxy
) -> None:
    key = "a\x01b"
    async with opened(server, service.url()) as store:
        await store.put(bucket, key, pattern(3 * PART))
        assert await store.read(bucket, key) == pattern(3 * PART)
        assert service.count("POST", "uploads=") == 0
        with pytest.raises(trove.InvalidKeyError):
            await store.initiate_multipart(bucket, key)


# Failures


@pytest.mark.parametrize("uploads", ["parts", "resumable"])
@pytest.mark.parametrize("after", [0, 1, 3])
async def test_an_exception_of_the_source_leaves_the_old_object(
    server: GCSServer, bucket: str, uploads: str, after: int
) -> None:
    async def source() -> AsyncIterator[bytes]:
        for _ in range(after):
            yield pattern(PART)
        raise LookupError("gone")

    async with opened(server, uploads=uploads) as store:
        await store.put(bucket, "key", b"old")
        with pytest.raises(LookupError):
            await store.put(bucket, "key", source())
        assert server.open_uploads() == []
        assert await store.read(bucket, "key") == b"old"


@pytest.mark.parametrize("uploads", ["parts", "resumable"])
async def test_a_cancellation_at_every_point_leaves_nothing(server: GCSServer, bucket: str, uploads: str) -> None:
    """At each await point: no session, no upload, no part of an object and no busy connection is left."""
    data = pattern(3 * PART + 100)
    async with opened(server, uploads=uploads) as store:
        await store.put(bucket, "key", b"old")
        step = 0
        while True:
            task = asyncio.create_task(store.put(bucket, "key", in_chunks(data, 200_000)))
            for _ in range(step):
                await asyncio.sleep(0)
            step += 2
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert server.open_uploads() == []
            assert driver_of(store).busy_connections == 0
            assert await store.read(bucket, "key") in (b"old", data)
        assert (await task).size == len(data)
    assert step > 20


@pytest.mark.parametrize("uploads", ["parts", "resumable"])
async def test_a_completion_is_not_retried_after_a_cancellation(
    server: GCSServer, bucket: str, service: AnsweringProxy, monkeypatch: pytest.MonkeyPatch, uploads: str
) -> None:
    """The put is cancelled while it waits for its next attempt."""
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    in_parts = uploads == "parts"
    method, path, sent = ("POST", "uploadId=", 0) if in_parts else ("PUT", "upload_id=", 1)
    service.answer(Answer(503), method=method, path=path, skip=sent)
    async with opened(server, service.url(), uploads=uploads) as store:
        await store.put(bucket, "key", b"old")
        task = asyncio.create_task(store.put(bucket, "key", pattern(PART + 1)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert service.count(method, path) == sent + 1
        assert server.open_uploads() == []
        assert await store.read(bucket, "key") == b"old"


async def test_a_refused_part_ends_the_put(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    service.answer(xml_error(403, "AccessDenied"), method="PUT", path="partNumber=2")
    async with opened(server, service.url()) as store:
        with pytest.raises(trove.AccessDeniedError):
            await store.put(bucket, "key", pattern(4 * PART))
        assert server.open_uploads() == []
        assert not await store.exists(bucket, "key")


async def test_a_completion_that_never_succeeds(server: GCSServer, bucket: str, service: AnsweringProxy) -> None:
    async with opened(server, service.url(), attempts=3) as store:
        await store.put(bucket, "key", b"old")
        service.answer(xml_error(503, "ServiceUnavailable"), method="POST", path="uploadId=", times=None)
        with pytest.raises(trove.TransientError):
            await store.put(bucket, "key", pattern(3 * PART))
        assert service.count("POST", "uploadId=") == 3
        assert await store.read(bucket, "key") == b"old"


@pytest.mark.parametrize("carried_out", [True, False])
async def test_an_upload_that_is_gone_after_a_lost_answer_is_settled(
    server: GCSServer, bucket: str, service: AnsweringProxy, carried_out: bool
) -> None:
    data = pattern(3 * PART)
    first = "after" if carried_out else "before"
    service.answer(xml_error(500, "InternalError"), method="POST", path="uploadId=", when=first)  # type: ignore[arg-type]
    service.answer(xml_error(404, "NoSuchUpload"), method="POST", path="uploadId=")
    async with opened(server, service.url()) as store:
        await store.put(bucket, "key", b"old")
        if carried_out:
            info = await store.put(bucket, "key", data)
            assert info.etag == (await store.head(bucket, "key")).etag
        else:
            with pytest.raises(trove.UploadNotFoundError) as caught:
                await store.put(bucket, "key", data)
            assert caught.value.ambiguous
            assert await store.read(bucket, "key") == b"old"


# Memory


@pytest.mark.parametrize("uploads", ["parts", "resumable"])
async def test_memory_does_not_grow_with_the_object(uploads: str) -> None:
    """For a put and for a get: the server is another process."""
    server = running("gcs")
    bucket = f"test-{uuid.uuid4().hex[:16]}"
    settings: dict[str, Any] = {"anonymous": True, "part_size": 20 * PART, "part_concurrency": 2, "uploads": uploads}

    async def peak(store: trove.Trove, parts: int) -> int:
        async def source() -> AsyncIterator[bytes]:
            for _ in range(parts):
                yield bytes(PART)

        tracemalloc.start()
        try:
            await store.put(bucket, "key", source())
            async with store.get(bucket, "key") as reader:
                async for _ in reader:
                    pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    async with trove.open(f"gcs://{server.project}/", endpoint=server.open_endpoint, **settings) as store:
        await store.create_bucket(bucket)
        highest = await peak(store, 300)
        await store.delete(bucket, "key")
        await store.delete_bucket(bucket)
    assert highest < (2 + 3) * 20 * PART  # parts under way and read-ahead, of 15 in all
