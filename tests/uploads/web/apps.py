"""Apps of resumable uploads over data stores in memory, and servers of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Unpack

import pytest
from aiohttp import web

from tests.uploads.memory_store import MemoryStore
from tests.uploads.serving import ServerName, app_process, serving
from trove_async import Trove
from trove_async.uploads import DataStore
from trove_async.uploads.aiohttp import tus_application
from trove_async.uploads.asgi import TusApp
from trove_async.uploads.server import TusOptions

__all__ = ["EVERY_SERVER", "IN_LOOP_OR_LONG", "IN_LOOP_SERVERS", "WatchedStore", "asgi_app", "served", "web_app"]

IN_LOOP_SERVERS: Final = ("uvicorn", "uvicorn-h11", "hypercorn", "aiohttp")
"""Servers that run in the loop of the test."""

EVERY_SERVER: Final = (*IN_LOOP_SERVERS, "granian")

IN_LOOP_OR_LONG: Final = (*IN_LOOP_SERVERS, pytest.param("granian", marks=pytest.mark.long))
"""Every server, for tests whose short form leaves out those with processes of their own."""


class WatchedStore(MemoryStore):
    """A store that says when bytes have arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[int, asyncio.Event] = {}

    def at(self, offset: int) -> asyncio.Event:
        """Return what is set when an upload has so many bytes."""
        return self.arrived.setdefault(offset, asyncio.Event())

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        async def watched() -> AsyncIterator[bytes]:
            size = offset
            async for chunk in src:
                yield chunk
                size += len(chunk)
                self.at(size).set()

        return await super().write_chunk(upload_id, offset, watched())


class Below:
    """An ASGI app that serves another one below ``/files``, as a framework does, and hands the lifespan on."""

    def __init__(self, app: TusApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": "/files"}
        await self._app(scope, receive, send)


def asgi_app(store: Trove | DataStore | None = None, **options: Unpack[TusOptions]) -> Below:
    """Return an ASGI app with uploads at ``/files/``."""
    return Below(TusApp(MemoryStore() if store is None else store, **options))


def web_app(store: Trove | DataStore | None = None, **options: Unpack[TusOptions]) -> web.Application:
    """Return an aiohttp application with uploads at ``/files/``."""
    app = web.Application()
    app.add_subapp("/files", tus_application(MemoryStore() if store is None else store, **options))
    return app


def limited_app(max_size: int) -> Below:
    """Return an ASGI app for a process of its own."""
    return asgi_app(max_size=max_size)


@asynccontextmanager
async def served(
    server: ServerName,
    store: Trove | DataStore | None = None,
    *,
    log: Path | None = None,
    **options: Unpack[TusOptions],
) -> AsyncIterator[int]:
    """Serve uploads at ``/files/``, and yield the port.

    Args:
        server: granian runs in a process of its own, with an empty store, and takes no option but ``max_size``.
        store: default: an empty one in memory.
        log: of granian.
        options: of the app.
    """
    if server == "granian":
        assert store is None
        assert log is not None
        call = [options["max_size"]] if options else None
        name = "limited_app" if options else "asgi_app"
        async with app_process(server, f"{__name__}:{name}", log, arguments=call or []) as process:
            yield process.port
        return
    app: Any = web_app(store, **options) if server == "aiohttp" else asgi_app(store, **options)
    async with serving(server, app) as port:
        yield port
