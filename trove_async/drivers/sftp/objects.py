"""The objects of a tree over SFTP, in as few round trips as possible.

A commit takes no lock: the rename is atomic, and everything else that the object consists of is written before it. A
lock is taken where a name with a mark is involved, a directory is removed, or metadata is changed in place: then two
clients must not decide at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from trove_async.body import Chunk
from trove_async.driver.conditions import check_write
from trove_async.driver.retry import Attempts
from trove_async.drivers.sftp.commit import Commit
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.location import Location, LocationQuery
from trove_async.drivers.sftp.protocol import FileStatus
from trove_async.drivers.sftp.sidecars import Sidecars
from trove_async.drivers.sftp.slots import KeyLocks
from trove_async.errors import BackendError, ObjectNotFoundError, UnsupportedError
from trove_async.tree import Buckets, Checkpoint, Layout, Objects, OpenObject, Temporary, WriteClock
from trove_async.tree.attributes import NONE, Attributes, etag_of, info_of, listed
from trove_async.tree.lookup import Lookup
from trove_async.tree.names import FILE
from trove_async.tree.placement import Placement
from trove_async.types import ObjectInfo

__all__ = ["SFTPObjects", "is_same", "refuse_conditions", "refuse_version"]

_TRIES: Final = 20
_CLIMB: Final = 16
"""How many directories are removed in one round trip."""


@dataclass(slots=True)
class _Write:
    """What will become an object.

    Attributes:
        temporary: holds the body.
        checkpoint: raises once the caller was cancelled.
        create_only: whether an existing object makes it fail.
        sent: the pending answers for the parts of the body that were sent and not confirmed.
    """

    bucket: str
    key: str
    temporary: Temporary
    attributes: Attributes
    checkpoint: Checkpoint
    create_only: bool
    sent: list[Any] = field(default_factory=list)


class SFTPObjects(Objects):
    """The objects of a tree on a server, which keeps no versions.

    Args:
        fs, layout, buckets: of the tree.
        clock: gives every write its own time; the one that ``fs`` uses.

    Attributes:
        fs: of the tree.
        sidecars: hold the metadata.
        writers: lets only one operation of this store write a key at a time.
    """

    def __init__(self, fs: SFTPFileSystem, layout: Layout, buckets: Buckets, clock: WriteClock) -> None:
        self._layout = layout
        self._now = clock
        self._lookup = Lookup(fs, layout)
        self._placement = Placement(fs, layout, buckets, self._lookup)
        self.fs = fs
        self.sidecars = Sidecars(fs, layout)
        self.writers = KeyLocks()

    # Reading

    async def _location(self, bucket: str, key: str) -> Location:
        """Find where a key's file is, in one round trip."""
        query = LocationQuery(self._layout, bucket, key)
        query.ask(await self.fs.channel())
        return await query.location()

    async def found(self, bucket: str, key: str) -> tuple[str, FileStatus] | None:
        """Return the path of an object and its status; None if there is none."""
        return await self._found(bucket, key, await self._location(bucket, key))

    async def _found(self, bucket: str, key: str, location: Location) -> tuple[str, FileStatus] | None:
        if not location.conflict:
            return None if location.status is None else (location.path, location.status)
        found = await self._lookup.find(bucket, key)
        if found is None:
            return None
        path, status = found
        assert isinstance(status, FileStatus)
        return path, status

    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return what a listing shows for an object; None if there is none."""
        found = await self.found(bucket, key)
        return None if found is None else listed(key, found[1])

    async def head(self, bucket: str, key: str) -> tuple[ObjectInfo, Attributes]:
        """Describe an object, in one round trip and two more if metadata is stored with it."""
        for _ in range(_TRIES):
            found = await self.found(bucket, key)
            if found is None:
                raise _missing(bucket, key)
            attributes = await self.sidecars.read(bucket, key, found[1])
            if attributes is None:
                # The file was replaced during this, or somebody removed its sidecar by hand.
                if await self.fs.lstat(found[0]) != found[1]:
                    continue
                attributes = NONE
            return info_of(key, found[1], attributes), attributes
        raise _keeps_changing(key)

    async def open(self, bucket: str, key: str) -> OpenObject:
        """Open an object.

        Raises:
            ObjectNotFoundError, BucketNotFoundError: it does not exist.
        """
        for _ in range(_TRIES):
            found = await self.found(bucket, key)
            if found is None:
                raise _missing(bucket, key)
            opened = await self.fs.open(found[0])
            if opened is None:
                continue
            handle, status = opened
            try:
                attributes = await self.sidecars.read(bucket, key, status)
                if attributes is None and await self.fs.lstat(found[0]) == status:
                    attributes = NONE
            except BaseException:
                await self.fs.close(handle)
                raise
            if attributes is not None:
                return OpenObject(found[0], handle, status, attributes, info_of(key, status, attributes))
            await self.fs.close(handle)
        raise _keeps_changing(key)

    # Writing

    async def put(
        self,
        bucket: str,
        key: str,
        content: Chunk,
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        create_only: bool,
    ) -> ObjectInfo:
        """Store an object that is in memory, in three round trips and a fourth if the object before had metadata."""
        temporary = await self.fs.create_temporary()
        try:
            file = self.fs.file(temporary.handle)
            sent: list[Any] = []
            if len(content) <= file.channel.limits.write:
                sent = self.fs.send(temporary.handle, content)
            else:
                await self.fs.write(temporary.handle, (content,))
            return await self._write(_Write(bucket, key, temporary, attributes, checkpoint, create_only, sent))
        finally:
            await self.fs.discard(temporary)

    async def commit(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        before: Callable[[], Awaitable[object]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Make an object from a temporary, whose handle is closed; see `Objects.commit`."""
        refuse_conditions(if_match, if_none_match)
        write = _Write(bucket, key, temporary, attributes, checkpoint, if_none_match is not None)
        return await self._write(write, before, after)

    async def take(
        self,
        bucket: str,
        key: str,
        claim: Callable[[], Awaitable[Temporary]],
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        after: Callable[[], Awaitable[object]],
    ) -> ObjectInfo:
        """Make an object from a file that others may use until then, without a condition; see `Objects.take`."""
        assert if_none_match is None, "create-only would give the file a second name instead of another one"
        refuse_conditions(if_match, if_none_match)
        async with self.writers.hold((bucket, key)), self.fs.lock(self._layout.stripe(bucket, key)):
            temporary = await claim()
            try:
                info = await self._commit(_Write(bucket, key, temporary, attributes, checkpoint, create_only=False))
                await after()
            finally:
                await self.fs.discard(temporary)
        return info

    async def _write(
        self,
        write: _Write,
        before: Callable[[], Awaitable[object]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Commit while nothing else in this process writes the key, and no other client where that takes a lock.

        Locks are always taken in this order: the key's in this process, the key's of the store, the structure's.
        """
        async with self.writers.hold((write.bucket, write.key)), AsyncExitStack() as stack:
            # Times in whole seconds do not distinguish generations: then writers of one key must exclude each other.
            if before is not None or after is not None or not self.fs.carries_times:
                await stack.enter_async_context(self.fs.lock(self._layout.stripe(write.bucket, write.key)))
            if before is not None:
                await before()
            info = await self._commit(write)
            if after is not None:
                await after()
        return info

    async def _commit(self, write: _Write) -> ObjectInfo:
        bucket, key, temporary, attributes = write.bucket, write.key, write.temporary, write.attributes
        carried = self.fs.carries_times
        if carried:
            size = self.fs.file(temporary.handle).size
            status = self.fs.status_for(size, self._now(), marked=attributes is not NONE)
        else:
            status = await self._seal_dated(write)
        commit = Commit(self, bucket, key, temporary, status, write.checkpoint, create_only=write.create_only)
        sidecar: asyncio.Task[None] | None = None
        if attributes is not NONE or not carried:
            sidecar = asyncio.ensure_future(self._write_sidecar(bucket, key, status, attributes))
        try:
            location = await (self._seal(write, status) if carried else self._location(bucket, key))
            if write.create_only and location.status is not None:
                check_write(etag_of(location.status), None, "*")
            if sidecar is not None:
                await sidecar
            replaced = await commit.publish(location)
        except BaseException:
            if sidecar is not None:
                await asyncio.wait({sidecar})
                if not sidecar.cancelled():
                    sidecar.exception()  # marks it as retrieved; the first error is the one to raise
                if not commit.may_be_done:
                    await self._drop_quietly(bucket, key, status)
            raise
        if replaced is not None and not is_same(replaced, status):
            await self._drop_quietly(bucket, key, replaced)
        return info_of(key, status, attributes)

    async def _seal_dated(self, write: _Write) -> FileStatus:
        """Seal a temporary so that its time tells it from the file that it replaces; return its status."""
        assert write.temporary.path is not None
        current = (await self._location(write.bucket, write.key)).status
        size = self.fs.file(write.temporary.handle).size
        await self._seal(write, self.fs.status_for(size, _later(self._now(), current), marked=False))
        return await self.fs.dated(write.temporary.path, current)

    async def _seal(self, write: _Write, status: FileStatus) -> Location:
        """Set a temporary's time, flush and close it, and meanwhile find where the key's file is.

        If the connection is lost this goes on over a new one, unless part of the body is not confirmed.
        """
        temporary, marked = write.temporary, status.marked is True
        attempts: Attempts | None = None
        while True:
            try:
                if attempts is not None:
                    await self.fs.reopen(temporary.handle)
                sealing = self.fs.seal(temporary.handle, status.st_mtime_ns, marked=marked)
                location = await self._location(write.bucket, write.key)
                for answer in (*write.sent, *sealing):
                    await self._sent(answer, temporary)
            except DisconnectedError as error:
                if attempts is None:
                    attempts = self.fs.recovery.retries.of_step()
                if write.sent or not await self.fs.recovery.step_again(attempts, error):
                    raise
            else:
                return location

    async def _write_sidecar(self, bucket: str, key: str, status: FileStatus, attributes: Attributes) -> None:
        if attributes is NONE:
            await self.fs.unlink(self.sidecars.path(bucket, key, status))
        else:
            await self.sidecars.write(bucket, key, status, attributes)

    async def _sent(self, answer: Any, temporary: Temporary) -> None:
        try:
            await answer
        except DisconnectedError:
            raise
        except OSError as error:
            raise await self.fs.why_refused(error, temporary.path or "") from error

    async def _drop_quietly(self, bucket: str, key: str, status: FileStatus) -> None:
        """Remove the sidecar of a replaced file; the commit is done, so a failure leaves it for later."""
        try:
            await self.sidecars.drop(bucket, key, status)
        except OSError:
            self.fs.leftovers.add(self.sidecars.path(bucket, key, status))

    async def locate(self, bucket: str, key: str) -> tuple[str, FileStatus | None]:
        """Return where a key's file is and its status, found step by step; call it under `structure`."""
        path, status = await self._lookup.locate(bucket, key)
        assert status is None or isinstance(status, FileStatus)
        return path, status

    def structure(self, bucket: str) -> AbstractAsyncContextManager[None]:
        """Return the lock for creating names with marks and removing directories."""
        return self.fs.lock_bucket(bucket)

    async def place(
        self, bucket: str, key: str, publish: Callable[..., Awaitable[None]], path: str, *, replace: bool
    ) -> str:
        """Move a file to the key's path, creating the directories on the way; return the path."""
        return await self._placement.place(bucket, key, publish, path, replace=replace)

    # Deleting

    async def delete(self, bucket: str, key: str, checkpoint: Checkpoint, *, if_match: str | None = None) -> None:
        """Delete an object; a condition is not supported."""
        refuse_conditions(if_match, None)
        parent = await self.remove(bucket, key, checkpoint)
        if parent is not None:
            await self.tidy(bucket, parent)

    async def remove(self, bucket: str, key: str, checkpoint: Checkpoint) -> str | None:
        """Delete an object; return the directory that may be empty now, None if that is the bucket's."""
        async with self.writers.hold((bucket, key)):
            location = await self._location(bucket, key)
            checkpoint()
            if location.conflict:
                async with self.structure(bucket):
                    found = await self._found(bucket, key, location)
                    checkpoint()
                    if found is not None:
                        await self._unlink(bucket, key, *found)
            else:
                found = None if location.status is None else (location.path, location.status)
                if found is not None:
                    await self._unlink(bucket, key, *found)
        return None if found is None else self.directory_to_tidy(bucket, found[0])

    def directory_to_tidy(self, bucket: str, path: str) -> str | None:
        """Return the directory that may be empty after a file was removed: its own, or ``a`` beside ``a%F``."""
        if path.endswith(FILE):
            return path.removesuffix(FILE)
        parent = path.rpartition("/")[0]
        return None if parent == self._layout.bucket(bucket) else parent

    async def _unlink(self, bucket: str, key: str, path: str, status: FileStatus) -> None:
        await self.fs.unlink(path)
        await self.sidecars.drop(bucket, key, status)

    async def tidy(self, bucket: str, directory: str) -> None:
        """Remove a directory and its parents, as far as they are empty.

        A directory ``a`` with a file ``a%F`` beside it stays: without it, another client could store the same key as
        the file ``a``.
        """
        base = self._layout.bucket(bucket)
        if directory == base or not await self.fs.is_empty(directory):
            return
        async with self.structure(bucket):
            while directory != base:
                chain = _upwards(directory, base, _CLIMB)
                beside = await self.fs.lstat_all([f"{path}{FILE}" for path in chain])
                free = [path for path, _ in takewhile(lambda pair: pair[1] is None, zip(chain, beside, strict=True))]
                if await self.fs.rmdir_all(free) < len(chain):
                    return
                directory = chain[-1].rpartition("/")[0]

    # Attributes

    async def change_attributes(
        self,
        bucket: str,
        key: str,
        change: Callable[[Attributes], Attributes],
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
    ) -> None:
        """Replace an object's attributes atomically; its bytes, ETag and time stay."""
        async with self.writers.hold((bucket, key)), self.fs.lock(self._layout.stripe(bucket, key)):
            opened = await self.open(bucket, key)
            try:
                if if_match is not None:
                    check_write(opened.info.etag, if_match, None)
                checkpoint()
                attributes = change(opened.attributes)
                assert isinstance(opened.status, FileStatus)
                if attributes != opened.attributes:
                    await self.sidecars.replace(bucket, key, opened.status, attributes)
                    # The handle is of this very file: an object that was put meanwhile is not marked.
                    await self.fs.mark(opened.handle, opened.status)
            finally:
                await self.fs.close(opened.handle)

    async def uses_sidecar(self, bucket: str, key: str, sidecar: str) -> bool:
        """Return whether the object may read its metadata from the sidecar."""
        found = await self._lookup.find(bucket, key)
        if found is None:
            return False
        status = found[1]
        assert isinstance(status, FileStatus)
        return self.sidecars.may_select(bucket, key, status, sidecar)


def _upwards(directory: str, base: str, count: int) -> list[str]:
    """Return a directory and up to ``count`` - 1 of its parents below the base."""
    found: list[str] = []
    while directory != base and len(found) < count:
        found.append(directory)
        directory = directory.rpartition("/")[0]
    return found


def is_same(one: FileStatus, other: FileStatus) -> bool:
    """Return whether two files of a key are the same generation of it."""
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _later(mtime_ns: int, current: FileStatus | None) -> int:
    """Return a time in a later second than that of the current file."""
    return mtime_ns if current is None else max(mtime_ns, current.st_mtime_ns + 1_000_000_000)


def refuse_version(version_id: str | None) -> None:
    """Refuse a version.

    Raises:
        UnsupportedError: there is a version id.
    """
    if version_id is not None:
        raise UnsupportedError("SFTP stores keep no versions", driver="sftp")


def refuse_conditions(if_match: str | None, if_none_match: str | None) -> None:
    """Refuse the conditions on a write that no request of SFTP can decide.

    Raises:
        UnsupportedError: a condition is given that is not create-only.
    """
    if if_match is not None or if_none_match not in (None, "*"):
        raise UnsupportedError(
            "SFTP cannot replace or delete a file on a condition; it supports only create-only (if_none_match='*')",
            driver="sftp",
        )


def _missing(bucket: str, key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(bucket=bucket, key=key)


def _keeps_changing(key: str) -> BackendError:
    return BackendError(f"the object was replaced {_TRIES} times while it was being read", key=key)
