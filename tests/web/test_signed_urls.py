from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

import trove_async as trove
from tests.web.asgi import BASE, DATA, Sent, call, scope_of
from tests.web.streams import Endless, streaming
from trove_async.driver import CopyOptions, GetOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.layers import LayerDriver
from trove_async.reader import ObjectReader
from trove_async.web import signed_urls

pytestmark = pytest.mark.asyncio


async def get(store: trove.Trove, client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.get(await store.presign_get("b", "k"), headers=named)


def date_of(info: trove.ObjectInfo, seconds: int = 0) -> str:
    assert info.last_modified is not None
    return format_datetime(info.last_modified + timedelta(seconds=seconds), usegmt=True)


# Reading


async def test_get_returns_the_object_and_its_stored_headers(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put(
        "b",
        "k",
        DATA,
        content_type="image/png",
        cache_control="max-age=60",
        content_disposition='attachment; filename="a.png"',
        content_language="en",
        metadata={"Plain": "a b", "other": "naïve 100%\u2028☃"},
    )
    answer = await get(store, client)
    assert answer.status_code == 200
    assert answer.content == DATA
    headers = answer.headers
    assert headers["content-length"] == "100"
    assert headers["content-type"] == "image/png"
    assert headers["cache-control"] == "max-age=60"
    assert headers["content-disposition"] == 'attachment; filename="a.png"'
    assert headers["content-language"] == "en"
    assert headers["etag"] == f'"{info.etag}"'
    assert headers["last-modified"] == date_of(info)
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert unquote(headers["x-trove-meta-plain"]) == "a b"
    assert headers["x-trove-meta-other"].isascii()
    assert unquote(headers["x-trove-meta-other"]) == "naïve 100%\u2028☃"


async def test_an_encoded_object_is_sent_unchanged(store: trove.Trove) -> None:
    await store.put("b", "k", b"not really gzip", content_encoding="gzip")
    sent = await call(signed_urls(store), "GET", await store.presign_get("b", "k"))
    assert sent.header("content-encoding") == "gzip"
    assert sent.body == b"not really gzip"


async def test_head_has_the_headers_of_get_and_no_body(store: trove.Trove, client: httpx.AsyncClient) -> None:
    await store.put("b", "k", DATA, metadata={"a": "b"})
    answer = await client.head(await store.presign_head("b", "k"), headers={"Range": "bytes=0-1"})
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers == (await get(store, client)).headers


async def test_an_empty_object(store: trove.Trove, client: httpx.AsyncClient) -> None:
    await store.put("b", "k", b"")
    answer = await get(store, client)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    refused = await get(store, client, range="bytes=0-")
    assert (refused.status_code, refused.headers["content-range"]) == (416, "bytes */0")


async def test_a_version_is_read_and_named(store: trove.Trove, client: httpx.AsyncClient) -> None:
    await store.set_versioning("b", True)
    old = await store.put("b", "k", b"old")
    await store.put("b", "k", b"new")
    answer = await client.get(await store.presign_get("b", "k", version_id=old.version_id))
    assert answer.content == b"old"
    assert answer.headers["x-trove-version-id"] == old.version_id


async def test_the_signature_sets_the_filename_and_type_of_the_answer(
    store: trove.Trove, client: httpx.AsyncClient
) -> None:
    await store.put("b", "k", DATA, content_type="image/png", content_disposition="inline")
    url = await store.presign_get(
        "b", "k", response_content_type="text/plain", response_content_disposition='attachment; filename="a b"'
    )
    answer = await client.get(url)
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["content-disposition"] == 'attachment; filename="a b"'


# Ranges


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=99-", 99, 100),
        ("bytes=90-1000", 90, 100),
        ("bytes=0-99999999999999999999999999", 0, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-1000", 0, 100),
        ("BYTES = 1 - 2", 1, 3),
    ],
)
async def test_a_range_is_answered_with_206(
    store: trove.Trove, client: httpx.AsyncClient, asked: str, start: int, stop: int
) -> None:
    await store.put("b", "k", DATA)
    answer = await get(store, client, range=asked)
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=100-", "bytes=100-200", "bytes=1000-"])
async def test_a_range_past_the_end_is_answered_with_the_size(
    store: trove.Trove, client: httpx.AsyncClient, asked: str
) -> None:
    await store.put("b", "k", DATA)
    answer = await get(store, client, range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */100"
    assert answer.json()["code"] == "RangeNotSatisfiable"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=2-1",
        "bytes=-",
        "bytes=-0",
        "bytes=a-b",
        "bytes=0-1x",
        "lines=0-1",
        "bytes",
        "",
        "bytes=٣-٤",
    ],
)
async def test_an_unsupported_range_is_ignored(store: trove.Trove, asked: str) -> None:
    await store.put("b", "k", DATA)
    sent = await call(signed_urls(store), "GET", await store.presign_get("b", "k"), {"range": asked})
    assert (sent.status, sent.body) == (200, DATA)


# Conditions of reads


