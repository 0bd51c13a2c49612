"""The files on a server: opening, reading, writing and scanning, in as few round trips as SFTP allows."""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

from trove_async.body import Chunk
from trove_async.driver.retry import Attempts
from trove_async.drivers.sftp.abilities import ASSUMED, Abilities, Times
from trove_async.drivers.sftp.answers import free_blocks_of
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import (
    DisconnectedError,
    EndOfFileError,
    RefusedError,
    SpaceError,
)
from trove_async.drivers.sftp.files import OpenFile, OpenFiles
from trove_async.drivers.sftp.protocol import (
    FSYNC,
    STATVFS,
    FileStatus,
    Kind,
    Listed,
    OpenFlag,
    decoded,
    pack_string,
    pack_times,
    pack_u32,
    pack_u64,
)
from trove_async.drivers.sftp.reads import IN_FLIGHT, Reads
from trove_async.drivers.sftp.requests import NO_ATTRIBUTES, Requests, wait_ignoring_errors
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.drivers.sftp.steps import Recovery
from trove_async.errors import UnavailableError
from trove_async.tree import DirEntry
from trove_async.tree.filesystem import is_dir, is_file

__all__ = ["NEW", "RemoteFiles"]

NEW: Final = OpenFlag.CREATE | OpenFlag.EXCLUSIVE
"""How files are opened that must not exist yet, beside what they are opened for."""
_STATUSES: Final = 64
"""Requests for the status of a directory's files that are in flight at a time."""
_MOST_NAMES: Final = 10_000_000
"""How many names of a directory are read, so that a broken server cannot make a listing endless."""
_DIRECTORY_DEPTH: Final = 4
"""Requests for names of a directory that are in flight at a time."""
_SMALL_READ: Final = 32 * 1024
_HAS_MODE: Final = 0x04


