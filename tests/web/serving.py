"""Apps behind real servers in this process, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import uvicorn
from aiohttp import web

T = TypeVar("T")

SECONDS = 10
"""The maximum time in seconds that a test waits for a condition."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def uvicorn_serving(app: Any, *, http: Literal["auto", "h11", "httptools"] = "auto") -> AsyncIterator[int]:
    """Serve an ASGI app, including its lifespan, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=http, log_level="error", lifespan="on", ws="none", timeout_graceful_shutdown=SECONDS
        )
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(SECONDS):
                while not server.started:  # noqa: ASYNC110 - it has no event to wait for
                    await asyncio.sleep(0.001)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def aiohttp_serving(app: web.Application, **options: Any) -> AsyncIterator[int]:
    """Serve an aiohttp app and yield the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SECONDS, **options)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def request(port: int, method: str, path: str, headers: str = "") -> AsyncIterator[Connection]:
    """Send the head of a request and yield the connection, which is reset at the end; ``headers`` are full lines."""
    answer, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        await writer.drain()
        yield answer, writer
    finally:
        writer.transport.abort()


@dataclass(frozen=True)
class Held:
    """Resources that the process holds for its clients: open objects and temporaries of a local store, and tasks."""

    files: list[str]
    tasks: int


def held(root: Path) -> Held:
    files = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                files.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    # The store keeps the locks that it has used open until it is closed.
    ours = [name for name in files if name.startswith(f"{root}/") and not name.endswith("/.trove/locks")]
    return Held(ours, len(asyncio.all_tasks()))


async def until(look: Callable[[], T], satisfied: Callable[[T], object]) -> None:
    """Repeat a measurement until it satisfies a condition; fail with the last value after a time limit."""
    seen = look()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while not satisfied(seen):
                await asyncio.sleep(0.005)
                seen = look()
    assert satisfied(seen), f"after {SECONDS} seconds it is still {seen}"


async def until_no_more_than(before: Held, root: Path) -> None:
    """Wait until no object is open and there are no more tasks than before."""
    await until(lambda: held(root), lambda now: not now.files and now.tasks <= before.tasks)
