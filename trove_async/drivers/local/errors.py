"""What an error of the operating system is in the library's tree."""

from __future__ import annotations

import errno
from typing import Final

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    InvalidKeyError,
    StorageFullError,
    TroveError,
    UnavailableError,
)

__all__ = ["FlushError", "translated"]


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


def translated(error: OSError) -> TroveError:
    """Return the error of the tree for one of the system, which becomes its cause."""
    kind = _TABLE.get(error.errno or 0, BackendError)
    hint = {
        StorageFullError: "; free some space or raise the quota",
        AccessDeniedError: "; the process needs to read and write below the root",
        UnavailableError: "; too many files are open, or memory is short",
        InvalidKeyError: "; the root and the key together are too long a path",
    }.get(kind, "")
    return kind(f"{error.strerror or error}{hint}", ambiguous=isinstance(error, FlushError))
