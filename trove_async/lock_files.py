"""Files whose lock, flock(2), says who may do something on this machine. The kernel releases it with the process."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trove_async.errors import AccessDeniedError, StorageFullError, TransientError, TroveError, UnsupportedError

__all__ = ["NO_LOCKS", "lock_at", "make_lock_folder", "open_lock_file", "reporting", "try_lock"]

NO_LOCKS: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Error numbers that say that a system or a file system has no locks of a kind."""

_KINDS: Final[dict[int, type[TroveError]]] = {
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EMFILE: TransientError,
    errno.ENFILE: TransientError,
}


def make_lock_folder(folder: Path, *, mode: int = 0o777, driver: str | None = None) -> None:
    """Create the folder of lock files, if it is missing.

    Args:
        folder: its path; its parent exists.
        mode: of a folder that is created.
        driver: for the error.

    Raises:
        StorageFullError, AccessDeniedError: as `reporting` says.
    """
    with reporting(f"the folder of locks {folder} cannot be created", driver):
        folder.mkdir(mode=mode, exist_ok=True)


def open_lock_file(path: Path, *, driver: str | None = None) -> int:
    """Open a file to lock, creating it if it is missing, and return the descriptor.

    Raises:
        StorageFullError, TransientError, AccessDeniedError: as `reporting` says.
    """
    with reporting(f"the lock {path} cannot be opened", driver):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock_at(path: Path) -> int | None:
    """Lock the file at a path, creating it if it is missing, and return the descriptor; None if others have locked it.

    Who holds the lock may remove the file before it closes it: others then lock a new file.

    Raises:
        StorageFullError, TransientError, AccessDeniedError: as `reporting` says.
        UnsupportedError: the file system has no locks.
    """
    while True:
        descriptor = open_lock_file(path)
        kept = False
        try:
            if not try_lock(descriptor):
                return None
            # Whoever held it has removed the file: it may be gone, or another one in its place.
            kept = _is_at(descriptor, path)
            if kept:
                return descriptor
        finally:
            if not kept:
                os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def reporting(what: str, driver: str | None = None) -> Iterator[None]:
    """Raise the library's error for an `OSError` of a block.

    Args:
        what: did not succeed, for the message.
        driver: for the error.

    Raises:
        StorageFullError: the disk is full.
        TransientError: too many files are open.
        AccessDeniedError: there is another reason.
    """
    try:
        yield
    except OSError as error:
        kind = _KINDS.get(error.errno or 0, AccessDeniedError)
        raise kind(f"{what}: {error.strerror or error}", driver=driver) from error


def try_lock(descriptor: int) -> bool:
    """Lock an open file or directory as a whole, until it is closed; return False if others have locked it.

    Raises:
        UnsupportedError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, *NO_LOCKS):
            raise UnsupportedError(
                f"the file system cannot lock files ({error.strerror}), so several processes could not use it "
                "together; use another file system; on NFS, start the lock service or mount with local_lock=all"
            ) from error
        raise
    return True
