"""The local file system, as a tree needs it. Nothing here waits for the event loop: see `run_sync`."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from itertools import count
from typing import Final

from trove_async.body import Chunk
from trove_async.drivers.local.copying import append_file
from trove_async.drivers.local.files import (
    ATTRIBUTE,
    CREATE,
    NAMELESS,
    UNSUPPORTED,
    access_list_at,
    allow_owner,
    can_be_nameless,
    has_attributes,
    link_nameless,
    open_to_change,
    write_all,
    write_chunks,
)
from trove_async.drivers.local.flushing import Flush
from trove_async.drivers.local.handles import Directory
from trove_async.drivers.local.internal import Internal
from trove_async.drivers.local.locks import Locks
from trove_async.drivers.local.paths import LocalPaths
from trove_async.drivers.local.times import EXACT_NS, FileTimes, probe_links, probe_times
from trove_async.errors import ClosedError, ConflictError, UnsupportedError
from trove_async.lock_files import try_lock
from trove_async.permissions import inherit
from trove_async.tree import Temporary
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


class LocalFileSystem(LocalPaths):
    """A directory of this machine.

    Args:
        layout: the paths of the store.
        durable: whether to flush what is written to the disk; otherwise the system decides when.
        skip_unreadable: as for `LocalPaths`.

    Attributes:
        locks: of the store.
    """

    def __init__(self, layout: Layout, *, durable: bool, skip_unreadable: bool = False) -> None:
        base = layout.root if layout.root != "/" else ""
        super().__init__(base, layout.internal, durable=durable, skip_unreadable=skip_unreadable)
        self._layout = layout
        self._durable = durable
        self._numbers = count()
        self.locks = Locks()
        self._internal = Internal(layout, self.handles, self.locks.file)
        self._scratch: str | None = None
        self._has_attributes = True
        self._has_nameless = False
        self.check_root = self._internal.check_root
        self._has_links = True
        self._times = FileTimes()
        self._uses_tokens = False
        self._writing: set[int] = set()  # the handles of temporaries
        self._private: set[int] = set()  # those that have names, and get the mode of their object when it is published
        self._claimed: set[int] = set()  # those that are locked
        self._mode_of_new: int | None = None
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
        while self._claimed:
            os.close(self._claimed.pop())
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
        temporary = await self._open_for_writing(self._scratch or self._need_scratch(), self._open_temporary)
        try:
            write_all(temporary.handle, content)
        except BaseException:
            await self.discard(temporary)
            raise
        return temporary

    async def _open_for_writing(self, path: str, opener: Callable[[str], Temporary]) -> Temporary:
        try:
            if len(self._writing) < self.descriptors.plenty:
                temporary = opener(path)
            else:
                with self.descriptors.one_at_a_time:
                    self.descriptors.check()
                    temporary = opener(path)
        except OSError as error:
            return await self.descriptors.retry(error, self._open_for_writing, path, opener)
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

    async def keep(self, temporary: Temporary, path: str) -> None:
        """Have `discard` leave a file where it is now; its owner can open it again, whatever mode it has inherited."""
        await super().keep(temporary, path)
        allow_owner(temporary.handle)

    async def open_claimed(self, path: str, name: str) -> tuple[Temporary, os.stat_result] | None:
        """Open a file for reading and appending, and claim it; it gets the mode of a new file if it is published."""
        try:
            temporary = await self._open_for_writing(path, self._open_kept)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise
        self._private.add(temporary.handle)
        try:
            await self.claim(temporary, name)
            status = os.fstat(temporary.handle)
            if stat.S_ISREG(status.st_mode):
                os.lseek(temporary.handle, 0, os.SEEK_END)
                return temporary, status
        except BaseException:
            await self.discard(temporary)
            raise
        await self.discard(temporary)
        return None

    def _open_kept(self, path: str) -> Temporary:
        directory, name = self._parent(path)
        return Temporary(open_to_change(name, directory.descriptor), path, kept=True)

    async def claim(self, temporary: Temporary, name: str) -> None:
        """Lock the file by flock(2), as long as it is open; the kernel releases it when the process is killed."""
        if not try_lock(temporary.handle):
            raise ConflictError(f"{name!r} is being appended to by another call, or another process")
        self._claimed.add(temporary.handle)

    def owns(self, status: Stat) -> bool:
        """Return whether a file belongs to the user of this process: only the owner may set its time."""
        return isinstance(status, os.stat_result) and status.st_uid == os.geteuid()

    async def truncate(self, handle: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(handle, size)
        os.lseek(handle, size, os.SEEK_SET)

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
        if temporary.handle in self._claimed:
            self._claimed.discard(temporary.handle)
            fcntl.flock(temporary.handle, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open
        os.close(temporary.handle)
        if temporary.path is not None and not temporary.committed and not temporary.kept:
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
        write_chunks(handle, chunks)

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
        """Share the blocks of the source if the file system can; otherwise copy them."""
        append_file(source, target, checkpoint, reading, offset, length)

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
                await self._wait_for(Flush(os.fsync, handle))
            except OSError as error:
                if error.errno in (errno.EINVAL, *UNSUPPORTED):
                    reason = (
                        "the file system cannot flush files, so nothing can be stored durably; add ?fsync=0 to the DSN"
                    )
                    raise OSError(error.errno, reason) from error
                raise

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
