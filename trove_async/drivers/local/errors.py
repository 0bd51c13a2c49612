"""What an error of the operating system is in the library's tree."""

from __future__ import annotations

import errno
import traceback
from typing import Final

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    InvalidKeyError,
    StorageFullError,
    TroveError,
    UnavailableError,
)

__all__ = ["FlushError", "release_frames", "translated"]


class FlushError(OSError):
    """A directory was changed, and could not be flushed to the disk."""


_TABLE: Final[dict[int, type[TroveError]]] = {
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EFBIG: StorageFullError,
    errno.EACCES: AccessDeniedError,
    errno.EPERM: AccessDeniedError,
    errno.EROFS: AccessDeniedError,
    errno.ENAMETOOLONG: InvalidKeyError,
    errno.EMFILE: UnavailableError,
    errno.ENFILE: UnavailableError,
    errno.ENOMEM: UnavailableError,
}


_HINTS: Final[dict[int, str]] = {
    errno.EPERM: "the system or the file system refuses this to the process; look at mount options and immutable files",
    errno.EXDEV: "everything in the root has to be on one file system, so no directory in it can be a mount point",
    errno.ELOOP: "nothing in .trove may be a symbolic link",
    errno.ENOLCK: "the file system cannot lock files; on NFS, start the lock service or mount with local_lock=all",
    errno.EMFILE: "the process has too many files open; close some, or raise its limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open; raise its limit (fs.file-max)",
    errno.ENOMEM: "memory is short",
    errno.ENAMETOOLONG: "the root and the key together are too long a path",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some space or raise the quota"),
    **dict.fromkeys((errno.EACCES, errno.EROFS), "the process needs to read and write below the root"),
}


def translated(error: OSError) -> TroveError:
    """Return the error of the tree for one of the system, which becomes its cause."""
    code = error.errno or 0
    hint = f"; {_HINTS[code]}" if code in _HINTS else ""
    return _TABLE.get(code, BackendError)(f"{error.strerror or error}{hint}", ambiguous=isinstance(error, FlushError))


def release_frames(error: BaseException) -> None:
    """Clear the variables of the functions that an error and its causes have left.

    Otherwise their directories stay open as long as somebody keeps the error, such as that of each key of a
    `BulkError`. Call it in a worker thread, where no function of the application is among them.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is not None and id(found) not in seen:
            seen.add(id(found))
            traceback.clear_frames(found.__traceback__)
            waiting += (found.__cause__, found.__context__)
