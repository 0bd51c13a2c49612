"""Apps behind each HTTP server: in the loop of the test, or in a process of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

from hypercorn.asyncio import serve as serve_with_hypercorn
from hypercorn.config import Config

from tests.uploads.processes import ServerProcess
from tests.uploads.serve import HOST
from tests.uploads.serve import SERVERS as _LAUNCHERS
from tests.web.serving import SECONDS, aiohttp_serving, uvicorn_serving

__all__ = ["ASGI_SERVERS", "IN_LOOP", "SERVERS", "ServerName", "app_process", "serving", "tus_server_process"]

ServerName = Literal["uvicorn", "uvicorn-h11", "hypercorn", "granian", "aiohttp"]

SERVERS: Final = cast(tuple[ServerName, ...], tuple(_LAUNCHERS))
"""The servers that `app_process` starts."""

ASGI_SERVERS: Final = tuple(server for server in SERVERS if server != "aiohttp")


@asynccontextmanager
async def hypercorn_serving(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI app, including its lifespan, and yield the port."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.loglevel = "ERROR"
        config.graceful_timeout = SECONDS
        ending = asyncio.Event()
        server = asyncio.ensure_future(serve_with_hypercorn(app, config, shutdown_trigger=ending.wait))
        # A connection waits in the listener's backlog until the app has started.
        try:
            yield port
        finally:
            ending.set()
            await server


_IN_LOOP: Final[Mapping[ServerName, Callable[[Any], AbstractAsyncContextManager[int]]]] = {
    "uvicorn": partial(uvicorn_serving, http="httptools"),
    "uvicorn-h11": partial(uvicorn_serving, http="h11"),
    "hypercorn": hypercorn_serving,
    "aiohttp": aiohttp_serving,
}

IN_LOOP: Final = tuple(_IN_LOOP)
"""The servers that `serving` runs; granian runs only in processes of its own."""


def serving(server: ServerName, app: Any) -> AbstractAsyncContextManager[int]:
    """Serve an app in this loop, and yield the port.

    At the end it waits up to ten seconds for requests that the app has not answered: close their connections before.

    Args:
        server: one of `IN_LOOP`.
        app: an ASGI app, which gets the lifespan's events; for ``aiohttp`` a ``web.Application``.
    """
    return _IN_LOOP[server](app)


def app_process(server: ServerName, app: str, log: Path, *, arguments: list[Any] | None = None) -> ServerProcess:
    """Return the process of a server with an app, to be started by ``async with``.

    Args:
        server: one of `SERVERS`.
        app: ``MODULE:NAME`` of an ASGI app (for ``aiohttp`` of a ``web.Application``), or of a function that makes it.
        log: the file to which its output is appended.
        arguments: what the function is called with, as JSON; None if the name is that of the app.
    """

    def command(port: int) -> list[str]:
        call = [] if arguments is None else [json.dumps(arguments)]
        return [sys.executable, "-m", "tests.uploads.serve", server, app, str(port), *call]

    return ServerProcess(command, log)


def tus_server_process(server: ServerName, dsn: str, log: Path, *options: str) -> ServerProcess:
    """Return the process of ``examples.tus_server`` for the store with this DSN, to be started by ``async with``.

    Uploads are created at ``/files/`` of its URL. ``options`` are further options of the command, such as
    ``"--max-size", "1000"``.
    """

    def command(port: int) -> list[str]:
        example = [sys.executable, "-m", "examples.tus_server", "--dsn", dsn, "--port", str(port)]
        return [*example, "--server", server, *options]

    return ServerProcess(command, log)
