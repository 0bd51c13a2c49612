"""Reading a large file, with several requests on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.filesystem import IN_FLIGHT, SFTPFileSystem
from trove_async.drivers.sftp.protocol import EndOfFileError, Kind, pack_u32, pack_u64
from trove_async.reader import ByteStream

__all__ = ["RemoteStream"]


class RemoteStream(ByteStream):
    """An open file. It stays the object that was opened, also when another takes its place.

    Args:
        fs: where it is open.
        handle: the file's handle.
        position: where to begin.
        stop: where to end.
        reopen: opens the same object again, or raises if it was replaced.
        on_close: called when the handle is given back.
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
        self._rest = b""

    async def read(self, size: int) -> bytes:
        """Read up to ``size`` bytes: what the next answer holds."""
        if self._handle is None:
            self._handle = await self._reopen()
        if not self._rest:
            self._rest = await self._next(self._handle)
        chunk = self._rest if len(self._rest) <= size else self._rest[:size]
        self._rest = self._rest[len(chunk) :]
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
        if len(chunk) < length:  # some servers return less than they are asked for
            self._forget()
            self._asked_to = self._position + len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Go to an offset; the file is opened again if it was closed."""
        self._forget()
        self._position = self._asked_to = offset
        if self._handle is None:
            self._handle = await self._reopen()

    def _forget(self) -> None:
        """Drop what was read ahead."""
        for _, answer in self._asked:
            answer.cancel()
        self._asked.clear()
        self._rest = b""

    def abort(self) -> None:
        """Close the file, without waiting for the server to say so."""
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
