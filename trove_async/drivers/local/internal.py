"""The directory ``.trove`` of a root: its format, its lock file, and the directories of temporaries."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import suppress
from typing import Final

from trove_async.drivers.local.handles import DIRECTORY, Handles
from trove_async.drivers.local.lock_file import ByteRanges, LockFile, Locking, WholeFile
from trove_async.errors import BackendError, ConflictError, RootNotFoundError, UnsupportedError
from trove_async.lock_files import try_lock
from trove_async.tree.layout import INTERNAL, Layout

__all__ = ["FORMAT", "Internal"]

FORMAT: Final = 2
"""The format of a root that this version reads and writes. Without a file ``format`` it is 1, with a lock file for each
stripe."""

_LOCKS: Final = "locks"
_OLD_LOCKS: Final = "locks.old"
_FORMAT: Final = "format"
_TEMPORARIES: Final = "tmp"
_DIRECTORIES: Final = (_TEMPORARIES, "buckets", "meta")
"""Those that most operations use: a directory that exists is found faster than one that is missing."""
_OLD_SCRATCH: Final = re.compile(r"\d+-[0-9a-f]{8}\Z")
_UPGRADE_SECONDS: Final = 10.0
_CANNOT_WRITE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT})
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Internal:
    """The library's own directory in a root.

    Args:
        layout: the paths of the store.
        handles: are given the directories that stay open: the root, ``.trove``, and the one for temporaries.
        locks: is given what to lock with.

    Attributes:
        root, directory: descriptors of the root and of ``.trove``; None if there is no ``.trove``.
        scratch: the name of this store's directory of temporaries, which is locked as long as the store is open; None
            if none can be made.
        refusal: why nothing can be written; None if that is not so.
    """

    def __init__(self, layout: Layout, handles: Handles, locks: LockFile) -> None:
        self._layout = layout
        self._handles = handles
        self._locks = locks
        self._shared = False
        self.root: int | None = None
        self.directory: int | None = None
        self.scratch: str | None = None
        self.refusal: OSError | None = None

    # Opening

    def open(self) -> int:
        """Check the directory, make what is missing, sweep temporaries, and return how many directories were swept.

        On a disk that is full or read-only this makes what it can: the store can be read, and perhaps be emptied.

        Raises:
            BackendError: something in the directory is a symbolic link, or not what it should be.
            UnsupportedError: the root has a newer format.
            ConflictError: a process of an older version uses the root.
        """
        self.root = os.open(self._layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._handles.pin(self._layout.root.rstrip("/"), self.root)
        self._shared = self._group_shares(os.fstat(self.root))
        swept = 0
        try:
            self._make_directory(self.root, INTERNAL)
            self.directory = self._open_directory(self.root, INTERNAL, self._layout.internal)
            self._handles.pin(self._layout.internal, self.directory)
            self._refuse_links()
            self._check_format()
            for name in _DIRECTORIES:
                self._make_directory(self.directory, name)
            swept = self.sweep()
            self.take_scratch()
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            self.refusal = error
        if self.directory is not None:
            self._prepare_locks(self.directory)
        return swept

    def check_root(self) -> None:
        """Check that the root's path still leads to the directory that was opened.

        Raises:
            RootNotFoundError: it does not: operations would go on in a directory that nobody finds.
        """
        assert self.root is not None
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.stat(self._layout.root), os.fstat(self.root)):
                return
        raise RootNotFoundError(
            f"the root {self._layout.root!r} was removed, moved or mounted over while the store was open; open it again"
        )

    def _make_directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            return
        if self._shared:
            descriptor = self._open_directory(parent, name, name)
            try:
                os.fchmod(descriptor, 0o2775)
            finally:
                os.close(descriptor)

    @staticmethod
    def _group_shares(root: os.stat_result) -> bool:
        return bool(root.st_mode & stat.S_IWGRP)

    def _open_directory(self, parent: int, name: str, path: str) -> int:
        try:
            return os.open(name, DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _not_ours(path, "directory") from error
            raise

    def _refuse_links(self) -> None:
        assert self.directory is not None
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise _not_ours(f"{self._layout.internal}/{entry.name}", "file or directory")

    # Format and locks

    def _check_format(self) -> int:
        assert self.directory is not None
        path = f"{self._layout.internal}/{_FORMAT}"
        try:
            descriptor = os.open(_FORMAT, _READ, dir_fd=self.directory)
        except FileNotFoundError:
            return 1
        try:
            content = os.read(descriptor, 100)
        finally:
            os.close(descriptor)
        if not content.strip().isdigit():
            raise BackendError(
                f"{path!r} contains {content!r} instead of a number; write {FORMAT} into it if this is right"
            )
        number = int(content)
        if number > FORMAT:
            raise UnsupportedError(
                f"the root has the format {number}, and this version of trove_async knows {FORMAT}; "
                "use the version that the other processes on this root use"
            )
        return number

    def _prepare_locks(self, directory: int) -> None:
        """Make the lock file, in an upgrade if the root has an older format."""
        try:
            if self._check_format() < FORMAT:
                self._upgrade(directory)
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            self.refusal = self.refusal or error
        self._locks.open_with(lambda: self._open_best_locks(directory))

    def _open_best_locks(self, directory: int) -> Locking | None:
        """Open the lock file, for reading if it can only be read; lock the root if it is missing on a full disk."""
        try:
            return self._open_locks(directory)
        except OSError as error:
            if error.errno not in (errno.ENOENT, *_CANNOT_WRITE):
                raise
        with suppress(OSError):
            return self._locking(os.open(_LOCKS, _READ, dir_fd=directory), shared=True)
        if self.refusal is not None and self.refusal.errno in (errno.ENOSPC, errno.EDQUOT):
            assert self.root is not None
            return _Provisional(os.open(".", DIRECTORY, dir_fd=self.root), self, directory)
        return None

    def _open_locks(self, directory: int) -> ByteRanges | WholeFile:
        descriptor = os.open(_LOCKS, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        return self._locking(descriptor, shared=False)

    def _locking(self, descriptor: int, *, shared: bool) -> ByteRanges | WholeFile:
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_ours(f"{self._layout.internal}/{_LOCKS}", "file")
            if ByteRanges.supported(descriptor, shared=shared):
                return ByteRanges(descriptor, shared=shared)
        except BaseException:
            os.close(descriptor)
            raise
        return WholeFile(descriptor, shared=shared)

    def open_locks_of_others(self, directory: int) -> ByteRanges | WholeFile | None:
        """Return what other processes lock with by now; None if they have no lock file either."""
        try:
            return self._open_locks(directory)
        except FileNotFoundError:
            return None

    def _upgrade(self, directory: int) -> None:
        """Give the root this version's format, while no process of an older version uses it.

        Older versions have a directory of lock files where this one has a file. So one that is started later cannot
        lock anything.
        """
        assert self.root is not None
        lock = os.open(".", DIRECTORY, dir_fd=self.root)
        try:
            _wait_for(lock, self._layout.root)
            if self._check_format() == FORMAT:
                return
            self._refuse_old_processes(directory)
            self._remove_old_locks(directory)
            self._make_lock_file(directory)
            self._write_format(directory)
        finally:
            os.close(lock)

    def _remove_old_locks(self, directory: int) -> None:
        with suppress(FileNotFoundError):
            shutil.rmtree(_OLD_LOCKS, dir_fd=directory)  # of an upgrade that was interrupted
        try:
            locks = os.stat(_LOCKS, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(locks.st_mode):
            return  # the lock file of an upgrade that was interrupted, which others may have locked
        os.rename(_LOCKS, _OLD_LOCKS, src_dir_fd=directory, dst_dir_fd=directory)
        try:
            # From here on no process of an older version can lock anything new: look again for one that has.
            self._refuse_old_processes(directory)
        except BaseException:
            os.rename(_OLD_LOCKS, _LOCKS, src_dir_fd=directory, dst_dir_fd=directory)
            raise
        shutil.rmtree(_OLD_LOCKS, dir_fd=directory)

    def _refuse_old_processes(self, directory: int) -> None:
        with suppress(FileNotFoundError):
            for name in self._temporaries(directory):
                if _OLD_SCRATCH.match(name) and self._is_used(directory, name):
                    raise ConflictError(
                        f"a process of an older version of trove_async has the root {self._layout.root!r} open "
                        f"(it has locked .trove/tmp/{name}); end it, and open the root again"
                    )

    def _is_used(self, directory: int, name: str) -> bool:
        try:
            folder = self._open_directory(directory, _TEMPORARIES, self._layout.tmp)
            try:
                descriptor = os.open(name, DIRECTORY, dir_fd=folder)
            finally:
                os.close(folder)
        except FileNotFoundError:
            return False
        try:
            return not try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _make_lock_file(self, directory: int) -> None:
        with suppress(FileExistsError):
            os.close(self.create_private(_LOCKS, directory))

    def create_private(self, name: str, directory: int) -> int:
        """Create a file that only those may open who can write to the root: its owner, or its group too."""
        assert self.root is not None
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        if self._shared:
            # Someone else's group cannot be given away; then the file's own group has to be the shared one.
            with suppress(PermissionError):
                os.fchown(descriptor, -1, os.fstat(self.root).st_gid)
            os.fchmod(descriptor, 0o660)
        return descriptor

    def _write_format(self, directory: int) -> None:
        draft = f"{_FORMAT}.{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=directory)
        try:
            try:
                os.write(descriptor, f"{FORMAT}\n".encode())
                with suppress(OSError):  # where files cannot be flushed, writes say so, unless the store is not durable
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(draft, _FORMAT, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(draft, dir_fd=directory)
            raise

    # Temporaries

    def _temporaries(self, directory: int) -> list[str]:
        descriptor = self._open_directory(directory, _TEMPORARIES, self._layout.tmp)
        try:
            return os.listdir(descriptor)
        finally:
            os.close(descriptor)

    def take_scratch(self) -> None:
        """Make and lock a directory for this store's temporaries, as long as it has none."""
        assert self.directory is not None
        folder = self._open_directory(self.directory, _TEMPORARIES, self._layout.tmp)
        try:
            while self.scratch is None:
                self._try_scratch(folder, f"{os.getpid()}.{secrets.token_hex(4)}")
        finally:
            os.close(folder)

    def _try_scratch(self, folder: int, name: str) -> None:
        os.mkdir(name, dir_fd=folder)
        # A sweeper may remove it before it is locked; then its name is gone.
        try:
            descriptor = os.open(name, DIRECTORY, dir_fd=folder)
        except FileNotFoundError:
            return
        try:
            if not try_lock(descriptor):
                return  # by a sweeper, which removes it
            with suppress(FileNotFoundError):
                if os.stat(name, dir_fd=folder).st_ino == os.fstat(descriptor).st_ino:
                    self._handles.pin(f"{self._layout.tmp}/{name}", descriptor)
                    self.scratch = name
        finally:
            if self.scratch is None:
                os.close(descriptor)

    def sweep(self) -> int:
        """Remove the directories of temporaries that no running process has locked; return how many."""
        assert self.directory is not None
        folder = self._open_directory(self.directory, _TEMPORARIES, self._layout.tmp)
        try:
            return sum(self._swept(folder, name) for name in os.listdir(folder))
        finally:
            os.close(folder)

    @staticmethod
    def _swept(folder: int, name: str) -> bool:
        try:
            descriptor = os.open(name, DIRECTORY, dir_fd=folder)
        except OSError:
            return False
        try:
            if not try_lock(descriptor):
                return False  # its process is running
            with suppress(FileNotFoundError):
                shutil.rmtree(name, dir_fd=folder)
            return True
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Remove this store's temporaries and release everything."""
        if self.scratch is not None and self.directory is not None:
            with suppress(OSError, BackendError):  # leftovers are swept when the root is opened again
                folder = self._open_directory(self.directory, _TEMPORARIES, self._layout.tmp)
                try:
                    shutil.rmtree(self.scratch, dir_fd=folder)
                finally:
                    os.close(folder)
            # The handle may stay open as long as an exception refers to it.
            scratch = self._handles.directory(f"{self._layout.tmp}/{self.scratch}")
            with suppress(OSError):
                fcntl.flock(scratch.descriptor, fcntl.LOCK_UN)
        self.scratch = self.directory = self.root = None
        self._locks.close()
        self._handles.close()

    def forget(self) -> None:
        """Close everything in a forked child; the parent still holds its locks."""
        self.scratch = self.directory = self.root = None
        self._locks.close()
        self._handles.close_in_child()


