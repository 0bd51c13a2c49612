"""Finding out what a server can do by trying it; what a server says about itself is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

from trove_async.drivers.sftp.abilities import Abilities, Times
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.lease import ClientLease
from trove_async.drivers.sftp.protocol import (
    COPY_DATA,
    FSYNC,
    HARDLINK,
    POSIX_RENAME,
    FileStatus,
    Kind,
    OpenFlag,
    pack_string,
    pack_times,
    pack_u32,
    pack_u64,
)
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.requests import NO_ATTRIBUTES
from trove_async.drivers.sftp.statuses import path_bytes, statuses_of
from trove_async.errors import BackendError, StorageFullError, UnsupportedError
from trove_async.tree.distinct import PROBE, VARIANTS, check_distinct

__all__ = ["probe"]

_CREATE: Final = OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE
_EARLIER: Final = 86_401 * 1_000_000_000
"""Nanoseconds before now of the time that a file is given: no server sets it by itself."""
_COARSEST: Final = 2 * 1_000_000_000
"""Nanoseconds by which the time of a file may differ from the one that it was given: FAT has times of two seconds."""


async def probe(files: RemoteFiles, lease: ClientLease, now: int, *, where: str, merge_names: bool) -> Abilities:
    """Find out what the server supports, with files in this client's directory of temporaries.

    It takes six round trips; more if the server cannot rename over a file, or not set times.

    Args:
        files: of the server.
        lease: gives the directory.
        now: the time in nanoseconds since the epoch.
        where: names the directory and the server, for messages.
        merge_names: whether file systems are accepted that do not distinguish all names.

    Raises:
        UnsupportedError: a store cannot be kept there.
        StorageFullError: there is no space for a file.
    """
    channel = await files.channel()
    found = _Probe(files, channel, lease, now, where)
    try:
        await found.create()
        await found.write(merge_names)
        return await found.abilities()
    except OSError as error:
        better = await files.why_refused(error, lease.folder)
        if better is not error:
            raise StorageFullError("the server's file system is full") from error
        raise
    finally:
        await asyncio.gather(*map(files.unlink, found.paths))


class _Probe:
    """The files that are tried. Their sizes tell them apart: ``one`` has 1 byte, ``two`` 2 bytes, ``three`` 3 bytes."""

    def __init__(self, files: RemoteFiles, channel: Channel, lease: ClientLease, now: int, where: str) -> None:
        self._files = files
        self._channel = channel
        self._folder = lease.folder
        self._where = where
        self._mtime_ns = now - _EARLIER
        self._one, self._two, self._three, self._linked, named = (lease.temporary() for _ in range(5))
        self._named = named + PROBE
        self._variants = [named + variant for variant in VARIANTS]
        self._handles: list[bytes] = []
        self._reads_written = True
        self._syncs = FSYNC in channel.extensions
        self._copies = COPY_DATA in channel.extensions
        self.paths = [self._one, self._two, self._three, self._linked, self._named]

    async def create(self) -> None:
        """Create the files; the first one for reading, too."""
        first = self._open(self._one, _CREATE | OpenFlag.READ)
        others = [self._open(path, _CREATE) for path in (self._two, self._three, self._named)]
        error = await _failure(first)
        handles = [await opening for opening in others[:2]]
        if await _failure(others[2]) is not None:  # perhaps the server has only names in ASCII
            self._named = self._named.removesuffix(PROBE)
            self.paths.append(self._named)
            others[2] = self._open(self._named, _CREATE)
        handles.append(await others[2])
        if error is not None:
            self._reads_written = False
            first = self._open(self._one, _CREATE)
        self._handles = [await first, *handles]

    async def write(self, merge_names: bool) -> None:
        """Write the files, and look whether the last one is found under other names."""
        writing: list[Awaitable[Any]] = []
        for size, handle in enumerate(self._handles[:3], 1):
            data = pack_u64(0) + pack_string(b"%d" % size * size)
            writing.append(self._channel.request(Kind.WRITE, pack_string(handle), data))
        copying = self._copy() if self._copies and self._reads_written else None
        self._dating = self._set_times(self._handles[0], carried=True)
        syncing = self._sync(self._handles[0]) if self._syncs else None
        closing = [self._channel.close_handle(handle) for handle in self._handles]
        looking = [(path, self._lstat(path)) for path in self._variants]
        for answer in (*writing, *closing):
            await answer
        if syncing is not None:
            self._syncs = await _failure(syncing) is None
        if copying is not None:
            self._copies = await _failure(copying) is None
        found = await statuses_of(self._channel, looking)
        if not merge_names:
            check_distinct([status is not None for status in found], self._where)

    async def abilities(self) -> Abilities:
        """Try what can be tried with files that exist, and look at what it did."""
        has = self._channel.extensions.__contains__
        looking = self._lstat(self._one)
        opening = self._open(self._one, OpenFlag.READ)
        creating = self._open(self._one, _CREATE)
        making = self._channel.request(Kind.MKDIR, path_bytes(self._folder), NO_ATTRIBUTES)
        linking = self._link() if has(HARDLINK) else None
        renaming = self._rename(POSIX_RENAME) if has(POSIX_RENAME) else None
        [before] = await statuses_of(self._channel, [(self._one, looking)])
        handle = await opening
        exclusive = await self._fails(creating)
        makes_once = await _failure(making) is not None
        linked = linking is not None and await _failure(linking) is None
        if renaming is not None:
            await _failure(renaming)

        reading = self._channel.request(Kind.READ, pack_string(handle), pack_u64(0), pack_u32(1))
        closing = self._channel.close_handle(handle)
        linking = self._link() if linked else None
        rename, replaces = await self._renames(tried=renaming is not None)
        if await reading != b"1":
            raise BackendError(f"the server for {self._where} returned other bytes than were written")
        await closing
        # A second name that exists already must be refused.
        linked = linking is not None and await _failure(linking) is not None

        after, second, copy = await self._files.lstat_all((self._one, self._linked, self._named))
        links = linked and second is not None and second.st_size == 1
        if not links and not exclusive:
            raise UnsupportedError(
                f"the server for {self._where} opens files that must not exist yet although they exist, "
                "so clients cannot exclude each other"
            )
        return Abilities(
            times=await self._times(before, after),
            rename=rename,
            replaces=replaces,
            links=links,
            copies=self._copies and (not self._reads_written or (copy is not None and copy.st_size == 1)),
            syncs=self._syncs,
            reads_written=self._reads_written,
            makes_once=makes_once,
        )

    # Renaming

    async def _renames(self, *, tried: bool) -> tuple[bytes | None, bool]:
        """Return how files are renamed, and whether over others; ``two`` may have been renamed to ``three``."""
        if tried and await self._is_renamed(self._two, self._three, 2):
            return POSIX_RENAME, True
        await _failure(self._rename(None))
        if await self._is_renamed(self._two, self._three, 2):
            return None, True
        free = self._named + "2"
        self.paths.append(free)
        for rename in (None, POSIX_RENAME) if tried else (None,):
            await _failure(self._rename(rename, free))
            if await self._is_renamed(self._two, free, 2):
                return rename, False
        raise UnsupportedError(f"the server for {self._where} does not rename files, though it may say so")

    async def _is_renamed(self, source: str, target: str, size: int) -> bool:
        one, other = await self._files.lstat_all((source, target))
        return one is None and other is not None and other.st_size == size

    def _rename(self, extension: bytes | None, target: str | None = None) -> asyncio.Future[Any]:
        names = path_bytes(self._two), path_bytes(target or self._three)
        if extension is None:
            return self._channel.request(Kind.RENAME, *names)
        return self._channel.request(Kind.EXTENDED, pack_string(extension), *names)

    # Times

    async def _times(self, before: FileStatus | None, after: FileStatus | None) -> Times:
        """Return what the server did with the times of ``one``; it was read between the two."""
        carried = await _failure(self._dating) is None
        if before is None or before.st_size != 1:
            raise BackendError(f"the server for {self._where} returns wrong sizes of files")
        if before == after and before.marked is False and before.st_mtime_ns == self._mtime_ns:
            return Times.CARRIED
        if not carried:  # perhaps because the access time is too late for it
            handle = await self._open(self._one, OpenFlag.WRITE)
            setting = self._set_times(handle, carried=False)
            await self._channel.close_handle(handle)
            await _failure(setting)
            before = await self._files.lstat(self._one)
        near = before is not None and abs(before.st_mtime_ns - self._mtime_ns) <= _COARSEST
        return Times.SET if near else Times.OBSERVED

    def _set_times(self, handle: bytes, *, carried: bool) -> asyncio.Future[Any]:
        times = pack_times(self._mtime_ns, carried=carried, marked=False)
        return self._channel.request(Kind.FSETSTAT, pack_string(handle), times)

    # Requests

    def _open(self, path: str, flags: OpenFlag) -> asyncio.Future[Any]:
        return self._channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), NO_ATTRIBUTES)

    def _lstat(self, path: str) -> asyncio.Future[Any]:
        return self._channel.request(Kind.LSTAT, path_bytes(path))

    def _sync(self, handle: bytes) -> asyncio.Future[Any]:
        return self._channel.request(Kind.EXTENDED, pack_string(FSYNC), pack_string(handle))

    def _link(self) -> asyncio.Future[Any]:
        names = path_bytes(self._one), path_bytes(self._linked)
        return self._channel.request(Kind.EXTENDED, pack_string(HARDLINK), *names)

    def _copy(self) -> asyncio.Future[Any]:
        source, target = self._handles[0], self._handles[-1]
        return self._channel.request(
            Kind.EXTENDED,
            pack_string(COPY_DATA),
            pack_string(source) + pack_u64(0) + pack_u64(1),
            pack_string(target) + pack_u64(0),
        )

    async def _fails(self, opening: Awaitable[bytes]) -> bool:
        """Return whether the creation of a file that exists failed."""
        try:
            handle = await opening
        except DisconnectedError:
            raise
        except OSError:
            return True
        await self._channel.close_handle(handle)
        return False


async def _failure(answer: Awaitable[Any]) -> OSError | None:
    """Wait for an answer; return the server's error, None if there is none."""
    try:
        await answer
    except DisconnectedError:
        raise
    except OSError as error:
        return error
    return None
