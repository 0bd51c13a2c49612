"""The same small site in each framework: objects of the bucket ``b`` at ``/o/KEY``, and its events at ``/events``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from aiohttp import web
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import trove_async as trove
from tests.web.serving import aiohttp_serving
from trove_async.web import aiohttp as for_aiohttp
from trove_async.web import starlette as for_starlette

FRAMEWORKS = ["starlette", "aiohttp"]


def starlette_site(store: trove.Trove, respond: dict[str, Any], accept: dict[str, Any], bucket: str = "b") -> Starlette:
    async def download(request: Request) -> Response:
        return for_starlette.ObjectResponse(store, bucket, request.path_params["key"], **respond)

    async def upload(request: Request) -> Response:
        info = await for_starlette.receive(request, store, bucket, request.path_params["key"], **accept)
        return JSONResponse({"size": info.size})

    async def events(request: Request) -> Response:
        return for_starlette.EventStreamResponse(store, request.query_params["bucket"])

    routes = [
        Route("/o/{key:path}", download, methods=["GET", "HEAD", "POST"]),
        Route("/o/{key:path}", upload, methods=["PUT"]),
        Route("/events", events),
    ]
    return Starlette(routes=routes, exception_handlers=for_starlette.exception_handlers)


def aiohttp_site(
    store: trove.Trove, respond: dict[str, Any], accept: dict[str, Any], bucket: str = "b"
) -> web.Application:
    async def download(request: web.Request) -> web.StreamResponse:
        return for_aiohttp.ObjectResponse(store, bucket, request.match_info["key"], **respond)

    async def upload(request: web.Request) -> web.StreamResponse:
        info = await for_aiohttp.receive(request, store, bucket, request.match_info["key"], **accept)
        return web.json_response({"size": info.size})

    async def events(request: web.Request) -> web.StreamResponse:
        return for_aiohttp.EventStreamResponse(store, request.query["bucket"])

    app = web.Application(middlewares=[for_aiohttp.error_middleware])
    app.add_routes(
        [
            web.get("/o/{key:.+}", download),
            web.post("/o/{key:.+}", download),
            web.put("/o/{key:.+}", upload),
            web.get("/events", events),
        ]
    )
    return app


@asynccontextmanager
async def site(
    framework: str, store: trove.Trove, respond: dict[str, Any] | None = None, accept: dict[str, Any] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a site that makes its responses with ``respond`` and receives uploads with ``accept``."""
    if framework == "starlette":
        transport = httpx.ASGITransport(starlette_site(store, respond or {}, accept or {}))
        async with httpx.AsyncClient(base_url="http://site.test", transport=transport) as client:
            yield client
    else:
        async with (
            aiohttp_serving(aiohttp_site(store, respond or {}, accept or {})) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            yield client
