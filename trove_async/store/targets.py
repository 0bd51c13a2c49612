"""What a download writes: a file, which is replaced at the end, or a stream, which is written as it stands."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio.to_thread

from trove_async.cancellation import to_the_end
from trove_async.permissions import access_list_of, inherit
from trove_async.readiness import writable

if TYPE_CHECKING:
    import aiofiles.threadpool.binary

__all__ = ["FileTarget", "StreamTarget", "Target"]

R = TypeVar("R")

_NAME_LENGTH: Final = 60
"""The characters of a file's name that the name of its draft has too; a name has at most 255 bytes."""
_READER_INTERVAL: Final = 0.05


class Target(ABC):
    """What is written.

    Attributes:
        path: the file that is left behind if `discard` fails.
    """

    path: str

    def __init__(self, cleanup_timeout: float) -> None:
        self._cleanup_timeout = cleanup_timeout

    async def _step(self, work: Coroutine[Any, Any, R]) -> R:
        """Await work in a thread; a cancellation waits until it ends."""
        return await to_the_end(work, timeout=self._cleanup_timeout, leftover=f"a thread that writes {self.path!r}")

    async def _in_thread(self, function: Callable[[], R]) -> R:
        return await self._step(anyio.to_thread.run_sync(function))

    def write_whole(self, data: bytes, checkpoint: Callable[[], object]) -> bool:
        """Do everything in this thread, if that is possible; return False if nothing was done.

        Args:
            data: all that is written.
            checkpoint: called before the target changes; if it raises, nothing is left.
        """
        return False

    @abstractmethod
    async def open(self) -> None:
        """Open it for writing."""

    @abstractmethod
    async def write(self, chunk: bytes) -> None:
        """Write a chunk."""

    @abstractmethod
    async def publish(self) -> None:
        """Take in that everything was written."""

    @abstractmethod
    async def discard(self) -> None:
        """Close it, and remove what was not published."""


class FileTarget(Target):
    """A regular file: written under another name in its directory, and renamed at the end.

    Args:
        target: the path of the file, absolute; the file itself is no link.
        replaced: the state of the file if it exists. Mode, owner, group and access list stay as they are.
        complete: called in a thread with the path of the draft, before it gets its name.
    """

    def __init__(
        self,
        target: str,
        replaced: os.stat_result | None,
        cleanup_timeout: float,
        complete: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(cleanup_timeout)
        self._complete = complete
        directory, name = os.path.split(target)
        self.path = os.path.join(directory, f"{name[:_NAME_LENGTH]}.{token_hex(4)}.part")
        self._target = target
        self._replaced = replaced
        self._file: aiofiles.threadpool.binary.AsyncFileIO | None = None

    def write_whole(self, data: bytes, checkpoint: Callable[[], object]) -> bool:
        """Write the draft and rename it."""
        with self._naming_directory():
            file = FileIO(self.path, "x", opener=self._create)
        try:
            with file:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
            checkpoint()
            self._rename()
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            raise
        return True

    def _rename(self) -> None:
        if self._complete is not None:
            self._complete(self.path)
        os.replace(self.path, self._target)

    async def open(self) -> None:
        """Make the draft."""
        await self._step(self._open())

    async def _open(self) -> None:
        import aiofiles

        with self._naming_directory():
            self._file = await aiofiles.open(self.path, "xb", buffering=0, opener=self._create)

    @contextmanager
    def _naming_directory(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The user knows the directory, and not the name of the draft.
            raise OSError(error.errno, error.strerror, os.path.dirname(self._target)) from error

    def _create(self, path: str, flags: int) -> int:
        if self._replaced is None:
            return os.open(path, flags, 0o666)
        descriptor = os.open(path, flags, 0o600)
        try:
            inherit(descriptor, self._replaced, access_list_of(self._target))
        except BaseException:
            os.close(descriptor)
            os.unlink(path)
            raise
        return descriptor

    async def write(self, chunk: bytes) -> None:
        """Write a chunk to the draft."""
        await self._step(self._write(chunk))

    async def _write(self, chunk: bytes) -> None:
        assert self._file is not None
        left = memoryview(chunk)
        while left:
            left = left[await self._file.write(left) :]

    async def publish(self) -> None:
        """Rename the draft."""
        await self._step(self._publish())

    async def _publish(self) -> None:
        assert self._file is not None
        await self._file.close()
        await anyio.to_thread.run_sync(self._rename)

    async def discard(self) -> None:
        """Close the draft, and remove it if it was not renamed."""
        if self._file is not None:
            await self._file.close()
            with suppress(FileNotFoundError):
                await anyio.to_thread.run_sync(os.unlink, self.path)


class StreamTarget(Target):
    """A device, a pipe, or a descriptor of this process: there is no old content to keep, and no way back.

    Args:
        path: where it is.
        status: its state.
        descriptor: write to this open descriptor, from where it stands, and leave it open.
    """

    def __init__(
        self, path: str, status: os.stat_result, cleanup_timeout: float, *, descriptor: int | None = None
    ) -> None:
        super().__init__(cleanup_timeout)
        self.path = path
        self._is_fifo = stat.S_ISFIFO(status.st_mode)
        self._given = descriptor
        self._descriptor: int | None = None

    async def open(self) -> None:
        """Open it; wait until somebody reads a FIFO."""
        while True:
            await self._in_thread(self._open)
            if self._descriptor is not None:
                return
            # The system does not say when somebody opens a FIFO for reading.
            await asyncio.sleep(_READER_INTERVAL)

    def _open(self) -> None:
        if self._given is not None:
            self._descriptor = os.dup(self._given)
            return
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if not (self._is_fifo and error.errno == errno.ENXIO):  # nobody reads the FIFO yet
                raise

    async def write(self, chunk: bytes) -> None:
        """Write a chunk; wait while a pipe or terminal takes no more."""
        assert self._descriptor is not None
        descriptor = self._descriptor
        left = memoryview(chunk)
        while left:
            try:
                left = left[await self._in_thread(lambda left=left: os.write(descriptor, left)) :]  # type: ignore[misc]
            except BlockingIOError:
                await writable(descriptor)

    async def publish(self) -> None:
        """Close it, so that the reader of a pipe sees the end."""
        await self.discard()

    async def discard(self) -> None:
        """Close it."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            await anyio.to_thread.run_sync(os.close, descriptor)
