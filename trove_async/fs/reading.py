"""Reading an object as a file: in order by one request, elsewhere by ranges."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import Final, final

from trove_async.errors import (
    InvalidArgumentError,
    NotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
)
from trove_async.fs.base import AsyncFile
from trove_async.reader import ObjectReader
from trove_async.store import Trove
from trove_async.types import ObjectInfo

__all__ = ["BinaryReader", "open_reader"]

BLOCK: Final = 256 * 1024
"""Bytes that are kept together; a smaller object is read when it is opened."""

_KEPT: Final = 16
"""Blocks of a file in memory."""

_AHEAD: Final = 8
"""The maximum number of blocks of one request."""

_LARGE: Final = 2 * BLOCK
"""A read of this size passes the blocks by."""

_SKIP: Final = 4 * BLOCK
"""Bytes that are read and kept rather than asked for by another request."""

_STREAK: Final = 3
"""After as many requests for ranges that follow each other, one request reads on to the end."""


async def open_reader(store: Trove, bucket: str, key: str) -> BinaryReader:
    """Open an object for reading; a small one is read with the same request, and then needs no other."""
    reader = await store.get(bucket, key)
    if not reader.buffered and reader.size > BLOCK:
        return BinaryReader(_Blocks(store, bucket, key, reader))
    async with reader:
        return BinaryReader(_Blocks(store, bucket, key, reader, await store._run("read", bucket, key, reader.read())))


class _Blocks:
    """The bytes of one object, and of no other that replaces it: fetched as they are asked for, some kept.

    Attributes:
        info: the object.
        size: of a block.
    """

    def __init__(self, store: Trove, bucket: str, key: str, stream: ObjectReader, content: bytes | None = None) -> None:
        self.info = stream.info
        self.size = BLOCK
        self._store = store
        self._bucket = bucket
        self._key = key
        self._stream: ObjectReader | None = stream  # it stands where a block begins, or at the end
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._end = 0  # of the last bytes that were fetched
        self._streak = 0  # requests for ranges that followed each other
        if content is not None:
            self.size = max(BLOCK, len(content))
            self._kept[0] = content

    async def block(self, number: int, stop: int) -> bytes:
        """Return a block; those behind it, up to the offset ``stop``, may be fetched with it."""
        if number not in self._kept:
            await self._fetch(number, stop)
        self._kept.move_to_end(number)
        return self._kept[number]

    async def piece(self, position: int, stop: int) -> bytes:
        """Return the next 1 or more bytes from one offset towards another."""
        number, skipped = divmod(position, self.size)
        if stop - position >= _LARGE and number not in self._kept:
            stream = await self._stream_at(number)
            if stream is None:
                return await self._range(position, stop)
            if not skipped:
                end = stop if stop == self.info.size else stop - stop % self.size
                return await self._next(stream, end - position)
        block = await self.block(number, stop)
        return block[skipped : skipped + stop - position]

    async def _fetch(self, number: int, stop: int) -> None:
        start = number * self.size
        stream = await self._stream_at(number)
        if stream is None:
            asked_for = min(-(-(stop - start) // self.size), _AHEAD)
            blocks = max(asked_for, 1 << self._streak)
            data = await self._range(start, min(start + blocks * self.size, self.info.size))
        else:
            data = await self._next(stream, self.size)
        for offset in reversed(range(0, len(data), self.size)):  # the first block last, so that it is kept longest
            self._keep(number + offset // self.size, data[offset : offset + self.size])

    def _keep(self, number: int, block: bytes) -> None:
        self._kept[number] = block
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    async def _stream_at(self, number: int) -> ObjectReader | None:
        """Return a stream that stands at the beginning of a block; None if a range is better."""
        start = number * self.size
        stream = self._stream
        if stream is not None:
            if not stream.closed and 0 <= start - self._offset(stream) <= _SKIP:
                while (at := self._offset(stream)) < start:
                    self._keep(at // self.size, await self._next(stream, self.size))
                return stream
            self._stream = None
            await stream.aclose()
        continues = number == self._end // self.size
        self._streak = self._streak + 1 if continues else 0
        if self._streak < _STREAK:
            return None
        self._stream = await self._open(start, None)
        return self._stream

    @staticmethod
    def _offset(stream: ObjectReader) -> int:
        return stream.start + stream.tell()

    async def _next(self, stream: ObjectReader, size: int) -> bytes:
        data = await self._read(stream, size)
        self._end = self._offset(stream)
        return data

    async def _range(self, start: int, stop: int) -> bytes:
        async with await self._open(start, stop - start) as reader:
            data = await self._read(reader, stop - start)
        self._end = stop
        return data

    async def _read(self, reader: ObjectReader, size: int) -> bytes:
        return await self._store._run("read", self._bucket, self._key, reader.read(size))

    async def _open(self, start: int, length: int | None) -> ObjectReader:
        """Open a range, if it is still the same object."""
        condition = self.info.etag if self._store.supports("get") else None
        try:
            reader = await self._store.get(self._bucket, self._key, range=(start, length), if_match=condition)
        except (PreconditionFailedError, NotFoundError, RangeNotSatisfiableError) as error:
            raise self._changed() from error
        if reader.info.etag != self.info.etag:
            reader.abort()
            raise self._changed()
        return reader

    def _changed(self) -> ObjectChangedError:
        message = "the object was replaced or deleted after the file was opened; open it again"
        return ObjectChangedError(message, operation="read", bucket=self._bucket, key=self._key)

    async def aclose(self) -> None:
        stream, self._stream = self._stream, None
        self._kept.clear()
        if stream is not None:
            await stream.aclose()


@final
class BinaryReader(AsyncFile[bytes]):
    """An object that is read as a file; `open_file` returns it for the mode ``rb``.

    It reads the object as it was when it was opened: if it is replaced or deleted, what is not in memory yet raises
    `ObjectChangedError`.

    An object of more than 256 KiB holds its file or connection from the opening on while it is read in order, and gives
    it back at its end, or with the first read elsewhere. Memory is bounded by 4 MiB, and what a call returns.

    Attributes:
        info: the object, as it was opened.
        size: its size in bytes.
    """

    mode = "rb"

    def __init__(self, blocks: _Blocks) -> None:
        self.info: ObjectInfo = blocks.info
        self.size = blocks.info.size
        self._blocks = blocks
        self._position = 0
        self._closed = False
        self._lock = asyncio.Lock()

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._closed

    def _set_origin(self, location: str) -> None:
        """Say where the file was opened, for the warning about one that is not closed."""
        if self._blocks._stream is not None:
            self._blocks._stream._opened_at = location

    async def tell(self) -> int:
        """Return the number of bytes before the position."""
        self._check_open()
        return self._position

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it; no I/O."""
        return self._seek(offset, whence)

    def _seek(self, offset: int, whence: int) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise InvalidArgumentError(f"whence is 0, 1 or 2, not {whence!r}")
        if base + offset < 0:
            raise InvalidArgumentError(f"cannot seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    async def read(self, size: int | None = -1) -> bytes:
        """Read ``size`` bytes, fewer only at the end; with -1 all that remain."""
        async with self._lock:
            self._check_open()
            position, stop = self._position, self._stop(size)
            pieces = []
            while position < stop:
                pieces.append(await self._blocks.piece(position, stop))
                position += len(pieces[-1])
            self._position = position
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def read1(self, size: int = -1) -> bytes:
        """Read 1 to ``size`` bytes, as many as one request returns; empty at the end."""
        async with self._lock:
            self._check_open()
            stop = self._stop(size)
            if self._position >= stop:
                return b""
            data = await self._blocks.piece(self._position, stop)
            self._position += len(data)
            return data

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read bytes into a buffer until it is full or the file ends; return their number."""
        async with self._lock:
            self._check_open()
            view = memoryview(buffer).cast("B")
            start, stop = self._position, self._stop(len(view))
            position = start
            while position < stop:
                piece = await self._blocks.piece(position, stop)
                view[position - start : position - start + len(piece)] = piece
                position += len(piece)
            self._position = position
            return position - start

    async def readline(self, size: int | None = -1) -> bytes:
        """Read a line with its end, or ``size`` bytes of it; empty at the end of the file."""
        async with self._lock:
            self._check_open()
            position, stop = self._position, self._stop(size)
            pieces: list[bytes] = []
            while position < stop and not (pieces and pieces[-1].endswith(b"\n")):
                number, skipped = divmod(position, self._blocks.size)
                block = await self._blocks.block(number, position + 1)
                end = block.find(b"\n", skipped, skipped + stop - position) + 1
                pieces.append(block[skipped : end or skipped + stop - position])
                position += len(pieces[-1])
            self._position = position
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _stop(self, size: int | None) -> int:
        """Return the offset at which a read of this size ends."""
        return self.size if size is None or size < 0 else min(self.size, self._position + size)

    async def aclose(self) -> None:
        """Close the file, and release its connection; idempotent."""
        self._closed = True
        await self._blocks.aclose()
