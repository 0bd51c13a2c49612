"""HTTP/1.1 on asyncio's transports, parsed by httptools.

Request bodies are collected as they arrive; the part of a body that came before a connection broke is passed on too.
Handlers are plain functions, so that a request that waits for nothing is answered in the loop iteration in which it
arrived.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import deque
from collections.abc import Awaitable, Mapping
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from types import ModuleType
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote

from trove_async.errors import MissingDependencyError
from trove_async.testing.gcs.errors import invalid

__all__ = ["JSON_HEADERS", "Application", "HTTPServer", "Request", "Response", "decoded", "json_response", "mapping"]

_SMALL: Final = 1 << 16
_SLICE: Final = 1 << 18
_BACKLOG: Final = 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {
    308: "Resume Incomplete",
    499: "Client Closed Request",
}
_BODILESS: Final = (204, 304)


class Request:
    """A request, complete or as far as it has arrived.

    Attributes:
        method: as sent.
        target: the path and the query, as sent.
        raw_path: the path with its percent-encoding.
        raw_query: the query with its percent-encoding.
        headers: by lower-case name; values of the same name are joined with a comma.
        chunks: the body in the pieces in which it arrived.
        size: the number of bytes of the body that have arrived.
        complete: False if the connection broke before the end.
        abandoned: True once the client no longer waits for the response.
    """

    def __init__(self, method: str, target: str, headers: dict[str, str]) -> None:
        self.method = method
        self.target = target
        path, _, self.raw_query = target.partition("?")
        if not path.startswith("/"):  # the absolute form, of RFC 9112, 3.2.2
            path = "/" + path.partition("://")[2].partition("/")[2]
        self.raw_path = path
        self.headers = headers
        self.chunks: list[bytes] = []
        self.size = 0
        self.complete = False
        self.keep_alive = True
        self.abandoned = False

    @cached_property
    def query(self) -> dict[str, str]:
        """The decoded parameters; the last one wins if a name is repeated."""
        try:
            return dict(parse_qsl(self.raw_query, keep_blank_values=True, errors="strict")) if self.raw_query else {}
        except UnicodeDecodeError as error:
            raise invalid("Invalid UTF-8 in the query.") from error

    @cached_property
    def segments(self) -> list[str]:
        """The segments of the path, each decoded once."""
        return [decoded(segment) for segment in self.raw_path[1:].split("/")]

    @cached_property
    def body(self) -> bytes:
        """The body as far as it has arrived."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)

    def header(self, name: str, default: str = "") -> str:
        """Return a header by its name in lower case."""
        return self.headers.get(name, default)

    def flag(self, name: str) -> bool:
        """Return a boolean parameter; False if it is absent."""
        return self.query.get(name, "").lower() == "true"

    def integer(self, name: str) -> int | None:
        """Return a parameter that is a number; None if it is absent.

        Raises:
            ServiceError: 400; it is not a number.
        """
        value = self.query.get(name)
        if value is None or value == "":
            return None
        try:
            return int(value)
        except ValueError as error:
            raise invalid(f"Invalid value for parameter {name}: {value}", reason="invalidParameter") from error

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty one if there is no body.

        Raises:
            ServiceError: 400; it is something else.
        """
        if not self.size:
            return {}
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise invalid("Parse Error", reason="parseError") from error
        if not isinstance(value, dict):
            raise invalid("Parse Error", reason="parseError")
        return value


def mapping(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object within a JSON object; an empty one if it is absent or null.

    Raises:
        ServiceError: 400; it is something else.
    """
    value = document.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value for: {name}", reason="parseError")
    return value


def decoded(part: str) -> str:
    """Percent-decode once.

    Raises:
        ServiceError: 400; it is not UTF-8.
    """
    if "%" not in part:
        return part
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid("The path is not UTF-8.") from error


class Response:
    """A response; with ``chunked`` it has no Content-Length."""

    __slots__ = ("body", "chunked", "headers", "length", "status")

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview = b"",
        *,
        chunked: bool = False,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.headers = headers or {}
        self.body = body
        self.chunked = chunked
        self.length = length  # the Content-Length in a response to HEAD

    def head(self, date: str, *, close: bool) -> bytes:
        """Return the status line and the headers."""
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Unknown')}", f"Date: {date}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif self.status not in _BODILESS:
            lines.append(f"Content-Length: {len(self.body) if self.length is None else self.length}")
        if close:
            lines.append("Connection: close")
        lines.append("\r\n")
        # Google's servers send metadata beyond ASCII as UTF-8.
        return "\r\n".join(lines).encode("utf-8", "surrogateescape")


JSON_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "application/json; charset=UTF-8",
    "Server": "UploadServer",
}
"""The headers of every JSON response; do not change them."""


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON document."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, {**JSON_HEADERS, **headers} if headers else JSON_HEADERS, body)


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
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
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
