"""Reading a large file in chunks, each in a thread."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from trove_async.reader import ByteStream

__all__ = ["FileStream"]

ReadAt = Callable[[int, int, int], Awaitable[bytes]]
Reopen = Callable[[], Awaitable[int]]


class FileStream(ByteStream):
    """An open file. It stays the object that was opened, also when that is replaced.

    Args:
        handle: the file's descriptor.
        position: where to begin.
        stop: where to end.
        read_at: reads bytes of a descriptor from a position, in a worker thread.
        reopen: opens the same object again, or raises if it was replaced.
    """

    def __init__(self, handle: int, position: int, stop: int, *, read_at: ReadAt, reopen: Reopen) -> None:
        self._handle: int | None = handle
        self._position = position
        self._stop = stop
        self._read_at = read_at
        self._reopen = reopen

    async def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes."""
        if self._handle is None:
            self._handle = await self._reopen()
        chunk = await self._read_at(self._handle, self._position, min(size, self._stop - self._position))
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Move to an offset; the file is opened again if it was closed."""
        if self._handle is None:
            self._handle = await self._reopen()
        self._position = offset

    def abort(self) -> None:
        """Close the file."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)
