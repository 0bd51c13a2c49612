from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

import trove_async as trove
from tests.web.asgi import BASE, DATA, Sent, call, scope_of
from trove_async.driver import Body
from trove_async.layers import LayerDriver
from trove_async.web import signed_urls

pytestmark = pytest.mark.asyncio


async def test_put_stores_the_body_and_its_headers(store: trove.Trove, client: httpx.AsyncClient) -> None:
    headers = {
        "Content-Type": "image/png",
        "Cache-Control": "no-store",
        "Content-Disposition": "inline",
        "Content-Language": "de",
    }
    answer = await client.put(await store.presign_put("b", "k"), content=DATA, headers=headers)
    info = await store.head("b", "k")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == f'"{info.etag}"'
    assert await store.read("b", "k") == DATA
    assert (info.content_type, info.cache_control) == ("image/png", "no-store")
    assert (info.content_disposition, info.content_language) == ("inline", "de")


async def test_a_put_without_content_type_gets_the_type_of_its_key(
    store: trove.Trove, client: httpx.AsyncClient
) -> None:
    await client.put(await store.presign_put("b", "a.html"), content=b"")
    assert (await store.head("b", "a.html")).content_type == "text/html"


async def test_a_put_is_bound_to_its_content_type(store: trove.Trove, client: httpx.AsyncClient) -> None:
    url = await store.presign_put("b", "k", content_type="image/png")
    for headers in ({"Content-Type": "text/html"}, {}):
        refused = await client.put(url, content=DATA, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "AccessDenied")
    assert not await store.exists("b", "k")
    assert (await client.put(url, content=DATA, headers={"Content-Type": "image/png"})).status_code == 200


async def test_a_put_is_bound_to_its_content_length(store: trove.Trove, client: httpx.AsyncClient) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        yield DATA

    url = await store.presign_put("b", "k", content_length=100)
    assert (await client.put(url, content=DATA + b"x")).status_code == 403
    assert (await client.put(url, content=chunked())).status_code == 411
    assert not await store.exists("b", "k")
    assert (await client.put(url, content=DATA)).status_code == 200


async def test_a_put_without_length_is_streamed(store: trove.Trove, client: httpx.AsyncClient) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        for byte in DATA:
            yield bytes([byte])

    assert (await client.put(await store.presign_put("b", "k"), content=chunked())).status_code == 200
    assert await store.read("b", "k") == DATA


async def test_conditions_of_a_put(store: trove.Trove, client: httpx.AsyncClient) -> None:
    url = await store.presign_put("b", "k")

    async def put(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return (await client.put(url, content=b"new", headers=named)).status_code

    assert await put(if_match="*") == 412
    assert await put(if_none_match="*") == 200
    assert await put(if_none_match="*") == 412
    etag = (await store.head("b", "k")).etag
    assert await put(if_match='"other"') == 412
    assert await put(if_match=f'W/"{etag}"') == 412
    assert await put(if_match=f'"{etag}", "other"') == 400
    assert await put(if_unmodified_since=format_datetime(datetime.now(UTC), usegmt=True)) == 501
    assert (await store.head("b", "k")).etag == etag
    assert await put(if_match=f'"{etag}"') == 200


@pytest.mark.parametrize(
    "headers", [{"content-range": "bytes 0-1/2"}, {"content-length": "two"}, {"content-type": "nonsense"}], ids=str
)
async def test_an_invalid_put_is_refused(store: trove.Trove, headers: dict[str, str]) -> None:
    sent = await call(signed_urls(store), "PUT", await store.presign_put("b", "k"), headers, [b"ab"])
    assert sent.status == 400
    assert not await store.exists("b", "k")


async def test_a_body_shorter_than_its_length_stores_nothing(store: trove.Trove) -> None:
    sent = await call(signed_urls(store), "PUT", await store.presign_put("b", "k"), {"content-length": "5"}, [b"ab"])
    assert (sent.status, sent.json()["code"]) == (400, "BodySize")
    assert not await store.exists("b", "k")


async def test_a_client_that_disconnects_during_an_upload_leaves_the_old_object(store: trove.Trove) -> None:
    await store.put("b", "k", b"old")
    url = await store.presign_put("b", "k")
    sent = await call(signed_urls(store), "PUT", url, {"content-length": "100"}, [b"ne", None])
    assert sent.messages == []
    assert await store.read("b", "k") == b"old"


async def test_an_upload_is_read_no_faster_than_it_is_stored(store: trove.Trove) -> None:
    taken: list[int] = []

    class SlowDriver(LayerDriver):
        async def put(self, bucket: str, key: str, body: Body, options: Any) -> trove.ObjectInfo:
            taken.extend([received async for _ in body])
            return trove.ObjectInfo(key, body.taken, "etag")

    received = 0

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x", "more_body": received < 10}

    async with trove.open("memory://", presign_url=BASE, layers=[SlowDriver]) as slow:
        sent = Sent()
        url = await slow.presign_put("b", "k")
        await signed_urls(slow)(scope_of("PUT", url, {}), receive, sent.send)
    assert taken == list(range(1, 11))
    assert sent.status == 200


async def test_delete(store: trove.Trove, client: httpx.AsyncClient) -> None:
    info = await store.put("b", "k", DATA)
    url = await store.presign_delete("b", "k")
    assert (await client.delete(url, headers={"If-Match": '"other"'})).status_code == 412
    refused = await client.delete(url, headers={"If-None-Match": '"other"'})
    assert refused.status_code == 501
    assert "use If-Match" in refused.json()["message"]
    assert (await client.delete(url, headers={"If-Match": f'"{info.etag}"'})).status_code == 204
    assert not await store.exists("b", "k")
    assert (await client.delete(url)).status_code == 204
