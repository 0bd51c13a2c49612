"""`Connection`: one HTTP/1.1 connection, which carries one request after the other.

Chunked bodies are parsed by httptools. A body of known length is not parsed at all: its bytes are counted, and the
buffers are passed on as they were received.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, cast

from trove_async.body import FileSlice
from trove_async.errors import BackendError, BodySizeError, OperationTimeoutError, TroveError, UnavailableError
from trove_async.wire.chunked import ChunkedDecoder
from trove_async.wire.head import MAX_HEAD, UNTIL_CLOSE, HeadError, find_end, frame, parse_head
from trove_async.wire.origin import Origin
from trove_async.wire.response import Response

if TYPE_CHECKING:
    from trove_async.body import Chunk, Piece

__all__ = ["ON_SENT", "Connection", "OnInterim", "Owner"]

OnInterim = Callable[[int, Mapping[str, str]], object]
"""Called with the status and the headers of each interim response (1xx) as it arrives; it must not raise."""

OnSent = Callable[[int, bool], object]
"""Called with the number of bytes that a connection has taken, and whether it has no room for more now."""

ON_SENT: Final[ContextVar[OnSent | None]] = ContextVar("ON_SENT", default=None)
"""Called again and again by a task that sends a large body."""

_MAX_INTERIM: Final = 1000  # responses of 1xx before the final one
_WRITE_SIZE: Final = 512 * 1024  # the bytes of a large body that are given to the transport at once
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)
_JOIN_SIZE: Final = 64 * 1024  # head and body up to this leave in one write
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds
_TLS_RECORDS: Final = b"\x15\x16"  # alert, handshake


class Owner(Protocol):
    """What a connection needs of the pool that it belongs to; see `trove_async.wire.pool.Pool`."""

    def made(self, connection: Connection) -> None:
        """Note that the loop has a transport for a connection."""

    def lost(self, connection: Connection) -> None:
        """Note that the loop has closed it."""

    def release(self, connection: Connection) -> None:
        """Take back a connection that can be used again."""

    def discard(self, connection: Connection) -> None:
        """Forget a connection that is closed."""


class Connection(asyncio.Protocol):
    """An open connection: idle in the pool, or used by the one response that is waited for or read.

    Attributes:
        origin: the server whose requests it carries.
        sock: its socket; the transport owns it.
        closed: whether no further request can be sent on it.
        idle_since: when it came back to the pool, by the clock of the loop.
        remaining: the bytes of the body that are still to come; huge if that is not known.
    """

    __slots__ = (
        "_decoder",
        "_head",
        "_idle_timeout",
        "_interim",
        "_keep",
        "_loop",
        "_method",
        "_on_interim",
        "_pool",
        "_progress",
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

    def __init__(self, pool: Owner, origin: Origin, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self.origin = origin
        self.sock = sock
        self.closed = False
        self.idle_since = 0.0
        self.remaining = 0
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None  # the response that uses it; None while it is idle
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._progress = 0.0
        self._idle_timeout = 0.0
        self._unsent = 0
        self._write_paused = False
        self._method = ""
        self._sent = False  # whether the whole request was given to the socket
        self._head = b""  # what has arrived of an incomplete head
        self._interim = (0, 0)  # how many interim responses came, and their bytes
        self._on_interim: OnInterim | None = None
        self._decoder: ChunkedDecoder | None = None
        self._keep = False

    # What the transport and the response call.

    async def exchange(
        self,
        method: str,
        head: bytes,
        body: Sequence[Piece] | AsyncIterable[Chunk],
        size: int,
        idle_timeout: float,
        on_interim: OnInterim | None = None,
    ) -> Response:
        """Send a request and wait for the head of the answer, and for its body if that is small."""
        transport = self._transport
        assert transport is not None
        response = self._response = Response(self)
        self._method = method
        self._idle_timeout = idle_timeout
        self._sent = False
        self._head = b""
        self._interim = (0, 0)
        self._on_interim = on_interim
        try:
            if isinstance(body, AsyncIterable):
                await self._upload_stream(response, transport, head, body, size)
            elif size + len(head) <= _JOIN_SIZE:
                transport.write(b"".join((head, *cast("Sequence[Chunk]", body))) if size else head)
                self._sent = True
            else:
                await self._upload(response, transport, head, body)
            while not response._streaming and response._connection is not None:
                await self.wait()
        except BaseException:
            # The connection may already serve another response; this response knows.
            response.abort()
            raise
        if response._error is not None and not response._streaming:
            raise response._error
        return response

    async def _upload(
        self, response: Response, transport: asyncio.Transport, head: bytes, body: Sequence[Piece]
    ) -> None:
        unsent = head
        for piece in body:
            view = memoryview(await piece.read() if isinstance(piece, FileSlice) else piece)
            if unsent:
                view = self._send_begin(transport, unsent, view)
                unsent = b""
            if not await self._write(response, transport, view):
                return
        self._sent = True

    async def _upload_stream(
        self, response: Response, transport: asyncio.Transport, head: bytes, body: AsyncIterable[Chunk], size: int
    ) -> None:
        transport.write(head)
        async for chunk in body:
            size -= len(chunk)
            if size < 0:
                break
            if not await self._write(response, transport, memoryview(chunk)):
                return
        if size:
            raise BodySizeError("the body of the request does not have the size that was declared")
        self._sent = True

    async def _write(self, response: Response, transport: asyncio.Transport, view: memoryview) -> bool:
        """Give bytes of a body to the transport as it takes them; False if sending them is of no use any more."""
        on_sent = ON_SENT.get()
        for start in range(0, len(view), _WRITE_SIZE):
            while self._write_paused and not self._answered(response):
                await self.wait()
            # A response that comes before the end of the request counts. A failed transport is about to say so.
            if self._answered(response) or transport.is_closing():
                return False
            transport.write(view[start : start + _WRITE_SIZE])
            if on_sent is not None:
                on_sent(min(_WRITE_SIZE, len(view) - start), self._write_paused)
        return True

    def _send_begin(self, transport: asyncio.Transport, head: bytes, view: memoryview) -> memoryview:
        """Send the head and as much of the body's first chunk as the socket takes at once; return what is left of it.

        asyncio would send them apart, and copy what does not fit into the socket's buffer.
        """
        sent = 0
        if transport.get_extra_info("ssl_object") is None and not transport.get_write_buffer_size():
            with suppress(OSError):  # it is full, or broken, which the transport will notice
                sent = self.sock.sendmsg((head, view))
        if sent < len(head):
            transport.write(head[sent:])
        return view[max(0, sent - len(head)) :]

    @staticmethod
    def _answered(response: Response) -> bool:
        return bool(response.status) or response._connection is None

    async def wait(self) -> None:
        """Wait until the response has made progress."""
        loop = self._loop
        self._progress = now = loop.time()
        due = now + self._idle_timeout
        if self._timer is None or self._timer_at > due:
            self._arm(due)
        self._waiter = waiter = loop.create_future()
        await waiter

    @property
    def waiting(self) -> bool:
        """Whether a task waits."""
        return self._waiter is not None

    def fail(self, error: TroveError) -> None:
        """Drop the connection; its response raises the error."""
        response = self._response
        if response is not None:
            self._response = None
            error.ambiguous = self._sent and not response._streaming
            response._end(error)
            if not response._streaming:
                self._discard_unsent()
        self.drop()
        self._wake()

    def _discard_unsent(self) -> None:
        """Let the socket close with a reset (SO_LINGER, socket(7)).

        Otherwise the system would go on sending what it holds of a request that was given up, and wait for minutes for
        a server that does not read.
        """
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def drop(self) -> None:
        """Close the connection at once, and free its place in the pool."""
        if self.closed:
            return
        self.closed = True
        self._decoder = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        self._pool.discard(self)

    def pause_reading(self) -> None:
        """Stop receiving: the reader is behind."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on receiving."""
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def stale(self, keep_alive: float) -> bool:
        """Return whether it has been idle for too long, or was closed by the server without the loop noticing yet."""
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

    # The timer looks when the last progress was, and is set again only when it has run: setting it costs time.

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
        # Not an instance of it under uvloop.
        self._transport = cast(asyncio.Transport, transport)
        self._pool.made(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response: with what can still be read, or with an error."""
        if exc is not None and self._response is not None:
            self._salvage()
        if self._response is not None:
            error = UnavailableError(f"the connection to {self.origin} broke: {exc or 'closed'}")
            error.__cause__ = exc
            self.fail(error)
        self.drop()
        self._pool.lost(self)

    def _salvage(self) -> None:
        """Read the response that a server sent before it reset the connection to which we were still writing.

        The loop closes a socket after the first failed write, although data may be unread.
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
        """End a body that ends with the connection; otherwise the end is an error."""
        response = self._response
        if response is None:
            self.drop()
        elif self.remaining == UNTIL_CLOSE and response.status and self._decoder is None:
            self._complete(response)
        else:
            what = "in the middle of its answer" if response.status or self._head else "without an answer"
            self.fail(UnavailableError(f"{self.origin} closed the connection {what}"))

    def pause_writing(self) -> None:
        """Hold an upload: the socket's buffer is full."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on with an upload."""
        self._write_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Pass on what has arrived."""
        response = self._response
        if response is None:
            self.drop()  # there is no request to which it could belong
            return
        self._progress = self._loop.time()
        if response.status:
            self._receive_body(response, data)
        else:
            self._receive_head(response, data)

    def _receive_head(self, response: Response, data: bytes) -> None:
        if self._head:
            data = self._head + data
        while True:
            if data[:1] in (b"\r", b"\n"):
                data = data.lstrip(b"\r\n")  # some servers send an empty line after a body
            end = find_end(data)
            if (end or len(data)) + self._interim[1] > MAX_HEAD:
                self.fail(BackendError(f"{self.origin} answered with a head of more than {MAX_HEAD} bytes"))
                return
            if not end:
                self._head = data
                if not data.startswith(b"HTTP/1."[: len(data)]):
                    self._refuse(data, "something that is not HTTP/1.1")
                return
            try:
                minor, status, headers = parse_head(data[:end])
                if status >= 200:
                    self._begin(response, minor, status, headers, data, end)
                    return
                self._take_interim(status, headers, end)
            except HeadError as error:
                self._refuse(data, str(error))
                return
            data = data[end:]

    def _take_interim(self, status: int, headers: Mapping[str, str], size: int) -> None:
        count, total = self._interim
        self._interim = count + 1, total + size
        if status == 101:
            raise HeadError("a change of the protocol, which was not asked for")
        if count >= _MAX_INTERIM:
            raise HeadError(f"more than {_MAX_INTERIM} interim responses")
        if self._on_interim is not None:
            self._on_interim(status, headers)

    def _refuse(self, data: bytes, reason: str) -> None:
        hint = "; does it speak https://?" if data[0] in _TLS_RECORDS and self.origin.scheme == "http" else ""
        self.fail(BackendError(f"{self.origin} answered with {reason}{hint}"))

    def _begin(
        self, response: Response, minor: int, status: int, headers: dict[str, str], data: bytes, end: int
    ) -> None:
        self.remaining, chunked, self._keep = frame(self._method, minor, status, headers)
        self._decoder = ChunkedDecoder() if chunked else None
        response._begin(status, headers, None if self.remaining == UNTIL_CLOSE else self.remaining)
        if response._streaming:
            self._wake()
        elif len(data) - end >= self.remaining:
            # Usually the whole response arrives at once.
            self._keep = self._keep and len(data) - end == self.remaining
            response.content = data[end : end + self.remaining]
            self._complete(response)
            return
        if len(data) > end:
            self._receive_body(response, data[end:])
        else:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Acknowledge the head at once.

        A server that sends the body separately and without TCP_NODELAY (Ceph's gateway by default) waits for the
        acknowledgement, which the kernel would delay by 40 ms: see TCP_QUICKACK in tcp(7).
        """
        if _QUICKACK is not None:
            with suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _receive_body(self, response: Response, data: bytes) -> None:
        if self._decoder is not None:
            self._receive_chunked(response, self._decoder, data)
            return
        size = len(data)
        if size > self.remaining:
            data = data[: self.remaining]
            size = self.remaining
            self._keep = False
        if self.remaining != UNTIL_CLOSE:
            self.remaining -= size
        if response._add(data):
            self._wake()
        if not self.remaining:
            self._complete(response)

    def _receive_chunked(self, response: Response, decoder: ChunkedDecoder, data: bytes) -> None:
        piece = decoder.feed(data)
        if piece and response._add(piece):
            self._wake()
        if decoder.finished:
            self._keep = self._keep and not decoder.surplus
            self._complete(response)
        elif decoder.error is not None:
            broken = UnavailableError(f"{self.origin} sent a chunked body that is broken: {decoder.error}")
            broken.__cause__ = decoder.error
            self.fail(broken)

    def _complete(self, response: Response) -> None:
        """End a response that has arrived, and give the connection back to the pool if it can be used again."""
        self._response = None
        self._decoder = None
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