class RemoteFiles(Requests):
    """The files on a server, by number.

    Args:
        connection: gives the channel.
        durable: whether files are flushed to the server's disk.
        recovery: of the store; a block is sent again when the connection is lost.
        abilities: what the server was seen to support.
    """

    def __init__(
        self, connection: Connection, *, durable: bool, recovery: Recovery, abilities: Abilities = ASSUMED
    ) -> None:
        super().__init__(connection, abilities)
        self._durable = durable
        self._files = OpenFiles()
        self.recovery = recovery

    @property
    def carries_times(self) -> bool:
        """Whether a file's access time carries the nanoseconds of its modification; see `FileStatus`."""
        return self.abilities.times is Times.CARRIED

    # Opening

    def file(self, handle: int) -> OpenFile:
        """Return an open file by its handle."""
        return self._files[handle]

    def adopt(self, channel: Channel, raw: bytes, path: str, *, size: int = 0) -> int:
        """Register a file that the server has opened; return its handle."""
        return self._files.add(OpenFile(channel, raw, path, size))

    async def open(self, path: str) -> tuple[int, FileStatus] | None:
        """Open a regular file for reading; anything else is not opened, since the server would wait at a FIFO."""
        seen = await self.lstat(path)
        if not is_file(seen):
            return None
        channel = await self.channel()
        try:
            opening = channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), NO_ATTRIBUTES)
            raw = await channel.handle_of(opening)
        except FileNotFoundError:
            return None
        handle = self.adopt(channel, raw, path)
        try:
            status: FileStatus | None = await channel.request(Kind.FSTAT, pack_string(raw))
            if status is not None and not status.is_complete:
                status = await self.lstat(path)
                if status != seen:
                    raise UnavailableError(f"{path!r} was replaced while it was being opened")
        except BaseException:
            await self.close(handle)
            raise
        if status is not None and is_file(status):
            self.file(handle).size = status.st_size
            return handle, status
        await self.close(handle)
        return None

    async def create(self, path: str) -> int:
        """Create a file."""
        return await self.exclusively(path, lambda: self._open(path, self._written | NEW))

    @property
    def _written(self) -> OpenFlag:
        """How files are opened that are written, and read where the server allows both at once."""
        return OpenFlag.READ | OpenFlag.WRITE if self.abilities.reads_written else OpenFlag.WRITE

    async def create_private(self, path: str) -> int:
        """Create a file that only its owner may read."""
        return await self._open(path, OpenFlag.WRITE | NEW, pack_u32(_HAS_MODE) + pack_u32(0o600))

    async def _open(self, path: str, flags: OpenFlag, attributes: bytes = NO_ATTRIBUTES) -> int:
        channel = await self.channel()
        opening = channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), attributes)
        raw = await channel.handle_of(opening)
        handle = self.adopt(channel, raw, path)
        self.file(handle).readable = OpenFlag.READ in flags
        return handle

    async def reopen(self, handle: int) -> None:
        """Open a file for writing again if the connection on which it was opened is lost."""
        file = self.file(handle)
        channel = await self.channel()
        if file.channel is not channel or file.raw is None:
            flags = pack_u32(self._written)
            opening = channel.request(Kind.OPEN, path_bytes(file.path), flags, NO_ATTRIBUTES)
            file.raw = await channel.handle_of(opening)
            file.channel = channel

    async def close(self, handle: int) -> None:
        """Close a file; when its connection is lost the server has closed it already."""
        file = self._files.pop(handle)
        if file is not None and file.raw is not None and file.channel.failure is None:
            with suppress(OSError):
                await file.channel.close_handle(file.raw)

    def let_go(self, handle: int) -> None:
        """Close a file without waiting for the answer."""
        file = self._files.pop(handle)
        if file is not None and file.raw is not None and file.channel.failure is None:
            file.channel.close_handle(file.raw)

    # Content

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Read from an offset, with several requests in flight."""
        file = self.file(handle)
        if not file.readable:
            return await self._read_written(file.path, offset, size)
        reads = Reads(file, offset, offset + size)
        chunks: list[bytes] = []
        try:
            while chunk := await reads.next():
                chunks.append(chunk)
        finally:
            reads.forget()
        return b"".join(chunks) if len(chunks) != 1 else chunks[0]

    async def _read_written(self, path: str, offset: int, size: int) -> bytes:
        """Read from a file that is open for writing only, over another handle."""
        handle = await self._open(path, OpenFlag.READ)
        try:
            return await self.read(handle, offset, size)
        finally:
            await self.close(handle)

    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks, with several requests in flight; if the connection is lost, go on over a new one."""
        file = self.file(handle)
        for chunk in chunks:
            view = memoryview(chunk).cast("B")
            attempts: Attempts | None = None
            while True:
                try:
                    if attempts is not None:
                        await self.reopen(handle)
                    await self._append(file, view)
                    break
                except DisconnectedError as error:
                    if attempts is None:
                        attempts = self.recovery.retries.of_step()
                    if not await self.recovery.step_again(attempts, error):
                        raise
            file.size += len(view)

    async def _append(self, file: OpenFile, view: memoryview) -> None:
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
        """Return a more exact error for a refused write: SFTP has no status of its own for a full disk."""
        with suppress(OSError):
            if isinstance(error, RefusedError) and not free_blocks_of(await self.extended(STATVFS, path_bytes(path))):
                return SpaceError(errno.ENOSPC, "no space is left on the server")
        return error

    def send(self, handle: int, content: Chunk) -> list[Any]:
        """Send a request that appends one block; return the pending answers."""
        file = self.file(handle)
        if not content:
            return []
        at, file.size = file.size, file.size + len(content)
        return [file.request(Kind.WRITE, pack_u64(at), pack_u32(len(content)), memoryview(content).cast("B"))]

    # Times and durability

    def status_for(self, size: int, mtime_ns: int, *, marked: bool) -> FileStatus:
        """Return the status that one of the library's files has after its times are set."""
        if self.carries_times:
            return FileStatus(stat.S_IFREG, size, mtime_ns, marked)
        return FileStatus(stat.S_IFREG, size, mtime_ns - mtime_ns % 1_000_000_000)

    def seal(self, handle: int, mtime_ns: int, *, marked: bool) -> list[Any]:
        """Send the requests that set a written file's time, flush it and close it; return the pending answers."""
        file = self.file(handle)
        answers: list[Any] = []
        if self.abilities.times is not Times.OBSERVED:
            times = pack_times(mtime_ns, carried=self.carries_times, marked=marked)
            answers.append(file.request(Kind.FSETSTAT, times))
        assert file.raw is not None
        if self._durable and self.abilities.syncs and FSYNC in file.channel.extensions:
            answers.append(file.channel.request(Kind.EXTENDED, pack_string(FSYNC), pack_string(file.raw)))
        answers.append(file.channel.close_handle(file.raw))
        file.raw = None
        return answers

    # Small files

    async def read_file(self, path: str) -> bytes | None:
        """Return the content of a small file, in two round trips."""
        channel = await self.channel()
        try:
            opening = channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), NO_ATTRIBUTES)
            raw = await channel.handle_of(opening)
        except FileNotFoundError:
            return None
        asking = channel.request(Kind.FSTAT, pack_string(raw))
        reading = channel.request(Kind.READ, pack_string(raw), pack_u64(0), pack_u32(_SMALL_READ))
        closing = channel.close_handle(raw)
        try:
            content: bytes = await reading
        except EndOfFileError:
            content = b""
        await wait_ignoring_errors(closing)
        # The answer may have fewer bytes than the file, and than were requested.
        return content if (await asking).st_size == len(content) else await self._read_whole(path)

    async def _read_whole(self, path: str) -> bytes | None:
        """Return the content of an internal file that is longer than one read."""
        opened = await self.open(path)
        if opened is None:
            return None
        handle, status = opened
        try:
            content = await self.read(handle, 0, status.st_size)
            if len(content) < status.st_size:
                raise UnavailableError(f"{path!r} ended after {len(content)} of {status.st_size} bytes")
            return content
        finally:
            await self.close(handle)

    async def write_new(self, path: str, content: bytes, mtime_ns: int) -> None:
        """Write a file that nobody reads yet; create its directory if it is missing."""
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

    # Directories

    async def scan(self, path: str) -> AsyncGenerator[DirEntry, None]:
        """Yield the entries of a directory with their status."""
        channel = await self.channel()
        try:
            raw = await channel.handle_of(channel.request(Kind.OPENDIR, path_bytes(path)))
        except (FileNotFoundError, RefusedError):
            await self._check_missing(path)
            return
        handle = self.adopt(channel, raw, path)
        asked: deque[Any] = deque()
        depth = 2
        count = 0
        try:
            while True:
                while len(asked) < depth:
                    asked.append(channel.request(Kind.READDIR, pack_string(raw)))
                depth = _DIRECTORY_DEPTH
                names: list[Listed] = await asked.popleft()
                count += len(names)
                if count > _MOST_NAMES:
                    raise OSError(errno.EIO, f"the directory {path!r} has more than {_MOST_NAMES:,} names")
                for name, status in await self._with_status(path, names):
                    if name not in (b".", b".."):
                        text = decoded(name)
                        yield DirEntry(text, is_dir(status), is_file(status), status)
        except EndOfFileError:
            await self.close(handle)
        except (FileNotFoundError, RefusedError):
            # asyncssh's server reports a missing directory only here, and a file that vanished during the scan.
            await self._check_missing(path)
        finally:
            # A caller that stops early, or is cancelled, does not wait for the server.
            self.let_go(handle)
            for answer in asked:
                answer.cancel()

    async def _with_status(self, directory: str, names: list[Listed]) -> list[Listed]:
        """Return names with their status; ask for it if the server left it out of the directory's listing."""
        if all(listed.status.is_complete for listed in names):
            return names
        statuses = await self.statuses(directory, [decoded(listed.name) for listed in names])
        pairs = zip(names, statuses, strict=True)
        return [Listed(listed.name, status) for listed, status in pairs if status is not None]

    async def statuses(self, directory: str, names: Sequence[str]) -> list[FileStatus | None]:
        """Return the status of files, asking for many of them at a time."""
        found: list[FileStatus | None] = []
        for at in range(0, len(names), _STATUSES):
            found += await self.lstat_all(f"{directory}/{name}" for name in names[at : at + _STATUSES])
        return found

    async def _check_missing(self, path: str) -> None:
        """Check that there is no directory.

        Raises:
            UnavailableError: there is one, so reading it failed.
        """
        if is_dir(await self.lstat(path)):
            raise UnavailableError(f"the directory {path!r} could not be read; it may have changed during the scan")

    async def is_empty(self, path: str) -> bool:
        """Return whether a directory is empty, or changes while it is being read."""
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
