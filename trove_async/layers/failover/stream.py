"""`ContinuedStream`: the bytes of an object, continued at another member."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trove_async.errors import BackendUnavailableError, TroveError
from trove_async.layers.trial import CountedStream
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper

__all__ = ["ContinuedStream"]

Reopen = Callable[[int], Awaitable[ObjectReader | None]]


class ContinuedStream(StreamWrapper):
    """Continues where the member's stream cannot be continued, with the same bytes of another member.

    Args:
        inner: the stream of the member, as the circuit breaker counts it.
        reopen: opens the same object from an offset at another member; None if no other member has it.
    """

    def __init__(self, inner: ByteStream, reopen: Reopen) -> None:
        super().__init__(inner)
        self._reopen = reopen
        self._reader: ObjectReader | None = None  # of the other member
        self._limit: int | None = None

    async def seek(self, offset: int) -> None:
        """Continue at an offset: at the same member, or at another one if that fails."""
        try:
            await self.inner.seek(offset)
        except TroveError as error:
            if verdict_on(error) != "failed":
                raise
            reader = await self._reopen(offset)
            if reader is not None:
                self._replace(await _stream_of(reader, offset), reader)
                return
            if not (isinstance(error, BackendUnavailableError) and isinstance(self.inner, CountedStream)):
                raise
            # The circuit breaker refused, but there is no other member: the same one is better than none.
            self.inner = self.inner.inner
            await self.inner.seek(offset)

    def _replace(self, stream: ByteStream, reader: ObjectReader) -> None:
        self.abort()
        self.inner, self._reader = stream, reader
        if self._limit is not None:
            stream.limit_memory(self._limit)

    def abort(self) -> None:
        """Release what is read now."""
        self.inner.abort()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.abort()

    async def aclose(self) -> None:
        """Release what is read now."""
        reader, self._reader = self._reader, None
        try:
            await self.inner.aclose()
        finally:
            if reader is not None:
                reader.abort()

    def limit_memory(self, size: int) -> None:
        """Limit the memory of this stream, and of what continues it."""
        self._limit = size
        super().limit_memory(size)


async def _stream_of(reader: ObjectReader, start: int) -> ByteStream:
    """Return the stream of a reader that was just opened."""
    if reader.buffered:
        return _Buffered(await reader.read(), start)
    found: list[ByteStream] = []

    def keep(stream: ByteStream) -> ByteStream:
        found.append(stream)
        return stream

    reader.wrap(keep)
    return found[0]


class _Buffered(ByteStream):
    """Bytes in memory, from an offset of the object on."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = self._position = start

    async def read(self, size: int) -> bytes:
        at = self._position - self._start
        chunk = self._data[at : at + size]
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        if offset < self._start:
            raise BackendUnavailableError("the bytes before it were read from another member")
        self._position = offset

    def abort(self) -> None:
        pass
