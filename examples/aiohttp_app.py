"""A file service on aiohttp: uploads, downloads with ranges, listings, and changes as server-sent events.

::

    python -m examples.aiohttp_app 'local:///srv/data?create=1'
    curl -T photo.jpg http://127.0.0.1:8080/files/2024/photo.jpg
    curl -r 0-99 http://127.0.0.1:8080/files/2024/photo.jpg
    curl 'http://127.0.0.1:8080/files?prefix=2024/'
    curl -N http://127.0.0.1:8080/events

It needs ``pip install 'trove-async[aiohttp]'``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

from aiohttp import web

import trove_async as trove
from trove_async.web.aiohttp import EventStreamResponse, ObjectResponse, error_middleware, receive

BUCKET = "files"
MAX_UPLOAD = 10 * 1024**3
DSN = web.AppKey("DSN", str)
STORE = web.AppKey("STORE", trove.Trove)

routes = web.RouteTableDef()


@routes.put("/files/{key:.+}")
async def upload(request: web.Request) -> web.StreamResponse:
    """Stream a body into the store: if the client disconnects before the end, nothing is stored."""
    info = await receive(request, request.app[STORE], BUCKET, request.match_info["key"], max_size=MAX_UPLOAD)
    return web.json_response({"key": info.key, "size": info.size, "etag": info.etag}, status=201)


@routes.get("/files/{key:.+}")
async def download(request: web.Request) -> web.StreamResponse:
    """Serve an object as a download: its content is not trusted, so browsers must not show it as a page."""
    return ObjectResponse(request.app[STORE], BUCKET, request.match_info["key"], disposition="attachment")


@routes.delete("/files/{key:.+}")
async def delete(request: web.Request) -> web.StreamResponse:
    await request.app[STORE].delete(BUCKET, request.match_info["key"])
    return web.Response(status=204)


@routes.get("/files")
async def list_files(request: web.Request) -> web.StreamResponse:
    """List up to ``limit`` objects, and return the cursor of the next page; null at the end."""
    query = request.query
    limit = query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise web.HTTPBadRequest(text="limit is 1 to 1000")
    listing = request.app[STORE].list(BUCKET, query.get("prefix", ""), max_keys=int(limit), cursor=query.get("cursor"))
    objects = [
        {
            "key": info.key,
            "size": info.size,
            "etag": info.etag,
            "last_modified": info.last_modified and info.last_modified.isoformat(),
        }
        async for info in listing
    ]
    return web.json_response({"objects": objects, "cursor": listing.cursor})


@routes.get("/events")
async def events(request: web.Request) -> web.StreamResponse:
    return EventStreamResponse(request.app[STORE], BUCKET, prefix=request.query.get("prefix", ""))


async def open_store(app: web.Application) -> AsyncIterator[None]:
    # A store belongs to the loop on which it is opened: here the server's.
    async with trove.open(app[DSN]) as store:
        await store.create_bucket(BUCKET, exist_ok=True)
        app[STORE] = store
        yield


def create_app(dsn: str) -> web.Application:
    app = web.Application(middlewares=[error_middleware])
    app[DSN] = dsn
    app.cleanup_ctx.append(open_store)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    # Event streams do not end by themselves; at a shutdown they have this number of seconds.
    web.run_app(create_app(sys.argv[1]), host="127.0.0.1", shutdown_timeout=5)
