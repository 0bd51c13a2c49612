"""Reading an object from the blobs that it refers to."""

from __future__ import annotations

from collections.abc import Sequence

from trove_async.errors import BackendError, NotFoundError, RangeNotSatisfiableError, TransientError
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.segments import Piece
from trove_async.ranges import ByteRange
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["open_object"]


async def open_object(
    inner: InnerStorage, info: ObjectInfo, pieces: Sequence[Piece], wanted: ByteRange | None
) -> ObjectReader:
    """Open an object or a range of it."""
    start, stop = (0, info.size) if wanted is None else wanted.resolve(info.size)
    if start == stop:
        return ObjectReader(info, b"", start=start, stop=stop)
    stream = _Stream(inner, pieces, start, stop)
    await stream.open()
    if stream.buffer is not None:
        return ObjectReader(info, stream.buffer, start=start, stop=stop)
    return ObjectReader(info, stream, start=start, stop=stop)


async def _open(inner: InnerStorage, piece: Piece, offset: int, length: int) -> ObjectReader:
    """Open a range of a piece.

    Raises:
        BackendError: the blob is missing, too short, or lost.
    """
    segment = piece.segment
    if not piece.key:
        raise BackendError(f"the bytes of the content {segment.blob} were lost, as `fsck` has found; store them again")
    whole = piece.whole and offset == 0 and length == segment.size
    try:
        return await inner.get(piece.key, range=None if whole else (segment.start + offset, length))
    except (NotFoundError, RangeNotSatisfiableError) as error:
        raise BackendError(
            f"the bytes at {piece.key!r} in the inner store are missing or too short; "
            "`trove managed fsck` finds what is wrong"
        ) from error


class _Stream(ByteStream):
    """The bytes of pieces, one after another; each is opened when it is needed."""

    def __init__(self, inner: InnerStorage, pieces: Sequence[Piece], start: int, stop: int) -> None:
        self._inner = inner
        self._pieces = pieces
        self._position = start
        self._stop = stop
        self._reader: ObjectReader | None = None
        self._left = b""
        self._memory: int | None = None

    @property
    def buffer(self) -> bytes | None:
        """All bytes, if the piece that is open has them in memory and there is no other; else None."""
        reader = self._reader
        if reader is None or reader.buffer is None or len(reader.buffer) != self._stop - self._position:
            return None
        return reader.buffer

    async def open(self) -> None:
        """Open the piece at the position."""
        first = 0
        for piece in self._pieces:
            last = first + piece.segment.size
            if self._position < last:
                offset = self._position - first
                self._reader = await _open(self._inner, piece, offset, min(self._stop, last) - self._position)
                if self._memory is not None:
                    self._reader.limit_memory(self._memory)
                return
            first = last

    async def read(self, size: int) -> bytes:
        while not self._left:
            if self._position >= self._stop:
                return b""
            if self._reader is None:
                await self.open()
                if self._reader is None:
                    raise TransientError("the object has fewer bytes than it should have")
            self._left = await anext(self._reader, b"")
            if not self._left:
                reader, self._reader = self._reader, None
                await reader.aclose()
        chunk, self._left = self._left[:size], self._left[size:]
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self.abort()
        self._position = offset
        await self.open()

    def abort(self) -> None:
        self._left = b""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.abort()

    async def aclose(self) -> None:
        self._left = b""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.aclose()

    def limit_memory(self, size: int) -> None:
        self._memory = size
        if self._reader is not None:
            self._reader.limit_memory(size)
