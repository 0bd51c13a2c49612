"""Reading a large file, with several requests in flight."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.reads import IN_FLIGHT, Reads
from trove_async.reader import ByteStream

__all__ = ["RemoteStream"]


class RemoteStream(ByteStream):
    """An open file. It stays the object that was opened, also when that is replaced.

    Args:
        fs: of the tree.
        handle: the file's handle.
        position: where to begin.
        stop: where to end.
        reopen: opens the same object again, or raises if it was replaced.
        on_close: called when the handle is closed.
    """

    def __init__(
        self,
        fs: SFTPFileSystem,
        handle: int,
        position: int,
        stop: int,
        *,
        reopen: Callable[[], Awaitable[int]],
        on_close: Callable[[], object],
    ) -> None:
        self._fs = fs
        self._handle: int | None = handle
        self._position = position
        self._stop = stop
        self._reopen = reopen
        self._on_close = on_close
        self._reads: Reads | None = None
        self._in_flight = IN_FLIGHT
        self._unread = b""

    async def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes: what the next answer contains."""
        if self._handle is None:
            self._handle = await self._reopen()
        if not self._unread:
            self._unread = await self._next(self._handle)
        chunk = self._unread if len(self._unread) <= size else self._unread[:size]
        self._unread = self._unread[len(chunk) :]
        self._position += len(chunk)
        return chunk

    async def _next(self, handle: int) -> bytes:
        try:
            if self._reads is None:
                self._reads = Reads(self._fs.file(handle), self._position, self._stop, self._in_flight)
            return await self._reads.next()
        except DisconnectedError as error:
            self.abort()
            raise translated(error) from error
        except OSError as error:
            raise translated(error) from error

    async def seek(self, offset: int) -> None:
        """Move to an offset; the file is opened again if it was closed."""
        self._forget()
        self._position = offset
        if self._handle is None:
            self._handle = await self._reopen()

    def _forget(self) -> None:
        """Drop what was read ahead."""
        if self._reads is not None:
            self._reads.forget()
            self._reads = None
        self._unread = b""

    def limit_memory(self, size: int) -> None:
        """Request fewer bytes at a time."""
        self._in_flight = min(size, IN_FLIGHT)

    def abort(self) -> None:
        """Close the file without waiting for the answer."""
        self._forget()
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._fs.let_go(handle)
            self._on_close()

    async def aclose(self) -> None:
        """Close the file."""
        self._forget()
        if self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                await self._fs.close(handle)
            finally:
                self._on_close()
