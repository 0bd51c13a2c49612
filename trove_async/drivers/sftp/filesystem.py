"""A server's file system, as a tree needs it: each operation is as few round trips as SFTP allows."""

from __future__ import annotations

import errno
import stat
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import count
from typing import Any, Final

from trove_async.body import Chunk
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, RefusedError, SpaceError
from trove_async.drivers.sftp.files import File, Files
from trove_async.drivers.sftp.protocol import (
    COPY_DATA,
    FSYNC,
    POSIX_RENAME,
    STATVFS,
    EndOfFileError,
    FileStatus,
    Kind,
    Listed,
    OpenFlag,
    free_blocks_of,
    pack_string,
    pack_times,
    pack_u32,
    pack_u64,
)
from trove_async.drivers.sftp.requests import NO_ATTRIBUTES, Requests, over, path_bytes
from trove_async.errors import UnavailableError
from trove_async.tree import DirEntry, FileSystem, Temporary
from trove_async.tree.filesystem import is_dir, is_file

__all__ = ["SFTPFileSystem"]

IN_FLIGHT: Final = 4 * 1024 * 1024
"""Bytes of one file that are on their way at a time, which a link of 1 Gbit/s and 30 ms holds."""
_COPY_STEP: Final = 64 * 1024 * 1024
"""Bytes that the server copies at one request: it answers nothing else meanwhile."""
_DIRECTORY_DEPTH: Final = 4
"""Requests for names of a directory that are on their way at a time."""
_SMALL_READ: Final = 32 * 1024
_HAS_MODE: Final = 0x04
_NEW: Final = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE
_SETTLED_SECONDS: Final = 3
"""A directory that changed no longer ago may have changed again within the same second, as two clocks see it."""

LockMaker = Callable[[int], AbstractAsyncContextManager[None]]