async def test_if_none_match(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA, cache_control="max-age=60")
    for same in (f'"{info.etag}"', f'W/"{info.etag}"', "*", f'"x,y" , "{info.etag}"'):
        answer = await get(store, client, if_none_match=same)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == f'"{info.etag}"'
        assert answer.headers["cache-control"] == "max-age=60"
        assert "content-length" not in answer.headers
    assert (await get(store, client, if_none_match='"other"')).status_code == 200


async def test_if_match(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    for same in (f'"{info.etag}"', "*", f'"other", "{info.etag}"'):
        assert (await get(store, client, if_match=same)).status_code == 200
    for other in ('"other"', f'W/"{info.etag}"', info.etag):
        answer = await get(store, client, if_match=other)
        assert (answer.status_code, answer.json()["code"]) == (412, "PreconditionFailed")


async def test_date_conditions_have_a_resolution_of_a_second(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    assert (await get(store, client, if_modified_since=date_of(info))).status_code == 304
    assert (await get(store, client, if_modified_since=date_of(info, -1))).status_code == 200
    assert (await get(store, client, if_unmodified_since=date_of(info))).status_code == 200
    assert (await get(store, client, if_unmodified_since=date_of(info, -1))).status_code == 412


@pytest.mark.parametrize("date", ["yesterday", "", "Sat, 99 Nov 2026 00:00:00 GMT"])
async def test_an_invalid_date_is_ignored(store: trove.Trove, client: httpx.AsyncClient, date: str) -> None:
    await store.put("b", "k", DATA)
    assert (await get(store, client, if_modified_since=date)).status_code == 200
    assert (await get(store, client, if_unmodified_since=date)).status_code == 200


async def test_an_etag_takes_precedence_over_a_date(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    fresh, stale = date_of(info), date_of(info, -1)
    assert (await get(store, client, if_none_match='"other"', if_modified_since=fresh)).status_code == 200
    assert (await get(store, client, if_match=f'"{info.etag}"', if_unmodified_since=stale)).status_code == 200


async def test_if_range(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    for same in (f'"{info.etag}"', date_of(info)):
        answer = await get(store, client, range="bytes=1-2", if_range=same)
        assert (answer.status_code, answer.content) == (206, DATA[1:3])
    for other in ('"other"', f'W/"{info.etag}"', date_of(info, 1), "*", f'"{info.etag}", "x"'):
        answer = await get(store, client, range="bytes=1-2", if_range=other)
        assert (answer.status_code, answer.content) == (200, DATA)


async def test_head_evaluates_conditions_too(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    url = await store.presign_head("b", "k")
    assert (await client.head(url, headers={"If-None-Match": f'"{info.etag}"'})).status_code == 304
    refused = await client.head(url, headers={"If-Match": '"other"'})
    assert (refused.status_code, refused.content) == (412, b"")


class ReplacesBeforeReads(LayerDriver):
    """Replaces the object before each of the first ``times`` reads."""

    times = 1

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        if self.times:
            self.times -= 1
            await trove.unwrap(self, MemoryDriver).copy(bucket, key, bucket, key, CopyOptions())
        return await super().get(bucket, key, options)


@pytest.mark.parametrize(("times", "status"), [(1, 412), (0, 200)])
async def test_a_condition_is_evaluated_for_the_object_that_is_sent(times: int, status: int) -> None:
    async with trove.open("memory://", presign_url=BASE, layers=[ReplacesBeforeReads]) as store:
        trove.unwrap(store.driver, ReplacesBeforeReads).times = times
        await store.create_bucket("b")
        info = await store.put("b", "k", DATA)
        url = await store.presign_get("b", "k")
        sent = await call(signed_urls(store), "GET", url, {"if-match": f'"{info.etag}"'})
    assert sent.status == status


async def test_an_object_that_changes_constantly_is_a_server_error() -> None:
    async with trove.open("memory://", presign_url=BASE, layers=[ReplacesBeforeReads]) as store:
        trove.unwrap(store.driver, ReplacesBeforeReads).times = 100
        await store.create_bucket("b")
        await store.put("b", "k", DATA)
        sent = await call(signed_urls(store), "GET", await store.presign_get("b", "k"), {"if-match": "*"})
    assert sent.status == 503


# Refusals


async def test_a_missing_object_is_404(store: trove.Trove, client: httpx.AsyncClient) -> None:
    for url, code in (
        (await store.presign_get("b", "k"), "ObjectNotFound"),
        (await store.presign_get("missing", "k"), "BucketNotFound"),
        (await store.presign_get("b", "k", version_id="v"), "VersionNotFound"),
    ):
        answer = await client.get(url)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
        assert answer.headers["content-type"] == "application/json"
    head = await client.head(await store.presign_head("b", "k"))
    assert (head.status_code, head.content) == (404, b"")


async def test_a_url_is_for_one_method(store: trove.Trove, client: httpx.AsyncClient) -> None:
    await store.put("b", "k", DATA)
    url = await store.presign_get("b", "k")
    for method in ("HEAD", "PUT", "DELETE"):
        assert (await client.request(method, url)).status_code == 403
    assert await store.read("b", "k") == DATA


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "PATCH"])
async def test_the_answer_to_other_methods_lists_the_allowed_ones(
    store: trove.Trove, client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, await store.presign_get("b", "k"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PUT, DELETE")
    assert answer.json()["message"] == f"the method {method} is not allowed"


async def test_unsigned_and_changed_urls_are_refused(store: trove.Trove, client: httpx.AsyncClient) -> None:
    await store.put("b", "k", DATA)
    url = await store.presign_get("b", "k")
    for changed in (url.partition("?")[0], url[:-1], url + "&version=null", BASE, f"{BASE}/", f"{BASE}/b/k"):
        answer = await client.get(changed)
        assert (answer.status_code, answer.json()["code"]) == (403, "AccessDenied")


async def test_an_upload_without_permission_is_refused_unread(store: trove.Trove) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read before the signature was checked")

    sent = Sent()
    url = await store.presign_get("b", "k")
    await signed_urls(store)(scope_of("PUT", url, {}), receive, sent.send)
    assert sent.status == 403


async def test_server_errors_are_logged_and_not_disclosed(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(LayerDriver):
        async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
            raise trove.UnavailableError("10.1.2.3 refuses connections", retry_after=1.5)

    async with trove.open("memory://", presign_url=BASE, layers=[Broken]) as store:
        sent = await call(signed_urls(store), "GET", await store.presign_get("b", "k"))
    assert (sent.status, sent.header("retry-after")) == (503, "2")
    assert b"10.1.2.3" not in sent.body
    assert "10.1.2.3" in caplog.text


async def test_a_header_stored_by_another_program_cannot_be_injected() -> None:
    class Forged(LayerDriver):
        async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
            info = trove.ObjectInfo(
                key,
                0,
                'e"\r\nSet-Cookie: a=b',
                content_type="text/plain\r\nX-Evil: 1",
                cache_control="snow☃",
                metadata={"ok": "a\r\nX-Evil: 1", "not ok:": "x"},
            )
            return ObjectReader(info, b"")

    async with trove.open("memory://", presign_url=BASE, layers=[Forged]) as store:
        sent = await call(signed_urls(store), "GET", await store.presign_get("b", "k"))
    names = {name for name, _ in sent.messages[0]["headers"]}
    assert names == {b"accept-ranges", b"x-content-type-options", b"x-trove-meta-ok", b"content-length"}
    assert sent.header("x-trove-meta-ok") == "a%0D%0AX-Evil%3A%201"


# Interrupted downloads


@pytest.mark.parametrize("stalls", [False, True])
async def test_a_client_that_disconnects_ends_its_download(stalls: bool) -> None:
    stream = Endless(stalls=stalls)
    async with trove.open("memory://", presign_url=BASE, layers=[streaming(stream)]) as store:
        sent = Sent(gone_after=2)
        scope = scope_of("GET", await store.presign_get("b", "k"), {})
        before = asyncio.all_tasks()
        await signed_urls(store)(scope, sent.receive, sent.send)
        assert asyncio.all_tasks() == before
    assert stream.ended
    assert stream.reads < 1000


async def test_a_download_that_breaks_does_not_end_like_a_complete_one() -> None:
    stream = Endless(breaks=True)
    async with trove.open("memory://", presign_url=BASE, layers=[streaming(stream)]) as store:
        sent = Sent()
        with pytest.raises(trove.BackendError, match="broken"):
            await signed_urls(store)(scope_of("GET", await store.presign_get("b", "k"), {}), sent.receive, sent.send)
    assert stream.ended
    assert sent.messages[-1]["more_body"]


async def test_a_download_releases_its_reader_when_the_server_stops() -> None:
    stream = Endless(stalls=True)
    async with trove.open("memory://", presign_url=BASE, layers=[streaming(stream)]) as store:
        sent = Sent()
        scope = scope_of("GET", await store.presign_get("b", "k"), {})
        serving = asyncio.ensure_future(signed_urls(store)(scope, sent.receive, sent.send))
        await stream.stalled.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert stream.ended


# The app itself


async def test_it_uses_the_layers_of_its_store() -> None:
    seen: list[str] = []

    class Seen(LayerDriver):
        async def around(self, operation: Any, call: Any) -> Any:
            seen.append(operation.name)
            return await call()

    async with trove.open("memory://", presign_url=BASE, layers=[Seen]) as store:
        await call(signed_urls(store), "GET", await store.presign_get("b", "k"))
    assert seen == ["presign_get", "get"]


async def test_a_store_without_presign_is_refused() -> None:
    async with trove.open("memory://") as store:
        with pytest.raises(trove.UnsupportedError, match="presign_url"):
            signed_urls(store)


async def test_it_supports_the_lifespan_protocol(store: trove.Trove) -> None:
    messages = iter(["lifespan.startup", "lifespan.shutdown"])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": next(messages)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await signed_urls(store)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="websocket"):
        await signed_urls(store)({"type": "websocket"}, receive, send)
