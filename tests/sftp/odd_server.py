"""A server of SFTP 3 on a real directory; a test overrides the parts that must misbehave.

A test overrides a method of `Odd`: one that carries out a request, or `answer`, which builds the packets.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh

import trove_async as trove
from trove_async.drivers.sftp.protocol import Kind, OpenFlag, pack_string, pack_u32, pack_u64

__all__ = ["Fields", "Odd", "attributes", "opened_odd", "serving", "status"]

_MODES = {OpenFlag.READ: os.O_RDONLY, OpenFlag.WRITE: os.O_WRONLY, OpenFlag.READ | OpenFlag.WRITE: os.O_RDWR}
_CODES = {errno.ENOENT: 2, errno.ENOTDIR: 2, errno.EACCES: 3, errno.EPERM: 3, errno.ENOTSUP: 8}


class Fields:
    """The fields of a request, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        return self._take(self.u32())


def status(number: bytes, code: int, text: str = "") -> bytes:
    """Return the packet that reports success or an error."""
    return bytes((Kind.STATUS,)) + number + pack_u32(code) + pack_string(text.encode()) + pack_string(b"")


def attributes(found: os.stat_result, *, mode: bool = True, size: bool = True, times: bool = True) -> bytes:
    """Return the attributes of a file, or some of them."""
    packed = pack_u32(0x01 * size | 0x04 * mode | 0x08 * times)
    if size:
        packed += pack_u64(found.st_size)
    if mode:
        packed += pack_u32(found.st_mode)
    if times:
        packed += struct.pack(">II", int(found.st_atime), int(found.st_mtime))
    return packed


class Odd:
    """The behaviour of a server; without overrides it is correct.

    Attributes:
        extensions: the extensions that the server announces.
        counts: the number of requests of each kind.
        sessions: the number of sessions.
    """

    extensions: Sequence[bytes] = (b"posix-rename@openssh.com", b"hardlink@openssh.com", b"copy-data")

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self.sessions = 0
        self._handles: dict[bytes, int | list[list[bytes]]] = {}
        self._number = 0
        self._requests: dict[Kind, Callable[[bytes, Fields], bytes]] = {
            Kind.OPEN: self._open,
            Kind.CLOSE: self._close,
            Kind.READ: self._read,
            Kind.WRITE: self._write,
            Kind.LSTAT: lambda n, f: self._attributes(n, self.lstat(self.path(f.string()))),
            Kind.STAT: lambda n, f: self._attributes(n, self.stat(self.path(f.string()))),
            Kind.FSTAT: lambda n, f: self._attributes(n, self.fstat(self.file(f.string()))),
            Kind.SETSTAT: lambda n, f: self._set_times(n, self.path(f.string()), f),
            Kind.FSETSTAT: lambda n, f: self._set_times(n, self.file(f.string()), f),
            Kind.OPENDIR: self._open_directory,
            Kind.READDIR: self._names,
            Kind.REALPATH: lambda n, f: self._path(n, os.path.realpath(self.path(f.string()))),
            Kind.READLINK: lambda n, f: self._path(n, os.readlink(self.path(f.string()))),
            Kind.EXTENDED: self._extended,
        }
        self._on_path: dict[Kind, Callable[[str], None]] = {
            Kind.REMOVE: self.remove,
            Kind.MKDIR: self.mkdir,
            Kind.RMDIR: os.rmdir,
        }
        self._on_paths: dict[Kind | bytes, Callable[[str, str], None]] = {
            Kind.RENAME: self.rename,
            b"posix-rename@openssh.com": self.posix_rename,
            b"hardlink@openssh.com": self.link,
        }

    # Operations

    def path(self, raw: bytes) -> str:
        """Return the path on the disk of a path in a request."""
        return os.fsdecode(raw)

    def open(self, path: str, flags: OpenFlag) -> int:
        mode = _MODES[flags & (OpenFlag.READ | OpenFlag.WRITE)]
        if flags & OpenFlag.CREATE:
            mode |= os.O_CREAT
        if flags & OpenFlag.EXCLUSIVE:
            mode |= os.O_EXCL
        return os.open(path, mode, 0o600)

    def read(self, file: int, offset: int, size: int) -> bytes:
        return os.pread(file, size, offset)

    def write(self, file: int, offset: int, data: bytes) -> None:
        os.pwrite(file, data, offset)

    def lstat(self, path: str) -> bytes:
        return attributes(os.lstat(path))

    def stat(self, path: str) -> bytes:
        return attributes(os.stat(path))

    def fstat(self, file: int) -> bytes:
        return attributes(os.fstat(file))

    def set_times(self, target: str | int, atime: int, mtime: int) -> None:
        os.utime(target, (atime, mtime))

    def listed(self, path: str) -> bytes:
        """Return the attributes of a name in a directory."""
        return attributes(os.lstat(path))

    def names(self, path: str) -> list[bytes]:
        return os.listdir(os.fsencode(path))

    def mkdir(self, path: str) -> None:
        os.mkdir(path)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def rename(self, source: str, target: str) -> None:
        if os.path.lexists(target):
            raise OSError(errno.EEXIST, "file exists")
        os.rename(source, target)

    def posix_rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def copy(self, source: int, at: int, size: int, target: int, to: int) -> None:
        os.pwrite(target, os.pread(source, size, at), to)

    # Packets

    def answer(self, kind: Kind, number: bytes, fields: Fields) -> list[bytes]:
        """Return the packets that answer a request."""
        try:
            if kind in self._requests:
                return [self._requests[kind](number, fields)]
            if kind in self._on_path:
                self._on_path[kind](self.path(fields.string()))
            else:
                self._on_paths[kind](self.path(fields.string()), self.path(fields.string()))
            return [status(number, 0)]
        except OSError as error:
            return [status(number, _CODES.get(error.errno or 0, 4), os.strerror(error.errno or errno.EIO))]
        except KeyError:
            return [status(number, 4, "invalid handle")]

    def file(self, handle: bytes) -> int:
        found = self._handles[handle]
        assert isinstance(found, int)
        return found

    def handle(self, opened: int | list[list[bytes]]) -> bytes:
        """Return a new handle for an open file, or for the pages of a directory's names."""
        self._number += 1
        handle = b"%d" % self._number
        self._handles[handle] = opened
        return handle

    def _open(self, number: bytes, fields: Fields) -> bytes:
        handle = self.handle(self.open(self.path(fields.string()), OpenFlag(fields.u32())))
        return bytes((Kind.HANDLE,)) + number + pack_string(handle)

    def _close(self, number: bytes, fields: Fields) -> bytes:
        opened = self._handles.pop(fields.string())
        if isinstance(opened, int):
            os.close(opened)
        return status(number, 0)

    def _read(self, number: bytes, fields: Fields) -> bytes:
        data = self.read(self.file(fields.string()), fields.u64(), fields.u32())
        return bytes((Kind.DATA,)) + number + pack_string(data) if data else status(number, 1)

    def _write(self, number: bytes, fields: Fields) -> bytes:
        self.write(self.file(fields.string()), fields.u64(), fields.string())
        return status(number, 0)

    def _attributes(self, number: bytes, found: bytes) -> bytes:
        return bytes((Kind.ATTRS,)) + number + found

    def _set_times(self, number: bytes, target: str | int, fields: Fields) -> bytes:
        assert fields.u32() == 0x08
        self.set_times(target, fields.u32(), fields.u32())
        return status(number, 0)

    def _open_directory(self, number: bytes, fields: Fields) -> bytes:
        path = self.path(fields.string())
        names = [
            pack_string(name) + pack_string(b"") + self.listed(os.path.join(path, os.fsdecode(name)))
            for name in self.names(path)
        ]
        pages = [names[at : at + 50] for at in range(0, len(names), 50)]
        return bytes((Kind.HANDLE,)) + number + pack_string(self.handle(pages))

    def _names(self, number: bytes, fields: Fields) -> bytes:
        pages = self._handles[fields.string()]
        assert isinstance(pages, list)
        if not pages:
            return status(number, 1)
        page = pages.pop(0)
        return bytes((Kind.NAME,)) + number + pack_u32(len(page)) + b"".join(page)

    def _path(self, number: bytes, path: str) -> bytes:
        name = pack_string(os.fsencode(path))
        return bytes((Kind.NAME,)) + number + pack_u32(1) + name + name + pack_u32(0)

    def _extended(self, number: bytes, fields: Fields) -> bytes:
        name = fields.string()
        if name == b"copy-data":
            source, at, size = self.file(fields.string()), fields.u64(), fields.u64()
            self.copy(source, at, size, self.file(fields.string()), fields.u64())
        else:
            self._on_paths[name](self.path(fields.string()), self.path(fields.string()))
        return status(number, 0)

    def end(self) -> None:
        """Close what a client left open."""
        for opened in self._handles.values():
            if isinstance(opened, int):
                os.close(opened)
        self._handles.clear()


