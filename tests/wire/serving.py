"""A small HTTP server that a test scripts byte by byte, and a transport that is checked for leftovers."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from trove_async.testing.proxy import FaultProxy
from trove_async.wire import connect
from trove_async.wire.protocol import Connection, Owner
from trove_async.wire.transport import Origin, Response, Transport


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    head: bytes


class Peer:
    """One connection, seen from the server."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def head(self) -> Request:
        head = await self.reader.readuntil(b"\r\n\r\n")
        line, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        request = Request(method, target, headers, b"", head)
        self.server.requests.append(request)
        return request

    async def request(self) -> Request:
        request = await self.head()
        request.body = await self.reader.readexactly(int(request.headers.get("content-length", 0)))
        return request

    async def send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():  # asyncio's streams raise other errors if they are written to
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the client has disconnected."""
        while await self.reader.read(1 << 20):
            pass


Script = Callable[[Peer], Awaitable[object]]


class Server:
    """The records of all connections."""

    def __init__(self, scheme: str, port: int) -> None:
        self.origin = Origin(scheme, "127.0.0.1", port)
        self.port = port
        self.accepted = 0
        self.open = 0
        self.requests: list[Request] = []

    async def all_gone(self) -> None:
        while self.open:  # noqa: ASYNC110 - there is nothing to wait for; the test has a timeout
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a script for each connection and close it afterwards; at the end no socket may be left open."""
    before = sockets()
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.accepted += 1
        server.open += 1
        try:
            await script(Peer(server, reader, writer))
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            server.open -= 1
            # asyncio's transport cannot be aborted after it has closed with the last of its buffer.
            with suppress(AttributeError):
                writer.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server = Server("https" if tls else "http", listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
    for _ in range(1000):
        if sockets() <= before:
            break
        await asyncio.sleep(0.001)
    assert sockets() <= before


class Clock:
    """A loop for connections whose time passes only when the test says so.

    Attributes:
        received: the bytes that connections have received.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []
        self.received = 0
        clock: Any = self

        class Timed(Connection):
            def __init__(self, pool: Owner, origin: Origin, sock: socket.socket, _: object) -> None:
                super().__init__(pool, origin, sock, clock)

            def data_received(self, data: bytes) -> None:
                clock.received += len(data)
                super().data_received(data)

        monkeypatch.setattr(connect, "Connection", Timed)

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, (), self)  # type: ignore[arg-type]
        self._timers.append(timer)
        return timer

    def create_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        self._timers.remove(timer)

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what is due."""
        self._now += seconds
        for timer in [timer for timer in self._timers if timer.when() <= self._now]:
            self._timers.remove(timer)
            timer._run()


def answering(*answers: bytes) -> Script:
    """Answer each request with the next answer, and all later ones with the last answer."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            place = min(len(peer.server.requests), len(answers)) - 1
            await peer.send(answers[place])

    return script


def ok(body: bytes = b"", *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def not_of_servers(tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Leave out the tasks of servers that run in the loop of the test."""
    theirs = ("/trove_async/testing/", "/tests/", "/selector_events.py")
    return [task for task in tasks if not any(part in _file(task) for part in theirs)]


def _file(task: asyncio.Task[Any]) -> str:
    code = getattr(task.get_coro(), "cr_code", None)
    return code.co_filename if code is not None else ""


def sockets() -> int:
    """Return the number of sockets that the process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return count


@asynccontextmanager
async def transporting(**options: Any) -> AsyncIterator[Transport]:
    """Yield a transport, and assert that it leaves neither task nor socket behind."""
    tasks = asyncio.all_tasks()
    transport = Transport(**options)
    try:
        yield transport
    finally:
        await transport.aclose()
    assert transport.open_connections == transport.idle_connections == 0
    assert not not_of_servers(asyncio.all_tasks() - tasks)
    gc.collect()


@asynccontextmanager
async def proxied(server: Server) -> AsyncIterator[tuple[FaultProxy, Origin]]:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy, Origin(server.origin.scheme, proxy.host, proxy.port)


async def get(transport: Transport, origin: Origin, target: str = "/", **options: Any) -> Response:
    return await transport.send(origin, "GET", target, (), **options)
