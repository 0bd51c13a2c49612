"""SFTP version 3 and OpenSSH's extensions of it: kinds of packets, and the fields of requests; see also `answers`.

Sources: draft-ietf-secsh-filexfer-02; OpenSSH's ``PROTOCOL``, section 4; draft-ietf-secsh-filexfer-extensions-00,
section 7 (``copy-data``).
"""

from __future__ import annotations

import stat
import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

__all__ = [
    "COPY_DATA",
    "FSYNC",
    "HARDLINK",
    "LIMITS",
    "POSIX_RENAME",
    "STATVFS",
    "VERSION",
    "FileStatus",
    "Kind",
    "Listed",
    "OpenFlag",
    "ServerLimits",
    "decoded",
    "encoded",
    "pack_string",
    "pack_times",
    "pack_u32",
    "pack_u64",
]

VERSION: Final = 3

POSIX_RENAME: Final = b"posix-rename@openssh.com"
HARDLINK: Final = b"hardlink@openssh.com"
FSYNC: Final = b"fsync@openssh.com"
LIMITS: Final = b"limits@openssh.com"
STATVFS: Final = b"statvfs@openssh.com"
COPY_DATA: Final = b"copy-data"

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_SIZE: Final = struct.Struct(">IQ")
_TIMES: Final = struct.Struct(">III")


class Kind(IntEnum):
    """What a packet is."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class OpenFlag(IntFlag):
    """How a file is opened."""

    READ = 0x01
    WRITE = 0x02
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


_HAS_SIZE: Final = 0x01
_HAS_TIMES: Final = 0x08

_CARRIED: Final = 1 << 31
_MARK: Final = 1 << 30
_SECOND: Final = 1_000_000_000


class FileStatus(NamedTuple):
    """The status of a file on the server; a `trove_async.tree.Stat`.

    SFTP has times in whole seconds. The access time of a file made by this library carries the nanoseconds: it is
    ``2**31`` plus the nanoseconds of the modification, plus ``2**30`` if metadata is stored with the file. That is
    a time after 2037. Reads do not change such a time on a file system that is mounted ``relatime`` or ``noatime``.

    Attributes:
        st_mode: kind and permissions; 0 if the server did not return the kind.
        st_size: in bytes; -1 if the server did not return it.
        st_mtime_ns: when it was modified, in nanoseconds since the epoch; -1 if the server did not return it.
        marked: whether metadata is stored with it; None if the access time carries nothing.
    """

    st_mode: int
    st_size: int
    st_mtime_ns: int
    marked: bool | None = None

    @classmethod
    def of(cls, mode: int, size: int, atime: int, mtime: int) -> FileStatus:
        """Return the status for the attributes in an answer; -1 stands for those that it lacks, and 0 for no mode."""
        if not stat.S_IFMT(mode):
            mode = 0
        if mtime < 0:
            return cls(mode, size, -1)
        if atime >= _CARRIED:
            carried = atime - _CARRIED
            nanoseconds = carried & (_MARK - 1)
            if nanoseconds < _SECOND:
                return cls(mode, size, mtime * _SECOND + nanoseconds, carried >= _MARK)
        return cls(mode, size, mtime * _SECOND)

    @property
    def is_complete(self) -> bool:
        """Whether the server returned the kind of the file and, for a regular one, its size and time."""
        return self.st_mode != 0 and (
            (self.st_size >= 0 and self.st_mtime_ns >= 0) or stat.S_IFMT(self.st_mode) != stat.S_IFREG
        )

    @property
    def st_ino(self) -> int:
        """Always 0: SFTP has no inode numbers."""
        return 0


class Listed(NamedTuple):
    """A name in a directory, with its status."""

    name: bytes
    status: FileStatus


class ServerLimits(NamedTuple):
    """How large requests may be, in bytes, and how many handles may be open; 0 for unknown.

    Every server accepts the defaults (draft-ietf-secsh-filexfer-02, section 3).
    """

    read: int = 32 * 1024
    write: int = 32 * 1024
    handles: int = 0


# Making packets


def pack_u32(value: int) -> bytes:
    """Return a 32-bit number."""
    return _U32.pack(value)


def pack_u64(value: int) -> bytes:
    """Return a 64-bit number."""
    return _U64.pack(value)


def pack_string(value: bytes | memoryview | bytearray) -> bytes:
    """Return bytes after their length."""
    return _U32.pack(len(value)) + value


def pack_times(mtime_ns: int, *, carried: bool, marked: bool) -> bytes:
    """Return attributes that set only a file's times.

    Args:
        mtime_ns: when it was modified.
        carried: whether the access time carries the nanoseconds; otherwise it is the modification time.
        marked: whether metadata is stored with the file; requires ``carried``.
    """
    seconds, nanoseconds = divmod(mtime_ns, _SECOND)
    atime = _CARRIED + nanoseconds + (_MARK if marked else 0) if carried else seconds
    return _TIMES.pack(_HAS_TIMES, atime, seconds)


def pack_size(size: int) -> bytes:
    """Return attributes that set only a file's size."""
    return _SIZE.pack(_HAS_SIZE, size)


def encoded(path: str) -> bytes:
    """Return a path as bytes; names that are not UTF-8 keep their bytes."""
    return path.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    """Return a name as text, from which `encoded` makes the same bytes."""
    return name.decode("utf-8", "surrogateescape")
