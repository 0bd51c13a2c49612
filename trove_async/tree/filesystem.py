"""The operations that a tree needs from a file system, which a local disk and an SFTP server both have.

They are coroutines because a network needs that. Those of a local file system never wait, so `run_sync` runs a whole
algorithm in one call in a worker thread.
"""

from __future__ import annotations

import stat
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from trove_async.body import Chunk

__all__ = [
    "Checkpoint",
    "DirEntry",
    "Directories",
    "FileSystem",
    "Reading",
    "Stat",
    "TakeNames",
    "Temporary",
    "is_dir",
    "is_file",
    "run_sync",
]

R = TypeVar("R")

Checkpoint = Callable[[], None]
"""An operation calls it right before it commits; it raises if the caller was cancelled."""

Reading = Callable[[], AbstractContextManager[None]]
"""Makes the context in which the source of a copy is read; it may mark the errors."""

MOST_NAMES: Final = 1024
"""How many names `FileSystem.read_names` passes at once at most."""
_SETTLED_NS: Final = 50_000_000
"""A directory that changed more recently than this may change again within the same tick of its clock."""


class Stat(Protocol):
    """The status of a file; `os.stat_result` is one."""

    @property
    def st_mode(self) -> int:
        """Kind and permissions."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def st_ino(self) -> int:
        """A number that no other existing file has."""

    @property
    def st_mtime_ns(self) -> int:
        """When it was last modified, in nanoseconds since the epoch."""


class TakeNames(Protocol):
    """What `FileSystem.read_names` calls."""

    def __call__(self, files: list[str], directories: list[str], statuses: Sequence[Stat] | None, /) -> Awaitable[None]:
        """Take some of the names in a directory.

        Args:
            files, directories: the names; those of symbolic links and of special files are left out.
            statuses: of the files, in the same order; None where reading the directory does not return them.
        """


class DirEntry(NamedTuple):
    """An entry of a directory; symbolic links are neither file nor directory.

    Attributes:
        status: where reading the directory returns it; None where it takes another call.
    """

    name: str
    is_dir: bool
    is_file: bool
    status: Stat | None = None


@dataclass(slots=True)
class Temporary:
    """A file that is being written and is not an object yet.

    Attributes:
        handle: for writing and reading.
        path: None if it has no name; closing it then removes it.
        committed: True once it is at its object's path.
        kept: whether `FileSystem.discard` leaves it where it is: it is a part of an upload.
    """

    handle: int
    path: str | None = None
    committed: bool = False
    kept: bool = False


def is_file(status: Stat | None) -> bool:
    """Return whether it is a regular file."""
    return status is not None and stat.S_ISREG(status.st_mode)


def is_dir(status: Stat | None) -> bool:
    """Return whether it is a directory."""
    return status is not None and stat.S_ISDIR(status.st_mode)


class Directories(Protocol):
    """The operations that removing a directory needs; `FileSystem` has them."""

    def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory."""

    async def unlink(self, path: str) -> bool:
        """Remove a file."""

    async def rmdir(self, path: str) -> bool:
        """Remove a directory."""


