"""Answers of a server: each is checked against its request here, and nowhere else.

Sources: draft-ietf-secsh-filexfer-02, sections 5 and 7; OpenSSH's ``PROTOCOL``, section 4.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from typing import Final

from trove_async.drivers.sftp.errors import (
    DisconnectedError,
    EndOfFileError,
    NameTooLongError,
    ProtocolError,
    RefusedError,
)
from trove_async.drivers.sftp.protocol import (
    LIMITS,
    STATVFS,
    VERSION,
    FileStatus,
    Kind,
    Listed,
    ServerLimits,
    pack_string,
)

__all__ = ["Answer", "Expected", "expected_of", "free_blocks_of", "limits_of", "parse_answer", "parse_version"]

Answer = bytes | FileStatus | list[Listed] | OSError | None
"""The content of an answer: a handle, data, a path or the reply of an extension is bytes; a success is None."""
Expected = tuple[Kind, int]
"""The kind of answer that a request needs, and a limit: the bytes of data, or the number of names (0 for any)."""

_LARGEST_BLOCK: Final = 256 * 1024
"""Bytes of a read or write beyond which one costs no less for each byte; asyncssh's server takes 4 MiB."""
_LONGEST_HANDLE: Final = 256  # draft-ietf-secsh-filexfer-02, section 6.2
_LONGEST_TEXT: Final = 500
"""Characters of an error text of the server that are shown."""
_LARGEST_FILE: Final = 2**63 - 1

_SUCCESS: Final[Expected] = (Kind.STATUS, 0)
_EXPECTED: Final[dict[Kind, Expected | None]] = {
    **dict.fromkeys(Kind, _SUCCESS),
    **dict.fromkeys((Kind.OPEN, Kind.OPENDIR), (Kind.HANDLE, 0)),
    **dict.fromkeys((Kind.LSTAT, Kind.STAT, Kind.FSTAT), (Kind.ATTRS, 0)),
    **dict.fromkeys((Kind.REALPATH, Kind.READLINK), (Kind.NAME, 1)),
    Kind.READDIR: (Kind.NAME, 0),
    # It depends on the request.
    Kind.READ: None,
    Kind.EXTENDED: None,
}
_REPLY: Final[Expected] = (Kind.EXTENDED_REPLY, 0)
_WITH_REPLY: Final = (pack_string(LIMITS), pack_string(STATVFS))
_ENDING: Final = (Kind.DATA, Kind.NAME, Kind.STATUS)
"""The answers of requests that may reach the end of a file or directory."""

_HAS_SIZE: Final = 0x01
_HAS_OWNER: Final = 0x02
_HAS_MODE: Final = 0x04
_HAS_TIMES: Final = 0x08
_HAS_MORE: Final = 0x8000_0000
_USUAL: Final = _HAS_SIZE | _HAS_OWNER | _HAS_MODE | _HAS_TIMES
_DEFINED: Final = _USUAL | _HAS_MORE

# Plain numbers, since comparing with them is faster.
_STATUS: Final = int(Kind.STATUS)
_HANDLE: Final = int(Kind.HANDLE)
_DATA: Final = int(Kind.DATA)
_NAME: Final = int(Kind.NAME)
_ATTRS: Final = int(Kind.ATTRS)
_OK: Final = bytes(4)
"""The code of success in a status."""

_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_USUAL_ATTRIBUTES: Final = struct.Struct(">Q2I3I")


def expected_of(kind: Kind, parts: Sequence[bytes | memoryview]) -> Expected:
    """Return the answer that a request needs; any request may be answered with an error instead."""
    expected = _EXPECTED[kind]
    if expected is not None:
        return expected
    if kind == Kind.READ:
        return Kind.DATA, int.from_bytes(parts[-1], "big")
    return _REPLY if parts[0] in _WITH_REPLY else _SUCCESS


def parse_answer(packet: bytes | memoryview, expected: Expected) -> Answer:
    """Return the content of an answer; an error that the server reports is returned as an `OSError`.

    Args:
        packet: at least its kind and the number of the request.
        expected: what the request needs.

    Raises:
        ProtocolError: it is no answer to such a request, or it is malformed.
    """
    kind, limit = expected
    found = packet[0]
    try:
        if found == _STATUS:
            if kind == _STATUS and packet[5:9] == _OK:
                return None
            return _status(bytes(packet), kind)
        if found != kind:
            raise ProtocolError(f"the server answered with a packet of kind {found} where {kind.name} is expected")
        if found == _DATA:
            return _data(packet, limit)
        packet = bytes(packet)
        if found == _ATTRS:
            status, end = _attributes(packet, 5)
            _check_end(packet, end)
            return status
        if found == _HANDLE:
            return _handle(packet)
        if found == _NAME:
            return _path(packet) if limit else _names(packet)
    except struct.error:
        raise ProtocolError(f"an answer of the server ({kind.name}) is too short") from None
    return bytes(packet[5:])


