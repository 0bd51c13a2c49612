"""Reading a large file in chunks, each in a thread."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from trove_async.errors import ClosedError
from trove_async.reader import ByteStream

__all__ = ["FileStream"]

ReadAt = Callable[[int, int, int], Awaitable[bytes]]
Reopen = Callable[[], Awaitable[int]]


class FileStream(ByteStream):
    """An open file. It stays the object that was opened, also when another takes its place.

    Args:
        handle: the file's descriptor.
        position: where to begin.
        stop: where to end.
        read_at: reads so many bytes at a position of a descriptor, off the loop.
        reopen: opens the same object again, or raises if it was replaced.
    """

    def __init__(self, handle: int, position: int, stop: int, *, read_at: ReadAt, reopen: Reopen) -> None:
        self._handle: int | None = handle
        self._position = position
        self._stop = stop
        self._read_at = read_at
        self._reopen = reopen
        self._busy = False
        self._aborted = False

    async def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes."""
        with self._in_use():
            if self._handle is None:
                self._handle = await self._reopen()
            chunk = await self._read_at(self._handle, self._position, min(size, self._stop - self._position))
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Go to an offset; the file is opened again if it was closed."""
        with self._in_use():
            if self._handle is None:
                self._handle = await self._reopen()
        self._position = offset

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the file open while a thread works with it: its number would be the next file's that is opened."""
        self._busy, self._aborted = True, False
        try:
            yield
            if self._aborted:
                raise ClosedError("the reader was closed while it was being read")
        finally:
            self._busy = False
            if self._aborted:
                self._close()

    def abort(self) -> None:
        """Close the file; while it is being read, as soon as that is over."""
        self._aborted = True
        if not self._busy:
            self._close()

    def _close(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)