class FileSystem(ABC):
    """A file system. Paths are absolute; handles are what `open` and `create` return.

    Errors are `OSError` and its subclasses.
    """

    @abstractmethod
    async def lstat(self, path: str) -> Stat | None:
        """Return the status of a file, None if there is none. Links are not followed."""

    async def statuses(self, directory: str, names: Sequence[str]) -> Sequence[Stat | None]:
        """Return the status of each of these files in a directory, None for those that do not exist."""
        return [await self.lstat(f"{directory}/{name}") for name in names]

    @property
    def confined(self) -> bool:
        """Whether no operation follows a symbolic link below the root, at the end of a path or on the way.

        Otherwise each directory on the way has to be checked before a path is used.
        """
        return False

    async def is_directory(self, path: str) -> bool:
        """Return whether the path was a directory at some moment since the current operation was requested."""
        return is_dir(await self.lstat(path))

    @abstractmethod
    async def exists(self, path: str) -> bool:
        """Return whether anything has this name; fast for names that are usually missing."""

    @abstractmethod
    async def open(self, path: str) -> tuple[int, Stat] | None:
        """Open a regular file for reading: its handle and status; None if there is none. Links are not followed."""

    @abstractmethod
    async def create(self, path: str) -> int:
        """Create a file in an existing directory and open it for writing.

        Raises:
            FileExistsError: the file exists.
        """

    @abstractmethod
    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Create a temporary file with some content, open for reading and further writing."""

    @abstractmethod
    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Move a temporary to its path, atomically.

        Args:
            temporary: is `Temporary.committed` afterwards.
            path: in an existing directory.
            replace: whether the path is a file already. If False and the path exists, it may be replaced or not.

        Raises:
            FileExistsError: the path exists although ``replace`` is False.
            FileNotFoundError: the directory is missing.
            IsADirectoryError: the path is that of a directory.
        """

    async def inherit(self, handle: int, fresh: Stat, path: str, replaced: Stat) -> None:
        """Give a file the permissions of another one that it is about to replace; at no moment it has more.

        Args:
            handle, fresh: of the new file.
            path, replaced: of the other file.
        """

    @abstractmethod
    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove it unless it was committed or is kept."""

    async def keep(self, temporary: Temporary, path: str) -> None:
        """Have `discard` leave a file where it is now."""
        temporary.path, temporary.kept = path, True

    @abstractmethod
    async def open_claimed(self, path: str, name: str) -> tuple[Temporary, Stat] | None:
        """Open a file for reading and appending, `claim` it, and return its status; None if there is none.

        It is kept where it is.

        Raises:
            ConflictError: it is claimed.
        """

    @abstractmethod
    async def claim(self, temporary: Temporary, name: str) -> None:
        """Exclude others that claim a file, in this process and others, until it is discarded.

        Args:
            temporary: the file.
            name: the same path for all that claim this file, whatever it is called meanwhile.

        Raises:
            ConflictError: it is claimed.
        """

    def owns(self, status: Stat) -> bool:
        """Return whether a file can become an object as if this process had written it."""
        return True

    @abstractmethod
    async def truncate(self, handle: int, size: int) -> None:
        """Cut an open file; what is written next is appended at its end."""

    @abstractmethod
    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end of the file."""

    @abstractmethod
    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks, at most a thousand."""

    @abstractmethod
    async def copy_data(
        self,
        source: int,
        target: int,
        checkpoint: Callable[[], None],
        reading: Reading = nullcontext,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> None:
        """Append a file to another; where possible its bytes do not pass through this process.

        Args:
            source, target: handles.
            checkpoint: called between steps; it raises to stop the copy.
            reading: makes a context manager for each step that only reads the source.
            offset, length: of the bytes of the source, which has them; all from the offset on by default.

        Raises:
            OSError: the target did not grow by that many bytes; with EIO, unless the cause is known.
        """

    @abstractmethod
    async def set_time(self, handle: int, mtime_ns: int) -> Stat:
        """Set the time of an open file, and return its status."""

    @abstractmethod
    async def sync(self, handle: int) -> None:
        """Flush an open file to the disk, if the store is durable."""

    @abstractmethod
    async def close(self, handle: int) -> None:
        """Close a handle."""

    @abstractmethod
    async def get_attribute(self, handle: int) -> bytes | None:
        """Return the extended attribute of an open file, None if it has none."""

    @abstractmethod
    async def set_attribute(self, handle: int, value: bytes) -> bool:
        """Set the extended attribute of an open file; False if it does not fit or is not supported."""

    @property
    @abstractmethod
    def has_attributes(self) -> bool:
        """Whether files have extended attributes."""

    @abstractmethod
    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small internal file; None if there is none."""

    @abstractmethod
    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small internal file, atomically and durably; create its directory if it is missing."""

    @abstractmethod
    def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory, in any order; nothing if there is no directory.

        The directory stays open during the scan: a caller that may stop early uses `contextlib.aclosing`.
        """

    async def read_names(self, path: str, take: TakeNames) -> None:
        """Read the names in a directory, in any order, up to a thousand at a time; nothing if there is no directory."""
        found: list[DirEntry] = []
        async with aclosing(self.scan(path)) as scan:
            async for entry in scan:
                found.append(entry)
                if len(found) == MOST_NAMES:
                    await _pass(found, take)
                    found.clear()
        await _pass(found, take)

    async def compute(self, work: Callable[[], R]) -> R:
        """Call a function that takes long and does not use the file system, where it keeps no event loop waiting."""
        return work()

    @property
    def grain_ns(self) -> int:
        """The steps in nanoseconds in which the times of files are stored: 1 where they are exact."""
        return 1

    @property
    def uses_tokens(self) -> bool:
        """Whether the ETag of an object needs a token that is stored with it.

        It does where inode, time and size do not identify a generation: where times are coarse, so two generations may
        have the same ones, and where a file cannot have two names, so a version is kept by copying it.
        """
        return False

    def settled(self, mtime_ns: int, elapsed_ns: int = 0) -> bool:
        """Return whether the last change of a file or directory is long enough ago for its time to be proof.

        If True, what was read ``elapsed_ns`` ago or later, and has the same time afterwards, did not change in between.
        """
        return time.time_ns() - elapsed_ns - mtime_ns >= max(_SETTLED_NS, 2 * self.grain_ns)

    @abstractmethod
    async def mkdir(self, path: str) -> None:
        """Create a directory, durably.

        Raises:
            FileExistsError: something has this name.
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
        """Flush the entries of a directory to the disk, if the store is durable."""

    @abstractmethod
    def temporary(self) -> str:
        """Return a new path for a temporary file or directory on the same file system.

        Its directory exists; leftovers in it are swept after this process has ended.
        """

    @property
    def locks_commits(self) -> bool:
        """Whether commits take the `lock` of their key, so that `lock_bucket` excludes them."""
        return False

    @abstractmethod
    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return a lock of the store that excludes all its users, in this process and others.

        An operation that holds a lock takes no other one.
        """

    @abstractmethod
    def lock_bucket(self, bucket: str) -> AbstractAsyncContextManager[None]:
        """Return a lock for creating, deleting or configuring a bucket.

        It excludes other changes of the bucket, and commits to it if commits take the `lock` of their key. Others may
        wait meanwhile, so hold it for a few file operations only.
        """


async def _pass(entries: Sequence[DirEntry], take: TakeNames) -> None:
    files = [entry for entry in entries if entry.is_file]
    statuses = [entry.status for entry in files if entry.status is not None]
    await take(
        [entry.name for entry in files],
        [entry.name for entry in entries if entry.is_dir],
        statuses if len(statuses) == len(files) else None,
    )


def run_sync(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that never waits, and return what it returns.

    The operations of a local disk return at once, so an algorithm built from them is an ordinary function call, which a
    worker thread can make.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    work.close()
    raise RuntimeError("an operation of a local file system waited for the event loop")
