"""`ResponseStream`: the body of an object as it arrives, resumed where the connection breaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trove_async.errors import BackendError, UnavailableError
from trove_async.reader import ByteStream
from trove_async.wire.transport import Response

__all__ = ["ResponseStream"]

Reopen = Callable[[int], Awaitable[Response]]


class ResponseStream(ByteStream):
    """The bytes of an answer; another is asked for where this one breaks.

    Args:
        response: stands at ``position``.
        position: offset in the object of the next byte.
        stop: offset after the last byte.
        ends: whether the answer ends at ``stop``, so that more bytes are an error.
        reopen: asks for the object from an offset to ``stop``, if it is still the same object.
    """

    def __init__(
        self,
        response: Response,
        position: int,
        stop: int,
        *,
        ends: bool,
        reopen: Reopen,
    ) -> None:
        self._response: Response | None = response
        self._position = position
        self._stop = stop
        self._ends = ends
        self._reopen = reopen
        self._memory: int | None = None

    async def read(self, size: int) -> bytes:
        """Return what has arrived, up to ``size`` bytes."""
        if self._response is None:
            self._response = await self._reopen(self._position)
            self._limit(self._response)
        if self._memory is not None:
            size = min(size, self._memory // 4)
        chunk = await self._response.read(min(size, self._stop - self._position))
        if not chunk and self._position < self._stop:
            raise UnavailableError(f"the body ended {self._stop - self._position} bytes early")
        self._position += len(chunk)
        if self._position == self._stop:
            await self._end(self._response)
        return chunk

    async def _end(self, response: Response) -> None:
        # The length of a chunked answer is known at its end only.
        if self._ends and response.length is None and await response.read(1):
            raise BackendError(f"the body is longer than the {self._stop} bytes that the answer declared")

    async def seek(self, offset: int) -> None:
        """Go on at an offset, by another request."""
        self.abort()
        self._position = offset
        self._response = await self._reopen(offset)
        self._limit(self._response)
        self._ends = self._response.status == 206

    def limit_memory(self, size: int) -> None:
        """Return smaller chunks, and stop receiving as soon as something was received that is not read."""
        self._memory = max(size, 4)
        if self._response is not None:
            self._limit(self._response)

    def _limit(self, response: Response) -> None:
        if self._memory is not None:
            response.limit_memory(self._memory)

    def abort(self) -> None:
        """Drop the connection."""
        if self._response is not None:
            response, self._response = self._response, None
            response.abort()

    async def aclose(self) -> None:
        """Give the connection back, if the body was read to its end."""
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()
