"""Opening an object for reading; a small one is opened, read and closed in two round trips."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from trove_async.driver import GetOptions, check_read
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.location import LocationQuery
from trove_async.drivers.sftp.objects import SFTPObjects, is_same, refuse_version
from trove_async.drivers.sftp.protocol import FileStatus, Kind, OpenFlag, pack_u32
from trove_async.drivers.sftp.reads import Reads
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import BackendError, ObjectNotFoundError
from trove_async.tree.attributes import NONE, Attributes, info_of, listed
from trove_async.tree.layout import Layout
from trove_async.types import ObjectInfo

__all__ = ["Opened", "Reading"]

SMALL: Final = 256 * 1024
"""Bytes up to which an object is read in the same operation that opens it."""
_TRIES: Final = 20


class Opened(NamedTuple):
    """An open object: its bytes, or a handle to read them."""

    info: ObjectInfo
    start: int
    stop: int
    data: bytes | None
    handle: int


class Reading:
    """Opens objects."""

    def __init__(self, objects: SFTPObjects, layout: Layout) -> None:
        self._objects = objects
        self._fs = objects.fs
        self._layout = layout

    async def open(self, bucket: str, key: str, options: GetOptions) -> Opened:
        """Open an object, and read the wanted range if it is small.

        Raises:
            ObjectNotFoundError, BucketNotFoundError: it does not exist.
            PreconditionFailedError, NotModifiedError, RangeNotSatisfiableError: the options do not hold.
        """
        refuse_version(options.version_id)
        for _ in range(_TRIES):
            opened = await self._try(bucket, key, options)
            if opened is not None:
                return opened
        raise BackendError(f"the object was replaced {_TRIES} times while it was being opened", key=key)

    async def _try(self, bucket: str, key: str, options: GetOptions) -> Opened | None:
        """Open an object; None if it was replaced during this."""
        query = LocationQuery(self._layout, bucket, key)
        channel = await self._fs.channel()
        query.ask(channel)
        opening = _open(channel, query.path)
        try:
            location = await query.location()
        except BaseException:
            await self._close(channel, opening)
            raise
        found = location.path, location.status
        if location.blocks:
            channel.fail(DisconnectedError("the server waits for a writer of a FIFO"))
        elif location.status is None:
            await self._close(channel, opening)
        if location.status is None:
            if location.conflict:
                marked = await self._objects.found(bucket, key)
                found = ("", None) if marked is None else marked
            if found[1] is None:
                raise ObjectNotFoundError(bucket=bucket, key=key)
            channel = await self._fs.channel()
            opening = _open(channel, found[0])
        assert found[1] is not None
        try:
            raw = await channel.handle_of(opening)
        except FileNotFoundError:
            return None
        handle = self._fs.adopt(channel, raw, found[0], size=found[1].st_size)
        keep = False
        try:
            opened = await self._read(bucket, key, options, handle, found[1])
            keep = opened is not None and opened.data is None
            return opened
        finally:
            if not keep:
                self._fs.let_go(handle)

    async def _close(self, channel: Channel, opening: Any) -> None:
        try:
            raw = await channel.handle_of(opening)
        except OSError:
            return
        await channel.close_handle(raw)

    async def _read(self, bucket: str, key: str, options: GetOptions, handle: int, seen: FileStatus) -> Opened | None:
        check_read(listed(key, seen), options)
        start, stop = (0, seen.st_size) if options.range is None else options.range.resolve(seen.st_size)
        file = self._fs.file(handle)
        asking = file.request(Kind.FSTAT)
        metadata: asyncio.Task[Attributes | None] | None = None
        if self._objects.sidecars.may_exist(seen):
            metadata = asyncio.ensure_future(self._objects.sidecars.read(bucket, key, seen))
        try:
            data: bytes | None = None
            if stop - start <= SMALL:
                reads = Reads(file, start, stop)
                reads.ask()
                assert file.raw is not None
                closing = file.channel.close_handle(file.raw)
                file.raw = None
                data = await reads.sent()
                await closing
                if data is None:
                    data = await self._read_again(file.path, seen, start, stop)
            status: FileStatus | None = await asking
            if status is not None and not status.is_complete:
                status = await self._fs.lstat(file.path)
            attributes = NONE if metadata is None else await metadata
        finally:
            if metadata is not None:
                metadata.cancel()  # it is done, unless this has failed
                await asyncio.wait({metadata})
                if not metadata.cancelled():
                    metadata.exception()  # marks it as retrieved
        if status is None or not is_same(status, seen):
            return None
        if data is not None and len(data) != stop - start:
            if await self._fs.lstat(file.path) == seen:
                raise BackendError(
                    f"the object ended after {start + len(data)} bytes; according to the server it has {seen.st_size}",
                    key=key,
                )
            return None
        if attributes is None:
            # Its sidecar is missing: the object was replaced, or somebody removed the sidecar by hand.
            if await self._fs.lstat(file.path) != seen:
                return None
            attributes = NONE
        return Opened(info_of(key, seen, attributes), start, stop, data, handle)

    async def _read_again(self, path: str, seen: FileStatus, start: int, stop: int) -> bytes:
        """Read a range of which the server returned less than was requested; nothing if the file was replaced."""
        opened = await self._fs.open(path)
        if opened is None:
            return b""
        handle, status = opened
        try:
            return await self._fs.read(handle, start, stop - start) if is_same(status, seen) else b""
        finally:
            await self._fs.close(handle)


def _open(channel: Channel, path: str) -> Any:
    return channel.request(Kind.OPEN, path_bytes(path), pack_u32(OpenFlag.READ), pack_u32(0))
