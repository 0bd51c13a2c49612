"""Objects of a tree over SFTP: the commit of `trove_async.tree`, in as few round trips as it can be done.

A commit takes no lock: the rename is atomic, and what the object consists of lies there before it. A lease is taken
where a name with a mark is involved, a directory is removed, or metadata is changed in place: then two
clients must not decide at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

from trove_async.body import Chunk
from trove_async.driver.conditions import check_write
from trove_async.drivers.sftp.commit import Commit
from trove_async.drivers.sftp.errors import DisconnectedError
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.places import Look, Place
from trove_async.drivers.sftp.protocol import FileStatus
from trove_async.drivers.sftp.sidecars import Sidecars
from trove_async.drivers.sftp.slots import KeyLocks
from trove_async.errors import BackendError, ObjectNotFoundError, UnsupportedError
from trove_async.tree import OpenObject, Temporary
from trove_async.tree.attributes import NONE, Attributes, etag_of, info_of, listed
from trove_async.tree.buckets import Buckets
from trove_async.tree.layout import STRIPES, Layout
from trove_async.tree.names import FILE
from trove_async.tree.objects import Objects
from trove_async.types import ObjectInfo

__all__ = ["SFTPObjects", "is_same", "refuse_conditions", "refuse_version"]

Checkpoint = Callable[[], None]
_TRIES: Final = 20
_CLIMB: Final = 16
"""Directories that are removed in one round trip, if all of them are empty."""


@dataclass(slots=True)
class _Write:
    """What is to become an object.

    Attributes:
        temporary: holds the body.
        checkpoint: raises once nobody waits for it any more.
        create_only: whether there must be no object yet.
        sent: the answers to come for what of the body was sent and is not confirmed.
    """

    bucket: str
    key: str
    temporary: Temporary
    attributes: Attributes
    checkpoint: Checkpoint
    create_only: bool
    sent: list[Any] = field(default_factory=list)


class SFTPObjects(Objects):
    """The objects of a tree, on a server."""

    def __init__(self, fs: SFTPFileSystem, layout: Layout, buckets: Buckets) -> None:
        super().__init__(fs, layout, buckets)
        self.fs = fs
        self.sidecars = Sidecars(fs, layout)
        self.writers = KeyLocks()
        fs.now = self.now

    # Reading

    async def look(self, bucket: str, key: str) -> Place:
        """Find a key's place in one round trip."""
        look = Look(self._layout, bucket, key)
        look.ask(await self.fs.channel())
        return await look.place()

    async def found(self, bucket: str, key: str) -> tuple[str, FileStatus] | None:
        """Return the path of an object and its status; None if there is none."""
        return await self._found(bucket, key, await self.look(bucket, key))

    async def _found(self, bucket: str, key: str, place: Place) -> tuple[str, FileStatus] | None:
        if not place.odd:
            return None if place.status is None else (place.path, place.status)
        found = await self._lookup.find(bucket, key)
        if found is None:
            return None
        path, status = found
        assert isinstance(status, FileStatus)
        return path, status

    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return what a listing says of an object; None if there is none."""
        found = await self.found(bucket, key)
        return None if found is None else listed(key, found[1])

    async def head(self, bucket: str, key: str) -> tuple[ObjectInfo, Attributes]:
        """Describe an object: in one round trip, and two more if metadata is stored with it."""
        for _ in range(_TRIES):
            found = await self.found(bucket, key)
            if found is None:
                raise _missing(bucket, key)
            attributes = await self.sidecars.read(bucket, key, found[1])
            if attributes is None:
                # The file was replaced meanwhile; or its sidecar was removed by hand.
                if await self.fs.lstat(found[0]) != found[1]:
                    continue
                attributes = NONE
            return info_of(key, found[1], attributes), attributes
        raise _restless(key)

    async def open(self, bucket: str, key: str, version_id: str | None = None) -> OpenObject:
        """Open an object.

        Raises:
            ObjectNotFoundError, BucketNotFoundError: it does not exist.
        """
        refuse_version(version_id)
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
        raise _restless(key)

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
        """Store an object that is in memory: three round trips, and a fourth if there was metadata."""
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
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Make an object of a temporary, as `Objects.commit` does; its handle is closed."""
        refuse_conditions(if_match, if_none_match)
        write = _Write(bucket, key, temporary, attributes, checkpoint, if_none_match is not None)
        return await self._write(write, before, after)

    async def _write(
        self,
        write: _Write,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Commit, alone of those in this process who write the key, and of all if that takes a lease.

        Locks are taken in one order everywhere: the key's in this process, the key's lease, that of the structure.
        """
        async with self.writers.hold((write.bucket, write.key)), AsyncExitStack() as stack:
            # Whole seconds tell no two generations apart: those who write one key have to know of each other.
            if before is not None or after is not None or not self.fs.carries_times:
                await stack.enter_async_context(self.fs.lock(self._layout.stripe(write.bucket, write.key)))
            if before is not None:
                await before()
            info = await self._write_alone(write)
            if after is not None:
                await after()
        return info

    async def _write_alone(self, write: _Write) -> ObjectInfo:
        bucket, key, temporary, attributes = write.bucket, write.key, write.temporary, write.attributes
        mtime_ns = self.now()
        if not self.fs.carries_times:
            mtime_ns = _later(mtime_ns, (await self.look(bucket, key)).status)
        size = self.fs.file(temporary.handle).size
        status = self.fs.status_for(size, mtime_ns, marked=attributes is not NONE)
        commit = Commit(self, bucket, key, temporary, status, write.checkpoint, create_only=write.create_only)
        sidecar: asyncio.Task[None] | None = None
        if attributes is not NONE or not self.fs.carries_times:
            sidecar = asyncio.ensure_future(self._write_sidecar(bucket, key, status, attributes))
        try:
            place = await self._seal(write, status)
            if write.create_only and place.status is not None:
                check_write(etag_of(place.status), None, "*")
            if sidecar is not None:
                await sidecar
            replaced = await commit.publish(place)
        except BaseException:
            if sidecar is not None:
                await asyncio.wait({sidecar})
                if not sidecar.cancelled():
                    sidecar.exception()  # it is retrieved: what came first is what the caller is told
                if not commit.may_be_done:
                    await self._drop_quietly(bucket, key, status)
            raise
        if replaced is not None and not is_same(replaced, status):
            await self._drop_quietly(bucket, key, replaced)
        return info_of(key, status, attributes)

    async def _seal(self, write: _Write, status: FileStatus) -> Place:
        """Give a temporary its time, flush and close it, and find the key's place meanwhile.

        What was written before and is there already survives the loss of a connection.
        """
        temporary, marked = write.temporary, status.marked is True
        failures = 0
        while True:
            try:
                if failures:
                    await self.fs.reopen(temporary.handle)
                sealing = self.fs.seal(temporary.handle, status.st_mtime_ns, marked=marked)
                place = await self.look(write.bucket, write.key)
                for answer in (*write.sent, *sealing):
                    await self._sent(answer, temporary)
            except DisconnectedError:
                failures += 1
                if write.sent or failures == self.fs.attempts:
                    raise
            else:
                return place

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
        """Remove the sidecar of what was replaced; the commit is done, so that a failure is the sweeper's concern."""
        try:
            await self.sidecars.drop(bucket, key, status)
        except OSError:
            self.fs.leave_behind(self.sidecars.path(bucket, key, status))

    async def place_again(self, bucket: str, key: str) -> tuple[str, FileStatus | None]:
        """Return the place of a key, found a step at a time under a lease."""
        path, status = await self._lookup.locate(bucket, key)
        assert status is None or isinstance(status, FileStatus)
        return path, status

    def structure(self, bucket: str) -> Any:
        """Hold the lease under which names with marks are given and directories removed."""
        # These leases have numbers of their own, so that nobody waits for one that a key of his own has taken.
        return self.fs.lock(STRIPES + self._layout.stripe(bucket, ""))

    async def put_in_place(
        self, bucket: str, key: str, publish: Callable[..., Awaitable[None]], path: str, *, replace: bool
    ) -> str:
        """Give a file the key's place, making the directories on its way; return it."""
        return await self._put_in_place(bucket, key, publish, path, replace=replace)

    # Deleting

    async def delete(self, bucket: str, key: str, checkpoint: Checkpoint, *, if_match: str | None = None) -> None:
        """Delete an object."""
        parent = await self.remove(bucket, key, checkpoint)
        if parent is not None:
            await self.tidy(bucket, parent)

    async def remove(self, bucket: str, key: str, checkpoint: Checkpoint) -> str | None:
        """Delete an object; return the directory that it lay in, if that may be empty now and is not the bucket's."""
        async with self.writers.hold((bucket, key)):
            place = await self.look(bucket, key)
            checkpoint()
            if place.odd:
                async with self.structure(bucket):
                    found = await self._found(bucket, key, place)
                    checkpoint()
                    if found is not None:
                        await self._unlink(bucket, key, *found)
            else:
                found = None if place.status is None else (place.path, place.status)
                if found is not None:
                    await self._unlink(bucket, key, *found)
        return None if found is None else self.left_by(bucket, found[0])

    def left_by(self, bucket: str, path: str) -> str | None:
        """Return the directory that may go now that a file has: its own, or the one that it lay beside as ``a%F``."""
        if path.endswith(FILE):
            return path.removesuffix(FILE)
        parent = path.rpartition("/")[0]
        return None if parent == self._layout.bucket(bucket) else parent

    async def _unlink(self, bucket: str, key: str, path: str, status: FileStatus) -> None:
        await self.fs.unlink(path)
        await self.sidecars.drop(bucket, key, status)

    async def tidy(self, bucket: str, directory: str) -> None:
        """Remove a directory, and those above it, as far as they are empty.

        A directory beside which lies ``a%F`` stays: were it to go, somebody who had seen it gone could store the same
        key as ``a``.
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

    # Changing what is stored with an object

    async def change_attributes(
        self,
        bucket: str,
        key: str,
        change: Callable[[Attributes], Attributes],
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
    ) -> None:
        """Replace an object's attributes, atomically; its bytes, ETag and time stay."""
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
                    # The handle is that of the very file: one that was put meanwhile is not marked.
                    await self.fs.mark(opened.handle, opened.status)
            finally:
                await self.fs.close(opened.handle)


def _upwards(directory: str, base: str, count: int) -> list[str]:
    """Return a directory and some of those above it, below the base."""
    found: list[str] = []
    while directory != base and len(found) < count:
        found.append(directory)
        directory = directory.rpartition("/")[0]
    return found


def is_same(one: FileStatus, other: FileStatus) -> bool:
    """Tell whether two files of a key are the same generation of it."""
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _later(mtime_ns: int, current: FileStatus | None) -> int:
    """Return a time of a later second than that of the file that there is."""
    return mtime_ns if current is None else max(mtime_ns, current.st_mtime_ns + 1_000_000_000)


def refuse_version(version_id: str | None) -> None:
    """Refuse to look for a version.

    Raises:
        UnsupportedError: one was asked for.
    """
    if version_id is not None:
        raise UnsupportedError("no versions are kept over SFTP", driver="sftp")


def refuse_conditions(if_match: str | None, if_none_match: str | None) -> None:
    """Refuse the conditions on a write that no request of SFTP can decide.

    Raises:
        UnsupportedError: one was asked for that is not create-only.
    """
    if if_match is not None or if_none_match not in (None, "*"):
        raise UnsupportedError(
            "SFTP has no request that replaces a file on a condition; create-only (if_none_match='*') is all there is",
            driver="sftp",
        )


def _missing(bucket: str, key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(f"the object {key!r} does not exist", bucket=bucket, key=key)


def _restless(key: str) -> BackendError:
    return BackendError(f"the object {key!r} was replaced {_TRIES} times while it was being read")
