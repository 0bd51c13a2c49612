"""`Response`: the answer to a request, and its body as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Final, Protocol

from trove_async.errors import BackendError, ClosedError, InvalidArgumentError, LifetimeError, TroveError

__all__ = ["SMALL_BODY", "Response"]

SMALL_BODY: Final = 64 * 1024
"""Bytes up to which a body of known length is waited for with the head."""

_HIGH_WATER: Final = 1024 * 1024  # unread bytes at which receiving pauses
_LOW_WATER: Final = 256 * 1024
_NEVER: Final = 1 << 62
_SMALL_CHUNK: Final = 64 * 1024  # smaller chunks are joined before they are returned
_MANY_CHUNKS: Final = 1024
_TINY_CHUNK: Final = 1024  # many chunks that are smaller on average are joined: an object for each costs more


class Connection(Protocol):
    """What a response needs of the connection that carries it; see `trove_async.wire.protocol.Connection`."""

    @property
    def remaining(self) -> int: ...

    @property
    def waiting(self) -> bool: ...

    async def wait(self) -> None: ...

    def fail(self, error: TroveError) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Response:
    """One answer; it holds a connection until its body has arrived, or until `abort` or `aclose`.

    One task reads it. A connection of which a body was read in part is not used again.

    Attributes:
        status: the final status code; 1xx are skipped.
        headers: names in lower case; those that came more than once are joined with ``", "``. Text is UTF-8, or
            Latin-1 where it is not that.
        content: the whole body if it is small (a ``Content-Length`` of 64 KiB or less, or no body by HTTP's rules,
            as for HEAD, 204 and 304); the connection is back in the pool then. Else None.
        length: the length of the body; None if it is chunked or ends with the connection.
    """

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_error",
        "_high_water",
        "_low_water",
        "_paused",
        "_position",
        "_streaming",
        "_wake_at",
        "content",
        "headers",
        "length",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.content: bytes | None = None
        self.length: int | None = None
        self._connection: Connection | None = connection
        self._streaming = False  # the head is there, and the body is read by the caller
        self._chunks: deque[bytes] | None = None
        self._buffered = 0
        self._position = 0  # in the first chunk
        self._error: TroveError | None = None
        self._high_water = _HIGH_WATER
        self._low_water = _LOW_WATER
        self._wake_at = 1
        self._paused = False

    def __repr__(self) -> str:
        return f"<Response {self.status}, {self.length} bytes, {'open' if self._connection else 'at its end'}>"

    async def read(self, size: int) -> bytes:
        """Return the next 1 to ``size`` bytes as they arrive, ``b""`` at the end.

        A cancellation drops the connection.

        Raises:
            UnavailableError: the connection broke before the end; what had arrived was returned first.
            OperationTimeoutError: nothing arrived for the idle timeout.
            ClosedError: the response was aborted, or the transport closed.
        """
        if size < 1:
            raise InvalidArgumentError("read() takes 1 byte or more")
        chunks = self._unread()
        while not chunks:
            if self._connection is None:
                if self._error is not None:
                    raise self._error
                return b""
            await self._arrival(1)
        return self._take(chunks, size)

    async def read_all(self, limit: int) -> bytes:
        """Return the rest of the body, which is all of it before the first `read`.

        Args:
            limit: bytes beyond which it is refused, and the connection dropped.

        Raises:
            BackendError: it is longer than the limit.
            UnavailableError, OperationTimeoutError, ClosedError: as in `read`.
        """
        chunks = self._unread()
        self._high_water = max(self._position + limit, _HIGH_WATER)
        if self._paused:
            self._resume()
        while self._connection is not None and self._known_size() <= limit:
            await self._arrival(self._position + limit + 1)
        if self._known_size() > limit:
            self.abort()
            raise BackendError(f"the answer (status {self.status}) is longer than {limit} bytes", status=self.status)
        if self._error is not None:
            raise self._error
        return self._take_all(chunks)

    def limit_memory(self, size: int) -> None:
        """Stop receiving when an eighth of ``size`` bytes is unread; what the loop receives at once comes on top."""
        self._high_water = self._low_water = size // 8
        self._pause_if_full()

    def abort(self) -> None:
        """Drop the connection now, unless the body has arrived; it never raises and may be called again."""
        closed = ClosedError("the response was closed")
        if self._connection is not None:
            self._connection.fail(closed)
        else:
            self._end(self._error or closed)
        self._forget()

    async def aclose(self) -> None:
        """Let go of the connection: it goes back to the pool if the rest is little and already there."""
        connection = self._connection
        if connection is not None and connection.remaining <= SMALL_BODY:
            self._forget()
            self._wake_at = _NEVER
            if self._paused:
                self._resume()
            try:
                # In the first turn the loop looks at the socket, in the second it has read what was there.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except BaseException:
                self.abort()
                raise
        self.abort()

    def _known_size(self) -> int:
        """Return what is there to be read, and what is known to come."""
        coming = self._connection.remaining if self._connection is not None and self.length is not None else 0
        return self._buffered - self._position + coming

    def _unread(self) -> deque[bytes]:
        if self._chunks is None:
            self._chunks = deque([self.content] if self.content else ())
            self._buffered = len(self.content or b"")
        return self._chunks

    async def _arrival(self, wake_at: int) -> None:
        assert self._connection is not None
        if self._connection.waiting:
            raise LifetimeError("another task is reading this response")
        self._wake_at = wake_at
        try:
            await self._connection.wait()
        except BaseException:
            self.abort()
            raise

    def _take(self, chunks: deque[bytes], size: int) -> bytes:
        first = chunks[0]
        available = len(first) - self._position
        if available > size:
            start = self._position
            self._position = start + size
            return first[start : start + size]
        chunks.popleft()
        if self._position:
            first = first[self._position :]
            self._buffered -= self._position
            self._position = 0
        if chunks and available < _SMALL_CHUNK:
            first = self._join(first, chunks, size)
        self._buffered -= len(first)
        if self._paused and self._buffered <= self._low_water:
            self._resume()
        return first

    @staticmethod
    def _join(first: bytes, chunks: deque[bytes], size: int) -> bytes:
        pieces = [first]
        room = size - len(first)
        while chunks and len(chunks[0]) <= min(room, _SMALL_CHUNK):
            room -= len(chunks[0])
            pieces.append(chunks.popleft())
        return b"".join(pieces)

    def _take_all(self, chunks: deque[bytes]) -> bytes:
        if chunks and self._position:
            chunks[0] = chunks[0][self._position :]
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._forget()
        return data

    def _forget(self) -> None:
        self._chunks = deque()
        self._buffered = self._position = 0

    def _resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume_reading()

    # What follows is called by the connection.

    def _begin(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        """Take the head, and decide whether the caller waits for the body or reads it."""
        self.status = status
        self.headers = headers
        self.length = length
        self._streaming = length is None or length > SMALL_BODY
        if not self._streaming:
            self._wake_at = _NEVER

    def _add(self, data: bytes) -> bool:
        """Keep what has arrived, and tell whether the reader is to be woken."""
        if self._chunks is None:
            self._chunks = deque()
        self._chunks.append(data)
        self._buffered += len(data)
        if len(self._chunks) > _MANY_CHUNKS and self._buffered < len(self._chunks) * _TINY_CHUNK:
            joined = b"".join(self._chunks)
            self._chunks.clear()
            self._chunks.append(joined)
        self._pause_if_full()
        return self._buffered >= self._wake_at

    def _pause_if_full(self) -> None:
        if self._buffered > self._high_water and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause_reading()

    def _end(self, error: TroveError | None) -> None:
        """Let go of the connection: the body is complete, or broken by the error."""
        if self._paused:
            self._resume()  # who has the connection next waits for an answer
        self._connection = None
        self._error = error
        if isinstance(error, ClosedError):
            self._forget()
        elif error is None and not self._streaming and self.content is None:
            self.content = self._take_all(self._chunks or deque())
            self._chunks = None
