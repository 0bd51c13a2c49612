"""Reading a large file, with several requests in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.protocol import EndOfFileError, Kind, pack_u32, pack_u64
from trove_async.drivers.sftp.remote_files import IN_FLIGHT
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
        self._asked: deque[tuple[int, Any]] = deque()
        self._asked_to = position
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
        file = self._fs.file(handle)
        step = file.channel.limits.read
        depth = max(1, IN_FLIGHT // step)
        while self._asked_to < self._stop and len(self._asked) < depth:
            length = min(step, self._stop - self._asked_to)
            self._asked.append((length, file.request(Kind.READ, pack_u64(self._asked_to), pack_u32(length))))
            self._asked_to += length
        if not self._asked:
            return b""
        length, answer = self._asked.popleft()
        try:
            chunk: bytes = await answer
        except EndOfFileError:
            return b""
        except DisconnectedError as error:
            self.abort()
            raise translated(error) from error
        except OSError as error:
            raise translated(error) from error
        if len(chunk) < length:  # some servers return less than was requested
            self._forget()
            self._asked_to = self._position + len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Move to an offset; the file is opened again if it was closed."""
        self._forget()
        self._position = self._asked_to = offset
        if self._handle is None:
            self._handle = await self._reopen()

    def _forget(self) -> None:
        """Drop what was read ahead."""
        for _, answer in self._asked:
            answer.cancel()
        self._asked.clear()
        self._unread = b""

    def abort(self) -> None:
        """Close the file without waiting for the answer."""
        self._forget()
        self._asked_to = self._position
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._fs.let_go(handle)
            self._on_close()

    async def aclose(self) -> None:
        """Close the file."""
        self._forget()
        self._asked_to = self._position
        if self._handle is not None:
            handle, self._handle = self._handle, None
            try:
                await self._fs.close(handle)
            finally:
                self._on_close()
