"""`ContinuedStream`: the bytes of an object, continued at another member of a store over several stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from trove_async.errors import BackendUnavailableError, TroveError
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper

__all__ = ["ContinuedStream", "Reopen"]

M = TypeVar("M")

Reopen = Callable[[M | None, int], Awaitable[tuple[M, ObjectReader] | None]]
"""Opens the same object from an offset at another member than the given one; returns None if no other member has it.

With None in place of a member, all members are asked.
"""


class ContinuedStream(StreamWrapper, Generic[M]):
    """A stream that continues with the same bytes of another member where its own member cannot continue it.

    Args:
        inner: the stream of the first member.
        member: the first member.
        reopen: opens the stream of another member.
    """

    def __init__(self, inner: ByteStream, member: M, reopen: Reopen[M]) -> None:
        super().__init__(inner)
        self._member = member
        self._reopen = reopen
        self._reader: ObjectReader | None = None  # of the other member
        self._limit: int | None = None

    async def seek(self, offset: int) -> None:
        """Continue at an offset: at the same member, or at another one if that fails."""
        try:
            await self.inner.seek(offset)
        except TroveError as error:
            if not await self.continued_after(error, offset):
                raise

    async def continued_after(self, error: TroveError, offset: int) -> bool:
        """Continue at another member if the error says that this one failed; return whether there is another one."""
        if verdict_on(error) != "failed":
            return False
        # A stream of bytes in memory fails only for an offset before its first byte; its member may still work.
        found = await self._reopen(None if isinstance(self.inner, _Buffered) else self._member, offset)
        if found is None:
            return False
        self.abort()
        self._member, reader = found
        self._reader = reader
        if reader.buffer is not None:
            self.inner = _Buffered(reader.buffer, offset)
        else:
            reader.wrap(self._adopt)
        return True

    def _adopt(self, stream: ByteStream) -> ByteStream:
        self.inner = stream
        if self._limit is not None:
            stream.limit_memory(self._limit)
        return stream

    def abort(self) -> None:
        """Release what is read now."""
        self.inner.abort()
        self._let_go()

    async def aclose(self) -> None:
        """Release what is read now."""
        try:
            await self.inner.aclose()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.abort()

    def limit_memory(self, size: int) -> None:
        """Limit the memory of this stream, and of what continues it."""
        self._limit = size
        super().limit_memory(size)


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
