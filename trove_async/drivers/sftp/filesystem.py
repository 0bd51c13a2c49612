"""A server's file system, as a tree needs it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, TypeVar

from trove_async.body import Chunk
from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.drivers.sftp.abilities import Abilities, Times
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, RefusedError, SpaceError
from trove_async.drivers.sftp.files import OpenFile
from trove_async.drivers.sftp.lease import ClientLease
from trove_async.drivers.sftp.leftovers import Leftovers
from trove_async.drivers.sftp.locks import Locks
from trove_async.drivers.sftp.protocol import (
    COPY_DATA,
    FSYNC,
    FileStatus,
    Kind,
    OpenFlag,
    pack_size,
    pack_string,
    pack_times,
    pack_u64,
)
from trove_async.drivers.sftp.reads import IN_FLIGHT
from trove_async.drivers.sftp.remote_files import NEW, RemoteFiles
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.drivers.sftp.steps import Recovery
from trove_async.errors import ClosedError, ConflictError
from trove_async.tree import FileSystem, Temporary, WriteClock
from trove_async.tree.filesystem import Reading, is_dir, is_file

__all__ = ["SFTPFileSystem"]

R = TypeVar("R")

_COPY_STEP: Final = 64 * 1024 * 1024
"""Bytes that the server copies for one request; it answers no other request meanwhile."""
_SECOND: Final = 1_000_000_000
_DATINGS: Final = 40
_DATING_WAIT: Final = 0.25
"""Seconds between the attempts to get a later time from the server."""
_SETTLED_SECONDS: Final = 3
"""A directory that changed more recently may change again within the same second, as client and server count it."""


class SFTPFileSystem(RemoteFiles, FileSystem):
    """The files below a root of a server.

    Args:
        connection: gives the channel.
        durable: whether files are flushed to the server's disk.
        recovery: of the store; a block is sent again when the connection is lost.
        abilities: what the server was seen to support.
        clock: gives every file its own time.
        lease: of this client's directory of temporaries; knows the server's time.
        locks: the locks of the store.
        leftovers: collects the temporaries that could not be removed.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        durable: bool,
        recovery: Recovery,
        abilities: Abilities,
        clock: WriteClock,
        lease: ClientLease,
        locks: Locks,
        leftovers: Leftovers,
    ) -> None:
        super().__init__(connection, durable=durable, recovery=recovery, abilities=abilities)
        self._clock = clock
        self._lease = lease
        self._locks = locks
        self.leftovers = leftovers
        self._claims: dict[int, str] = {}

    async def create_temporary(self, content: Chunk = b"") -> Temporary:
        """Create a file in this client's directory of temporaries."""
        path = self.temporary()
        try:
            temporary = Temporary(await self._open(path, self._written | NEW), path)
        except DisconnectedError:
            self.leftovers.add(path)
            raise
        if content:
            try:
                await self.write(temporary.handle, (content,))
            except BaseException:
                await self.discard(temporary)
                raise
        return temporary

    async def discard(self, temporary: Temporary) -> None:
        """Close a temporary, and remove it unless it was committed or is kept."""
        self.let_go(temporary.handle)
        claim = self._claims.pop(temporary.handle, None)
        if claim is not None:
            await self._locks.give_up(claim)
        if temporary.path is not None and not temporary.committed and not temporary.kept:
            try:
                await self.unlink(temporary.path)
            except ClosedError:
                pass  # all temporaries were removed
            except OSError:
                self.leftovers.add(temporary.path)

    # Parts that grow

    async def keep(self, temporary: Temporary, path: str) -> None:
        """Have `discard` leave a file where it is now."""
        await super().keep(temporary, path)
        self.file(temporary.handle).path = path

    async def open_claimed(self, path: str, name: str) -> tuple[Temporary, FileStatus] | None:
        """Open a file for reading and appending, and claim it."""
        if not is_file(await self.lstat(path)):
            return None
        temporary = Temporary(await self._open(path, self._written), path, kept=True)
        try:
            await self.claim(temporary, name)
            file = self.file(temporary.handle)
            status: FileStatus = await file.request(Kind.FSTAT)
            if not status.is_complete:
                status = await self._existing(path)
            file.size = status.st_size
        except BaseException:
            await self.discard(temporary)
            raise
        return temporary, status

    async def claim(self, temporary: Temporary, name: str) -> None:
        """Take a lock of the store, which others respect as long as this client renews its lease."""
        lock = "-".join(name.split("/")[-2:])
        if not await self._locks.claim(lock):
            raise ConflictError(f"{name!r} is being appended to by another call, or another client")
        self._claims[temporary.handle] = lock

    async def write(self, handle: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks; nothing to a file that another client may have claimed meanwhile."""
        self._check_claim(handle)
        await super().write(handle, chunks)

    async def reopen(self, handle: int) -> None:
        """Open a file for writing again, unless another client may have claimed it meanwhile."""
        self._check_claim(handle)
        await super().reopen(handle)

    def _check_claim(self, handle: int) -> None:
        if handle in self._claims and self.lease_expired():
            raise ConflictError("the connection was lost for longer than the lease of this client holds")

    async def truncate(self, handle: int, size: int) -> None:
        """Cut a file, if the server does that."""
        file = self.file(handle)
        await file.request(Kind.FSETSTAT, pack_size(size))
        if await self._size_of(file) != size:
            raise OSError(errno.ENOTSUP, "the server cannot cut a file; upload the whole part again")
        file.size = size

    def temporary(self) -> str:
        """Return a new path in this client's directory of temporaries."""
        return self._lease.temporary()

    async def publish(self, temporary: Temporary, path: str, *, replace: bool) -> None:
        """Rename a temporary to its path, in one request."""
        assert temporary.path is not None
        try:
            await self.ask_rename(temporary.path, path)
        except (RefusedError, PermissionError) as error:
            there = await self.lstat(path)
            if is_dir(there):
                raise IsADirectoryError(errno.EISDIR, "is a directory", path) from error
            if there is not None and not self.abilities.replaces:
                raise OSError(
                    errno.ENOTSUP,
                    "it renames no file over another (posix-rename), so objects can be created but not replaced; "
                    "delete the object first",
                ) from error
            raise
        except FileNotFoundError as error:
            if await self.lstat(temporary.path) is None:
                raise RefusedError(errno.EIO, "the temporary file was removed from .trove/tmp") from error
            raise
        temporary.committed = True

    # Content

    async def copy_data(
        self,
        source: int,
        target: int,
        checkpoint: Callable[[], None],
        reading: Reading = nullcontext,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> None:
        """Have the server copy if it can; otherwise, or if it copies less, read the source and write it."""
        origin, writing = self.file(source), self.file(target)
        stop = origin.size if length is None else offset + length
        shift = writing.size - offset  # how much farther a byte is in the target
        copies = self.abilities.copies and origin.channel is writing.channel
        while copies and (at := writing.size - shift) < stop:
            checkpoint()
            copies = await self._copy_step(origin, writing, at, min(_COPY_STEP, stop - at))
        if writing.size - shift == stop:
            return
        while (at := writing.size - shift) < stop:
            checkpoint()
            with reading():
                chunk = await self.read(source, at, min(IN_FLIGHT, stop - at))
                if not chunk:
                    raise RefusedError(errno.EIO, f"the source of a copy ended at {at}, before {stop}")
            await self.write(target, (chunk,))
        size = await self._size_of(writing)
        if size != stop + shift:
            raise RefusedError(errno.EIO, f"a copy has {size} bytes; {stop + shift} were written")

    async def _copy_step(self, reading: OpenFile, writing: OpenFile, at: int, length: int) -> bool:
        """Have the server append some bytes; return whether it did."""
        assert reading.raw is not None
        assert writing.raw is not None
        try:
            await writing.channel.request(
                Kind.EXTENDED,
                pack_string(COPY_DATA),
                pack_string(reading.raw) + pack_u64(at) + pack_u64(length),
                pack_string(writing.raw) + pack_u64(writing.size),
            )
        except DisconnectedError:
            raise
        except OSError as error:
            if isinstance(await self.why_refused(error, writing.path), SpaceError):
                raise
            return False
        size = await self._size_of(writing)
        if size > writing.size + length:
            raise RefusedError(errno.EIO, f"the server copied {size - writing.size} bytes; {length} were requested")
        if size < writing.size + length:
            return False
        writing.size = size
        return True

    async def _size_of(self, file: OpenFile) -> int:
        status: FileStatus = await file.request(Kind.FSTAT)
        return status.st_size if status.is_complete else (await self._existing(file.path)).st_size

    async def set_time(self, handle: int, mtime_ns: int) -> FileStatus:
        """Set the modification time, and store its nanoseconds in the access time."""
        file = self.file(handle)
        if self.abilities.times is not Times.OBSERVED:
            await file.request(Kind.FSETSTAT, pack_times(mtime_ns, carried=self.carries_times, marked=False))
        if self.carries_times:
            return self.status_for(file.size, mtime_ns, marked=False)
        return await self._existing(file.path)

    async def _existing(self, path: str) -> FileStatus:
        status = await self.lstat(path)
        if status is None:
            raise RefusedError(errno.EIO, "the temporary file was removed from .trove/tmp")
        return status

    async def dated(self, path: str, current: FileStatus | None) -> FileStatus:
        """Return the status of a finished temporary once its time is later than that of the file that it replaces.

        Where times are in whole seconds, or cannot be set, two files could have the same time otherwise. A file whose
        time is in the future by the server's clock needs only another time.
        """
        for attempt in range(_DATINGS):
            status = await self._existing(path)
            if current is None or status.st_mtime_ns > current.st_mtime_ns:
                return status
            if attempt and status.st_mtime_ns < current.st_mtime_ns:
                return status
            if self.abilities.times is Times.SET:
                times = pack_times(current.st_mtime_ns + (attempt + 1) * _SECOND, carried=False, marked=False)
                await self.ask(Kind.SETSTAT, path_bytes(path), times)
            else:
                await asyncio.sleep(_DATING_WAIT)  # until the server's clock has advanced
                await self._touch(path, status)
        raise RefusedError(errno.EIO, "the server gives files that are written one after the other the same time")

    async def _touch(self, path: str, status: FileStatus) -> None:
        """Write a file's first byte again, so that it gets a new time; make an empty file again."""
        if not status.st_size:
            await self.unlink(path)
            await self.close(await self.create(path))
            return
        handle = await self._open(path, OpenFlag.READ)
        try:
            first = await self.read(handle, 0, 1)
        finally:
            await self.close(handle)
        handle = await self._open(path, OpenFlag.WRITE)
        try:
            await self.file(handle).request(Kind.WRITE, pack_u64(0), pack_string(first))
        finally:
            await self.close(handle)

    async def mark(self, handle: int, status: FileStatus) -> None:
        """Mark an open file as having stored metadata; its modification time stays."""
        if self.carries_times and status.marked is False:
            times = pack_times(status.st_mtime_ns, carried=True, marked=True)
            await self.file(handle).request(Kind.FSETSTAT, times)

    async def sync(self, handle: int) -> None:
        """Flush a file to the disk, if the server can and the store is durable."""
        file = self.file(handle)
        if self._durable and self.abilities.syncs and file.raw is not None and FSYNC in file.channel.extensions:
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

    async def write_file(self, path: str, content: bytes) -> None:
        """Replace a small file, atomically if the server can."""
        temporary = self.temporary()
        mtime_ns = self._clock()
        if not self.carries_times and (there := await self.lstat(path)) is not None:
            mtime_ns = max(mtime_ns, there.st_mtime_ns + _SECOND)
        else:
            there = None
        try:
            await self.write_new(temporary, content, mtime_ns)
            if there is not None:
                await self.dated(temporary, there)  # readers notice a change by the time
            try:
                await self.rename(temporary, path)
            except FileNotFoundError:
                await self.make_directories(path.rpartition("/")[0])
                await self.rename(temporary, path)
        except BaseException:
            await self.unlink(temporary)
            raise

    # Computing, time and locks

    async def compute(self, work: Callable[[], R]) -> R:
        """Call a function in a thread, which a cancellation waits for."""
        return await to_the_end(asyncio.to_thread(work), timeout=CLEANUP_TIMEOUT, leftover="a thread that sorts names")

    def settled(self, mtime_ns: int, elapsed_ns: int = 0) -> bool:
        """Return whether a directory that still has this time is unchanged since it was read."""
        # Some servers return no time for directories.
        return mtime_ns > 0 and self._lease.server_time() - (elapsed_ns + mtime_ns) / _SECOND > _SETTLED_SECONDS

    def new_time(self) -> int:
        """Return a time of its own for a file, in nanoseconds."""
        return self._clock()

    def lease_expired(self) -> bool:
        """Return whether others may have removed this client's temporaries, since its lease was not renewed in time."""
        return self._lease.expired_here()

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return a lock of the store."""
        return self._locks.lock(stripe)

    def lock_bucket(self, bucket: str) -> AbstractAsyncContextManager[None]:
        """Return the lock for what a bucket consists of; commits take none, since a rename is atomic."""
        return self._locks.lock_structure(bucket)
