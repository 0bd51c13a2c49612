"""`SFTPDriver`: a store in a directory of a server that is reached by SSH."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.body import Body, Chunk
from trove_async.cancellation import finish
from trove_async.driver import (
    CompleteOptions,
    LifecycleDeleteBySet,
    OpenOptions,
    PutOptions,
    RangeByGet,
    ServerCopyByCopy,
    TagsDeleteBySet,
    WatchOptions,
)
from trove_async.driver.polling import poll
from trove_async.driver.retry import many_requests
from trove_async.drivers.sftp.core import SFTPCore
from trove_async.drivers.sftp.expiry import Expiry
from trove_async.drivers.sftp.objects import refuse_conditions, refuse_version
from trove_async.drivers.sftp.opening import find_roots
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.dsn import DSN
from trove_async.errors import UnsupportedError
from trove_async.tree import Checkpoint, Temporary, split_path, write_at_once
from trove_async.tree.sweep import SweepReport
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
)

__all__ = ["SFTPDriver"]


_AHEAD: Final = 1024 * 1024
"""Bytes: during a write, more of an appended body is requested only while fewer are in memory."""


class SFTPDriver(RangeByGet, ServerCopyByCopy, TagsDeleteBySet, LifecycleDeleteBySet, SFTPCore):
    """Objects as files: with the root ``/srv/data``, ``a/b.jpg`` of bucket ``pics`` is ``/srv/data/pics/a/b.jpg``.

    Several clients may use one root at once. ``docs/sftp.md`` describes the layout and the parameters.
    """

    @classmethod
    async def split(cls, dsn: DSN) -> tuple[str, str | None, str]:
        """Log in, and take the directory on the path that contains ``.trove`` as the root; see `split_path`."""
        settings = SFTPSettings.of(replace(dsn, path=dsn.path and "/"), OpenOptions())
        root, bucket, key = split_path(dsn.path, await find_roots(settings, dsn.path))
        return replace(dsn, path=root).reveal(), bucket, key

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload."""
        uploads = self._store.tree.uploads
        return await self._run(
            lambda _: uploads.initiate(bucket, key, options),
            repeat=False,
            uncertain=True,
            discard=lambda upload_id: uploads.forget(bucket, upload_id),
        )

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part."""
        uploads = self._store.tree.uploads

        async def store(temporary: Temporary, check: Checkpoint) -> PartInfo:
            return await uploads.store_part(bucket, key, upload_id, number, temporary, check)

        name = f"part {number} of {bucket}/{key}"
        return await self._store_stream(name, body, lambda: uploads.require(bucket, key, upload_id), store)

    async def append_part(
        self, bucket: str, key: str, upload_id: str, number: int, offset: int, body: Body
    ) -> PartInfo:
        """Append to the file of a part."""
        self._check_open()
        fs, slots, run, appends = self._store.fs, self._store.slots, self._runner.run, self._store.tree.appends
        taken = await slots.take(2)
        try:
            with many_requests():
                appending = await run(
                    lambda _: appends.begin(bucket, key, upload_id, number, offset),
                    discard=lambda appending: fs.discard(appending.temporary),
                )
                handle = appending.temporary.handle

                async def write(chunks: Sequence[Chunk], *, last: bool) -> None:
                    if chunks:
                        await run(lambda _: fs.write(handle, chunks), repeat=False)

                try:
                    await write_at_once(body, write, ahead=_AHEAD)
                    return await run(lambda _: appends.finish(appending), repeat=False)
                finally:
                    await finish(
                        fs.discard(appending.temporary),
                        timeout=self.cleanup_timeout,
                        leftover=f"the open file {appending.path} of part {number} of {bucket}/{key}",
                    )
        finally:
            slots.give(taken)

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object on the server."""
        refuse_version(src.version_id)
        tree = self._store.tree
        open_source = partial(tree.objects.open, src.bucket, src.key)
        work = partial(tree.copy_part, bucket, key, upload_id, number, src, open_source, offset, length)
        return await self._run(work, slots=3)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the only part the object, or join the parts on the server and commit them."""
        refuse_conditions(options.if_match, options.if_none_match)
        if options.if_none_match is not None:
            raise UnsupportedError("an upload over SFTP is completed without a condition", driver=self.name)
        work = partial(self._store.tree.completion.complete, bucket, key, upload_id, parts, options)
        return await self._run(work, slots=3, repeat=False, uncertain=True)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload."""
        await self._run(lambda _: self._store.tree.uploads.abort(bucket, key, upload_id))

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._run(lambda _: self._store.tree.uploads.parts(bucket, key, upload_id), reads=True)

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._run(lambda _: self._store.tree.uploads.list(bucket, prefix), reads=True)

    # Events

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes, also those of other clients and of people, found by listing at intervals."""
        async with aclosing(poll(self.list_page, bucket, options)) as events:
            async for event in events:
                yield event

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Store rules."""
        await self._run(lambda _: self._store.tree.buckets.set_lifecycle(bucket, rules))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return (await self._run(lambda _: self._store.tree.buckets.required_settings(bucket))).lifecycle

    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        """Remove an object if it has this ETag."""
        await self._run(Expiry(self._store.tree.objects, bucket, key, if_match).remove, slots=1)

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Store another storage class; the file stays where it is."""
        await self._run(partial(self._store.tree.change, bucket, key, if_match=if_match, storage_class=storage_class))

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return nothing: SFTP stores keep no versions."""
        await self._run(lambda _: self._store.tree.buckets.require(bucket))
        return []

    async def sweep(self) -> SweepReport:
        """Remove what dead clients left behind; nothing that belongs to an object or open upload.

        Opening a store sweeps only the temporaries.
        """
        swept, self._swept = self._swept, 0
        swept += await self._run(lambda _: self._store.locks.sweep())
        return await self._run(lambda _: self._store.tree.sweeper.sweep(temporaries=swept), slots=4)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        _, attributes = await self._run(lambda _: self._store.tree.objects.head(bucket, key), slots=1, reads=True)
        return dict(attributes.tags)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace an object's tags."""
        await self._run(partial(self._store.tree.change, bucket, key, tags=FrozenDict(tags) if tags else EMPTY))
