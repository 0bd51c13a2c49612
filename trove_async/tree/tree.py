"""`Tree`: a store in the directories of a file system."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from trove_async.driver.copy_errors import marking_source, reading_source
from trove_async.driver.options import CopyOptions
from trove_async.ranges import check_within
from trove_async.tree.appending import Appends
from trove_async.tree.attributes import Attributes
from trove_async.tree.buckets import Buckets
from trove_async.tree.clock import WriteClock
from trove_async.tree.completion import Completion
from trove_async.tree.filesystem import Checkpoint, FileSystem, Temporary
from trove_async.tree.layout import Layout
from trove_async.tree.listing import Listing
from trove_async.tree.objects import Objects, OpenObject
from trove_async.tree.parts import Parts
from trove_async.tree.sweep import Sweeper
from trove_async.tree.uploads import Uploads
from trove_async.types import ObjectInfo, ObjectRef, PartInfo

__all__ = ["Tree"]

O_co = TypeVar("O_co", bound=Objects, covariant=True)


class Tree(Generic[O_co]):
    """Everything that the file system drivers do alike.

    Args:
        fs, layout, buckets: where the tree is.
        objects: stores the objects, with or without versions.
        clock: gives every write its own time; the one that ``objects`` uses.
        min_part_size: bytes of every part of an upload but the last.

    Attributes:
        layout, buckets, objects, uploads, completion, appends, listing, sweeper: the parts, for operations that need
            only one of them.
    """

    def __init__(
        self,
        fs: FileSystem,
        layout: Layout,
        buckets: Buckets,
        objects: O_co,
        *,
        clock: WriteClock,
        min_part_size: int,
    ) -> None:
        self._fs = fs
        self.layout = layout
        self.buckets = buckets
        self.objects = objects
        parts = Parts(fs, clock)
        self.uploads = Uploads(fs, layout, buckets, objects, parts=parts, clock=clock)
        self.completion = Completion(fs, buckets, objects, self.uploads, parts, min_part_size=min_part_size)
        self.appends = Appends(fs, layout, objects, self.uploads, parts, clock)
        self.listing = Listing(fs, layout, buckets, objects)
        self.sweeper = Sweeper(fs, layout, buckets, objects)

    async def copy(
        self, source: OpenObject, dst_bucket: str, dst_key: str, options: CopyOptions, checkpoint: Checkpoint
    ) -> ObjectInfo:
        """Copy an open object, and close it; atomic like a put."""
        try:
            await self.buckets.require(dst_bucket)
            temporary = await self._fs.create_temporary()
            try:
                return await self.copy_into(temporary, source, dst_bucket, dst_key, options, checkpoint)
            finally:
                await self._fs.discard(temporary)
        finally:
            await self._fs.close(source.handle)

    async def copy_into(
        self,
        temporary: Temporary,
        source: OpenObject,
        dst_bucket: str,
        dst_key: str,
        options: CopyOptions,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        """Copy an open object through a temporary of the caller, who closes both."""
        if options.replace is None:
            attributes = source.attributes.for_key(source.info.key, dst_key)
        else:
            attributes = Attributes.of(dst_key, options.replace, source.attributes.checksums)
        await self._fs.copy_data(source.handle, temporary.handle, checkpoint, marking_source)
        return await self.objects.commit(
            dst_bucket,
            dst_key,
            temporary,
            attributes.normal(),
            checkpoint,
            if_match=options.if_match,
            if_none_match=options.if_none_match,
        )

    async def copy_part(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        number: int,
        src: ObjectRef,
        open_source: Callable[[], Awaitable[OpenObject]],
        offset: int,
        length: int,
        checkpoint: Checkpoint,
    ) -> PartInfo:
        """Make a part of a range of an object.

        Raises:
            RangeNotSatisfiableError: the object ends before the range does.
        """
        # The temporary comes first, since only it leaves descriptors for a commit; sources could take all of them.
        temporary = await self._fs.create_temporary()
        try:
            await self.uploads.require(bucket, key, upload_id)
            with reading_source(src.bucket, src.key):
                source = await open_source()
            try:
                with reading_source(src.bucket, src.key):
                    check_within(offset, length, source.info.size)
                await self._fs.copy_data(
                    source.handle, temporary.handle, checkpoint, marking_source, offset=offset, length=length
                )
            finally:
                await self._fs.close(source.handle)
            return await self.uploads.store_part(bucket, key, upload_id, number, temporary, checkpoint)
        finally:
            await self._fs.discard(temporary)

    async def change(
        self, bucket: str, key: str, checkpoint: Checkpoint, *, if_match: str | None = None, **changes: Any
    ) -> None:
        """Change some of an object's attributes."""
        await self.objects.change_attributes(
            bucket, key, lambda a: replace(a, **changes), checkpoint, if_match=if_match
        )

    async def tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        opened = await self.objects.open(bucket, key)
        await self._fs.close(opened.handle)
        return dict(opened.attributes.tags)

    async def prove_writable(self) -> None:
        """Write and remove a file."""
        await self._fs.discard(await self._fs.create_temporary())