class SFTPFileSystem(Requests, FileSystem):
    """The files below a root of a server.

    Args:
        connection: gives the channel.
        durable: whether files are flushed to the server's disk.
        attempts: how often what was being written is sent when the connection is lost.

    Attributes:
        scratch: our folder of temporaries, which exists once the root is open.
        carries_times: whether the access time carries the nanoseconds; see `FileStatus`.
        replaces: whether a file can be renamed over another, atomically.
        has_links: whether a file can be given a second name, and none that is taken.
        now: gives every file of ours a time of its own, in nanoseconds.
        clock: the server's time in seconds, as far as we can tell.
        scratch_lapsed: tells whether our folder of temporaries may have been swept by others.
        lock_maker: makes the locks.
    """

    def __init__(self, connection: Connection, *, durable: bool, attempts: int) -> None:
        super().__init__(connection)
        self._durable = durable
        self._numbers = count()
        self._files = Files()
        self._left_behind: list[str] = []
        self.now: Callable[[], int] = time.time_ns
        self.attempts = attempts
        self.scratch = ""
        self.carries_times = True
        self.replaces = True
        self.has_links = False
        self.clock: Callable[[], float] = time.time
        self.scratch_lapsed: Callable[[], bool] = lambda: False
        self.lock_maker: LockMaker | None = None

    @property
    def has_left_behind(self) -> bool:
        """Tell whether there are files of ours to be removed."""
        return bool(self._left_behind)

    # Opening

    def file(self, handle: int) -> File:
        """Return what is known of an open file."""
        return self._files[handle]

    def adopt(self, channel: Channel, raw: bytes, path: str, *, size: int = 0) -> int:
        """Take an open file into the table; return its handle."""
        return self._files.add(File(channel, raw, path, size))

    async def open(self, path: str) -> tuple[int, FileStatus] | None:
        """Open a regular file; what is none, such as a FIFO, is not opened: the server would wait for it."""
        if not is_file(await self.lstat(path)):
            return None
        channel = await self.channel()
        try:
            raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), NO_ATTRIBUTES)
        except FileNotFoundError:
            return None
        handle = self.adopt(channel, raw, path)
        try:
            status: FileStatus = await channel.request(Kind.FSTAT, pack_string(raw))
        except BaseException:
            await self.close(handle)
            raise
        if is_file(status):
            self.file(handle).size = status.st_size
            return handle, status
        await self.close(handle)
        return None

    async def create(self, path: str) -> int:
        """Make a new file."""
        return await self.exclusively(path, lambda: self._open(path, _NEW))

    async def create_private(self, path: str) -> int:
        """Make a new file that nobody else may read."""
        flags = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE
        return await self._open(path, flags, pack_u32(_HAS_MODE) + pack_u32(0o600))

    async def _open(self, path: str, flags: OpenFlag, attributes: bytes = NO_ATTRIBUTES) -> int:
        channel = await self.channel()
        raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), attributes)
        return self.adopt(channel, raw, path)

    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Make a file in our folder of temporaries."""
        path = self.temporary()
        try:
            temporary = Temporary(await self._open(path, _NEW), path)
        except DisconnectedError:
            self._left_behind.append(path)
            raise
        if content:
            try:
                await self.write(temporary.handle, (content,))
            except BaseException:
                await self.discard(temporary)
                raise
        return temporary

    async def reopen(self, handle: int) -> None:
        """Open a file that we write again, if the connection on which it was opened is gone."""
        file = self.file(handle)
        channel = await self.channel()
        if file.channel is not channel or file.raw is None:
            flags = OpenFlag.READ | OpenFlag.WRITE
            file.raw = await channel.request(Kind.OPEN, path_bytes(file.path), pack_u32(flags), NO_ATTRIBUTES)
            file.channel = channel

    async def close(self, handle: int) -> None:
        """Close a file; one of a connection that is gone is closed already."""
        file = self._files.pop(handle)
        if file is not None and file.raw is not None and file.channel.failure is None:
            with suppress(OSError):
                await file.channel.close_handle(file.raw)

    def let_go(self, handle: int) -> None:
        """Close a file without waiting for it."""
        file = self._files.pop(handle)
        if file is not None and file.raw is not None and file.channel.failure is None:
            file.channel.close_handle(file.raw)

    # Content

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read from a place, with as much on its way as fits."""
        file = self.file(handle)
        step = file.channel.limits.read
        depth = max(1, IN_FLIGHT // step)
        asked: deque[tuple[int, Any]] = deque()
        chunks: list[bytes] = []
        at, end = offset, offset + size
        while at < end or asked:
            while at < end and len(asked) < depth:
                length = min(step, end - at)
                asked.append((length, file.request(Kind.READ, pack_u64(at), pack_u32(length))))
                at += length
            length, answer = asked.popleft()
            try:
                chunk = await answer
            except EndOfFileError:
                break
            if not chunk:
                break
            chunks.append(chunk)
            if len(chunk) < length:  # the end; or a server that returns less than it was asked for
                at, asked = at - sum(asked_length for asked_length, _ in asked) - (length - len(chunk)), deque()
        return b"".join(chunks) if len(chunks) != 1 else chunks[0]

    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append all of them, with as much on its way as fits; a connection that is lost meanwhile is survived."""
        file = self.file(handle)
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            failures = 0
            while True:
                try:
                    if failures:
                        await self.reopen(handle)
                    await self._append(file, view)
                    break
                except DisconnectedError:
                    failures += 1
                    if failures == self.attempts:
                        raise
            file.size += len(view)

    async def _append(self, file: File, view: memoryview) -> None:
        step = file.channel.limits.write
        depth = max(1, IN_FLIGHT // step)
        asked: deque[Any] = deque()
        at = 0
        try:
            while at < len(view) or asked:
                while at < len(view) and len(asked) < depth:
                    part = view[at : at + step]
                    asked.append(file.request(Kind.WRITE, pack_u64(file.size + at), pack_u32(len(part)), part))
                    at += len(part)
                    if file.channel.writable is not None:
                        break
                await asked.popleft()
        except RefusedError as error:
            raise await self.why_refused(error, file.path) from error

    async def why_refused(self, error: OSError, path: str) -> OSError:
        """Return a better error for a write that was refused: SFTP has one status for a full disk and all the rest."""
        with suppress(OSError):
            if isinstance(error, RefusedError) and not free_blocks_of(await self.extended(STATVFS, path_bytes(path))):
                return SpaceError(errno.ENOSPC, "no space is left on the server")
        return error

    async def copy_data(self, source: int, target: int, checkpoint: Callable[[], None]) -> None:
        """Have the server copy, where it can; else what is read is written again."""
        reading, writing = self.file(source), self.file(target)
        size = reading.size
        copies = COPY_DATA in writing.channel.extensions and reading.channel is writing.channel
        at = 0
        while at < size:
            checkpoint()
            length = min(_COPY_STEP if copies else IN_FLIGHT, size - at)
            if copies:
                assert reading.raw is not None
                assert writing.raw is not None
                await writing.channel.request(
                    Kind.EXTENDED,
                    pack_string(COPY_DATA),
                    pack_string(reading.raw) + pack_u64(at) + pack_u64(length),
                    pack_string(writing.raw) + pack_u64(writing.size),
                )
                writing.size += length
            else:
                chunk = await self.read(source, at, length)
                if len(chunk) < length:
                    raise RefusedError(errno.EIO, "a file became shorter while it was copied")
                await self.write(target, (chunk,))
            at += length

    async def set_time(self, handle: int, mtime_ns: int) -> FileStatus:
        """Set the modification time, and have the access time carry what it cannot."""
        file = self.file(handle)
        await file.request(Kind.FSETSTAT, pack_times(mtime_ns, carried=self.carries_times, marked=False))
        return self.status_for(file.size, mtime_ns, marked=False)

    def status_for(self, size: int, mtime_ns: int, *, marked: bool) -> FileStatus:
        """Return the status that a file of ours has once its times are set."""
        if self.carries_times:
            return FileStatus(stat.S_IFREG, size, mtime_ns, marked)
        return FileStatus(stat.S_IFREG, size, mtime_ns - mtime_ns % 1_000_000_000)

    async def mark(self, handle: int, status: FileStatus) -> None:
        """Note with an open file that metadata is stored for it; its time stays."""
        if self.carries_times and status.marked is False:
            times = pack_times(status.st_mtime_ns, carried=True, marked=True)
            await self.file(handle).request(Kind.FSETSTAT, times)

    def seal(self, handle: int, mtime_ns: int, *, marked: bool) -> list[Any]:
        """Send what a written file needs before it gets its place: time, flush, close; return the answers to come."""
        file = self.file(handle)
        times = pack_times(mtime_ns, carried=self.carries_times, marked=marked)
        answers = [file.request(Kind.FSETSTAT, times)]
        assert file.raw is not None
        if self._durable and FSYNC in file.channel.extensions:
            answers.append(file.channel.request(Kind.EXTENDED, pack_string(FSYNC), pack_string(file.raw)))
        answers.append(file.channel.close_handle(file.raw))
        file.raw = None
        return answers

    def send(self, handle: int, content: Chunk) -> list[Any]:
        """Send one block to be appended; return the answers to come."""
        file = self.file(handle)
        if not content:
            return []
        at, file.size = file.size, file.size + len(content)
        return [file.request(Kind.WRITE, pack_u64(at), pack_u32(len(content)), memoryview(content).cast("B"))]

    async def sync(self, handle: int) -> None:
        """Flush a file to the disk, where the server can and the store is to be durable."""
        file = self.file(handle)
        if self._durable and file.raw is not None and FSYNC in file.channel.extensions:
            await file.channel.request(Kind.EXTENDED, pack_string(FSYNC), pack_string(file.raw))

    async def sync_directory(self, path: str) -> None:
        """Do nothing: SFTP cannot flush a directory."""

    async def get_attribute(self, handle: int) -> bytes | None:
        """Return None: SFTP has no extended attributes."""
        return None

    async def set_attribute(self, handle: int, value: bytes) -> bool:
        """Return False: SFTP has no extended attributes."""
        return False

    @property
    def has_attributes(self) -> bool:
        """False: SFTP has no extended attributes."""
        return False

    # Files of ours

    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small file, in two round trips."""
        channel = await self.channel()
        try:
            raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), NO_ATTRIBUTES)
        except FileNotFoundError:
            return None
        reading = channel.request(Kind.READ, pack_string(raw), pack_u64(0), pack_u32(_SMALL_READ))
        closing = channel.close_handle(raw)
        try:
            content: bytes = await reading
        except EndOfFileError:
            content = b""
        finally:
            await over(closing)
        return content if len(content) < _SMALL_READ else await self._read_whole(path)

    async def _read_whole(self, path: str) -> bytes | None:
        """Return the content of a file of ours that is longer than most."""
        opened = await self.open(path)
        if opened is None:
            return None
        handle, status = opened
        try:
            return await self.read(handle, 0, status.st_size)
        finally:
            await self.close(handle)

    async def write_new(self, path: str, content: bytes, mtime_ns: int) -> None:
        """Write a file that nobody looks at yet; make its directory if need be."""
        try:
            handle = await self.create(path)
        except FileNotFoundError:
            await self.make_directories(path.rpartition("/")[0])
            handle = await self.create(path)
        try:
            writing = self.send(handle, content) if len(content) <= self.file(handle).channel.limits.write else []
            if content and not writing:
                await self.write(handle, (content,))
            for answer in (*writing, *self.seal(handle, mtime_ns, marked=False)):
                await answer
        except BaseException:
            await self.close(handle)
            await self.unlink(path)
            raise
        await self.close(handle)

    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small file, atomically where the server can."""
        temporary = self.temporary()
        mtime_ns = self.now()
        if not self.carries_times and (there := await self.lstat(path)) is not None:
            mtime_ns = max(mtime_ns, there.st_mtime_ns + 1_000_000_000)  # its time tells whether it has changed
        try:
            await self.write_new(temporary, content, mtime_ns)
            try:
                await self.rename(temporary, path)
            except FileNotFoundError:
                await self.make_directories(path.rpartition("/")[0])
                await self.rename(temporary, path)
        except BaseException:
            await self.unlink(temporary)
            raise

    # Directories

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory, which come with their status."""
        channel = await self.channel()
        try:
            raw = await channel.request(Kind.OPENDIR, path_bytes(path))
        except (FileNotFoundError, RefusedError):
            await self._check_missing(path)
            return
        handle = self.adopt(channel, raw, path)
        asked: deque[Any] = deque()
        depth = 2
        try:
            while True:
                while len(asked) < depth:
                    asked.append(channel.request(Kind.READDIR, pack_string(raw)))
                depth = _DIRECTORY_DEPTH
                names: list[Listed] = await asked.popleft()
                for name, status in names:
                    if name not in (b".", b".."):
                        text = name.decode("utf-8", "surrogateescape")
                        yield DirEntry(text, is_dir(status), is_file(status), status)
        except EndOfFileError:
            return
        except (FileNotFoundError, RefusedError):
            # asyncssh's server says so of a missing directory only now; or of a file that went while it was looked at.
            await self._check_missing(path)
        finally:
            await self.close(handle)

    async def _check_missing(self, path: str) -> None:
        """See that there is no directory.

        Raises:
            UnavailableError: there is one, and reading it failed.
        """
        if is_dir(await self.lstat(path)):
            raise UnavailableError(f"the directory {path!r} could not be read; it may have changed meanwhile")

    async def is_empty(self, path: str) -> bool:
        """Tell whether a directory holds nothing, or comes and goes while it is looked at."""
        scan = self.scan(path)
        try:
            async for _ in scan:
                return False
        except UnavailableError:
            return True
        else:
            return True
        finally:
            await scan.aclose()

    def settled(self, mtime_ns: int) -> bool:
        """Tell whether a directory that changed at a time, and has that time still, has not changed since."""
        return self.clock() - mtime_ns / 1_000_000_000 > _SETTLED_SECONDS

    # Committing

    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Rename a file to its place, in one request."""
        assert temporary.path is not None
        source, target = path_bytes(temporary.path), path_bytes(path)
        try:
            if await self.has(POSIX_RENAME):
                await self.extended(POSIX_RENAME, source, target)
            else:
                await self.ask(Kind.RENAME, source, target)
        except (RefusedError, PermissionError) as error:
            there = await self.lstat(path)
            if is_dir(there):
                raise IsADirectoryError(errno.EISDIR, "is a directory", path) from error
            if there is not None and not self.replaces:
                raise OSError(
                    errno.ENOTSUP, "it has no posix-rename, so that an object can be made, but not replaced: delete it"
                ) from error
            raise
        except FileNotFoundError as error:
            if await self.lstat(temporary.path) is None:
                raise RefusedError(errno.EIO, "our temporary file is gone from .trove/tmp") from error
            raise
        temporary.committed = True

    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove it unless it was committed."""
        file = self._files.pop(temporary.handle)
        if file is not None and file.raw is not None and file.channel.failure is None:
            file.channel.close_handle(file.raw)
        if temporary.path is not None and not temporary.committed:
            try:
                await self.unlink(temporary.path)
            except OSError:
                self._left_behind.append(temporary.path)

    def leave_behind(self, path: str) -> None:
        """Note a file of ours that is to be removed at the next occasion."""
        self._left_behind.append(path)

    async def remove_left_behind(self) -> None:
        """Remove temporaries that could not be removed when the connection was lost."""
        while self._left_behind:
            path = self._left_behind.pop()
            try:
                await self.unlink(path)
            except DisconnectedError:
                self._left_behind.append(path)
                return

    def temporary(self) -> str:
        """Return a path in our own folder of temporaries."""
        return f"{self.scratch}/{next(self._numbers)}"

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Hold a lock of the store: a file that is made exclusively."""
        assert self.lock_maker is not None
        return self.lock_maker(stripe)
