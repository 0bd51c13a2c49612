"""`ResumedStream`: the bytes of an object, continued at another member when one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from trove_async.errors import TransientError
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper

__all__ = ["ResumedStream"]


class ResumedStream(StreamWrapper):
    """A stream that continues with the same bytes of another member when its own fails.

    Args:
        inner: the stream of the first member.
        start: its position in the object.
        reopen: opens the bytes from an offset at another member; returns no reader if none has the same object.
    """

    def __init__(
        self, inner: ByteStream, start: int, reopen: Callable[[int], Awaitable[Sequence[ObjectReader]]]
    ) -> None:
        super().__init__(inner)
        self._position = start
        self._reopen = reopen
        self._reader: ObjectReader | None = None
        self._limit: int | None = None

    async def read(self, size: int) -> bytes:
        """Read from the member that is read now; from another one if it fails."""
        try:
            chunk = await self.inner.read(size)
        except TransientError:
            if not await self._switch():
                raise
            chunk = await self.inner.read(size)
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Continue at an offset, at another member if this one fails."""
        self._position = offset
        try:
            await self.inner.seek(offset)
        except TransientError:
            if not await self._switch():
                raise

    async def _switch(self) -> bool:
        for reader in await self._reopen(self._position):
            self._release()
            if reader.buffered:
                self.inner = _Buffer(await reader.read(), self._position)
            else:
                reader.wrap(self._adopt)
                self._reader = reader
            return True
        return False

    def _adopt(self, inner: ByteStream) -> ByteStream:
        self.inner = inner
        if self._limit is not None:
            inner.limit_memory(self._limit)
        return inner

    def _release(self) -> None:
        self.inner.abort()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.abort()

    def abort(self) -> None:
        """Release the member that is read now."""
        self._release()

    async def aclose(self) -> None:
        """Release the member that is read now."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()
        await self.inner.aclose()

    def limit_memory(self, size: int) -> None:
        """Limit the memory of the member that is read now, and of those that follow."""
        self._limit = size
        super().limit_memory(size)


class _Buffer(ByteStream):
    """Bytes in memory as a stream."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start
        self._at = 0

    async def read(self, size: int) -> bytes:
        chunk = self._data[self._at : self._at + size]
        self._at += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        if offset < self._start:
            raise TransientError("these bytes were read from another member")
        self._at = offset - self._start

    def abort(self) -> None:
        pass
