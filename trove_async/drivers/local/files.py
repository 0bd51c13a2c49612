"""Files by the handle of their directory: with and without names, attributes, and access lists."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Final

from trove_async.body import Chunk
from trove_async.permissions import access_list_of

__all__ = [
    "ATTRIBUTE",
    "CREATE",
    "NAMELESS",
    "UNSUPPORTED",
    "access_list_at",
    "allow_owner",
    "can_be_nameless",
    "has_attributes",
    "link_nameless",
    "open_to_change",
    "write_all",
    "write_chunks",
]

ATTRIBUTE: Final = "user.trove"
"""The extended attribute of the library."""
CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
NAMELESS: Final = getattr(os, "O_TMPFILE", 0) | os.O_RDWR | os.O_CLOEXEC
"""The flags that create a file, with a name and without one."""
UNSUPPORTED: Final = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_OWNER: Final = stat.S_IRUSR | stat.S_IWUSR
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHANGE: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REFER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def has_attributes(name: str, directory: int) -> bool:
    """Return whether files have extended attributes; try it with a file that is removed again."""
    try:
        descriptor = os.open(name, CREATE, 0o600, dir_fd=directory)
    except OSError:
        return True  # a full disk still has extended attributes, and existing ones must be found
    try:
        os.setxattr(descriptor, ATTRIBUTE, b"?")
    except AttributeError:  # some systems lack the function
        return False
    except OSError as error:
        return error.errno not in UNSUPPORTED
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=directory)
    return True


def can_be_nameless(name: str, directory: int) -> bool:
    """Return whether a file can be created without a name and be given one later; the name is removed again."""
    try:
        descriptor = os.open(".", NAMELESS, 0o600, dir_fd=directory)
    except OSError:
        return False
    try:
        link_nameless(descriptor, name, directory)
        os.unlink(name, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def link_nameless(handle: int, name: str, directory: int) -> None:
    """Give a file without a name one."""
    # With a directory descriptor the call follows the link in /proc: see open(2), O_TMPFILE.
    os.link(f"/proc/self/fd/{handle}", name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)


def access_list_at(name: str, directory: int) -> bytes | None:
    """Return the access list of a file, also of one that the process may not read; None if it has none."""
    descriptor = os.open(name, _REFER, dir_fd=directory)
    try:
        return access_list_of(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def open_to_change(name: str, directory: int) -> int:
    """Open an existing file for reading and writing, also one that its owner has made read-only."""
    try:
        return os.open(name, _CHANGE, dir_fd=directory)
    except PermissionError:
        descriptor = os.open(name, _READ, dir_fd=directory)
        try:
            allow_owner(descriptor)
        finally:
            os.close(descriptor)
        return os.open(name, _CHANGE, dir_fd=directory)


def allow_owner(handle: int) -> None:
    """Let the owner of a file read and write it.

    Raises:
        PermissionError: the owner may not, and it is somebody else.
    """
    status = os.fstat(handle)
    if status.st_mode & _OWNER != _OWNER:
        os.fchmod(handle, stat.S_IMODE(status.st_mode) | _OWNER)


def write_all(handle: int, data: Chunk) -> None:
    """Append bytes."""
    written = os.write(handle, data) if data else 0
    if written < len(data):
        view = memoryview(data)
        while written < len(data):
            written += os.write(handle, view[written:])


def write_chunks(handle: int, chunks: Sequence[Chunk]) -> None:
    """Append chunks, at most a thousand or none, with as few system calls as possible."""
    written = os.writev(handle, chunks) if chunks else 0
    for chunk in chunks:
        if written < len(chunk):
            write_all(handle, memoryview(chunk)[written:])
        written = max(0, written - len(chunk))
