"""The body of an object on its way here."""

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
        reopen: asks for the object from an offset to ``stop``, if it is still the same object.
    """

    def __init__(self, response: Response, position: int, stop: int, *, reopen: Reopen) -> None:
        self._response: Response | None = response
        self._position = position
        self._stop = stop
        self._reopen = reopen

    async def read(self, size: int) -> bytes:
        """Return what has arrived, up to ``size`` bytes."""
        if self._response is None:
            self._response = await self._reopen(self._position)
        chunk = await self._response.read(min(size, self._stop - self._position))
        if not chunk and self._position < self._stop:
            raise UnavailableError(f"the body ended {self._stop - self._position} bytes early")
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Go on at an offset, by another request."""
        self.abort()
        self._position = offset
        self._response = await self._reopen(offset)

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


async def skip(response: Response, count: int) -> None:
    """Read past bytes that were not asked for, of a server that answers a range with the whole object.

    Raises:
        BackendError: there are fewer.
    """
    while count:
        chunk = await response.read(count)
        if not chunk:
            raise BackendError("the server sent fewer bytes than the object has")
        count -= len(chunk)
