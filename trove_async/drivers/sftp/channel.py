"""One SFTP session over an SSH connection: many requests in flight, answered in any order.

This client takes a fraction of the processor time of asyncssh's own SFTP client. Requests that are made in one turn of
the event loop leave in one SSH packet, each answer resolves a plain future, and a request needs no task. SSH itself,
with its keys, ciphers and windows, is left to asyncssh.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import asyncssh

from trove_async.drivers.sftp.answers import Expected, expected_of, limits_of, parse_answer, parse_version
from trove_async.drivers.sftp.errors import DisconnectedError, IdleError, ProtocolError
from trove_async.drivers.sftp.protocol import (
    LIMITS,
    VERSION,
    Kind,
    ServerLimits,
    pack_string,
    pack_u32,
)

__all__ = ["Channel", "Counter"]

_MAX_PACKET: Final = 1024 * 1024
"""Bytes of the largest accepted packet; servers answer a read with 256 KiB at most."""
_BATCH: Final = 32 * 1024
"""Bytes of requests that are sent at once: one SSH packet."""

Counter = dict[str, int]


class Channel(asyncssh.SSHClientSession[bytes]):
    """A session; `opened` is done when the server has sent its extensions.

    The protocol requires a server to process requests about one file in the order in which they were sent
    (draft-ietf-secsh-filexfer-02, section 4.1), so the next request need not wait for the answer of the last one.

    Every answer is checked against its request. One that does not fit ends the session: all pending requests fail with
    `ProtocolError`, since none of the server's answers can be relied on.

    Attributes:
        extensions: what the server has beyond version 3.
        limits: how large requests may be.
        counts: how many requests of each kind were sent.
        turns: how often a request was sent when no other request was unanswered.
    """

    def __init__(self, *, idle_timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = idle_timeout
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._buffer = bytearray()
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._asked: dict[bytes, asyncio.Future[Any]] = {}  # requests of this turn, by path
        self._number = 0
        self._pending: dict[int, tuple[asyncio.Future[Any], Expected]] = {}
        self._oldest: tuple[int, float] = (-1, 0.0)  # the oldest unanswered request when that was last looked at
        self._failure: DisconnectedError | None = None
        self._last_heard = self._loop.time()
        self._watchdog: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._handles: set[bytes] = set()
        self._closing = 0
        self.opened: asyncio.Future[frozenset[bytes]] = self._loop.create_future()
        self.extensions: frozenset[bytes] = frozenset()
        self.limits = ServerLimits()
        self.counts: Counter = {}
        self.turns = 0

    # What asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Store the channel."""
        self._chan = chan

    def session_started(self) -> None:
        """Send the first packet."""
        assert self._chan is not None
        self._chan.write(pack_string(bytes((Kind.INIT,)) + pack_u32(VERSION)))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Parse answers."""
        if datatype is not None or self._failure is not None:
            return  # standard error of the server's program, or what follows a malformed answer
        buffer = self._buffer
        buffer += data
        self._last_heard = self._loop.time()
        at, end = 0, len(buffer)
        while end - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > _MAX_PACKET or size < 5:
                self.fail(ProtocolError("the server sent data that is not SFTP"))
                return
            if end - at - 4 < size:
                break
            self._take(at + 4, at + 4 + size)
            if self._failure is not None:
                return
            at += 4 + size
        if at:
            del buffer[:at]

    def eof_received(self) -> bool:
        """Close when the server has closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the pending requests."""
        reason = str(exc) if exc is not None and str(exc) else "the server closed it"
        self.fail(DisconnectedError(f"the connection was lost: {reason}"))

    def pause_writing(self) -> None:
        """Make large writes wait."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let large writes continue."""
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # Life

    @property
    def failure(self) -> DisconnectedError | None:
        """Why the session failed, None while it works."""
        return self._failure

    @property
    def busy(self) -> int:
        """How many requests are unanswered."""
        return len(self._pending)

    @property
    def open_handles(self) -> int:
        """How many handles are open on the server."""
        return len(self._handles) + self._closing

    async def handshake(self) -> None:
        """Wait for the server's first packet, and ask for its limits if it supports that."""
        self.extensions = await asyncio.shield(self.opened)
        if LIMITS in self.extensions:
            try:
                self.limits = limits_of(await self.request(Kind.EXTENDED, pack_string(LIMITS)))
            except DisconnectedError:
                raise
            except OSError:
                pass  # the server names the extension and refuses it: the limits of every server apply

    def fail(self, error: DisconnectedError) -> None:
        """End the session: pending requests get the error."""
        if self._failure is not None:
            return
        self._failure = error
        if self._watchdog is not None:
            self._watchdog.cancel()
        pending, self._pending = self._pending, {}
        for waiting, _ in pending.values():
            if not waiting.done():
                waiting.set_exception(type(error)(str(error)))
                waiting.exception()  # marks it as retrieved: its caller may have been cancelled
        self._handles.clear()
        self._out.clear()
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()
        self.resume_writing()
        if self._chan is not None:
            self._chan.abort()

    # Requests

    def request(self, kind: Kind, *parts: bytes | memoryview) -> asyncio.Future[Any]:
        """Send a request at the end of this turn of the loop; the future is its answer.

        The content of the parts must not change until then.

        The future raises the `OSError` for the server's status, and `DisconnectedError` when the connection is lost.
        If it is cancelled, a handle that the server returns is closed.
        """
        waiting: asyncio.Future[Any] = self._loop.create_future()
        if self._failure is not None:
            waiting.set_exception(type(self._failure)(str(self._failure)))
            waiting.exception()
            return waiting
        number = self._number = (self._number + 1) & 0xFFFF_FFFF
        if not self._pending:
            self.turns += 1
            self._last_heard = self._loop.time()
            if self._watchdog is None:
                self._watchdog = self._loop.call_later(self._idle_timeout, self._watch)
        self._pending[number] = waiting, expected_of(kind, parts)
        size = 5
        for part in parts:
            size += len(part)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(pack_u32(size) + bytes((kind,)) + pack_u32(number))
        self._out += parts
        self._out_size += size + 4
        self.counts[kind.name] = self.counts.get(kind.name, 0) + 1
        if self._out_size >= _BATCH:
            self._flush()
        return waiting

    def lstat(self, path: bytes) -> Awaitable[Any]:
        """Ask for the status of a packed path; callers in one turn of the loop share one request."""
        asked = self._asked.get(path)
        if asked is None:
            asked = self.request(Kind.LSTAT, path)
            if self._out:
                self._asked[path] = asked
        # One caller may be cancelled while others wait.
        return asyncio.shield(asked)

    async def handle_of(self, opening: asyncio.Future[Any]) -> bytes:
        """Return the handle that a request asked for; if the caller is cancelled, it is closed without waiting.

        Args:
            opening: the answer to the request, which `request` returned.
        """
        try:
            handle: bytes = await opening
        except asyncio.CancelledError:
            # A future that was cancelled is seen to when its answer arrives; this answer came just before.
            if not opening.cancelled() and opening.exception() is None:
                self.close_handle(opening.result())
            raise
        return handle

    def close_handle(self, handle: bytes) -> asyncio.Future[Any]:
        """Close a handle; it counts as open until the server has answered."""
        answer = self.request(Kind.CLOSE, pack_string(handle))
        if handle in self._handles:
            self._handles.discard(handle)
            self._closing += 1
            answer.add_done_callback(self._closed)
        return answer

    def _closed(self, answer: asyncio.Future[Any]) -> None:
        self._closing -= 1

    def shorten_reads(self, size: int) -> None:
        """Request no more bytes of a file at a time than this."""
        self.limits = self.limits._replace(read=min(self.limits.read, size))

    @property
    def writable(self) -> asyncio.Future[None] | None:
        """What large writes must wait for, None if they need not wait."""
        return self._writable

    def _flush(self) -> None:
        if self._out and self._chan is not None and self._failure is None:
            data = b"".join(self._out)
            self._out.clear()
            self._asked.clear()
            self._out_size = 0
            try:
                self._chan.write(data)
            except BrokenPipeError:
                self.fail(DisconnectedError("the connection was lost"))

    def _take(self, start: int, end: int) -> None:
        """Deliver an answer to its future."""
        buffer = self._buffer
        kind = buffer[start]
        # Data is not copied more than once.
        packet = memoryview(buffer)[start:end] if kind == Kind.DATA else bytes(buffer[start:end])
        if kind == Kind.VERSION:
            self._greet(bytes(packet))
            return
        number = int.from_bytes(packet[1:5], "big")
        asked = self._pending.get(number)
        if asked is None:
            self.fail(ProtocolError("the server answered a request that was not sent, or answered one twice"))
            return
        waiting, expected = asked
        try:
            result = parse_answer(packet, expected)
            if kind == Kind.HANDLE and isinstance(result, bytes):
                self._opened(result, wanted=not waiting.cancelled())
        except ProtocolError as error:
            self.fail(error)
            return
        del self._pending[number]
        if waiting.done():
            return
        if isinstance(result, OSError):
            waiting.set_exception(result)
            waiting.exception()  # of requests that were sent together, only the first error is raised
        else:
            waiting.set_result(result)

    def _opened(self, handle: bytes, *, wanted: bool) -> None:
        if handle in self._handles:
            raise ProtocolError("the server returned a handle that is open already; writes to it would mix two files")
        self._handles.add(handle)
        if not wanted:
            self.close_handle(handle)

    def _greet(self, packet: bytes) -> None:
        if self.opened.done():
            self.fail(ProtocolError("the server sent its first packet twice"))
            return
        try:
            self.opened.set_result(parse_version(packet))
        except ProtocolError as error:
            self.fail(error)

    def _watch(self) -> None:
        """End a session in which the server does not answer."""
        self._watchdog = None
        if not self._pending:
            return
        now = self._loop.time()
        left = self._last_heard + self._idle_timeout - now
        oldest = next(iter(self._pending))
        if oldest != self._oldest[0]:
            self._oldest = oldest, now
        # A server that goes on answering other requests may have forgotten this one.
        if left <= 0 or self._oldest[1] + self._idle_timeout <= now:
            self.fail(IdleError(f"the server did not answer for {self._idle_timeout:g} s"))
        else:
            self._watchdog = self._loop.call_later(left, self._watch)
