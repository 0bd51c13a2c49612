"""The local file system, as a tree needs it. Nothing here waits for the event loop: see `run_sync`."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from itertools import count
from typing import Final

from trove_async.body import Chunk
from trove_async.drivers.local.copying import append_file
from trove_async.drivers.local.descriptors import Descriptors
from trove_async.drivers.local.errors import FlushError
from trove_async.drivers.local.files import (
    ATTRIBUTE,
    CREATE,
    NAMELESS,
    UNSUPPORTED,
    access_list_at,
    can_be_nameless,
    has_attributes,
    link_nameless,
    write_all,
)
from trove_async.drivers.local.handles import DIRECTORY, Directory, Handles
from trove_async.drivers.local.internal import Internal
from trove_async.drivers.local.locks import Locks
from trove_async.drivers.local.times import EXACT_NS, FileTimes, probe_links, probe_times
from trove_async.errors import ClosedError, UnsupportedError
from trove_async.permissions import inherit
from trove_async.tree import DirEntry, FileSystem, Temporary
from trove_async.tree.filesystem import Reading, Stat, is_dir
from trove_async.tree.layout import Layout

__all__ = ["LocalFileSystem"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PERMISSIONS: Final = 0o777
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR})
_DOES_NOT_FIT: Final = frozenset({errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EDQUOT, *UNSUPPORTED})


_open: weakref.WeakSet[LocalFileSystem] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child inherits the lock file. If it kept that open, the locks of a killed parent would still be held.
    for fs in list(_open):
        fs.forget_locks()


os.register_at_fork(after_in_child=_forget_in_child)


class LocalFileSystem(FileSystem):
    """A directory of this machine.

    Args:
        layout: the paths of the store.
        durable: whether to flush what is written to the disk; otherwise the system decides when.
        skip_unreadable: whether directories that the process may not read are empty for it; otherwise they are errors.

    Attributes:
        handles: the open directories.
        locks: of the store.
        descriptors: what to do when too many files are open.
    """

    def __init__(self, layout: Layout, *, durable: bool, skip_unreadable: bool = False) -> None:
        self._layout = layout
        self._skip_unreadable = skip_unreadable
        self._durable = durable
        self._numbers = count()
        self._base = layout.root if layout.root != "/" else ""
        self.handles = Handles(self._base, layout.internal)
        self._directory = self.handles.directory
        self._parent = self.handles.parent
        self.locks = Locks()
        self.descriptors = Descriptors(self.handles.release)
        self._internal = Internal(layout, self.handles, self.locks.file)
        self._scratch: str | None = None
        self._has_attributes = True
        self._has_nameless = False
        self.check_root = self._internal.check_root
        self._has_links = True
        self._times = FileTimes()
        self._uses_tokens = False
        self._writing: set[int] = set()  # the handles of temporaries
        self._private: set[int] = set()  # those that have names, and not yet the mode of their object
        self._mode_of_new: int | None = None
        self._flushes_directories = durable
        _open.add(self)

    # Life

    def open_root(self) -> int:
        """Check and create the internal directories, and sweep temporaries of ended processes.

        Returns how many directories of temporaries were swept.
        """
        swept = self._internal.open()
        if self._internal.scratch is not None:
            self._use_scratch()
        else:
            self._times = probe_times("", self._layout.root)
        return swept

    @property
    def has_scratch(self) -> bool:
        """Whether temporaries could be made when it was last tried; not so on a full disk or in a read-only root."""
        return self._scratch is not None

    def _use_scratch(self) -> str:
        """Use the directory of temporaries, and find out what the file system can do."""
        self._scratch = f"{self._layout.tmp}/{self._internal.scratch}"
        self._has_attributes = self._probe_attributes()
        self._has_nameless = self._probe_nameless()
        self._times = probe_times(self.temporary(), self._layout.tmp)
        self._has_links = probe_links(self.temporary())
        self._uses_tokens = self._times.grain_ns > EXACT_NS or not self._times.settable or not self._has_links
        self._check_distinguishes()
        return self._scratch

    def _check_distinguishes(self) -> None:
        if not self._has_attributes and not self._times.settable:
            raise UnsupportedError(
                f"the file system of {self._layout.root!r} stores neither extended attributes nor the time that is set "
                "for a file, so an object could not be distinguished from the one that it replaces; use another root"
            )

    def _need_scratch(self) -> str:
        """Make the directory of temporaries that could not be made when the root was opened."""
        if self._internal.root is None:
            raise ClosedError("the store is closed")
        if self._internal.directory is None:
            refusal = self._internal.refusal
            raise OSError(errno.EROFS, "the root was read-only when it was opened") from refusal
        self._internal.take_scratch()
        return self._use_scratch()

    def sweep_temporaries(self) -> int:
        """Remove the directories of temporaries that no running process has locked; return how many."""
        return self._internal.sweep() if self._internal.directory is not None else 0

    def create_private(self, name: str) -> int:
        """Create a file in ``.trove`` that only those may open who can write to the root."""
        if self._internal.directory is None:
            self._need_scratch()
        assert self._internal.directory is not None
        return self._internal.create_private(name, self._internal.directory)

    def _probe_attributes(self) -> bool:
        parent, name = self._parent(self.temporary())
        return has_attributes(name, parent.descriptor)

    def _probe_nameless(self) -> bool:
        parent, name = self._parent(self.temporary())
        return can_be_nameless(name, parent.descriptor)

    def close_root(self) -> None:
        """Remove the directory of temporaries, release the locks and close everything."""
        self._scratch = None
        self._internal.close()

    def forget_locks(self) -> None:
        """Close everything in a forked child; the parent still holds its locks."""
        self._scratch = None
        self._internal.forget()

    def __del__(self) -> None:
        if hasattr(self, "locks"):
            self.locks.file.close()

    # The operations of a tree

    @property
    def has_attributes(self) -> bool:
        """Whether the file system has user extended attributes."""
        return self._has_attributes

    @property
    def grain_ns(self) -> int:
        """The steps in which the file system stores times."""
        return self._times.grain_ns

    @property
    def uses_tokens(self) -> bool:
        """Whether times are too coarse to distinguish generations, or versions are copies."""
        return self._uses_tokens

    @property
    def keeps_versions(self) -> bool:
        """Whether an object can be kept as it is while another takes its place."""
        return self._has_links or self._times.settable

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

    async def open(self, path: str) -> tuple[int, os.stat_result] | None:
        """Open a regular file; None if there is none. This never blocks on a FIFO."""
        directory: Directory | None = None
        try:
            directory, name = self._parent(path)
            descriptor = os.open(name, _READ, dir_fd=directory.descriptor)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            directory = None  # nothing stays open while it waits
            return await self.descriptors.retry(error, self.open, path)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return descriptor, status
        os.close(descriptor)
        return None

    async def create(self, path: str) -> int:
        """Create a file."""
        directory: Directory | None = None
        try:
            directory, name = self._parent(path)
            return os.open(name, CREATE, 0o666, dir_fd=directory.descriptor)
        except OSError as error:
            directory = None
            return await self.descriptors.retry(error, self.create, path)

    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Create a file, without a name if the file system supports that: it needs no clean-up in a directory."""
        temporary = await self._create_temporary(self._scratch or self._need_scratch())
        try:
            write_all(temporary.handle, content)
        except BaseException:
            await self.discard(temporary)
            raise
        return temporary

    async def _create_temporary(self, scratch: str) -> Temporary:
        try:
            if len(self._writing) < self.descriptors.plenty:
                temporary = self._open_temporary(scratch)
            else:
                with self.descriptors.one_at_a_time:
                    self.descriptors.check()
                    temporary = self._open_temporary(scratch)
        except OSError as error:
            return await self.descriptors.retry(error, self._create_temporary, scratch)
        self._writing.add(temporary.handle)
        return temporary

    def _open_temporary(self, scratch: str) -> Temporary:
        directory = self._directory(scratch).descriptor
        if self._has_nameless:
            return Temporary(os.open(".", NAMELESS, 0o666, dir_fd=directory))
        name = str(next(self._numbers))
        temporary = Temporary(os.open(name, CREATE, 0o600, dir_fd=directory), f"{scratch}/{name}")
        self._private.add(temporary.handle)
        return temporary

    async def inherit(self, handle: int, fresh: Stat, path: str, replaced: Stat) -> None:
        """Give a file the mode, owner, group and access list of one that differs in mode, owner or group."""
        assert isinstance(fresh, os.stat_result)
        assert isinstance(replaced, os.stat_result)
        private = handle in self._private
        mode = await self._new_mode() if private else fresh.st_mode
        if (
            not (mode ^ replaced.st_mode) & _PERMISSIONS
            and fresh.st_gid == replaced.st_gid
            and fresh.st_uid == replaced.st_uid
        ):
            return
        inherit(handle, replaced, await self._access_list(path))
        self._private.discard(handle)
        if not private:
            await self.sync(handle)  # the mode that it had may be on the disk already

    async def _access_list(self, path: str) -> bytes | None:
        try:
            directory, name = self._parent(path)
            return access_list_at(name, directory.descriptor)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            return await self.descriptors.retry(error, self._access_list, path)

    async def _new_mode(self) -> int:
        """Return the mode of new files: what the umask leaves, or the access list of the directory."""
        if self._mode_of_new is None:
            path = self.temporary()
            handle = await self.create(path)
            try:
                self._mode_of_new = os.fstat(handle).st_mode & _PERMISSIONS
            finally:
                os.close(handle)
                await self.unlink(path)
        return self._mode_of_new

    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Link a file without a name to its path; rename one that has a name or replaces another file."""
        if temporary.handle in self._private:
            mode = await self._new_mode()
            with suppress(PermissionError):  # a file system without modes
                os.fchmod(temporary.handle, mode)
            self._private.discard(temporary.handle)
        try:
            directory, name = self._parent(path)
            if temporary.path is None and not replace:
                link_nameless(temporary.handle, name, directory.descriptor)
            else:
                if temporary.path is None:
                    draft = self.temporary()
                    scratch, draft_name = self._parent(draft)
                    link_nameless(temporary.handle, draft_name, scratch.descriptor)
                    temporary.path = draft
                else:
                    scratch, draft_name = self._parent(temporary.path)
                os.rename(draft_name, name, src_dir_fd=scratch.descriptor, dst_dir_fd=directory.descriptor)
        except FileNotFoundError:
            self.handles.forget(path.rpartition("/")[0])
            raise
        except OSError as error:
            await self.descriptors.retry(error, partial(self.publish, temporary, replace=replace), path)
        temporary.committed = True

    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove its name if it still has one."""
        self._writing.discard(temporary.handle)
        self._private.discard(temporary.handle)
        os.close(temporary.handle)
        if temporary.path is not None and not temporary.committed:
            with suppress(ClosedError):  # all temporaries were removed
                await self.unlink(temporary.path)

    async def close(self, handle: int) -> None:
        """Close a file."""
        os.close(handle)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read from an offset."""
        return os.pread(handle, size, offset)

    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks, with as few system calls as possible."""
        written = os.writev(handle, chunks)
        for chunk in chunks:
            if written < len(chunk):
                write_all(handle, memoryview(chunk)[written:])
            written = max(0, written - len(chunk))

    async def copy_data(
        self, source: int, target: int, checkpoint: Callable[[], None], reading: Reading = nullcontext
    ) -> None:
        """Share the blocks of the source if the file system can; otherwise copy them."""
        append_file(source, target, checkpoint, reading)

    async def get_attribute(self, handle: int) -> bytes | None:
        """Return the extended attribute of the library."""
        try:
            return os.getxattr(handle, ATTRIBUTE)
        except OSError as error:
            if error.errno == errno.ENODATA or error.errno in UNSUPPORTED:
                return None
            raise

    async def set_attribute(self, handle: int, value: bytes) -> bool:
        """Set the extended attribute of the library; False if it is too large."""
        try:
            os.setxattr(handle, ATTRIBUTE, value)
        except OSError as error:
            if error.errno in _DOES_NOT_FIT:
                return False
            raise
        return True

    async def set_time(self, handle: int, mtime_ns: int) -> os.stat_result:
        """Set access and modification time, where the file system allows it."""
        if self._times.settable:
            os.utime(handle, ns=(mtime_ns, mtime_ns))
        return os.fstat(handle)

    async def sync(self, handle: int) -> None:
        """Flush a file to the disk, if the store is durable."""
        if self._durable:
            try:
                os.fsync(handle)
            except OSError as error:
                if error.errno in (errno.EINVAL, *UNSUPPORTED):
                    reason = (
                        "the file system cannot flush files, so nothing can be stored durably; add ?fsync=0 to the DSN"
                    )
                    raise OSError(error.errno, reason) from error
                raise

    async def sync_directory(self, path: str) -> None:
        """Flush a directory to the disk, if the store is durable and the file system can."""
        if self._flushes_directories:
            with suppress(FileNotFoundError, NotADirectoryError):  # it was removed, so there is nothing to flush
                self._flush(await self._open_directory(path))

    def _flush(self, descriptor: int) -> None:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, *UNSUPPORTED):
                raise FlushError(error.errno, error.strerror) from error
            self._flushes_directories = False
        finally:
            os.close(descriptor)

    async def _open_directory(self, path: str) -> int:
        try:
            return self.handles.open(path, DIRECTORY)
        except OSError as error:
            return await self.descriptors.retry(error, self._open_directory, path)

    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small file."""
        directory: Directory | None = None
        try:
            directory, name = self._parent(path)
            descriptor = os.open(name, _READ, dir_fd=directory.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            directory = None
            return await self.descriptors.retry(error, self.read_file, path)
        with open(descriptor, "rb") as file:  # noqa: ASYNC230 - it runs in a worker thread
            return file.read()

    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small file, atomically."""
        temporary = self.temporary()
        try:
            handle = await self.create(temporary)
            try:
                write_all(handle, content)
                await self.sync(handle)
            finally:
                os.close(handle)
            try:
                await self.rename(temporary, path)
            except FileNotFoundError:
                await self._make_directories(path.rpartition("/")[0])
                await self.rename(temporary, path)
        except BaseException:
            await self.unlink(temporary)
            raise
        await self.sync_directory(path.rpartition("/")[0])

    async def _make_directories(self, path: str) -> None:
        if not is_dir(await self.lstat(path)):
            await self._make_directories(path.rpartition("/")[0])
            with suppress(FileExistsError):
                await self.mkdir(path)

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory."""
        try:
            entries = await self._entries(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except PermissionError as error:
            if self._skip_unreadable:
                return
            raise PermissionError(error.errno, f"the directory {path!r} cannot be read", path) from error
        with entries:
            for entry in entries:
                yield DirEntry(entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))

    async def _entries(self, path: str) -> os._ScandirIterator[str]:
        try:
            descriptor = self.handles.open(path, DIRECTORY)
            try:
                return os.scandir(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return await self.descriptors.retry(error, self._entries, path)

    async def mkdir(self, path: str) -> None:
        """Create a directory."""
        await self._mkdir(path)
        try:
            await self.sync_directory(path.rpartition("/")[0])
        except FlushError as error:
            await self.rmdir(path)
            raise OSError(error.errno, error.strerror) from error

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

    def temporary(self) -> str:
        """Return a new path in this store's directory of temporaries."""
        return f"{self._scratch or self._need_scratch()}/{next(self._numbers)}"

    @property
    def locks_commits(self) -> bool:
        """True."""
        return True

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return a stripe's lock, which excludes other operations of this process and other processes."""
        return self.locks.lock(stripe)

    def lock_bucket(self, bucket: str) -> AbstractAsyncContextManager[None]:
        """Return all locks as one, since the keys of all buckets share them."""
        return self.locks.lock_all()
