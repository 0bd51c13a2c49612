"""Apps that are measured: this library's, and those that do the least.

``python -m benchmarks.uploads.apps LOOP MODULE:NAME PORT ARGUMENTS`` serves one on uvicorn, without a log of requests.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import uvicorn
from aiohttp import web
from fastapi import FastAPI

import trove_async
from tests.uploads.counting import lifespan
from tests.uploads.serve import HOST, load
from trove_async.uploads import FileLocker, TusApp, TusOptions
from trove_async.uploads.aiohttp import tus_application

__all__ = ["aiohttp_floor", "floor", "trove_aiohttp_app", "trove_app"]

_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def trove_app(dsn: str, bucket: str, locker: str | None) -> FastAPI:
    """Return an app with resumable uploads at ``/files/``, as a user of FastAPI would write it.

    Args:
        dsn: of the store.
        bucket: for the uploads; it is created if it is missing.
        locker: a folder for a `FileLocker`, the URL of a database for a `PostgresLocker`, or None.
    """

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        async with _store(dsn, bucket) as store, TusApp(store, **_options(bucket, locker)) as uploads:
            app.mount("/files", uploads)
            yield

    return FastAPI(lifespan=live)


async def trove_aiohttp_app(dsn: str, bucket: str, locker: str | None) -> web.Application:
    """Return the same for aiohttp."""
    stack = AsyncExitStack()
    store = await stack.enter_async_context(_store(dsn, bucket))

    async def close(_: web.Application) -> None:
        await stack.aclose()

    app = web.Application()
    app.add_subapp("/files", tus_application(store, **_options(bucket, locker)))
    app.on_cleanup.append(close)
    return app


@asynccontextmanager
async def _store(dsn: str, bucket: str) -> AsyncIterator[trove_async.Trove]:
    async with trove_async.open(dsn) as store:
        await store.create_bucket(bucket, exist_ok=True)
        yield store


def _options(bucket: str, locker: str | None) -> TusOptions:
    if locker is None:
        return {"bucket": bucket}
    if locker.startswith("postgresql:"):
        return {"bucket": bucket, "database": locker}
    return {"bucket": bucket, "locker": FileLocker(locker)}


class _Uploads:
    """What is known of uploads by an app that does the least: an offset for each.

    Args:
        folder: where bodies are written as they arrive, on the event loop; None to drop them.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._numbers = count()
        self._offsets: dict[str, int] = {}

    def create(self) -> str:
        """Create an upload and return its path."""
        path = f"/files/{next(self._numbers)}"
        self._offsets[path] = 0
        return path

    def open(self, path: str) -> int | None:
        """Return a descriptor to write to; None to drop a body."""
        return None if self._folder is None else os.open(Path(self._folder, Path(path).name), _APPEND, 0o600)

    def added(self, path: str, size: int) -> str:
        """Return the offset after a body."""
        self._offsets[path] += size
        return str(self._offsets[path])


def floor(folder: str | None) -> Any:
    """Return an ASGI app that reads bodies, and writes them to files if there is a folder; nothing else."""
    uploads = _Uploads(folder)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        status, headers = 404, []
        if scope["method"] == "POST":
            status, headers = 201, [(b"location", uploads.create().encode())]
        elif scope["method"] == "PATCH":
            path = scope["path"]
            file = uploads.open(path)
            size, more = 0, True
            while more:
                message = await receive()
                body = message.get("body", b"")
                size += len(body)
                if file is not None:
                    os.write(file, body)
                more = message.get("more_body", False)
            if file is not None:
                os.close(file)
            status, headers = 204, [(b"upload-offset", uploads.added(path, size).encode())]
        if status != 204:
            headers.append((b"content-length", b"0"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app


def aiohttp_floor(folder: str | None) -> web.Application:
    """Return the same for aiohttp."""
    uploads = _Uploads(folder)

    async def create(_: web.Request) -> web.Response:
        return web.Response(status=201, headers={"Location": uploads.create()})

    async def patch(request: web.Request) -> web.Response:
        file = uploads.open(request.path)
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if file is not None:
                os.write(file, chunk)
        if file is not None:
            os.close(file)
        return web.Response(status=204, headers={"Upload-Offset": uploads.added(request.path, size)})

    app = web.Application()
    app.router.add_post("/files/", create)
    app.router.add_patch("/files/{number}", patch)
    return app


if __name__ == "__main__":
    _loop, _name, _port, _arguments = sys.argv[1:]
    uvicorn.run(
        load(_name, _arguments),
        host=HOST,
        port=int(_port),
        loop=_loop,
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
    )
