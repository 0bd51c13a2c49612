"""Behaviour specific to aiohttp."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

import trove_async as trove
from tests.web.serving import SECONDS, aiohttp_serving, request, until
from tests.web.sites import aiohttp_site, site
from tests.web.streams import Endless, streaming
from trove_async.web.aiohttp import ObjectResponse

pytestmark = pytest.mark.asyncio


@asynccontextmanager
async def serving(stream: Endless, **options: Any) -> AsyncIterator[int]:
    async with (
        trove.open("memory://", layers=[streaming(stream)]) as store,
        aiohttp_serving(aiohttp_site(store, {}, {}), **options) as port,
    ):
        yield port


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_client_that_disconnects_ends_its_download(
    stalls: bool, handler_cancellation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stream = Endless(stalls=stalls)
    async with serving(stream, handler_cancellation=handler_cancellation) as port:
        before = len(asyncio.all_tasks())
        async with request(port, "GET", "/o/k") as (answer, _):
            await answer.readuntil(b"\r\n\r\n")
        await until(lambda: len(asyncio.all_tasks()), lambda tasks: tasks <= before)
    assert stream.ended
    assert caplog.messages == []


@pytest.mark.parametrize("error", [trove.BackendError("broken"), trove.UnavailableError("broken")])
async def test_a_download_that_breaks_is_cut_off_and_logged(
    error: trove.TroveError, caplog: pytest.LogCaptureFixture
) -> None:
    """The second error is a ConnectionError, which aiohttp treats as a disconnected client."""

    class Breaking(Endless):
        async def read(self, size: int) -> bytes:
            if self.reads:
                raise error
            return await super().read(size)

        async def seek(self, offset: int) -> None:
            raise error

    stream = Breaking()
    async with serving(stream) as port, request(port, "GET", "/o/k") as (answer, _), asyncio.timeout(SECONDS):
        received = await answer.read()
    assert b"Content-Length: 1000000" in received
    assert received.endswith(b"\r\n\r\nx")
    assert stream.ended
    assert caplog.text.count("broken") >= 1
    assert {record.name for record in caplog.records} == {"trove_async.web"}


async def test_an_interrupted_upload_is_not_a_server_error(
    store: trove.Trove, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put("b", "k", b"old")
    async with aiohttp_serving(aiohttp_site(store, {}, {})) as port:
        before = len(asyncio.all_tasks())
        for framing, body in (("Content-Length: 100", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n")):
            async with request(port, "PUT", "/o/k", f"{framing}\r\n") as (_, writer):
                writer.write(body)
                await until(lambda: len(asyncio.all_tasks()), lambda tasks: tasks > before)
            await until(lambda: len(asyncio.all_tasks()), lambda tasks: tasks <= before)
    assert await store.read("b", "k") == b"old"
    assert caplog.messages == []


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_that_aiohttp_decoded_is_stored_without_its_encoding(
    store: trove.Trove, encoding: str, encode: Any
) -> None:
    data = b"x" * 100_000
    headers = {"Content-Encoding": encoding}
    async with site("aiohttp", store, accept={"max_size": len(data)}) as client:
        assert (await client.put("/o/k", content=encode(data), headers=headers)).json() == {"size": len(data)}
        # The limit applies to the decoded size.
        assert (await client.put("/o/k", content=encode(data + b"x"), headers=headers)).status_code == 413
        assert (await client.put("/o/k", content=b"not encoded", headers=headers)).status_code == 400
    assert await store.read("b", "k") == data
    assert (await store.head("b", "k")).content_encoding is None


async def test_a_body_with_an_encoding_unknown_to_aiohttp_is_stored_with_it(store: trove.Trove) -> None:
    async with site("aiohttp", store) as client:
        await client.put("/o/k", content=b"abc", headers={"Content-Encoding": "x-mine"})
    info = await store.head("b", "k")
    assert (info.size, info.content_encoding) == (3, "x-mine")


async def test_cookies_and_headers_set_by_hand_are_sent(store: trove.Trove) -> None:
    await store.put("b", "k", b"abc")

    async def download(request: web.Request) -> web.StreamResponse:
        response = ObjectResponse(store, "b", "k")
        response.set_cookie("a", "1")
        response.headers["Cache-Control"] = "no-store"
        return response

    app = web.Application()
    app.router.add_get("/", download)
    async with aiohttp_serving(app) as port, httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/")
    assert (answer.content, answer.cookies["a"], answer.headers["cache-control"]) == (b"abc", "1", "no-store")
