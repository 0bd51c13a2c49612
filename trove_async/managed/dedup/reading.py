"""Reading an object from the blobs that it refers to."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Final, NamedTuple

from trove_async.concurrency import several
from trove_async.errors import BackendError, NotFoundError, RangeNotSatisfiableError, TransientError
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.segments import Piece
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["open_object"]

_AT_ONCE: Final = 8
_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of pieces that are read at once."""


class _Span(NamedTuple):
    """A range of a piece."""

    piece: Piece
    offset: int
    length: int


async def open_object(
    inner: InnerStorage, info: ObjectInfo, pieces: Sequence[Piece], start: int, stop: int
) -> ObjectReader:
    """Open an object from one position to another; the pieces are the bytes between them."""
    if start == stop:
        return ObjectReader(info, b"", start=start, stop=stop)
    stream = _Stream(inner, pieces, start, stop)
    await stream.open()
    if stream.buffer is not None:
        return ObjectReader(info, stream.buffer, start=start, stop=stop)
    return ObjectReader(info, stream, start=start, stop=stop)


async def _open(inner: InnerStorage, span: _Span) -> ObjectReader:
    """Open a range of a piece.

    Raises:
        BackendError: the blob is missing, too short, or lost.
    """
    piece, offset, length = span
    segment = piece.segment
    if not piece.key:
        raise BackendError(f"the bytes of the content {segment.blob} were lost, as `fsck` has found; store them again")
    whole = piece.whole and offset == 0 and length == segment.size
    try:
        return await inner.get(piece.key, range=None if whole else (segment.start + offset, length))
    except (NotFoundError, RangeNotSatisfiableError) as error:
        raise _damaged(piece) from error


async def _read(inner: InnerStorage, span: _Span) -> bytes:
    """Read a range of a piece; raise as `_open` does."""
    async with await _open(inner, span) as reader:
        data = await reader.read()
    if len(data) != span.length:
        raise _damaged(span.piece)
    return data


def _damaged(piece: Piece) -> BackendError:
    return BackendError(
        f"the bytes at {piece.key!r} in the inner store are missing or too short; "
        "`trove managed fsck` finds what is wrong"
    )


class _Stream(ByteStream):
    """The bytes of pieces, one after another.

    The first piece is opened alone, so that a range within it costs one request and its bytes come as they arrive.
    Pieces after that are read several at once if they are small: each is a request, and their latency would add up.
    """

    def __init__(self, inner: InnerStorage, pieces: Sequence[Piece], start: int, stop: int) -> None:
        self._inner = inner
        self._pieces = pieces
        self._starts: Final = [*accumulate((piece.segment.size for piece in pieces), initial=start)]
        self._position = start
        self._stop = stop
        self._reader: ObjectReader | None = None
        self._left = b""
        self._taken = 0  # of `_left`: to copy the rest at each small read would take long
        self._ahead: deque[bytes] = deque()
        self._memory: int | None = None

    @property
    def buffer(self) -> bytes | None:
        """All bytes, if the piece that is open has them in memory and there is no other; else None."""
        reader = self._reader
        if reader is None or reader.buffer is None or len(reader.buffer) != self._stop - self._position:
            return None
        return reader.buffer

    def _spans(self) -> Iterator[_Span]:
        """Yield what is to be read from the position on."""
        at = self._position
        for number in range(bisect_right(self._starts, at) - 1, len(self._pieces)):
            first, last = self._starts[number], min(self._stop, self._starts[number + 1])
            if at < last:
                yield _Span(self._pieces[number], at - first, last - at)
                at = last

    async def open(self) -> None:
        """Open the piece at the position."""
        span = next(self._spans(), None)
        if span is None:
            raise TransientError("the object has fewer bytes than it should have")
        self._reader = await _open(self._inner, span)
        if self._memory is not None:
            self._reader.limit_memory(self._memory)

    async def _read_ahead(self) -> None:
        """Read the pieces at the position if they are small, or else open the first one."""
        room = _MEMORY if self._memory is None else min(_MEMORY, self._memory)
        spans = [*islice(self._spans(), _AT_ONCE)]
        while sum(span.length for span in spans) > room:
            spans.pop()
        if len(spans) < 2:
            await self.open()
        else:
            reads = [partial(_read, self._inner, span) for span in spans]
            self._ahead.extend(await several(reads, limit=_AT_ONCE))

    async def read(self, size: int) -> bytes:
        while not self._left:
            if self._position >= self._stop:
                return b""
            if self._ahead:
                self._left = self._ahead.popleft()
            elif self._reader is None:
                await self._read_ahead()
            else:
                self._left = await anext(self._reader, b"")
                if not self._left:
                    reader, self._reader = self._reader, None
                    await reader.aclose()
        chunk = self._left[self._taken : self._taken + size]
        self._taken += len(chunk)
        if self._taken == len(self._left):
            self._left, self._taken = b"", 0
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self.abort()
        self._position = offset
        await self.open()

    def _forget(self) -> ObjectReader | None:
        """Drop what was read, and return the reader that is to be closed."""
        self._left, self._taken = b"", 0
        self._ahead.clear()
        reader, self._reader = self._reader, None
        return reader

    def abort(self) -> None:
        if (reader := self._forget()) is not None:
            reader.abort()

    async def aclose(self) -> None:
        if (reader := self._forget()) is not None:
            await reader.aclose()

    def limit_memory(self, size: int) -> None:
        self._memory = size
        if self._reader is not None:
            self._reader.limit_memory(size)