class _Session(asyncssh.SSHServerSession[bytes]):
    def __init__(self, odd: Odd) -> None:
        self._odd = odd
        self._buffer = bytearray()
        self._chan: asyncssh.SSHServerChannel[bytes]

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._chan = chan
        self._odd.sessions += 1

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[:4], "big")):
            packet = bytes(self._buffer[4:end])
            del self._buffer[:end]
            if packet[0] == Kind.INIT:
                names = b"".join(pack_string(name) + pack_string(b"1") for name in self._odd.extensions)
                answers = [bytes((Kind.VERSION,)) + pack_u32(3) + names]
            else:
                kind = Kind(packet[0])
                self._odd.counts[kind] += 1
                answers = self._odd.answer(kind, packet[1:5], Fields(packet[5:]))
            if not self._chan.is_closing():
                self._chan.write(b"".join(map(pack_string, answers)))


class _Logins(asyncssh.SSHServer):
    def __init__(self, odd: Odd) -> None:
        self._odd = odd

    def begin_auth(self, username: str) -> bool:
        return False

    def session_requested(self) -> _Session:
        return _Session(self._odd)


@asynccontextmanager
async def serving(odd: Odd) -> AsyncIterator[int]:
    """Serve; yield the port."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    try:
        async with await asyncssh.listen(
            "127.0.0.1", 0, server_factory=lambda: _Logins(odd), server_host_keys=[key], encoding=None
        ) as server:
            yield server.get_port()
    finally:
        odd.end()


@asynccontextmanager
async def opened_odd(odd: Odd, root: Path, **settings: Any) -> AsyncIterator[trove.Trove]:
    """Open a store on an odd server."""
    async with serving(odd) as port:
        dsn = f"sftp://nobody@127.0.0.1:{port}{root}?verify=0&agent=none&min_part_size=1"
        async with trove.open(dsn, **settings) as store:
            yield store
