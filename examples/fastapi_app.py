"""A file service on FastAPI: uploads, downloads with ranges, listings, and changes as server-sent events.

::

    python -m examples.fastapi_app 'local:///srv/data?create=1'
    curl -T photo.jpg http://127.0.0.1:8000/files/2024/photo.jpg
    curl -r 0-99 http://127.0.0.1:8000/files/2024/photo.jpg
    curl 'http://127.0.0.1:8000/files?prefix=2024/'
    curl -N http://127.0.0.1:8000/events

It needs ``pip install 'trove-async[fastapi,web]'``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

import trove_async as trove
from trove_async.web.starlette import EventStreamResponse, ObjectResponse, exception_handlers, receive

BUCKET = "files"
MAX_UPLOAD = 10 * 1024**3

routes = APIRouter()


def store_of(request: Request) -> trove.Trove:
    store: trove.Trove = request.app.state.store
    return store


Store = Annotated[trove.Trove, Depends(store_of)]


@routes.put("/files/{key:path}", status_code=201)
async def upload(key: str, request: Request, store: Store) -> dict[str, Any]:
    """Stream a body into the store: if the client disconnects before the end, nothing is stored."""
    info = await receive(request, store, BUCKET, key, max_size=MAX_UPLOAD)
    return {"key": info.key, "size": info.size, "etag": info.etag}


@routes.api_route("/files/{key:path}", methods=["GET", "HEAD"])
async def download(key: str, store: Store) -> Response:
    """Serve an object as a download: its content is not trusted, so browsers must not show it as a page."""
    return ObjectResponse(store, BUCKET, key, disposition="attachment")


@routes.delete("/files/{key:path}")
async def delete(key: str, store: Store) -> Response:
    await store.delete(BUCKET, key)
    return Response(status_code=204)


@routes.get("/files")
async def list_files(
    store: Store, prefix: str = "", cursor: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> dict[str, Any]:
    """List up to ``limit`` objects, and return the cursor of the next page; null at the end."""
    listing = store.list(BUCKET, prefix, max_keys=limit, cursor=cursor)
    objects = [
        {"key": info.key, "size": info.size, "etag": info.etag, "last_modified": info.last_modified}
        async for info in listing
    ]
    return {"objects": objects, "cursor": listing.cursor}


@routes.get("/events")
async def events(store: Store, prefix: str = "") -> Response:
    return EventStreamResponse(store, BUCKET, prefix=prefix)


def create_app(dsn: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # A store belongs to the loop on which it is opened: here the server's.
        async with trove.open(dsn) as store:
            await store.create_bucket(BUCKET, exist_ok=True)
            app.state.store = store
            yield

    app = FastAPI(title="Files", lifespan=lifespan, exception_handlers=exception_handlers)
    app.include_router(routes)
    return app


if __name__ == "__main__":
    # Event streams do not end by themselves; at a shutdown they have this number of seconds.
    uvicorn.run(create_app(sys.argv[1]), timeout_graceful_shutdown=5)
