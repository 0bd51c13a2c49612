"""One SFTP session over an SSH connection: many requests in flight, answered in any order.

asyncssh has an SFTP client of its own; this one takes a fraction of the processor's time. Requests that are made in one
turn of the event loop leave in one packet of SSH, each answer resolves a plain future, and there is no task for
a request. SSH itself, with its keys, ciphers and windows, is all asyncssh's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncssh

from trove_async.drivers.sftp.errors import DisconnectedError, IdleError
from trove_async.drivers.sftp.protocol import (
    LIMITS,
    VERSION,
    FileStatus,
    Kind,
    ServerLimits,
    decode,
    limits_of,
    pack_string,
    pack_u32,
    parse_version,
)

__all__ = ["Channel", "Counter"]

_MAX_PACKET: Final = 1024 * 1024
"""Bytes of the largest packet that is taken; servers answer a read with 256 KiB at most."""
_BATCH: Final = 32 * 1024
"""Bytes of requests that are handed on at once: one packet of SSH."""

Counter = dict[str, int]


class Channel(asyncssh.SSHClientSession[bytes]):
    """A session; `opened` is done when the server has said what it can do.

    The protocol obliges a server to carry out requests about one file in the order in which they were sent
    (draft-ietf-secsh-filexfer-02, section 4.1), so that they need not be waited for one by one.

    Attributes:
        extensions: what the server has beyond version 3.
        limits: how large requests may be.
        counts: how many requests of each kind were sent.
        turns: how many times something was sent after everything sent before had been answered.
    """

    def __init__(self, *, idle_timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = idle_timeout
        self._chan: asyncssh.SSHClientChannel[bytes] | None = None
        self._buffer = bytearray()
        self._out: list[bytes | memoryview] = []
        self._out_size = 0
        self._asked: dict[bytes, asyncio.Future[Any]] = {}  # what is to leave next
        self._number = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._failure: DisconnectedError | None = None
        self._last_heard = self._loop.time()
        self._watchdog: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._handles: set[bytes] = set()
        self.opened: asyncio.Future[frozenset[bytes]] = self._loop.create_future()
        self.extensions: frozenset[bytes] = frozenset()
        self.limits = ServerLimits()
        self.counts: Counter = {}
        self.turns = 0
        self.on_lost: Callable[[], object] = _nothing

    # What asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Say hello."""
        self._chan = chan

    def session_started(self) -> None:
        """Say hello: the subsystem runs."""
        assert self._chan is not None
        self._chan.write(pack_string(bytes((Kind.INIT,)) + pack_u32(VERSION)))

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Take the answers apart."""
        if datatype is not None:
            return  # what the server's program writes to its standard error
        buffer = self._buffer
        buffer += data
        self._last_heard = self._loop.time()
        at, end = 0, len(buffer)
        while end - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > _MAX_PACKET or size < 5:
                self.fail(DisconnectedError("the server sends something that is not SFTP"))
                return
            if end - at - 4 < size:
                break
            self._take(at + 4, at + 4 + size)
            at += 4 + size
        if at:
            del buffer[:at]

    def eof_received(self) -> bool:
        """Close when the server has closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is under way."""
        reason = str(exc) if exc is not None and str(exc) else "the server closed it"
        self.fail(DisconnectedError(f"the connection was lost: {reason}"))

    def pause_writing(self) -> None:
        """Have large writes wait."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let large writes go on."""
        if self._writable is not None:
            if not self._writable.done():
                self._writable.set_result(None)
            self._writable = None

    # Life

    @property
    def failure(self) -> DisconnectedError | None:
        """Why it is of no use any more, None while it is."""
        return self._failure

    @property
    def busy(self) -> int:
        """How many requests are not answered yet."""
        return len(self._pending)

    @property
    def open_handles(self) -> int:
        """How many handles the server has open for us."""
        return len(self._handles)

    async def handshake(self) -> None:
        """Wait for the server's hello, and ask for its limits where it tells them."""
        self.extensions = await asyncio.shield(self.opened)
        if LIMITS in self.extensions:
            self.limits = limits_of(await self.request(Kind.EXTENDED, pack_string(LIMITS)))

    def fail(self, error: DisconnectedError) -> None:
        """Give the session up: all that waits for an answer gets the error."""
        if self._failure is not None:
            return
        self._failure = error
        if self._watchdog is not None:
            self._watchdog.cancel()
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            if not waiting.done():
                waiting.set_exception(type(error)(str(error)))
                waiting.exception()  # nobody may wait for it any more
        self._handles.clear()
        self._out.clear()
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()
        self.resume_writing()
        if self._chan is not None:
            self._chan.abort()
        self.on_lost()

    # Requests

    def request(self, kind: Kind, *parts: bytes | memoryview) -> asyncio.Future[Any]:
        """Send a request, at the end of this turn of the loop; the future is its answer.

        What the parts hold must not change until then.

        It raises `OSError` as the server says, and `DisconnectedError` when the connection is lost.
        A handle that comes for a future which was cancelled is closed.
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
        self._pending[number] = waiting
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
        """Ask for the status of a path, which is packed; those who ask in one turn of the loop share the answer."""
        asked = self._asked.get(path)
        if asked is None:
            asked = self.request(Kind.LSTAT, path)
            if self._out:
                self._asked[path] = asked
        # One who waits may be cancelled, and the others wait on.
        return asyncio.shield(asked)

    def close_handle(self, handle: bytes) -> asyncio.Future[Any]:
        """Close a handle; it counts as open until the server says otherwise."""
        answer = self.request(Kind.CLOSE, pack_string(handle))
        answer.add_done_callback(lambda _: self._handles.discard(handle))
        return answer

    @property
    def writable(self) -> asyncio.Future[None] | None:
        """What large writes have to wait for, None if for nothing."""
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
        """Give an answer to whoever waits for it."""
        buffer = self._buffer
        kind = buffer[start]
        if kind == Kind.VERSION:
            self._greet(bytes(buffer[start:end]))
            return
        waiting = self._pending.pop(int.from_bytes(buffer[start + 1 : start + 5], "big"), None)
        if waiting is None:
            self.fail(DisconnectedError("the server answers what was not asked"))
            return
        result: bytes | FileStatus | list[Any] | OSError | None
        if kind == Kind.DATA:
            result = bytes(memoryview(buffer)[start + 9 : end])
        else:
            result = decode(bytes(memoryview(buffer)[start:end]))
        if kind == Kind.HANDLE:
            assert isinstance(result, bytes)
            self._handles.add(result)
            if waiting.cancelled():
                self.close_handle(result)
        if waiting.done():
            return
        if isinstance(result, OSError):
            waiting.set_exception(result)
            waiting.exception()  # of requests that were sent together only the first error is looked at
        else:
            waiting.set_result(result)

    def _greet(self, packet: bytes) -> None:
        if self.opened.done():
            return
        try:
            self.opened.set_result(parse_version(packet))
        except DisconnectedError as error:
            self.fail(error)

    def _watch(self) -> None:
        """Give up a connection that says nothing though it was asked something."""
        self._watchdog = None
        if not self._pending:
            return
        left = self._last_heard + self._idle_timeout - self._loop.time()
        if left <= 0:
            self.fail(IdleError(f"the server did not answer for {self._idle_timeout:g} s"))
        else:
            self._watchdog = self._loop.call_later(left, self._watch)


def _nothing() -> None:
    """Do nothing."""
