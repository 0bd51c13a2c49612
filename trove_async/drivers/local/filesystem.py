"""The local file system, as a tree needs it. Nothing here waits for the event loop: see `run_sync`."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Final

from trove_async.body import Chunk
from trove_async.drivers.local.copying import append_file
from trove_async.drivers.local.times import EXACT_NS, FileTimes, probe_links, probe_times
from trove_async.errors import UnsupportedError
from trove_async.tree import DirEntry, FileSystem, Temporary
from trove_async.tree.filesystem import is_dir
from trove_async.tree.layout import STRIPES, Layout

__all__ = ["LocalFileSystem"]

_ATTRIBUTE: Final = "user.trove"
_DIRECTORIES: Final = 1000
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0) | os.O_RDWR | os.O_CLOEXEC
_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR})
_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_DOES_NOT_FIT: Final = frozenset({errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EDQUOT, *_NO_ATTRIBUTES})


_open: weakref.WeakSet[LocalFileSystem] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child inherits the lock files. If it kept them open, the locks of a killed parent would
    # still be held.
    for fs in list(_open):
        fs.forget_locks()


os.register_at_fork(after_in_child=_forget_in_child)


class LocalFileSystem(FileSystem):
    """A directory of this machine.

    Args:
        layout: the paths of the store.
        durable: whether to flush what is written to the disk; otherwise the system decides when.
    """

    def __init__(self, layout: Layout, *, durable: bool) -> None:
        self._layout = layout
        self._durable = durable
        self._numbers = count()
        self._scratch: str | None = None
        self._scratch_lock: int | None = None
        self._has_attributes = True
        self._has_nameless = False
        self._has_links = True
        self._times = FileTimes()
        self._uses_tokens = False
        self._stripes: list[_Stripe | None] = [None] * STRIPES
        self._stripes_lock = threading.Lock()
        self._asked = 0
        self._under_way = _UnderWay()
        self._directories: dict[str, int] = {}
        _open.add(self)

    # Life

    def open_root(self) -> int:
        """Create the internal directories, sweep temporaries of ended processes, and take a directory for temporaries.

        Returns how many directories of temporaries were swept.
        """
        for path in (self._layout.internal, self._layout.locks, self._layout.tmp):
            with suppress(FileExistsError):
                os.mkdir(path)
        swept = self.sweep_temporaries()
        self._take_scratch()
        self._has_attributes = self._probe_attributes()
        self._has_nameless = self._probe_nameless()
        self._times = probe_times(self.temporary(), self._layout.tmp)
        self._has_links = probe_links(self.temporary())
        self._uses_tokens = self._times.grain_ns > EXACT_NS or not self._times.settable or not self._has_links
        self._check_distinguishes()
        return swept

    def _check_distinguishes(self) -> None:
        if not self._has_attributes and not self._times.settable:
            raise UnsupportedError(
                f"the file system of {self._layout.root!r} stores neither extended attributes nor the time that is set "
                "for a file, so an object could not be distinguished from the one that it replaces; use another root"
            )

    def _take_scratch(self) -> None:
        while True:
            path = f"{self._layout.tmp}/{os.getpid()}-{secrets.token_hex(4)}"
            os.mkdir(path)
            # A sweeper may remove it before it is locked; then its path is gone.
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    self._scratch, self._scratch_lock = path, descriptor
                    return
            os.close(descriptor)

    def sweep_temporaries(self) -> int:
        """Remove the directories of temporaries that no running process has locked; return how many."""
        swept = 0
        for name in os.listdir(self._layout.tmp):
            path = f"{self._layout.tmp}/{name}"
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_folder(path)
                swept += 1
            except BlockingIOError:
                pass  # its process is running
            finally:
                os.close(descriptor)
        return swept

    def _probe_attributes(self) -> bool:
        path = self.temporary()
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.setxattr(descriptor, _ATTRIBUTE, b"?")
        except AttributeError:  # some systems lack the function
            return False
        except OSError as error:
            # A full disk still has extended attributes, and existing ones must be found.
            return error.errno not in _NO_ATTRIBUTES
        finally:
            os.close(descriptor)
            os.unlink(path)
        return True

    def _probe_nameless(self) -> bool:
        """Return whether a file can be created without a name and be given one later."""
        path = self.temporary()
        try:
            descriptor = os.open(self._scratch or "", _NAMELESS, 0o600)
        except OSError:
            return False
        try:
            self._link_nameless(descriptor, path)
            os.unlink(path)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _link_nameless(self, handle: int, path: str) -> None:
        # With a directory descriptor the call follows the link in /proc: see open(2), O_TMPFILE.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=self._scratch_lock, follow_symlinks=True)

    def close_root(self) -> None:
        """Remove the directory of temporaries and release the locks."""
        if self._scratch is not None:
            with suppress(OSError):  # leftovers are swept when the root is opened again
                _remove_folder(self._scratch)
            self._scratch = None
        self.forget_locks()

    def forget_locks(self) -> None:
        """Close the lock files. In a forked child, the parent still holds its locks."""
        if self._scratch_lock is not None:
            os.close(self._scratch_lock)
            self._scratch_lock = None
        for number, stripe in enumerate(self._stripes):
            if stripe is not None:
                os.close(stripe.descriptor)
                self._stripes[number] = None

    def __del__(self) -> None:
        self.forget_locks()

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

    async def lstat(self, path: str) -> os.stat_result | None:
        """Return the status of a file, None if it does not exist."""
        try:
            return os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def ask(self) -> int:
        """Return the number of a new operation."""
        self._asked += 1
        return self._asked

    def begin(self, number: int) -> None:
        """Set the operation that this thread runs from now on."""
        self._under_way.number = number

    async def is_directory(self, path: str) -> bool:
        """Return whether the path is a directory.

        Operations that wait at the same time share one check: a result is valid for every operation that was requested
        before the check.
        """
        if self._directories.get(path, 0) >= self._under_way.number:
            return True
        asked = self._asked
        found = is_dir(await self.lstat(path))
        if found:
            if len(self._directories) >= _DIRECTORIES:
                self._directories.clear()
            self._directories[path] = asked
        return found

    async def exists(self, path: str) -> bool:
        """Return whether anything has this name."""
        return os.access(path, os.F_OK, follow_symlinks=False)

    async def open(self, path: str) -> tuple[int, os.stat_result] | None:
        """Open a regular file; None if there is none. This never blocks on a FIFO."""
        try:
            descriptor = os.open(path, _READ)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            raise
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return descriptor, status
        os.close(descriptor)
        return None

    async def create(self, path: str) -> int:
        """Create a file."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)

    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Create a file, without a name if the file system supports that: it needs no clean-up in a directory."""
        if self._has_nameless:
            temporary = Temporary(os.open(self._scratch or "", _NAMELESS, 0o666))
        else:
            path = self.temporary()
            temporary = Temporary(await self.create(path), path)
        try:
            _write_all(temporary.handle, content)
        except BaseException:
            await self.discard(temporary)
            raise
        return temporary

    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Link a file without a name to its path; rename one that has a name or replaces another file."""
        if temporary.path is None and not replace:
            self._link_nameless(temporary.handle, path)
        else:
            if temporary.path is None:
                name = self.temporary()
                self._link_nameless(temporary.handle, name)
                temporary.path = name
            os.rename(temporary.path, path)
        temporary.committed = True

    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove its name if it still has one."""
        os.close(temporary.handle)
        if temporary.path is not None and not temporary.committed:
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
                _write_all(handle, memoryview(chunk)[written:])
            written = max(0, written - len(chunk))

    async def copy_data(self, source: int, target: int, checkpoint: Callable[[], None]) -> None:
        """Share the blocks of the source if the file system can; otherwise copy them."""
        append_file(source, target, checkpoint)

    async def get_attribute(self, handle: int) -> bytes | None:
        """Return the extended attribute of the library."""
        try:
            return os.getxattr(handle, _ATTRIBUTE)
        except OSError as error:
            if error.errno == errno.ENODATA or error.errno in _NO_ATTRIBUTES:
                return None
            raise

    async def set_attribute(self, handle: int, value: bytes) -> bool:
        """Set the extended attribute of the library; False if it is too large."""
        try:
            os.setxattr(handle, _ATTRIBUTE, value)
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
            os.fsync(handle)

    async def sync_directory(self, path: str) -> None:
        """Flush a directory to the disk, if the store is durable."""
        if self._durable:
            with suppress(FileNotFoundError):  # it was removed, so there is nothing to flush
                _sync_path(path)

    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small file."""
        try:
            with open(path, "rb") as file:  # noqa: ASYNC230 - it runs in a worker thread
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small file, atomically."""
        temporary = self.temporary()
        try:
            handle = await self.create(temporary)
            try:
                _write_all(handle, content)
                await self.sync(handle)
            finally:
                os.close(handle)
            try:
                os.rename(temporary, path)
            except FileNotFoundError:
                self._make_directories(os.path.dirname(path))
                os.rename(temporary, path)
        except BaseException:
            await self.unlink(temporary)
            raise
        await self.sync_directory(os.path.dirname(path))

    def _make_directories(self, path: str) -> None:
        if not os.path.isdir(path):
            self._make_directories(os.path.dirname(path))
            with suppress(FileExistsError):
                os.mkdir(path)
            if self._durable:
                _sync_path(os.path.dirname(path))

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory."""
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                yield DirEntry(entry.name, entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False))

    async def mkdir(self, path: str) -> None:
        """Create a directory."""
        os.mkdir(path)
        await self.sync_directory(os.path.dirname(path))

    async def rmdir(self, path: str) -> bool:
        """Remove an empty directory."""
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
                return False
            raise
        return True

    async def unlink(self, path: str) -> bool:
        """Remove a file."""
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def rename(self, source: str, target: str) -> None:
        """Rename a file over another."""
        os.rename(source, target)

    async def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        os.link(source, target, follow_symlinks=False)

    def temporary(self) -> str:
        """Return a new path in this store's directory of temporaries."""
        return f"{self._scratch}/{next(self._numbers)}"

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return a stripe's lock, which excludes other threads of this process and other processes."""
        found = self._stripes[stripe]
        if found is None:
            with self._stripes_lock:
                found = self._stripes[stripe]
                if found is None:
                    path = f"{self._layout.locks}/{stripe:03}"
                    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
                    found = self._stripes[stripe] = _Stripe(os.open(path, flags, 0o666))
        return found

    @asynccontextmanager
    async def lock_bucket(self, bucket: str) -> AsyncGenerator[None, None]:
        """Take all locks, which the keys of all buckets share, in the same order as any other user of the store."""
        async with AsyncExitStack() as stack:
            for stripe in range(STRIPES):
                await stack.enter_async_context(self.lock(stripe))
            yield


class _UnderWay(threading.local):
    """The number of the operation that a thread runs; outside of operations, a number for which no check is valid."""

    number: int = sys.maxsize


class _Stripe(AbstractAsyncContextManager[None]):
    """A lock file, which is released when its process is killed, and a lock for the threads of this process."""

    __slots__ = ("_threads", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._threads = threading.Lock()

    async def __aenter__(self) -> None:
        self._threads.acquire()
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        except BaseException:
            self._threads.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        finally:
            self._threads.release()


def _write_all(handle: int, data: Chunk) -> None:
    written = os.write(handle, data) if data else 0
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(handle, view[written:])


def _sync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_folder(path: str) -> None:
    """Remove a directory of temporaries: files, and directories of files."""
    with suppress(FileNotFoundError):
        for entry in list(os.scandir(path)):
            if entry.is_dir(follow_symlinks=False):
                _remove_folder(entry.path)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.path)
        os.rmdir(path)
