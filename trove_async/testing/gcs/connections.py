"""HTTP/1.1 on asyncio's transports, parsed by httptools.

Request bodies are collected as they arrive; the part of a body that came before a connection broke is passed on too.
Handlers are plain functions, so that a request that waits for nothing is answered in the loop iteration in which it
arrived.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Awaitable
from email.utils import formatdate
from types import ModuleType
from typing import Final, Protocol, cast

from trove_async.errors import MissingDependencyError
from trove_async.testing.gcs.http import Request, Response

__all__ = ["Application", "HTTPServer"]

_SMALL: Final = 1 << 16
_SLICE: Final = 1 << 18
_BACKLOG: Final = 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Application(Protocol):
    """Answers requests."""

    def refuse(self, request: Request) -> Response | None:
        """Answer a request that expects 100 Continue by its head alone; None lets its body come."""

    def limit(self, request: Request) -> int | None:
        """Return the maximum size of a body; None for any size."""

    def handle(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a complete request."""

    def abandoned(self, request: Request) -> None:
        """Take a request whose connection broke within the body."""


def _load_parsers() -> ModuleType:
    try:
        import httptools
    except ImportError as error:
        raise MissingDependencyError("GCSServer needs: pip install 'trove-async[testing]'") from error
    return httptools


class _Clock:
    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def date(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._text = formatdate(now, usegmt=True)
        return self._text


class HTTPServer:
    """Listens while it is open, and owns all connections.

    Attributes:
        port: the port; 0 before it is open lets the system choose a free one.
    """

    def __init__(self, application: Application, host: str, port: int) -> None:
        self.application = application
        self.host = host
        self.port = port
        self.parsers = _load_parsers()
        self.clock = _Clock()
        self.connections: set[_Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self.connections):
            connection.abort()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await server.wait_closed()
        await asyncio.sleep(0)  # the transports call connection_lost in the next iteration


class _Connection(asyncio.Protocol):
    """One connection; the methods ``on_…`` are callbacks of httptools."""

    def __init__(self, server: HTTPServer) -> None:
        self._server = server
        self._application = server.application
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._queue: deque[Request] = deque()
        self._busy = False
        self._request: Request | None = None
        self._serving: Request | None = None
        self._limit: int | None = None
        self._errors = (server.parsers.HttpParserError, server.parsers.HttpParserUpgrade)
        self._parser = server.parsers.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are not of this class
        self._server.connections.add(self)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        self._server.connections.discard(self)
        if self._serving is not None:
            self._serving.abandoned = True
        request, self._request = self._request, None
        if request is not None and request.size:
            self._application.abandoned(request)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            self._request = None
            self._refuse(Response(400, {"Content-Type": "text/plain"}, f"Bad Request: {error!r}".encode()))

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("utf-8", "surrogateescape").strip()
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known},{text}"

    def on_headers_complete(self) -> None:
        method = self._parser.get_method().decode("latin-1")
        request = Request(method, self._url.decode("utf-8", "surrogateescape"), self._headers)
        request.keep_alive = self._parser.should_keep_alive()
        self._request = request
        self._limit = self._application.limit(request)
        if request.header("expect").lower() == "100-continue" and self._transport is not None:
            refusal = self._application.refuse(request)
            if refusal is None:
                self._transport.write(_CONTINUE)
            else:
                self._request = None
                self._refuse(refusal)

    def on_body(self, body: bytes) -> None:
        request = self._request
        if request is None:
            return
        request.chunks.append(body)
        request.size += len(body)
        if self._limit is not None and request.size > self._limit:
            self._request = None
            self._refuse(Response(413, {"Content-Type": "text/plain"}, b"Request Entity Too Large"))

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.complete = True
            self._queue.append(request)
            self._advance()

    def _refuse(self, response: Response) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response.head(self._server.clock.date(), close=True) + bytes(response.body))
            self._transport.close()

    def _advance(self) -> None:
        while self._queue and not self._busy:
            request = self._queue.popleft()
            result = self._application.handle(request)
            if isinstance(result, Response) and len(result.body) <= _SMALL:
                self._write(request, result)
            else:
                self._busy, self._serving = True, request
                task = asyncio.get_running_loop().create_task(self._finish(request, result))
                self._server.tasks.add(task)
                task.add_done_callback(self._server.tasks.discard)

    def _write(self, request: Request, response: Response) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = response.head(self._server.clock.date(), close=not request.keep_alive)
        if request.method == "HEAD":
            self._transport.write(head)
        elif response.chunked:
            framed = b"%x\r\n%b\r\n" % (len(response.body), bytes(response.body)) if response.body else b""
            self._transport.write(b"".join((head, framed, b"0\r\n\r\n")))
        else:
            self._transport.write(b"".join((head, response.body)) if response.body else head)
        if not request.keep_alive:
            self._transport.close()

    async def _finish(self, request: Request, result: Response | Awaitable[Response]) -> None:
        response = result if isinstance(result, Response) else await result
        if response.chunked or request.method == "HEAD" or len(response.body) <= _SMALL:
            self._write(request, response)
        else:
            await self._write_slowly(request, response)
        self._busy, self._serving = False, None
        self._advance()

    async def _write_slowly(self, request: Request, response: Response) -> None:
        if self._transport is None:
            return
        self._transport.write(response.head(self._server.clock.date(), close=not request.keep_alive))
        body = memoryview(response.body)
        for start in range(0, len(body), _SLICE):
            if self._transport is None:
                return
            self._transport.write(body[start : start + _SLICE])
            await self._writable.wait()
        if not request.keep_alive and self._transport is not None:
            self._transport.close()
