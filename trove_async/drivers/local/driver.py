"""`LocalDriver`: a store in a directory of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from trove_async.body import Body, Chunk
from trove_async.cancellation import finish
from trove_async.driver import (
    CompleteOptions,
    ExpireByDelete,
    LifecycleDeleteBySet,
    PutOptions,
    RangeByGet,
    ServerCopyByCopy,
    TagsDeleteBySet,
    VersionListOptions,
    VersionPage,
    VersionsByOptions,
    WatchOptions,
)
from trove_async.drivers.local.core import LocalCore
from trove_async.drivers.local.watch import Observers
from trove_async.dsn import DSN
from trove_async.tree import (
    Checkpoint,
    Layout,
    Temporary,
    possible_roots,
    run_sync,
    split_path,
    write_at_once,
)
from trove_async.tree.appending import Appending
from trove_async.tree.sweep import SweepReport
from trove_async.tree.version_listing import VersionListing
from trove_async.types import (
    EMPTY,
    FrozenDict,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)

__all__ = ["LocalDriver"]


_AHEAD: Final = 32 * 1024
"""Bytes: during a write, more of an appended body is requested only while fewer are in memory."""


class LocalDriver(
    RangeByGet, ServerCopyByCopy, VersionsByOptions, TagsDeleteBySet, LifecycleDeleteBySet, ExpireByDelete, LocalCore
):
    """Objects as files: with the root ``/srv/data``, ``a/b.jpg`` of bucket ``pics`` is ``/srv/data/pics/a/b.jpg``.

    Several processes may use one root at once. ``docs/local.md`` describes the layout and the parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self._observers = Observers(self)

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Take the directory on the path that contains ``.trove`` as the root; see `split_path`."""
        root, bucket, key = split_path(dsn.path, await asyncio.to_thread(_roots, dsn.path))
        return replace(dsn, path=root).reveal(), bucket, key

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        uploads = self._tree.uploads
        return await self._run(
            lambda _: uploads.initiate(bucket, key, options),
            discard=lambda upload_id: run_sync(uploads.forget(bucket, upload_id)),
        )

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part."""

        async def store(temporary: Temporary, checkpoint: Checkpoint) -> PartInfo:
            return await self._tree.uploads.store_part(bucket, key, upload_id, number, temporary, checkpoint)

        return await self._store(body, lambda: self._tree.uploads.require(bucket, key, upload_id), store)

    async def append_part(
        self, bucket: str, key: str, upload_id: str, number: int, offset: int, body: Body
    ) -> PartInfo:
        """Append to the file of a part; a body that is in memory in a single call in a worker thread."""
        buffer = body.buffer
        if buffer is None:
            return await self._append_stream(bucket, key, upload_id, number, offset, body)
        await body.finish_buffer()

        async def append(checkpoint: Checkpoint) -> PartInfo:
            appending = await self._tree.appends.begin(bucket, key, upload_id, number, offset)
            try:
                return await self._append_last(appending, self._write_buffer(appending.temporary, buffer, checkpoint))
            finally:
                await self._fs.discard(appending.temporary)

        return await self._run(append, slow=True)

    async def _append_last(self, appending: Appending, writing: Coroutine[Any, Any, None]) -> PartInfo:
        try:
            await writing
            return await self._tree.appends.finish(appending)
        except BaseException:
            # What was written before a failure is flushed too: it will be taken for the part.
            with suppress(OSError):
                await self._fs.sync(appending.temporary.handle)
            raise

    async def _append_stream(
        self, bucket: str, key: str, upload_id: str, number: int, offset: int, body: Body
    ) -> PartInfo:
        appends = self._tree.appends
        appending = await self._run(
            lambda _: appends.begin(bucket, key, upload_id, number, offset),
            slow=True,
            discard=lambda appending: self._discard_now(appending.temporary),
        )
        file = self._held(appending.temporary)
        handle = appending.temporary.handle
        part: PartInfo | None = None

        async def write(chunks: Sequence[Chunk], *, last: bool) -> None:
            nonlocal part
            if last:
                part = await file.run_last(lambda _: self._append_last(appending, self._fs.write(handle, chunks)))
            else:
                await file.write(chunks)

        try:
            await write_at_once(body, write, ahead=_AHEAD)
            assert part is not None
            return part
        finally:
            if not file.closed:
                # What was written before a failure is flushed here too; `finish` logs it if that fails.
                await finish(
                    file.discard(lambda: self._fs.sync(handle)),
                    timeout=self.cleanup_timeout,
                    leftover=f"the open file {appending.path}",
                )

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object within the kernel."""
        open_source = partial(self._tree.objects.open, src.bucket, src.key, src.version_id)
        copy = partial(self._tree.copy_part, bucket, key, upload_id, number, src, open_source, offset, length)
        return await self._run(copy, slow=True)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the only part the object, or join the parts in the kernel and commit them."""
        complete = self._tree.completion.complete
        return await self._run(partial(complete, bucket, key, upload_id, parts, options), slow=True)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload."""
        await self._run(lambda _: self._tree.uploads.abort(bucket, key, upload_id), slow=True)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._run(lambda _: self._tree.uploads.parts(bucket, key, upload_id))

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._run(lambda _: self._tree.uploads.list(bucket, prefix), slow=True)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions."""
        status = VersioningStatus.ENABLED if enabled else VersioningStatus.SUSPENDED
        await self._run(lambda _: self._tree.objects.set_versioning(bucket, status))

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Return whether the bucket keeps versions."""
        return (await self._run(lambda _: self._tree.buckets.required_settings(bucket))).versioning

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and markers."""
        return await self._run(lambda _: self._tree.objects.list_versions(bucket, key))

    async def list_versions_page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return one page of the versions of a bucket."""
        listing = VersionListing(self._tree.objects, self._tree.listing)
        return await self._list(lambda _: listing.page(bucket, options))

    # Events

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes, including those by other processes and by hand."""
        await self._run(lambda _: self._tree.buckets.require(bucket))
        # Closed together with this generator; a generator that is only dropped ends later, in another task.
        async with aclosing(self._observers.watch(self._tree.layout.bucket(bucket), bucket, options)) as events:
            async for event in events:
                yield event

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules."""
        await self._run(lambda _: self._tree.buckets.set_lifecycle(bucket, rules))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return (await self._run(lambda _: self._tree.buckets.required_settings(bucket))).lifecycle

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Store another storage class; the file stays where it is."""
        work = partial(self._tree.change, bucket, key, if_match=if_match, storage_class=storage_class)
        await self._run(work)

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest."""
        return await self._run(lambda _: self._tree.objects.list_noncurrent(bucket, prefix), slow=True)

    async def sweep(self) -> SweepReport:
        """Remove what killed processes left behind; nothing that belongs to an object, version or open upload.

        Opening a store sweeps only the temporaries.
        """
        found = await self._call(self._fs.sweep_temporaries)
        swept, self._swept = self._swept + found, 0
        return await self._run(lambda _: self._tree.sweeper.sweep(temporaries=swept), slow=True)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return await self._run(lambda _: self._tree.tags(bucket, key))

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        work = partial(self._tree.change, bucket, key, tags=FrozenDict(tags) if tags else EMPTY)
        await self._run(work)


def _roots(path: str) -> list[str]:
    return [root for root in possible_roots(path) if os.path.isdir(Layout(root).internal)]
