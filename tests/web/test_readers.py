"""Content that an application opens and stores by functions of its own, in each framework."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import trove_async as trove
from tests.web.serving import aiohttp_serving
from tests.web.sites import FRAMEWORKS
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.web import aiohttp as for_aiohttp
from trove_async.web import starlette as for_starlette

pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("framework", FRAMEWORKS)]

DATA = bytes(range(100))


class Contents:
    """Puts and gets the object ``b/k``, and remembers its readers and sizes."""

    def __init__(self, store: trove.Trove) -> None:
        self.readers: list[ObjectReader] = []
        self.sizes: list[int | None] = []
        self._store = store

    async def open(self, *, range: RangeLike | None) -> ObjectReader:
        reader = await self._store.get("b", "k", range=range)
        self.readers.append(reader)
        return reader

    async def put(self, body: AsyncIterator[bytes], size: int | None) -> str:
        self.sizes.append(size)
        return (await self._store.put("b", "k", body, size=size)).etag


@asynccontextmanager
async def site(framework: str, contents: Contents, max_size: int | None = None) -> AsyncIterator[httpx.AsyncClient]:
    if framework == "starlette":

        async def starlette_download(request: Request) -> Response:
            return for_starlette.ReaderResponse(contents.open, "a/k.txt", disposition="attachment")

        async def starlette_upload(request: Request) -> Response:
            return JSONResponse(await for_starlette.receive_into(request, contents.put, max_size=max_size))

        routes = [
            Route("/", starlette_download, methods=["GET", "HEAD"]),
            Route("/", starlette_upload, methods=["PUT"]),
        ]
        app = Starlette(routes=routes, exception_handlers=for_starlette.exception_handlers)
        async with httpx.AsyncClient(base_url="http://site.test", transport=httpx.ASGITransport(app)) as client:
            yield client
        return

    async def download(request: web.Request) -> web.StreamResponse:
        return for_aiohttp.ReaderResponse(contents.open, "a/k.txt", disposition="attachment")

    async def upload(request: web.Request) -> web.StreamResponse:
        return web.json_response(await for_aiohttp.receive_into(request, contents.put, max_size=max_size))

    application = web.Application(middlewares=[for_aiohttp.error_middleware])
    application.add_routes([web.get("/", download), web.put("/", upload)])
    async with (
        aiohttp_serving(application) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("method", "headers", "status", "body"),
    [
        ("GET", {}, 200, DATA),
        ("GET", {"Range": "bytes=90-"}, 206, DATA[90:]),
        ("GET", {"If-None-Match": "ETAG"}, 304, b""),
        ("GET", {"If-Range": "ETAG", "Range": "bytes=0-9"}, 206, DATA[:10]),
        ("GET", {"If-Range": '"another"', "Range": "bytes=0-9"}, 200, DATA),
        ("HEAD", {}, 200, b""),
        ("HEAD", {"If-None-Match": "ETAG"}, 304, b""),
    ],
)
async def test_what_a_function_opens_is_served_as_an_object_is(
    framework: str, store: trove.Trove, method: str, headers: dict[str, str], status: int, body: bytes
) -> None:
    etag = f'"{(await store.put("b", "k", DATA)).etag}"'
    contents = Contents(store)
    async with site(framework, contents) as client:
        answer = await client.request(
            method, "/", headers={name: v.replace("ETAG", etag) for name, v in headers.items()}
        )
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (status, body, etag)
    if status == 200:
        assert answer.headers["content-length"] == "100"
        assert answer.headers["content-disposition"] == 'attachment; filename="k.txt"'
    assert contents.readers
    assert all(reader.closed for reader in contents.readers)


async def test_errors_of_the_function_are_answered(framework: str, store: trove.Trove) -> None:
    contents = Contents(store)
    async with site(framework, contents) as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.head("/")).status_code == 404
        await store.put("b", "k", DATA)
        past = await client.get("/", headers={"Range": "bytes=100-"})
        assert (past.status_code, past.headers["content-range"]) == (416, "bytes */100")
        await store.put("b", "k", b"")
        empty = await client.head("/")
        assert (empty.status_code, empty.headers["content-length"]) == (200, "0")


async def test_a_body_is_received_into_a_function(framework: str, store: trove.Trove) -> None:
    contents = Contents(store)

    async def unsized() -> AsyncIterator[bytes]:
        yield DATA

    async with site(framework, contents, max_size=100) as client:
        for body in (DATA, unsized()):
            answer = await client.put("/", content=body)
            assert answer.json() == (await store.head("b", "k")).etag
            assert await store.read("b", "k") == DATA
    assert contents.sizes == [100, None]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"If-None-Match": "*"}, 501), ({"Content-Range": "bytes 0-1/2"}, 400), ({"X-Nothing": "wrong"}, 413)],
)
async def test_a_body_that_cannot_be_received_is_refused(
    framework: str, store: trove.Trove, headers: dict[str, str], status: int
) -> None:
    async with site(framework, Contents(store), max_size=99) as client:
        for body in (DATA, _chunked()):
            assert (await client.put("/", content=body, headers=headers)).status_code == status
    assert not await store.exists("b", "k")


async def _chunked() -> AsyncIterator[bytes]:
    yield DATA
