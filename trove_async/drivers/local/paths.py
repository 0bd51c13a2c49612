"""The directories of a local file system, and the names in them, by the handles of directories."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from itertools import islice

from trove_async.drivers.local.descriptors import Descriptors
from trove_async.drivers.local.errors import FlushError
from trove_async.drivers.local.files import UNSUPPORTED
from trove_async.drivers.local.flushing import Flush
from trove_async.drivers.local.handles import DIRECTORY, Directory, Handles
from trove_async.tree import DirEntry, FileSystem
from trove_async.tree.filesystem import MOST_NAMES, TakeNames

__all__ = ["LocalPaths"]


_Entries = AbstractContextManager[Iterator[os.DirEntry[str]]]


class LocalPaths(FileSystem):
    """What a tree does with paths: the part of `LocalFileSystem` that needs no file to be open.

    Args:
        base, internal: the paths of the root, without a slash at its end, and of ``.trove``.
        durable: whether to flush directories to the disk.
        skip_unreadable: whether directories that the process may not read are empty for it; otherwise they are errors.

    Attributes:
        handles: the open directories.
        descriptors: what to do when too many files are open.
    """

    def __init__(self, base: str, internal: str, *, durable: bool, skip_unreadable: bool) -> None:
        self._skip_unreadable = skip_unreadable
        self._flushes_directories = durable
        self._unflushed: list[str] = []  # new directories that a power cut may remove; once for each call of `mkdir`
        self.handles = Handles(base, internal)
        self._directory = self.handles.directory
        self._parent = self.handles.parent
        self.descriptors = Descriptors(self.handles.release)

    @property
    def confined(self) -> bool:
        """True: every path is resolved from the handle of a directory, without links."""
        return True

    async def lstat(self, path: str) -> os.stat_result | None:
        """Return the status of a file, None if it does not exist."""
        try:
            directory, name = self._parent(path)
            return os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            return await self.descriptors.retry(error, self.lstat, path)

    async def statuses(self, directory: str, names: Sequence[str]) -> Sequence[os.stat_result | None]:
        """Return the status of each of these files in a directory, None for those that do not exist."""
        try:
            opened = self._directory(directory)
        except (FileNotFoundError, NotADirectoryError):
            return [None] * len(names)
        except OSError as error:
            return await self.descriptors.retry(error, self.statuses, directory, names)
        found: list[os.stat_result | None] = []
        for name in names:
            try:
                found.append(os.stat(name, dir_fd=opened.descriptor, follow_symlinks=False))
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
        return found

    async def is_directory(self, path: str) -> bool:
        """Return whether the path is a directory.

        Operations that wait at the same time share one check: a result is valid for every operation that was requested
        before the check.
        """
        try:
            self._directory(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            return await self.descriptors.retry(error, self.is_directory, path)
        return True

    async def exists(self, path: str) -> bool:
        """Return whether anything has this name."""
        try:
            directory, name = self._parent(path)
            return os.access(name, os.F_OK, dir_fd=directory.descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            return await self.descriptors.retry(error, self.exists, path)

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory."""
        with await self._entries(path) as entries:
            for entry in entries:
                yield DirEntry(entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))

    async def read_names(self, path: str, take: TakeNames) -> None:
        """Read the names in a directory."""
        with await self._entries(path) as entries:
            while some := list(islice(entries, MOST_NAMES)):
                files = [entry.name for entry in some if entry.is_file(follow_symlinks=False)]
                directories: list[str] = []
                if len(files) < len(some):
                    directories = [entry.name for entry in some if entry.is_dir(follow_symlinks=False)]
                await take(files, directories, None)

    async def _entries(self, path: str) -> _Entries:
        """Open a directory; one that does not exist has no entries."""
        directory: Directory | None = None
        try:
            directory = self.handles.readable(path)
            return os.scandir(directory.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return nullcontext(iter(()))
        except PermissionError as error:
            if self._skip_unreadable:
                return nullcontext(iter(()))
            raise PermissionError(error.errno, f"the directory {path!r} cannot be read", path) from error
        except OSError as error:
            directory = None  # nothing stays open while it waits
            return await self.descriptors.retry(error, self._entries, path)

    async def mkdir(self, path: str) -> None:
        """Create a directory."""
        self._unflushed.append(path)  # first: others may use it as soon as it exists
        try:
            await self._mkdir(path)
        except BaseException:
            self._unflushed.remove(path)
            raise
        try:
            await self.sync_directory(path.rpartition("/")[0])
        except FlushError as error:
            if await self.rmdir(path):
                self._unflushed.remove(path)
            raise OSError(error.errno, error.strerror) from error
        self._unflushed.remove(path)

    async def _mkdir(self, path: str) -> None:
        try:
            directory, name = self._parent(path)
            os.mkdir(name, dir_fd=directory.descriptor)
        except FileNotFoundError:
            self.handles.forget(path.rpartition("/")[0])
            raise
        except OSError as error:
            await self.descriptors.retry(error, self._mkdir, path)

    async def rmdir(self, path: str) -> bool:
        """Remove an empty directory."""
        try:
            directory, name = self._parent(path)
            os.rmdir(name, dir_fd=directory.descriptor)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                return False
            return await self.descriptors.retry(error, self.rmdir, path)
        self.handles.forget(path)
        return True

    async def unlink(self, path: str) -> bool:
        """Remove a file."""
        try:
            directory, name = self._parent(path)
            os.unlink(name, dir_fd=directory.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            return await self.descriptors.retry(error, self.unlink, path)
        return True

    async def rename(self, source: str, target: str) -> None:
        """Rename a file over another, or a directory."""
        await self._with_both(source, target, os.rename)
        self.handles.forget(source)

    async def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        await self._with_both(source, target, partial(os.link, follow_symlinks=False))

    async def _with_both(self, source: str, target: str, call: Callable[..., None]) -> None:
        try:
            directory, name = self._parent(source)
            new_directory, new_name = self._parent(target)
            call(name, new_name, src_dir_fd=directory.descriptor, dst_dir_fd=new_directory.descriptor)
        except FileNotFoundError:
            self.handles.forget(target.rpartition("/")[0])
            raise
        except OSError as error:
            await self.descriptors.retry(error, self._with_both, source, target, call)

    async def sync_directory(self, path: str) -> None:
        """Flush a directory to the disk, if the store is durable and the file system can."""
        if self._flushes_directories:
            await self._sync_directory(path)
            # Another operation may have made a directory on the way, and its flush may not have ended, or have failed.
            while path and self._unflushed:
                above = path.rpartition("/")[0]
                if path in self._unflushed:
                    await self._sync_directory(above)
                path = above

    async def _sync_directory(self, path: str) -> None:
        try:
            await self._wait_for(Flush(self._flush_directory, path, shared=True))
        except (FileNotFoundError, NotADirectoryError):
            pass  # it was removed, so there is nothing to flush
        except OSError as error:
            try:
                await self.descriptors.retry(error, self._flush_directory_now, path)
            except OSError as failure:  # also if it cannot be opened: what was changed may be lost
                raise FlushError(failure.errno, failure.strerror) from failure

    async def _wait_for(self, flush: Flush) -> None:
        number = self.handles.number
        await flush
        # As if the operation had made the flush itself: it trusts the same handles, in whichever thread it goes on.
        self.handles.begin(number)

    def _flush_directory(self, path: str) -> None:
        descriptor = self.handles.open(path, DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, *UNSUPPORTED):
                raise FlushError(error.errno, error.strerror) from error
            self._flushes_directories = False
        finally:
            os.close(descriptor)

    async def _flush_directory_now(self, path: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            self._flush_directory(path)