class _Provisional(WholeFile):
    """The lock of a root in which no lock file can be made: the root itself, until another process makes the file."""

    def __init__(self, descriptor: int, internal: Internal, directory: int) -> None:
        super().__init__(descriptor)
        self._internal = internal
        self._directory = directory
        self._real: ByteRanges | WholeFile | None = None

    def try_lock(self, start: int, length: int) -> bool:
        """Lock the root; once there is a lock file, use that."""
        if self._real is None:
            if not super().try_lock(start, length):
                return False
            # The file is made by those who have locked the root, so it appears before or after this.
            real = self._internal.open_locks_of_others(self._directory)
            if real is None:
                return True
            super().unlock(start, length)
            self._real = real
        return self._real.try_lock(start, length)

    def unlock(self, start: int, length: int) -> None:
        """Release what was locked."""
        if self._real is None:
            super().unlock(start, length)
        else:
            self._real.unlock(start, length)

    def close(self) -> None:
        """Close both."""
        super().close()
        if self._real is not None:
            self._real.close()


def _wait_for(descriptor: int, root: str) -> None:
    until = time.monotonic() + _UPGRADE_SECONDS
    while not try_lock(descriptor):
        if time.monotonic() > until:
            raise ConflictError(f"another process has locked the directory {root!r} by flock(2); try again later")
        time.sleep(0.01)


def _not_ours(path: str, kind: str) -> BackendError:
    return BackendError(
        f"{path!r} is not a {kind}; what is in .trove must not be a symbolic link, since it would lead elsewhere: "
        "move it away, or move what it leads to into its place"
    )
