"""What a tree needs of a file system: few operations, which a local disk and an SFTP server both have.

They are coroutines, because over a network they have to be. A local file system's never wait: there
`run_sync` carries a whole algorithm out within one thread hop.
"""

from __future__ import annotations

import stat
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from trove_async.body import Chunk

__all__ = ["DirEntry", "FileSystem", "Stat", "Temporary", "is_dir", "is_file", "run_sync"]

R = TypeVar("R")

_SETTLED_NS: Final = 50_000_000
"""A directory that changed later than this before it was read may change again within the same tick of its clock."""


class Stat(Protocol):
    """What is known of a file, as of `os.stat_result`."""

    @property
    def st_mode(self) -> int:
        """Kind and permissions."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def st_ino(self) -> int:
        """Another number for each file that exists."""

    @property
    def st_mtime_ns(self) -> int:
        """When it was last modified, in nanoseconds of the epoch."""


class DirEntry(NamedTuple):
    """An entry of a directory; symbolic links are neither file nor directory.

    Attributes:
        status: where reading a directory tells it anyhow; None where it would have to be asked for.
    """

    name: str
    is_dir: bool
    is_file: bool
    status: Stat | None = None


@dataclass(slots=True)
class Temporary:
    """A file that is being written, and is no object yet.

    Attributes:
        handle: for writing and reading.
        path: None if it has no name, and goes by itself when it is closed.
        committed: True once it has its place.
    """

    handle: int
    path: str | None = None
    committed: bool = False


def is_file(status: Stat | None) -> bool:
    """Tell whether it is a regular file."""
    return status is not None and stat.S_ISREG(status.st_mode)


def is_dir(status: Stat | None) -> bool:
    """Tell whether it is a directory."""
    return status is not None and stat.S_ISDIR(status.st_mode)


class FileSystem(ABC):
    """A file system. Paths are absolute; handles are what `open` and `create` return.

    Errors are `OSError` and its subclasses.
    """

    @abstractmethod
    async def lstat(self, path: str) -> Stat | None:
        """Return the status of a file, None if there is none. Links are not followed."""

    async def is_directory(self, path: str) -> bool:
        """Tell whether there is a directory, as it was at any moment since the operation under way was asked for."""
        return is_dir(await self.lstat(path))

    @abstractmethod
    async def exists(self, path: str) -> bool:
        """Tell whether there is anything of that name; for names that mostly are not there."""

    @abstractmethod
    async def open(self, path: str) -> tuple[int, Stat] | None:
        """Open a regular file for reading: its handle and status; None if there is none. Links are not followed."""

    @abstractmethod
    async def create(self, path: str) -> int:
        """Make a new file and open it for writing; its directory is there.

        Raises:
            FileExistsError: there is one.
        """

    @abstractmethod
    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Make a file that has no place yet, with some content, open for writing more and for reading."""

    @abstractmethod
    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Give a temporary its place, atomically.

        Args:
            temporary: is `Temporary.committed` afterwards.
            path: its directory is there.
            replace: whether a file is there already. If not, and one is there after all, it may be replaced or not.

        Raises:
            FileExistsError: something is there that ``replace`` denies.
            FileNotFoundError: the directory is missing.
            IsADirectoryError: the path is that of a directory.
        """

    @abstractmethod
    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove it unless it was committed."""

    @abstractmethod
    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end of the file."""

    @abstractmethod
    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append all of some chunks, a thousand at most."""

    @abstractmethod
    async def copy_data(self, source: int, target: int, checkpoint: Callable[[], None]) -> None:
        """Append a whole file to another, without its bytes passing through this process where that can be.

        ``checkpoint`` is called now and then; it raises to stop the copy.
        """

    @abstractmethod
    async def set_time(self, handle: int, mtime_ns: int) -> Stat:
        """Set the time of an open file, and return its status."""

    @abstractmethod
    async def sync(self, handle: int) -> None:
        """Make an open file's content durable, where the store is to be."""

    @abstractmethod
    async def close(self, handle: int) -> None:
        """Close a handle."""

    @abstractmethod
    async def get_attribute(self, handle: int) -> bytes | None:
        """Return the extended attribute of an open file, None if it has none."""

    @abstractmethod
    async def set_attribute(self, handle: int, value: bytes) -> bool:
        """Set the extended attribute of an open file; False if it does not fit, or files have none here."""

    @property
    @abstractmethod
    def has_attributes(self) -> bool:
        """Tell whether files have extended attributes here."""

    @abstractmethod
    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small file of ours; None if there is none."""

    @abstractmethod
    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small file of ours, atomically and durably; make its directory if need be."""

    @abstractmethod
    def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory in any order; there may be very many. None if there is no directory.

        It holds the directory open: whoever may leave it before its end closes it (`contextlib.aclosing`).
        """

    def settled(self, mtime_ns: int) -> bool:
        """Tell whether a directory that changed at a time did so long enough ago.

        If it is read now, and has that time later on too, then nothing in it has changed in between.
        """
        return time.time_ns() - mtime_ns >= _SETTLED_NS

    @abstractmethod
    async def mkdir(self, path: str) -> None:
        """Make a directory, durably.

        Raises:
            FileExistsError: there is something of that name.
            FileNotFoundError: its parent is missing.
        """

    @abstractmethod
    async def rmdir(self, path: str) -> bool:
        """Remove a directory; False if it is not empty, or there is none."""

    @abstractmethod
    async def unlink(self, path: str) -> bool:
        """Remove a file; False if there is none."""

    @abstractmethod
    async def rename(self, source: str, target: str) -> None:
        """Rename a file, replacing another, atomically."""

    @abstractmethod
    async def link(self, source: str, target: str) -> None:
        """Give a file a second name.

        Raises:
            FileExistsError: the target exists.
        """

    @abstractmethod
    async def sync_directory(self, path: str) -> None:
        """Make what was done to the entries of a directory durable."""

    @abstractmethod
    def temporary(self) -> str:
        """Return a path of its own for something that is being written, on the same file system.

        Its directory is there. What is left in it is swept once this process is gone.
        """

    @abstractmethod
    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Hold a lock of the store, against all its users in this process and others."""


def run_sync(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never waits, and return what it returns.

    This is how one text of the algorithms serves a local disk too: its operations return at once, so that
    a chain of them is an ordinary function call, made in a worker thread.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    work.close()
    raise RuntimeError("an operation of a local file system waited for the event loop")
