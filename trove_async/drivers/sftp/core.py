"""What a store over SFTP does that every store does: its life, and the verbs for objects and buckets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from trove_async.body import Body, Chunk
from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    Driver,
    Features,
    GetOptions,
    HeadOptions,
    Limits,
    ListOptions,
    OpenOptions,
    PresignDriver,
    PutOptions,
    ServerCopyDriver,
    capabilities_of,
    check_read,
)
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.leases import Leases, checkpoint
from trove_async.drivers.sftp.objects import SFTPObjects, refuse_conditions, refuse_version
from trove_async.drivers.sftp.opening import Abilities, check_root, presign_key, probe
from trove_async.drivers.sftp.reading import Opened, Reading
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.drivers.sftp.sidecars import SidecarSweeper
from trove_async.drivers.sftp.slots import Slots
from trove_async.drivers.sftp.stream import RemoteStream
from trove_async.dsn import DSN
from trove_async.errors import (
    ClosedError,
    ObjectAlreadyExistsError,
    PreconditionFailedError,
    TransientError,
    TroveError,
    UnsupportedError,
)
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.signing import URLSigner
from trove_async.tree import Temporary, Tree
from trove_async.tree.attributes import Attributes
from trove_async.tree.uploads import Uploads
from trove_async.types import EMPTY, BucketInfo, DeleteResult, ObjectInfo, ObjectRef

__all__ = ["SFTPCore"]

R = TypeVar("R")

Checkpoint = Callable[[], None]

_WRITE_SIZE: Final = 4 * 1024 * 1024
"""Bytes of a body that is made as it goes which are sent in one operation."""
_JOINED: Final = 64 * 1024
"""Bytes of a chunk below which it is joined to its neighbours rather than kept as it is."""
_DELETIONS: Final = 32
"""Deletions of one call that are under way at a time."""
_SPARE_HANDLES: Final = 4


class _SFTPTree(Tree):
    """A tree whose objects are committed over SFTP."""

    def __init__(self, fs: SFTPFileSystem, root: str, *, min_part_size: int) -> None:
        super().__init__(fs, root, min_part_size=min_part_size)
        self.remote = SFTPObjects(fs, self.layout, self.buckets)
        self.objects = self.remote
        self.sweeper = SidecarSweeper(fs, self.layout, self.buckets)
        self.uploads = Uploads(fs, self.layout, self.buckets, self.remote, min_part_size=min_part_size)


class _Operation:
    """One call, and whether its caller still waits for it."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False

    def check(self) -> None:
        """Raise if nobody waits any more."""
        if self.given_up:
            raise asyncio.CancelledError


