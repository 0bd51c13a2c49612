"""The core of the local driver: its life, its threads, and the verbs for objects and buckets."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib.util import find_spec
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
    NotificationDriver,
    OpenOptions,
    PutOptions,
    VersioningDriver,
    VersionListingDriver,
    capabilities_of,
    check_read,
    check_write,
    reading_source,
)
from trove_async.drivers.local.errors import release_frames, translated
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.flushing import Flushers
from trove_async.drivers.local.held import HeldFile
from trove_async.drivers.local.notifier import Notifiers
from trove_async.drivers.local.opening import LocalSettings, check_names, url_signer
from trove_async.drivers.local.pool_size import PoolSize
from trove_async.drivers.local.stream import FileStream
from trove_async.drivers.local.suspension import Suspended, start
from trove_async.drivers.local.workers import Workers
from trove_async.dsn import DSN
from trove_async.errors import ClosedError, PreconditionFailedError, RootNotFoundError, TroveError
from trove_async.listing import ListPage
from trove_async.reader import ObjectReader
from trove_async.signing import PresignByHMAC
from trove_async.tree import (
    Buckets,
    Checkpoint,
    Layout,
    OpenObject,
    Temporary,
    Tree,
    VersionedObjects,
    WriteClock,
    run_sync,
    write_body,
)
from trove_async.tree.attributes import Attributes
from trove_async.types import (
    EMPTY,
    BucketInfo,
    DeleteResult,
    ObjectInfo,
)

__all__ = ["LocalCore"]

R = TypeVar("R")

_SMALL: Final = 256 * 1024
"""Bytes up to which an object is read or written in one call, by the pool for fast operations."""
_STEP_SIZE: Final = 8 * 1024 * 1024
"""Bytes of a large buffer that are written between two checks whether the caller was cancelled."""


class LocalCore(PresignByHMAC, Driver):
    """The core verbs; `LocalDriver` adds the capabilities."""

    def __init__(self) -> None:
        self._tree: Tree[VersionedObjects]
        self._fs: LocalFileSystem
        self._quick: Workers | None = None
        self._slow: Workers | None = None
        self._swept = 0
        self.cleanup_timeout = CLEANUP_TIMEOUT
        self._features = Features()
        self.notifiers = Notifiers()

    @property
    def name(self) -> str:
        """``local``."""
        return "local"

    @property
    def features(self) -> Features:
        """What this root has."""
        return self._features

    # Life

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it."""
        LocalSettings.of(dsn, options)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Open a root, which must be a writable directory."""
        settings = LocalSettings.of(dsn, options)
        timeout = options.cleanup_timeout
        self.cleanup_timeout = timeout
        self._clock = WriteClock()
        self._fs, self._tree = _build(settings, self._clock)
        workers = partial(
            Workers,
            maximum=64,
            cleanup_timeout=timeout,
            await_turn=self._fs.locks.resume_with,
            on_idle=self._fs.handles.trim,
        )
        self._quick = workers("trove-local", size=PoolSize(1), flushers=Flushers("trove-local-flush"))
        self._slow = workers("trove-local-slow", size=PoolSize(2))
        self._swept = await self._call(lambda: self._open_root(settings))
        self._features = self._find_features(settings)

    def _open_root(self, settings: LocalSettings) -> int:
        settings.check_root()
        swept = self._fs.open_root()
        if not self._fs.uses_tokens:
            self._clock.step = self._fs.grain_ns
        if not settings.merge_names and self._fs.has_scratch:
            check_names(self._fs.temporary(), settings.root)
        self.url_signer = url_signer(self._fs, self._tree.layout, settings.signing)
        return swept

    def _find_features(self, settings: LocalSettings) -> Features:
        features = Features(
            protocols=capabilities_of(self),
            conditions=frozenset({"put_if_none_match", "put_if_match", "get", "delete", "copy", "complete"}),
            native=frozenset({"watch", "range", "server_copy", "bulk_delete", "conditional_put"}),
            limits=Limits(min_part_size=settings.min_part_size),
        )
        if find_spec("watchfiles") is None:
            features = features.without({NotificationDriver: "it needs: pip install 'trove-async[local]'"})
        if not self._fs.keeps_versions:
            reason = "the file system of the root can neither give a file two names nor set its time"
            features = features.without({VersioningDriver: reason, VersionListingDriver: reason})
        return self.with_presign(features)

    async def close(self) -> None:
        """Finish running operations, remove this store's temporaries, and end the threads.

        When that is given up, operations still end as those of a closed store: what they use, such as locks, is kept
        until then.
        """
        self.notifiers.fail(ClosedError("the store was closed", driver=self.name))
        quick, slow = self._quick, self._slow
        self._quick = self._slow = None
        if quick is None or slow is None:
            return
        try:
            await asyncio.gather(slow.drain(), quick.drain())
        except asyncio.CancelledError:
            slow.close_when_idle(lambda: quick.close_when_idle(self._close_root))
            raise
        await slow.aclose()
        await quick.aclose(self._close_root)

    def _close_root(self) -> None:
        self._tree.listing.close()
        self._fs.close_root()

    def shares_backend(self, other: Driver) -> bool:
        """Tell whether another driver of this process has the same root open."""
        return isinstance(other, LocalCore) and other._tree.layout.root == self._tree.layout.root

    async def ping(self) -> None:
        """Write and remove a file, as every put does, in the directory to which the root's path leads."""
        await self._run(lambda _: self._prove_writable())

    async def _prove_writable(self) -> None:
        await self._tree.prove_writable()
        self._fs.check_root()

    # Hops

    def _pool(self, slow: bool) -> Workers:
        pool = self._slow if slow else self._quick
        if pool is None:
            raise ClosedError("the store is closed")
        return pool

    async def _run(
        self,
        work: Callable[[Checkpoint], Coroutine[Any, Any, R]],
        *,
        slow: bool = False,
        discard: Callable[[R], object] | None = None,
    ) -> R:
        """Run an algorithm of the tree in one call in a worker thread."""
        pool = self._pool(slow)
        handles = self._fs.handles
        number = handles.ask()

        def operation(checkpoint: Checkpoint) -> R | Suspended[R]:
            handles.begin(number)
            return start(work(checkpoint), handles.renew)

        try:
            return await pool.run(operation, discard=discard)
        except OSError as error:
            if isinstance(error, TroveError):
                raise
            raise self._translated(error) from error

    async def _call(self, function: Callable[[], R], *, slow: bool = False) -> R:
        """Call a function in a worker thread."""
        try:
            return await self._pool(slow).run(lambda checkpoint: function())
        except OSError as error:
            if isinstance(error, TroveError):
                raise
            raise self._translated(error) from error

    def _translated(self, error: OSError) -> TroveError:
        # A file cannot be made in a directory that was removed, which some file systems call EPERM.
        if error.errno in (errno.ENOENT, errno.EPERM, errno.ESTALE) and not os.path.isdir(self._tree.layout.tmp):
            return RootNotFoundError("the root, or .trove in it, was removed while the store was open")
        return translated(error)

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object; one that is in memory in a single call in a worker thread."""
        return await self._store(
            body,
            partial(self._begin_put, bucket, key, options),
            partial(self._commit, bucket, key, body, options),
        )

    def _commit(
        self, bucket: str, key: str, body: Body, options: PutOptions, temporary: Temporary, checkpoint: Checkpoint
    ) -> Coroutine[Any, Any, ObjectInfo]:
        checksums = body.checksums if body.checksum is not None else EMPTY
        return self._tree.objects.commit(
            bucket,
            key,
            temporary,
            Attributes.of(key, options.attributes, checksums),
            checkpoint,
            if_match=options.if_match,
            if_none_match=options.if_none_match,
        )

    async def _begin_put(self, bucket: str, key: str, options: PutOptions) -> None:
        """Refuse what the commit would refuse, before the body is read."""
        await self._tree.buckets.require(bucket)
        if options.if_match is not None or options.if_none_match is not None:
            current = await self._tree.objects.find(bucket, key)
            check_write(None if current is None else current.etag, options.if_match, options.if_none_match)

    async def _store(
        self,
        body: Body,
        begin: Callable[[], Coroutine[Any, Any, object]],
        commit: Callable[[Temporary, Checkpoint], Coroutine[Any, Any, R]],
    ) -> R:
        """Write a body to a temporary and commit it; the temporary is removed in any case.

        ``begin`` runs before a streamed body is read, and may refuse the write.
        """
        buffer = body.buffer
        if buffer is None:
            return await self._store_stream(body, begin, commit)
        await body.finish_buffer()
        return await self._run(partial(self._store_buffer, buffer, commit), slow=len(buffer) > _SMALL)

    async def _store_buffer(
        self, buffer: Chunk, commit: Callable[[Temporary, Checkpoint], Coroutine[Any, Any, R]], checkpoint: Checkpoint
    ) -> R:
        small = len(buffer) <= _STEP_SIZE
        temporary = await self._fs.create_temporary(buffer if small else b"")
        try:
            if not small:
                await self._write_buffer(temporary, buffer, checkpoint)
            return await commit(temporary, checkpoint)
        finally:
            await self._fs.discard(temporary)

    async def _write_buffer(self, temporary: Temporary, buffer: Chunk, checkpoint: Checkpoint) -> None:
        view = memoryview(buffer)
        for at in range(0, len(view), _STEP_SIZE):
            checkpoint()
            await self._fs.write(temporary.handle, (view[at : at + _STEP_SIZE],))

    async def _store_stream(
        self,
        body: Body,
        begin: Callable[[], Coroutine[Any, Any, object]],
        commit: Callable[[Temporary, Checkpoint], Coroutine[Any, Any, R]],
    ) -> R:
        async def start(checkpoint: Checkpoint) -> Temporary:
            await begin()
            return await self._fs.create_temporary()

        temporary = await self._run(start, slow=True, discard=self._discard_now)
        file = self._held(temporary)
        try:
            await write_body(body, lambda chunks: file.run(lambda _: self._fs.write(temporary.handle, chunks)))
            return await file.run(lambda checkpoint: commit(temporary, checkpoint))
        finally:
            await finish(
                file.discard(),
                timeout=self.cleanup_timeout,
                leftover=f"the temporary file {temporary.path or 'of a put'}",
            )

    def _discard_now(self, temporary: Temporary) -> None:
        run_sync(self._fs.discard(temporary))

    def _held(self, temporary: Temporary) -> HeldFile:
        return HeldFile(
            self._fs,
            temporary,
            run=partial(self._run, slow=True),
            call=partial(self._call, slow=True),
            store_closed=lambda: self._slow is None,
        )

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object; a small one is read and closed in the same call."""
        opened, start, stop, data = await self._run(lambda _: self._open(bucket, key, options), discard=_close_unread)
        if data is not None:
            return ObjectReader(opened.info, data, start=start, stop=stop)

        async def reopen() -> int:
            again = await self._run(
                lambda _: self._tree.objects.open(bucket, key, options.version_id), discard=lambda o: os.close(o.handle)
            )
            if again.info.etag != opened.info.etag:
                os.close(again.handle)
                raise PreconditionFailedError(f"the object's ETag is {again.info.etag!r} now")
            return again.handle

        stream = FileStream(opened.handle, start, stop, read_at=self._read_at, reopen=reopen)
        return ObjectReader(opened.info, stream, start=start, stop=stop)

    async def _open(self, bucket: str, key: str, options: GetOptions) -> tuple[OpenObject, int, int, bytes | None]:
        opened = await self._tree.objects.open(bucket, key, options.version_id)
        close = True
        try:
            check_read(opened.info, options)
            size = opened.info.size
            start, stop = (0, size) if options.range is None else options.range.resolve(size)
            if stop - start > _SMALL:
                close = False
                return opened, start, stop, None
            data = await self._fs.read(opened.handle, start, stop - start) if stop > start else b""
            return opened, start, stop, data
        finally:
            if close:
                await self._fs.close(opened.handle)

    async def _read_at(self, handle: int, position: int, size: int) -> bytes:
        return await self._run(lambda _: self._fs.read(handle, position, size), slow=size > _SMALL)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""

        async def head(checkpoint: Checkpoint) -> ObjectInfo:
            opened = await self._tree.objects.open(bucket, key, options.version_id)
            await self._fs.close(opened.handle)
            return opened.info

        info = await self._run(head)
        check_read(info, options)
        return info

    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return what a listing shows for an object; None if there is no object."""
        return await self._run(lambda _: self._tree.objects.find(bucket, key))

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object or a version."""
        await self._run(partial(self._delete, bucket, key, options))

    async def _delete(self, bucket: str, key: str, options: DeleteOptions, checkpoint: Checkpoint) -> None:
        objects, if_match = self._tree.objects, options.if_match
        if options.version_id is None:
            await objects.delete(bucket, key, checkpoint, if_match=if_match)
        else:
            await objects.delete_version(bucket, key, options.version_id, checkpoint, if_match=if_match)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects in one call in a worker thread."""
        return await self._run(partial(self._delete_all, bucket, keys), slow=True)

    async def _delete_all(self, bucket: str, keys: Sequence[str], checkpoint: Checkpoint) -> list[DeleteResult]:
        await self._tree.buckets.require(bucket)
        results: list[DeleteResult] = []
        for key in keys:
            failure: TroveError | None = None
            try:
                await self._tree.objects.delete(bucket, key, checkpoint)
            except TroveError as error:
                failure = error
            except OSError as error:
                failure = translated(error)
                failure.__cause__ = error
            if failure is not None:
                release_frames(failure)
            results.append(DeleteResult(key, failure))
        return results

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object within the kernel; its blocks are shared if the file system supports that."""
        return await self._run(partial(self._copy, src_bucket, src_key, dst_bucket, dst_key, options), slow=True)

    async def _copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        options: CopyOptions,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        # The temporary comes first, since only it leaves descriptors for a commit; sources could take all of them.
        temporary = await self._fs.create_temporary()
        try:
            with reading_source(src_bucket, src_key):
                source = await self._tree.objects.open(src_bucket, src_key, options.source_version_id)
            try:
                with reading_source(src_bucket, src_key):
                    check_read(source.info, HeadOptions(if_match=options.source_if_match))
                await self._tree.buckets.require(dst_bucket)
                return await self._tree.copy_into(temporary, source, dst_bucket, dst_key, options, checkpoint)
            finally:
                await self._fs.close(source.handle)
        finally:
            await self._fs.discard(temporary)

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        return await self._list(lambda _: self._tree.listing.page(bucket, options))

    async def _list(self, page: Callable[[Checkpoint], Coroutine[Any, Any, R]]) -> R:
        try:
            return await self._run(page, slow=True)
        finally:
            self._tree.listing.forget_in_time()

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a directory."""
        await self._run(lambda _: self._tree.buckets.create(name))

    async def delete_bucket(self, name: str) -> None:
        """Remove a directory that contains only empty directories."""
        await self._run(lambda _: self._tree.buckets.delete(name), slow=True)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the directories of the root."""
        return await self._run(lambda _: self._list_buckets())

    async def _list_buckets(self) -> Sequence[BucketInfo]:
        found = await self._tree.buckets.list()
        if not found:
            self._fs.check_root()
        return found


def _build(settings: LocalSettings, clock: WriteClock) -> tuple[LocalFileSystem, Tree[VersionedObjects]]:
    layout = Layout(settings.root)
    fs = LocalFileSystem(layout, durable=settings.fsync, skip_unreadable=settings.skip_unreadable)
    buckets = Buckets(fs, layout)
    objects = VersionedObjects(fs, layout, buckets, clock)
    return fs, Tree(fs, layout, buckets, objects, clock=clock, min_part_size=settings.min_part_size)


def _close_unread(result: tuple[OpenObject, int, int, bytes | None]) -> None:
    opened, _, _, data = result
    if data is None:
        os.close(opened.handle)
