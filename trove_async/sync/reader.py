"""Reading an object without asyncio."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self, final

from trove_async import reader
from trove_async.portal import Portal
from trove_async.reader import caller_location
from trove_async.types import ObjectInfo

__all__ = ["ObjectReader"]


@final
class ObjectReader:
    """An object that is being read.

    Use it in ``with``, or read it to its end: both release its file or connection. So do an exception, `close`, and the
    garbage collector, which also issues a `ResourceWarning`.

    ``for chunk in reader`` yields chunks of up to 1 MiB. Positions are relative to the requested range: 0 is its
    first byte.
    """

    __slots__ = ("_async", "_portal")

    def __init__(self, portal: Portal, reader: reader.ObjectReader) -> None:
        self._portal = portal
        self._async = reader
        if reader._live:
            reader._opened_at = caller_location()

    @property
    def info(self) -> ObjectInfo:
        """The object; its size is that of the whole object, also if a range is read."""
        return self._async.info

    @property
    def start(self) -> int:
        """The offset in the object at which the range starts."""
        return self._async.start

    @property
    def stop(self) -> int:
        """The offset in the object at which the range ends."""
        return self._async.stop

    @property
    def size(self) -> int:
        """The total number of bytes that the reader reads; less than ``info.size`` for a range."""
        return self._async.size

    @property
    def closed(self) -> bool:
        """Whether the reader was closed, by its user or by a failure."""
        return self._async.closed

    @property
    def buffered(self) -> bool:
        """Whether all bytes are in memory, so that reading takes no I/O and nothing has to be closed."""
        return self._async.buffered

    def limit_memory(self, size: int) -> None:
        """Yield chunks of up to ``size`` bytes, and read about as much ahead: a slow consumer then costs little memory.

        Args:
            size: bytes, 1 to 1 MiB.
        """
        self._portal.run(self._async.limit_memory, size)

    def tell(self) -> int:
        """Return the position within the range."""
        return self._async.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position within the range; a position past its end is allowed, and reads ``b""``.

        Raises:
            ValueError: the position would be negative.
            ObjectChangedError: the object was replaced, so the requested bytes no longer exist.
        """
        return self._portal.call(self._async.seek, offset, whence)

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, fewer only at the end; with -1 all remaining bytes.

        Raises:
            ObjectChangedError: the connection broke, and the object was replaced before it was resumed.
            ChecksumError: the object was read completely and does not match its stored checksum.
            TransientError: the connection broke and could not be resumed.
        """
        return self._portal.call(self._async.read, size)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer until it is full or the range ends; return the number of bytes read."""
        return self._portal.call(self._async.readinto, buffer)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return self._portal.call(self._async.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def abort(self, because: str = "the reader is closed") -> None:
        """Close the reader at once, without waiting; reading it then raises `ClosedError`.

        So does a read that is in progress in another thread, when it ends.
        """
        self._portal.run(self._async.abort, because)

    def close(self) -> None:
        """Close the reader and release its file or connection; idempotent."""
        if self._async._live:
            self._portal.call(self._async.aclose)
        else:
            self._async.abort()  # there is nothing to release, and so no need for the loop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._portal.call(self._async.__aexit__, kind, error, traceback)

    def __del__(self) -> None:
        if hasattr(self, "_async") and self._async._live:
            last = [self._async]
            del self._async
            self._portal.post(last.clear)  # the reader is collected, and warns, in the thread of its loop

    def __repr__(self) -> str:
        return repr(self._async)
