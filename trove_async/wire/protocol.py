"""`Connection`: one HTTP/1.1 connection, which carries one request after the other.

The head of an answer, and a chunked body, are parsed by httptools. A body of known length is not parsed at all: its
bytes are counted, and the buffers handed on as they were received.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import httptools

from trove_async.errors import BackendError, OperationTimeoutError, TroveError, UnavailableError
from trove_async.wire.origin import Origin
from trove_async.wire.response import Response

if TYPE_CHECKING:
    from trove_async.body import Chunk
    from trove_async.wire.pool import Pool

__all__ = ["Connection"]

_MAX_HEAD: Final = 64 * 1024
_WRITE_SIZE: Final = 512 * 1024  # what is given to the transport at once, of a large body
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_JOIN_SIZE: Final = 64 * 1024  # head and body up to this leave in one write
_UNTIL_CLOSE: Final = 1 << 62
_TLS_RECORDS: Final = b"\x15\x16"  # alert, handshake

# Names come again and again, and are decoded once. What is kept is bounded: servers choose the names.
_names: dict[bytes, str] = {}
_MAX_NAMES: Final = 1000
_MAX_NAME: Final = 64


class Connection(asyncio.Protocol):
    """A connection that is open: idle in the pool, or taken by the one response that it is waiting for or reading.

    Attributes:
        origin: whose requests it carries.
        sock: its socket; it belongs to the transport.
        closed: no further request can be sent on it.
        idle_since: when it came back to the pool, in the time of the loop.
        remaining: bytes of the body that are still to come; huge if that is not known.
    """

    __slots__ = (
        "_finished",
        "_head",
        "_idle_timeout",
        "_keep",
        "_loop",
        "_method",
        "_parser",
        "_pool",
        "_progress",
        "_raw_headers",
        "_response",
        "_sent",
        "_timer",
        "_timer_at",
        "_transport",
        "_unsent",
        "_waiter",
        "_write_paused",
        "closed",
        "idle_since",
        "origin",
        "remaining",
        "sock",
    )

    def __init__(self, pool: Pool, origin: Origin, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.sock = sock
        self.closed = False
        self.idle_since = 0.0
        self.remaining = 0
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None  # whose this is; None while it is idle
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._progress = 0.0
        self._idle_timeout = 0.0
        self._unsent = 0
        self._write_paused = False
        self._method = ""
        self._sent = False  # all of the request was given to the socket
        self._head = b""  # the first part of one
        self._parser: httptools.HttpResponseParser | None = None  # of a chunked body
        self._finished = False  # the parser has seen the end
        self._raw_headers: list[tuple[bytes, bytes]] = []
        self._keep = False

    # What the transport and the response call.

    async def exchange(
        self, method: str, head: bytes, body: Sequence[Chunk], size: int, idle_timeout: float
    ) -> Response:
        """Send a request and wait for the head of the answer, and for its body if that is small."""
        transport = self._transport
        assert transport is not None
        response = self._response = Response(self)
        self._method = method
        self._idle_timeout = idle_timeout
        self._sent = False
        self._head = b""
        try:
            if size + len(head) <= _JOIN_SIZE:
                transport.write(b"".join((head, *body)) if size else head)
                self._sent = True
            else:
                await self._upload(response, transport, head, body)
            while not response._streaming and response._connection is not None:
                await self.wait()
        except BaseException:
            # The connection may be another's by now; the response knows.
            response.abort()
            raise
        if response._error is not None and not response._streaming:
            raise response._error
        return response

    async def _upload(
        self, response: Response, transport: asyncio.Transport, head: bytes, body: Sequence[Chunk]
    ) -> None:
        unsent = head
        for chunk in body:
            view = memoryview(chunk)
            if unsent:
                view = self._send_begin(transport, unsent, view)
                unsent = b""
            for start in range(0, len(view), _WRITE_SIZE):
                while self._write_paused and not self._answered(response):
                    await self.wait()
                # An answer before the end is the answer. A transport that has failed is about to say so.
                if self._answered(response) or transport.is_closing():
                    return
                transport.write(view[start : start + _WRITE_SIZE])
        self._sent = True

    def _send_begin(self, transport: asyncio.Transport, head: bytes, view: memoryview) -> memoryview:
        """Send the head and as much of a body's first chunk as the socket takes at once; return the rest of the chunk.

        asyncio would send them apart, and copy what the socket has no room for.
        """
        sent = 0
        if transport.get_extra_info("ssl_object") is None and not transport.get_write_buffer_size():
            with suppress(OSError):  # it is full, or broken, which the transport is about to find out
                sent = self.sock.sendmsg((head, view))
        if sent < len(head):
            transport.write(head[sent:])
        return view[max(0, sent - len(head)) :]

    @staticmethod
    def _answered(response: Response) -> bool:
        return bool(response.status) or response._connection is None

    async def wait(self) -> None:
        """Wait until there is something new for the response."""
        loop = self._loop
        self._progress = now = loop.time()
        due = now + self._idle_timeout
        if self._timer is None or self._timer_at > due:
            self._arm(due)
        self._waiter = waiter = loop.create_future()
        await waiter

    @property
    def waiting(self) -> bool:
        """Tell whether a task waits."""
        return self._waiter is not None

    def fail(self, error: TroveError) -> None:
        """Drop the connection, and have its response raise the error."""
        response = self._response
        if response is not None:
            self._response = None
            error.ambiguous = self._sent and not response._streaming
            response._end(error)
        self.drop()
        self._wake()

    def drop(self) -> None:
        """Close the connection at once; its slot in the pool is free."""
        if self.closed:
            return
        self.closed = True
        self._parser = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._pool.discard(self)

    def pause_reading(self) -> None:
        """Receive nothing more: the reader is behind."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def worn_out(self, keep_alive: float) -> bool:
        """Tell whether it has been idle for long, or has ended in a way that the loop has yet to see."""
        if self._loop.time() - self.idle_since > keep_alive:
            return True
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # The timer of the connection looks at when there was progress last, and is set anew only when it has run.

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._waiter is None or self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._progress = self._timer_at
        self._unsent = unsent
        due = self._progress + self._idle_timeout
        if due > self._timer_at:
            self._arm(due)
        else:
            doing = "answered nothing" if self._sent else "took nothing"
            self.fail(OperationTimeoutError(f"{self.origin} {doing} for {self._idle_timeout:g} s"))

    # What the loop calls (asyncio.Protocol).

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have the response end: with what can still be read, or with an error."""
        if exc is not None and self._response is not None:
            self._salvage()
        if self._response is not None:
            error = UnavailableError(f"the connection to {self.origin} broke: {exc or 'closed'}")
            error.__cause__ = exc
            self.fail(error)
        self.drop()
        self._pool.lost(self)

    def _salvage(self) -> None:
        """Read the answer that a server sent before it reset the connection on which we still wrote.

        asyncio closes a socket upon the first error of a write, with what has been received unread.
        """
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        try:
            while self._response is not None and (data := self.sock.recv(_WRITE_SIZE)):
                self.data_received(data)
        except OSError:
            pass

    def eof_received(self) -> None:
        """End a body that ends with the connection; everywhere else the end is an error."""
        response = self._response
        if response is None:
            self.drop()
        elif self.remaining == _UNTIL_CLOSE and response.status and self._parser is None:
            self._complete(response)
        else:
            what = "in the middle of its answer" if response.status or self._head else "without an answer"
            self.fail(UnavailableError(f"{self.origin} closed the connection {what}"))

    def pause_writing(self) -> None:
        """Note that the socket takes no more for now."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on with an upload."""
        self._write_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Pass on what has arrived."""
        response = self._response
        if response is None:
            self.drop()  # nothing was asked for
            return
        self._progress = self._loop.time()
        if response.status:
            self._receive_body(response, data)
        else:
            self._receive_head(response, data)

    def _receive_head(self, response: Response, data: bytes) -> None:
        if self._head:
            data = self._head + data
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end > _MAX_HEAD or (end < 4 and len(data) > _MAX_HEAD):
                self.fail(BackendError(f"{self.origin} answered with a head of more than {_MAX_HEAD} bytes"))
                return
            if end < 4:
                self._head = data
                if not data.startswith(b"HTTP/"[: len(data)]):
                    self._fail_alien(data)
                return
            parser = httptools.HttpResponseParser(self)
            self._raw_headers = []
            try:
                parser.feed_data(data[:end])
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self._fail_alien(data, error)
                return
            status = parser.get_status_code()
            if status >= 200:
                self._begin(response, parser, status, data, end)
                return
            data = data[end:]
        self._head = b""

    def _fail_alien(self, data: bytes, cause: Exception | None = None) -> None:
        hint = "; does it speak https://?" if data[0] in _TLS_RECORDS and self.origin.scheme == "http" else ""
        error = BackendError(f"{self.origin} answered with something that is not HTTP/1.1{hint}")
        error.__cause__ = cause
        self.fail(error)

    def _begin(
        self, response: Response, parser: httptools.HttpResponseParser, status: int, data: bytes, end: int
    ) -> None:
        headers = _decode(self._raw_headers)
        connection = headers.get("connection")
        if connection is None:
            self._keep = data.startswith(b"HTTP/1.1")
        else:
            tokens = connection.lower()
            self._keep = "close" not in tokens and (data.startswith(b"HTTP/1.1") or "keep-alive" in tokens)
        length = self._frame(status, headers, parser)
        response._begin(status, headers, length)
        if response._streaming:
            self._wake()
        elif len(data) - end >= self.remaining:
            # All of it is there, as it mostly is.
            self._keep = self._keep and len(data) - end == self.remaining
            response.content = data[end : end + self.remaining]
            self._complete(response)
            return
        if len(data) > end:
            self._receive_body(response, data[end:])
        else:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Have the head acknowledged at once.

        A server that sends the body apart and without TCP_NODELAY (Ceph's gateway as it is delivered) waits for
        that, and the kernel would put it off for 40 ms: see tcp(7), TCP_QUICKACK.
        """
        if _QUICKACK is not None:
            with suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _frame(self, status: int, headers: dict[str, str], parser: httptools.HttpResponseParser) -> int | None:
        """Find out how the body ends, and return its length if that is told."""
        coding = headers.get("transfer-encoding")
        self._parser = None
        self.remaining = _UNTIL_CLOSE
        if self._method == "HEAD" or status in (204, 304):
            self.remaining = 0
        elif coding is not None:
            if coding.lower().endswith("chunked"):
                self._parser = parser
                self._finished = False
                return None
        elif "content-length" in headers:
            self.remaining = int(headers["content-length"])
        if self.remaining == _UNTIL_CLOSE:
            self._keep = False
            return None
        return self.remaining

    def _receive_body(self, response: Response, data: bytes) -> None:
        if self._parser is not None:
            self._receive_chunked(response, self._parser, data)
            return
        size = len(data)
        if size > self.remaining:
            data = data[: self.remaining]
            size = self.remaining
            self._keep = False
        if self.remaining != _UNTIL_CLOSE:
            self.remaining -= size
        if response._add(data):
            self._wake()
        if not self.remaining:
            self._complete(response)

    def _receive_chunked(self, response: Response, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._keep = False
            if not self._finished:
                broken = UnavailableError(f"{self.origin} sent a chunked body that is broken: {error}")
                broken.__cause__ = error
                self.fail(broken)
                return
        if self._finished:
            self._complete(response)

    def _complete(self, response: Response) -> None:
        """Let go of a response that is all there, and of the connection too."""
        self._response = None
        self._parser = None
        response._end(None)
        self._wake()
        transport = self._transport
        if (
            self._keep
            and self._sent
            and transport is not None
            and not transport.get_write_buffer_size()
            and not transport.is_closing()
        ):
            self._pool.release(self)
        else:
            self.drop()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Note what follows upon the answer."""
        if self._finished:
            self._keep = False  # there is more than the answer

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer, which nobody asks for."""
        self._raw_headers.append((name, value))

    def on_body(self, data: bytes) -> None:
        """Pass on a piece of a chunked body."""
        if self._response is not None and self._response._add(data):
            self._wake()

    def on_message_complete(self) -> None:
        """Note the end."""
        self._finished = True


def _decode(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw:
        name = _names.get(raw_name) or _decode_name(raw_name)
        try:
            value = raw_value.decode().rstrip()
        except UnicodeDecodeError:
            value = raw_value.decode("latin-1").rstrip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _decode_name(raw: bytes) -> str:
    name = raw.decode("latin-1").lower()
    if len(_names) < _MAX_NAMES and len(raw) <= _MAX_NAME:
        _names[raw] = name
    return name
