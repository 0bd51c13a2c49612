"""SFTP version 3 and OpenSSH's extensions of it: packets made and taken apart, without any I/O.

Sources: draft-ietf-secsh-filexfer-02; OpenSSH's ``PROTOCOL``, section 4; draft-ietf-secsh-filexfer-extensions-00,
section 7 (``copy-data``).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from trove_async.drivers.sftp.errors import DisconnectedError, NameTooLongError, RefusedError

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
    "decode",
    "error_of",
    "free_blocks_of",
    "limits_of",
    "pack_string",
    "pack_times",
    "pack_u32",
    "pack_u64",
    "parse_version",
]

VERSION: Final = 3

POSIX_RENAME: Final = b"posix-rename@openssh.com"
HARDLINK: Final = b"hardlink@openssh.com"
FSYNC: Final = b"fsync@openssh.com"
LIMITS: Final = b"limits@openssh.com"
STATVFS: Final = b"statvfs@openssh.com"
COPY_DATA: Final = b"copy-data"

_LARGEST_BLOCK: Final = 256 * 1024
"""Bytes of a read or write beyond which one costs no less for each byte; asyncssh's server takes 4 MiB."""

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
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
_HAS_OWNER: Final = 0x02
_HAS_MODE: Final = 0x04
_HAS_TIMES: Final = 0x08
_HAS_MORE: Final = 0x8000_0000

_CARRIED: Final = 1 << 31
_MARK: Final = 1 << 30
_SECOND: Final = 1_000_000_000


class FileStatus(NamedTuple):
    """The status of a file on the server; a `trove_async.tree.Stat`.

    SFTP has times in whole seconds. The access time of a file made by this library carries the nanoseconds: it is
    ``2**31`` plus the nanoseconds of the modification, plus ``2**30`` if metadata is stored with the file. That is
    a time after 2037. Reads do not change such a time on a file system that is mounted ``relatime`` or ``noatime``.

    Attributes:
        st_mtime_ns: when it was modified, in nanoseconds since the epoch.
        marked: whether metadata is stored with it; None if the access time carries nothing.
    """

    st_mode: int
    st_size: int
    st_mtime_ns: int
    marked: bool | None = None

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


# Taking packets apart


def parse_version(packet: bytes) -> frozenset[bytes]:
    """Return the extensions that the server's first packet names."""
    if not packet or packet[0] != Kind.VERSION:
        raise DisconnectedError("the server's first packet is not an SFTP packet")
    found: set[bytes] = set()
    try:
        version = _U32.unpack_from(packet, 1)[0]
        at = 5
        while at < len(packet):
            name, at = _string(packet, at)
            _, at = _string(packet, at)
            found.add(name)
    except struct.error:
        raise DisconnectedError("the server's first packet is malformed") from None
    if version < VERSION:
        raise DisconnectedError(f"the server speaks version {version} of SFTP; version 3 is required")
    return frozenset(found)


def decode(packet: bytes) -> bytes | FileStatus | list[Listed] | OSError | None:
    """Return the content of an answer.

    A handle, data or the answer of an extension is bytes; a success without content is None; an error is an `OSError`.
    """
    kind = packet[0]
    try:
        if kind == Kind.STATUS:
            return _status(packet)
        if kind == Kind.ATTRS:
            return _attributes(packet, 5)[0]
        if kind == Kind.NAME:
            return _names(packet)
        if kind in (Kind.DATA, Kind.HANDLE):
            return packet[9 : 9 + _U32.unpack_from(packet, 5)[0]]
        if kind == Kind.EXTENDED_REPLY:
            return packet[5:]
    except (struct.error, IndexError):
        pass
    return DisconnectedError(f"an answer of kind {kind} is malformed")


def _string(packet: bytes, at: int) -> tuple[bytes, int]:
    end = at + 4 + _U32.unpack_from(packet, at)[0]
    return packet[at + 4 : end], end


def _status(packet: bytes) -> OSError | None:
    code = _U32.unpack_from(packet, 5)[0]
    if code == 0:
        return None
    text = _string(packet, 9)[0].decode(errors="replace") if len(packet) >= 13 else ""
    return error_of(code, text)


def error_of(code: int, text: str) -> OSError:
    """Return the error for a status of SFTP (draft-ietf-secsh-filexfer-02, section 7)."""
    if code == 1:
        return EndOfFileError(errno.ENODATA, text or "end of file")
    if code == 2:
        return FileNotFoundError(errno.ENOENT, text or "no such file")
    if code == 3:
        return PermissionError(errno.EACCES, text or "permission denied")
    if code == 5:
        # OpenSSH returns this for names that are too long, too.
        return NameTooLongError(errno.ENAMETOOLONG, text or "bad message")
    if code in (6, 7):
        return DisconnectedError(text or "the server has lost its connection")
    if code == 8:
        return OSError(errno.ENOTSUP, text or "operation unsupported")
    return RefusedError(errno.EIO, text or "failure")


class EndOfFileError(OSError):
    """The end of a file or directory."""


def _attributes(packet: bytes, at: int) -> tuple[FileStatus, int]:
    flags = _U32.unpack_from(packet, at)[0]
    at += 4
    size = mode = atime = mtime = 0
    if flags & _HAS_SIZE:
        size = _U64.unpack_from(packet, at)[0]
        at += 8
    if flags & _HAS_OWNER:
        at += 8
    if flags & _HAS_MODE:
        mode = _U32.unpack_from(packet, at)[0]
        at += 4
    if flags & _HAS_TIMES:
        atime = _U32.unpack_from(packet, at)[0]
        mtime = _U32.unpack_from(packet, at + 4)[0]
        at += 8
    if flags & _HAS_MORE:
        count = _U32.unpack_from(packet, at)[0]
        at += 4
        for _ in range(2 * count):
            at = _string(packet, at)[1]
    return _file_status(mode, size, atime, mtime), at


def _file_status(mode: int, size: int, atime: int, mtime: int) -> FileStatus:
    if not mode:
        mode = stat.S_IFREG  # a server that does not return the kind of a file
    if atime >= _CARRIED:
        carried = atime - _CARRIED
        marked = carried >= _MARK
        nanoseconds = carried & (_MARK - 1)
        if nanoseconds < _SECOND:
            return FileStatus(mode, size, mtime * _SECOND + nanoseconds, marked)
    return FileStatus(mode, size, mtime * _SECOND)


def _names(packet: bytes) -> list[Listed]:
    count = _U32.unpack_from(packet, 5)[0]
    at = 9
    found: list[Listed] = []
    for _ in range(count):
        name, at = _string(packet, at)
        at += 4 + _U32.unpack_from(packet, at)[0]  # the line that `ls -l` would show
        status, at = _attributes(packet, at)
        found.append(Listed(name, status))
    return found


def limits_of(answer: bytes) -> ServerLimits:
    """Parse the answer of ``limits@openssh.com``."""
    if len(answer) < 32:
        return ServerLimits()
    _, read, write, handles = (_U64.unpack_from(answer, at)[0] for at in (0, 8, 16, 24))
    least = ServerLimits()
    return ServerLimits(
        min(max(least.read, read), _LARGEST_BLOCK), min(max(least.write, write), _LARGEST_BLOCK), handles
    )


def free_blocks_of(answer: bytes) -> int:
    """Return how many blocks are free for the user, from the answer of ``statvfs@openssh.com``."""
    free: int = _U64.unpack_from(answer, 32)[0] if len(answer) >= 40 else 1
    return free


def encoded(path: str) -> bytes:
    """Return a path as bytes; names that are not UTF-8 keep their bytes."""
    return os.fsencode(path)