class SFTPCore(Driver):
    """The core verbs; `SFTPDriver` adds the capabilities."""

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._fs: SFTPFileSystem
        self._tree: _SFTPTree
        self._reading: Reading
        self._leases: Leases
        self._slots: Slots
        self._attempts = 1
        self._swept = 0
        self._opened = False
        self.cleanup_timeout = CLEANUP_TIMEOUT
        self._features = Features()
        self.url_signer: URLSigner | None = None

    @property
    def name(self) -> str:
        """``sftp``."""
        return "sftp"

    @property
    def features(self) -> Features:
        """What this server has."""
        return self._features

    @property
    def connection(self) -> Connection:
        """The connection, with what it counts."""
        if self._connection is None:
            raise ClosedError("the store is closed")
        return self._connection

    @property
    def closed(self) -> bool:
        """Tell whether it was closed, or never opened."""
        return self._connection is None

    @property
    def held_handles(self) -> int:
        """How many handles are reserved for calls under way and readers that are open."""
        return self._slots.taken

    # Life

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Log in and open a root, which must be a directory that can be written to."""
        settings = SFTPSettings.of(dsn, options)
        self._attempts = settings.attempts
        self.cleanup_timeout = options.cleanup_timeout
        self._connection = Connection(settings, cleanup_timeout=options.cleanup_timeout)
        self._fs = SFTPFileSystem(self._connection, durable=settings.fsync, attempts=settings.attempts)
        self._tree = _SFTPTree(self._fs, settings.root, min_part_size=settings.min_part_size)
        self._reading = Reading(self._tree.remote, self._tree.layout)
        self._leases = Leases(self._fs, self._tree.layout, settings.lease)
        self._fs.lock_maker = self._leases.lock
        self._fs.clock = self._leases.clock
        self._fs.scratch_lapsed = self._leases.lapsed
        try:
            abilities = await self._guarded(partial(self._open_root, settings), repeat=True)
        except BaseException:
            await finish(self.close(), timeout=self.cleanup_timeout, leftover="a connection that does not close")
            raise
        self._features = self._find_features(settings, abilities)

    async def _open_root(self, settings: SFTPSettings, check: Checkpoint) -> Abilities:
        layout = self._tree.layout
        channel = await self._fs.channel()
        most = channel.limits.handles - _SPARE_HANDLES if channel.limits.handles else settings.handles
        self._slots = Slots(max(1, min(settings.handles, most)), settings.idle_timeout)
        await check_root(self._fs, layout, settings, self._leases.begin)
        abilities = await probe(self._fs)
        self._fs.carries_times = abilities.carries_times
        self._fs.replaces = abilities.replaces
        self._fs.has_links = abilities.links
        self._swept += await self._leases.sweep()
        if settings.presign_url is not None:
            key = await presign_key(self._fs, layout, settings)
            self.url_signer = URLSigner(key, settings.presign_url)
        self._opened = True
        return abilities

    def _find_features(self, settings: SFTPSettings, abilities: Abilities) -> Features:
        protocols = capabilities_of(self)
        if self.url_signer is None:
            protocols -= {PresignDriver}
        if not abilities.copies:
            protocols -= {ServerCopyDriver}  # copies pass through this process
        return Features(
            protocols=protocols,
            conditions=frozenset({"get", "put_if_none_match"} if abilities.links else {"get"}),
            presign_methods=frozenset() if self.url_signer is None else frozenset({"GET", "PUT", "HEAD", "DELETE"}),
            native=frozenset({"range", "server_copy"} if abilities.copies else {"range"}),
            limits=Limits(min_part_size=settings.min_part_size),
        )

    async def close(self) -> None:
        """Remove our temporaries and close the connection; readers that are open fail."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self._leases.begun:
                await finish(self._tidy_up(), timeout=self.cleanup_timeout, leftover=f"the folder {self._fs.scratch}")
        finally:
            await connection.close()

    async def _tidy_up(self) -> None:
        if self._fs.is_connected:
            await self._fs.remove_left_behind()
        await self._leases.end()

    async def ping(self) -> None:
        """Write and remove a file, as every put does."""
        await self._run(lambda _: self._tree.prove_writable())

    # Operations

    async def _run(
        self,
        work: Callable[[Checkpoint], Awaitable[R]],
        *,
        slots: int = 2,
        repeat: bool = True,
        uncertain: bool = False,
        discard: Callable[[R], Awaitable[object]] | None = None,
    ) -> R:
        """Carry out an operation to its end, which a cancellation brings on: nothing stops half way.

        Args:
            work: what is done; it gets a function that raises once nobody waits any more.
            slots: handles that it needs at most.
            repeat: whether it can be done again when the connection was lost.
            uncertain: whether nobody knows then if it was done.
            discard: gets the result, if it comes to that after the cancellation.
        """
        if self._connection is None:
            raise ClosedError("the store is closed")
        taken = await self._slots.take(slots) if slots else 0
        try:
            return await self._guarded(work, repeat=repeat, uncertain=uncertain, discard=discard)
        finally:
            self._slots.give(taken)

    async def _guarded(
        self,
        work: Callable[[Checkpoint], Awaitable[R]],
        *,
        repeat: bool,
        uncertain: bool = False,
        discard: Callable[[R], Awaitable[object]] | None = None,
    ) -> R:
        operation = _Operation()
        task = asyncio.ensure_future(self._tried(work, operation, repeat, uncertain))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            operation.given_up = True
            try:
                await finish(_wound_up(task, discard), timeout=self.cleanup_timeout, leftover="an operation over SFTP")
            finally:
                task.cancel()
            raise

    async def _tried(
        self, work: Callable[[Checkpoint], Awaitable[R]], operation: _Operation, repeat: bool, uncertain: bool
    ) -> R:
        checkpoint.set(operation.check)
        failures = 0
        while True:
            try:
                result = await work(operation.check)
            except (DisconnectedError, TransientError) as error:
                failures += 1
                failure = error if isinstance(error, TransientError) else translated(error)
                if failure is not error:
                    failure.ambiguous = uncertain
                if self._connection is None:
                    raise ClosedError("the store was closed meanwhile") from error
                if not repeat or failure.ambiguous or failures >= self._attempts:
                    raise failure from (None if failure is error else error)
                operation.check()
                await asyncio.sleep(random.uniform(0, min(2.0, 0.05 * 2**failures)))
            except OSError as error:
                if isinstance(error, TroveError):
                    raise
                raise translated(error) from error
            else:
                if self._fs.has_left_behind:
                    await self._fs.remove_left_behind()
                return result

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object."""
        refuse_conditions(options.if_match, options.if_none_match)
        buffer = body.buffer
        if buffer is None:
            return await self._store_stream(
                body,
                partial(self._begin_put, bucket, key, options),
                partial(self._commit, bucket, key, body, options),
            )
        await body.finish_buffer()
        attributes = _attributes(key, body, options)
        create_only = options.if_none_match is not None
        put = self._tree.remote.put
        return await self._run(
            lambda check: put(bucket, key, buffer, attributes, check, create_only=create_only),
        )

    def _commit(
        self, bucket: str, key: str, body: Body, options: PutOptions, temporary: Temporary, check: Checkpoint
    ) -> Coroutine[Any, Any, ObjectInfo]:
        return self._tree.objects.commit(
            bucket,
            key,
            temporary,
            _attributes(key, body, options),
            check,
            if_none_match=options.if_none_match,
        )

    async def _begin_put(self, bucket: str, key: str, options: PutOptions) -> None:
        """Refuse what the commit would refuse too, before the body is read."""
        found = await self._tree.remote.find(bucket, key)
        if found is not None and options.if_none_match is not None:
            raise ObjectAlreadyExistsError("the object exists already, and the write was to create it only")

    async def _store_stream(
        self,
        body: Body,
        begin: Callable[[], Coroutine[Any, Any, object]],
        commit: Callable[[Temporary, Checkpoint], Coroutine[Any, Any, R]],
    ) -> R:
        """Write a body to a temporary and commit it; whatever happens, no temporary stays."""
        fs = self._fs

        async def start(check: Checkpoint) -> Temporary:
            await begin()
            return await fs.create_temporary()

        if self._connection is None:
            raise ClosedError("the store is closed")
        taken = await self._slots.take(2)
        try:
            temporary = await self._run(start, slots=0, discard=fs.discard)
            try:
                await _write_chunks(
                    body,
                    lambda chunks: self._run(lambda _: fs.write(temporary.handle, chunks), slots=0, repeat=False),
                )
                return await self._run(lambda check: commit(temporary, check), slots=0, repeat=False)
            finally:
                await finish(
                    fs.discard(temporary),
                    timeout=self.cleanup_timeout,
                    leftover=f"the temporary file {temporary.path}",
                )
        finally:
            self._slots.give(taken)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object; a small one is read and closed in the same operation."""
        if self._connection is None:
            raise ClosedError("the store is closed")
        taken = await self._slots.take(2)
        keep = 0
        try:
            opened = await self._run(
                lambda _: self._reading.open(bucket, key, options), slots=0, discard=self._discard_opened
            )
            if opened.data is not None:
                return ObjectReader(opened.info, opened.data, start=opened.start, stop=opened.stop)
            keep = 1
        finally:
            self._slots.give(taken - min(keep, taken))
        stream = RemoteStream(
            self._fs,
            opened.handle,
            opened.start,
            opened.stop,
            reopen=partial(self._reopen, bucket, key, opened.info.etag),
            on_close=lambda: self._slots.give(1),
        )
        return ObjectReader(opened.info, stream, start=opened.start, stop=opened.stop)

    async def _discard_opened(self, opened: Opened) -> None:
        if opened.data is None:
            await self._fs.close(opened.handle)

    async def _reopen(self, bucket: str, key: str, etag: str) -> int:
        taken = await self._slots.take(1)
        try:
            opened = await self._run(
                lambda _: self._tree.objects.open(bucket, key), slots=0, discard=lambda o: self._fs.close(o.handle)
            )
            if opened.info.etag != etag:
                await self._fs.close(opened.handle)
                raise PreconditionFailedError(f"the object's ETag is {opened.info.etag!r} now")
        except BaseException:
            self._slots.give(taken)
            raise
        return opened.handle

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        refuse_version(options.version_id)
        info, _ = await self._run(lambda _: self._tree.remote.head(bucket, key), slots=1)
        check_read(info, options)
        return info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object."""
        refuse_version(options.version_id)
        if options.if_match is not None:
            raise UnsupportedError("SFTP has no request that deletes a file on a condition", driver=self.name)
        await self._run(partial(self._tree.objects.delete, bucket, key), slots=1)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects, some at a time; the directories that are empty then go at the end."""
        return await self._run(partial(self._delete_all, bucket, keys), slots=1)

    async def _delete_all(self, bucket: str, keys: Sequence[str], check: Checkpoint) -> list[DeleteResult]:
        await self._tree.buckets.require(bucket)
        left: list[str | None] = []
        turns = asyncio.Semaphore(_DELETIONS)

        async def delete(key: str) -> DeleteResult:
            async with turns:
                try:
                    left.append(await self._tree.remote.remove(bucket, key, check))
                except DisconnectedError:
                    raise
                except TroveError as error:
                    return DeleteResult(key, error)
                except OSError as error:
                    failure = translated(error)
                    failure.__cause__ = error
                    return DeleteResult(key, failure)
                return DeleteResult(key, None)

        outcomes = await asyncio.gather(*map(delete, keys), return_exceptions=True)
        results: list[DeleteResult] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            results.append(outcome)
        for directory in sorted({path for path in left if path is not None}, reverse=True):
            await self._tree.remote.tidy(bucket, directory)
        return results

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object at the server; where it cannot, its bytes pass through this process."""
        refuse_version(options.source_version_id)
        refuse_conditions(options.if_match, options.if_none_match)
        if options.source_if_match is not None or options.if_none_match is not None:
            raise UnsupportedError("copies over SFTP have no conditions", driver=self.name)
        return await self._run(partial(self._tree.copy, src_bucket, src_key, dst_bucket, dst_key, options), slots=3)

    async def server_copy(self, src: ObjectRef, dst: ObjectRef, options: CopyOptions | None = None) -> ObjectInfo:
        """Copy an object; as `copy`."""
        chosen = options or CopyOptions(source_version_id=src.version_id)
        return await self.copy(src.bucket, src.key, dst.bucket, dst.key, chosen)

    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Open a range."""
        wanted = ByteRange(offset, None if length < 0 else length)
        return await self.get(bucket, key, GetOptions(range=wanted))

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing; reading a directory tells size and time of what is in it."""
        # With a delimiter one looks into directories of directories, eight deep at most, to see whether one is empty.
        slots = 1 if options.delimiter is None else 10
        return await self._run(lambda _: self._tree.listing.page(bucket, options), slots=slots)

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Make a directory."""
        await self._run(lambda _: self._tree.buckets.create(name), repeat=False, uncertain=True)

    async def delete_bucket(self, name: str) -> None:
        """Remove an empty directory, with the empty ones in it."""
        await self._run(lambda _: self._tree.buckets.delete(name), repeat=False, uncertain=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the directories of the root."""
        return await self._run(lambda _: self._tree.buckets.list())


def _attributes(key: str, body: Body, options: PutOptions) -> Attributes:
    return Attributes.of(key, options.attributes, body.checksums if body.checksum is not None else EMPTY)


async def _wound_up(task: asyncio.Future[R], discard: Callable[[R], Awaitable[object]] | None) -> None:
    """Wait until a task is over, and discard what it returns."""
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None and discard is not None:
        await discard(task.result())


async def _write_chunks(body: Body, write: Callable[[Sequence[Chunk]], Awaitable[None]]) -> None:
    """Write a body in pieces of a few megabytes, however small its chunks are."""
    pending: list[bytes | bytearray] = []
    size = 0
    async for chunk in body:
        size += len(chunk)
        if len(chunk) < _JOINED:
            if not pending or type(pending[-1]) is bytes:
                pending.append(bytearray())
            pending[-1] += chunk
        elif type(chunk) is bytes:
            pending.append(chunk)
        else:
            # It may change when the next is asked for, so that it is written now rather than copied.
            await write((*pending, chunk))
            pending, size = [], 0
        if size >= _WRITE_SIZE:
            await write(pending)
            pending, size = [], 0
    if pending:
        await write(pending)