def parse_version(packet: bytes) -> frozenset[bytes]:
    """Return the extensions that the server's first packet names.

    Raises:
        ProtocolError: the packet is something else, or names an older version of SFTP.
    """
    if not packet or packet[0] != Kind.VERSION:
        raise ProtocolError("the server's first packet is not an SFTP packet")
    found: set[bytes] = set()
    try:
        version = _U32.unpack_from(packet, 1)[0]
        at = 5
        while at < len(packet):
            name, at = _string(packet, at)
            _, at = _string(packet, at)
            found.add(name)
    except struct.error:
        raise ProtocolError("the server's first packet is malformed") from None
    if version < VERSION:
        raise ProtocolError(f"the server speaks version {version} of SFTP; version 3 is required")
    return frozenset(found)


def _string(packet: bytes, at: int) -> tuple[bytes, int]:
    start = at + 4
    end = start + _U32.unpack_from(packet, at)[0]
    if end > len(packet):
        raise struct.error
    return packet[start:end], end


def _check_end(packet: bytes | memoryview, end: int) -> None:
    if end != len(packet):
        raise ProtocolError("an answer of the server is longer than its content")


def _data(packet: bytes | memoryview, limit: int) -> bytes | OSError:
    size = _U32.unpack_from(packet, 5)[0]
    if size > limit:
        raise ProtocolError(f"the server returned {size} bytes of a file where {limit} were requested")
    if 9 + size > len(packet):
        raise struct.error
    _check_end(packet, 9 + size)
    return bytes(packet[9:]) if size else EndOfFileError(errno.ENODATA, "end of file")


def _handle(packet: bytes) -> bytes:
    handle, end = _string(packet, 5)
    _check_end(packet, end)
    if not 0 < len(handle) <= _LONGEST_HANDLE:
        raise ProtocolError(f"the server returned a handle of {len(handle)} bytes; 1 to {_LONGEST_HANDLE} are allowed")
    return handle


def _status(packet: bytes, expected: Kind) -> OSError:
    code = _U32.unpack_from(packet, 5)[0]
    if code == 0:
        raise ProtocolError(f"the server reported success where {expected.name} is expected")
    # Old servers leave the text out.
    raw = _string(packet, 9)[0] if len(packet) > 9 else b""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in raw.decode(errors="replace"))
    return _error_of(code, text[:_LONGEST_TEXT], expected)


def _error_of(code: int, text: str, expected: Kind) -> OSError:
    """Return the error for a status of SFTP (draft-ietf-secsh-filexfer-02, section 7)."""
    if code == 1 and expected in _ENDING:
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


def _attributes(packet: bytes, at: int) -> tuple[FileStatus, int]:
    flags = _U32.unpack_from(packet, at)[0]
    at += 4
    if flags == _USUAL:
        size, _, _, mode, atime, mtime = _USUAL_ATTRIBUTES.unpack_from(packet, at)
        at += _USUAL_ATTRIBUTES.size
    else:
        if flags & ~_DEFINED:
            # Their fields have an unknown length, so nothing that follows can be read.
            raise ProtocolError(f"the server returned attributes with flags {flags:#x}, which SFTP 3 does not define")
        size, mode, atime, mtime = -1, 0, -1, -1
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
            for _ in range(2 * count):  # ends with the packet: each string has at least its length
                at = _string(packet, at)[1]
        if at > len(packet):
            raise struct.error
    if size > _LARGEST_FILE:
        raise ProtocolError(f"the server returned a file size of {size} bytes; a file has at most {_LARGEST_FILE}")
    return FileStatus.of(mode, size, atime, mtime), at


def _listed(packet: bytes) -> list[Listed]:
    count = _U32.unpack_from(packet, 5)[0]
    at = 9
    found: list[Listed] = []
    for _ in range(count):  # ends with the packet, however large the count
        name, at = _string(packet, at)
        at = _string(packet, at)[1]  # the line that `ls -l` would show
        status, at = _attributes(packet, at)
        found.append(Listed(name, status))
    _check_end(packet, at)
    return found


def _names(packet: bytes) -> list[Listed] | OSError:
    found = _listed(packet)
    for listed in found:
        if not listed.name or b"/" in listed.name or b"\0" in listed.name:
            raise ProtocolError(f"the server listed {listed.name[:100]!r}, which is not the name of a file")
    # OpenSSH's client, too, takes an answer without names for the end of the directory.
    return found or EndOfFileError(errno.ENODATA, "end of directory")


def _path(packet: bytes) -> bytes:
    found = _listed(packet)
    if len(found) != 1:
        raise ProtocolError(f"the server returned {len(found)} paths where one is expected")
    return found[0].name


def limits_of(reply: bytes) -> ServerLimits:
    """Parse the reply of ``limits@openssh.com``."""
    if len(reply) < 32:
        return ServerLimits()
    _, read, write, handles = (_U64.unpack_from(reply, at)[0] for at in (0, 8, 16, 24))
    least = ServerLimits()
    return ServerLimits(
        min(max(least.read, read), _LARGEST_BLOCK), min(max(least.write, write), _LARGEST_BLOCK), handles
    )


def free_blocks_of(reply: bytes) -> int:
    """Return how many blocks are free for the user, from the reply of ``statvfs@openssh.com``."""
    free: int = _U64.unpack_from(reply, 32)[0] if len(reply) >= 40 else 1
    return free
