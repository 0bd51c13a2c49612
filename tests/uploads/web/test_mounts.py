"""The app in Starlette, FastAPI and aiohttp, alone and below others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from tests.uploads.memory_store import MemoryStore
from tests.uploads.serving import ServerName, serving
from tests.uploads.web.apps import WatchedStore
from tests.uploads.web.talking import BYTES, TUS, Peer, peer
from trove_async.uploads.aiohttp import tus_application
from trove_async.uploads.asgi import TusApp

pytestmark = pytest.mark.asyncio


async def upload(client: Peer, collection: str) -> str:
    """Upload 10 bytes in two requests, read them, and return the path of the upload."""
    created = await client.ask("POST", collection, {**TUS, "Upload-Length": "10"}, b"")
    assert created.status == 201, created
    location = created.headers["location"]
    for offset, data in ((0, b"0123"), (4, b"456789")):
        assert (await client.ask("PATCH", location, {**BYTES, "Upload-Offset": str(offset)}, data)).status == 204
    assert (await client.ask("HEAD", location, TUS)).headers["upload-offset"] == "10"
    assert (await client.ask("GET", location)).body == b"0123456789"
    return location


@asynccontextmanager
async def connected(server: ServerName, app: Any) -> AsyncIterator[Peer]:
    async with serving(server, app) as port, peer(port) as client:
        yield client


async def test_mounted_in_starlette() -> None:
    async with (
        TusApp(MemoryStore()) as uploads,
        connected("uvicorn", Starlette(routes=[Mount("/files", uploads)])) as client,
    ):
        assert (await upload(client, "/files/")).startswith("/files/")
        # Starlette redirects, and keeps the method.
        redirected = await client.ask("POST", "/files", {**TUS, "Upload-Length": "10"}, b"")
        assert redirected.status == 307
        assert redirected.headers["location"].endswith("/files/")


async def test_mounted_below_a_mount() -> None:
    async with TusApp(MemoryStore()) as uploads:
        app = Starlette(routes=[Mount("/{tenant}", routes=[Mount("/files", uploads)])])
        async with connected("uvicorn", app) as client:
            assert (await upload(client, "/a%20b%C3%A4/files/")).startswith("/a%20b%C3%A4/files/")


@pytest.mark.parametrize("path", ["/api/files/", "/files/"])
async def test_mounted_in_fastapi_behind_a_prefix(path: str) -> None:
    """A proxy may keep its prefix in the path, or remove it; Location has it."""
    app = FastAPI()

    async def below(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/api"}, receive, send)

    async with TusApp(MemoryStore()) as uploads:
        app.mount("/files", uploads)
        async with connected("uvicorn", below) as client:
            created = await client.ask("POST", path, {**TUS, "Upload-Length": "10"}, b"")
            location = created.headers["location"]
            assert location.startswith("/api/files/")
            upload_id = location.removeprefix("/api/files/")
            assert (await client.ask("HEAD", path + upload_id, TUS)).status == 200


async def test_mounted_in_fastapi_with_a_middleware_around() -> None:
    app = FastAPI()

    class Tagging(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            response = await call_next(request)
            response.headers["X-Tag"] = "tagged"
            return response

    app.add_middleware(Tagging)
    store = MemoryStore()
    async with TusApp(store) as uploads:
        app.mount("/files", uploads)
        async with connected("uvicorn", app) as client:
            location = await upload(client, "/files/")
            assert (await client.ask("HEAD", location, TUS)).headers["x-tag"] == "tagged"


async def test_a_stalled_request_is_stopped_through_a_middleware() -> None:
    app = FastAPI()

    class Nothing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

    app.add_middleware(Nothing)
    store = WatchedStore()
    async with TusApp(store) as uploads:
        app.mount("/files", uploads)
        async with serving("uvicorn", app) as port, peer(port) as client, peer(port) as stalled:
            path = await client.create(10)
            await stalled.send("PATCH", path, {**BYTES, "Upload-Offset": "0", "Content-Length": "10"}, b"0123")
            await store.at(4).wait()
            said = await client.ask("PATCH", path, {**BYTES, "Upload-Offset": "4"}, b"456789")
            assert said.status == 204
            assert (await stalled.answer()).status == 423


async def test_served_alone() -> None:
    async with connected("uvicorn", TusApp(MemoryStore())) as client:
        location = await upload(client, "/")
        assert location.count("/") == 1


async def test_aiohttp_alone_and_below_others() -> None:
    async with connected("aiohttp", tus_application(MemoryStore())) as client:
        assert (await upload(client, "/")).count("/") == 1
    app, inner = web.Application(), web.Application()
    inner.add_subapp("/files", tus_application(MemoryStore()))
    app.add_subapp("/api", inner)
    async with connected("aiohttp", app) as client:
        for collection in ("/api/files/", "/api/files"):
            assert (await upload(client, collection)).startswith("/api/files/")


async def test_only_http_is_served() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="websocket"):
        await TusApp(MemoryStore())({"type": "websocket"}, never, never)


async def test_a_closed_app_sends_clients_to_another_server() -> None:
    app = TusApp(MemoryStore())
    async with connected("uvicorn", Starlette(routes=[Mount("/files", app)])) as client:
        path = await client.create(10)
        await app.aclose()
        await app.aclose()
        head = await client.ask("HEAD", path, TUS)
        assert head.status == 423
        assert int(head.headers["retry-after"]) > 0
        assert (await client.ask("POST", "/files/", {**TUS, "Upload-Length": "1"}, b"")).status == 503


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_absolute_locations_and_trusted_proxies(server: ServerName) -> None:
    options: Any = {"absolute_location": True, "trusted_proxies": ["127.0.0.0/8"]}
    said = {**TUS, "Upload-Length": "10", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/up"}
    app: Any = TusApp(MemoryStore(), **options) if server == "uvicorn" else tus_application(MemoryStore(), **options)
    async with connected(server, app) as client:
        created = await client.ask("POST", "/", said, b"")
        assert created.headers["location"].startswith("https://example.com/up/")
    app = TusApp(MemoryStore()) if server == "uvicorn" else tus_application(MemoryStore())
    async with connected(server, app) as client:
        created = await client.ask("POST", "/", said, b"")
        assert created.headers["location"].startswith("/")
        assert not created.headers["location"].startswith("/up")
