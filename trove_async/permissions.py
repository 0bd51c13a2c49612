"""What a file that replaces another takes over from it: mode, owner, group and access list."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

__all__ = ["access_list_of", "inherit"]

_ACCESS_LIST: Final = "system.posix_acl_access"
_HAS_NONE: Final = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


def access_list_of(path: str) -> bytes | None:
    """Return the access list of a file (acl(5)); None if it has none, or the system has no such lists."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        return os.getxattr(path, _ACCESS_LIST)
    except OSError:
        return None


def inherit(descriptor: int, old: os.stat_result, access_list: bytes | None) -> None:
    """Give a new file the mode, owner, group and access list of the one that it will replace.

    A group or access list that cannot be kept leaves the new file's group with what everybody may do. The bits that run
    a program as another user are not kept: writing to the file would clear them too.

    Args:
        descriptor: of the new file, which the process has made.
        old: the status of the file that is replaced.
        access_list: of that file, since the mode of its group is only the mask then.
    """
    mode = stat.S_IMODE(old.st_mode) & ~(stat.S_ISUID | stat.S_ISGID)
    if not (_set_owner(descriptor, old) and _set_access_list(descriptor, access_list)):
        mode = mode & ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    with suppress(PermissionError):  # a file system without modes
        os.fchmod(descriptor, mode)


def _set_owner(descriptor: int, old: os.stat_result) -> bool:
    """Set owner and group where the process may; return whether the group is that of the old file."""
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid):
        return True
    for owner in (old.st_uid, -1):
        try:
            os.fchown(descriptor, owner, old.st_gid)
        except OSError:
            continue
        return True
    return new.st_gid == old.st_gid


def _set_access_list(descriptor: int, access_list: bytes | None) -> bool:
    """Set an access list; return whether the new file has the one of the old file."""
    if not hasattr(os, "setxattr"):
        return True
    try:
        if access_list is None:
            os.removexattr(descriptor, _ACCESS_LIST)  # the new file may have one from its directory
        else:
            os.setxattr(descriptor, _ACCESS_LIST, access_list)
    except OSError as error:
        return access_list is None and error.errno in _HAS_NONE
    return True
