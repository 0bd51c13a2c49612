"""`Tree`: a store in the directories of a file system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trove_async.driver.options import CopyOptions
from trove_async.errors import PreconditionFailedError
from trove_async.tree.attributes import Attributes
from trove_async.tree.buckets import Buckets
from trove_async.tree.filesystem import FileSystem
from trove_async.tree.layout import Layout
from trove_async.tree.listing import Listing
from trove_async.tree.objects import Objects, OpenObject
from trove_async.tree.sweep import Sweeper
from trove_async.tree.uploads import Uploads
from trove_async.types import ObjectInfo

__all__ = ["Tree"]

Checkpoint = Callable[[], None]


class Tree:
    """All that a file system driver does, but for what its file system does in its own way.

    Attributes:
        objects, uploads, buckets, listing, sweeper: the parts, for the operations that one of them does alone.
    """

    def __init__(self, fs: FileSystem, root: str, *, min_part_size: int) -> None:
        self.fs = fs
        self.layout = Layout(root)
        self.buckets = Buckets(fs, self.layout)
        self.objects = Objects(fs, self.layout, self.buckets)
        self.uploads = Uploads(fs, self.layout, self.buckets, self.objects, min_part_size=min_part_size)
        self.listing = Listing(fs, self.layout, self.buckets)
        self.sweeper = Sweeper(fs, self.layout, self.buckets)

    async def copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        options: CopyOptions,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        """Copy an object, or a version of it; atomic as a put."""
        source = await self.objects.open(src_bucket, src_key, options.source_version_id)
        try:
            if options.source_if_match is not None and options.source_if_match not in ("*", source.info.etag):
                raise PreconditionFailedError(
                    f"the source's ETag is {source.info.etag!r}, not {options.source_if_match!r}",
                    bucket=src_bucket,
                    key=src_key,
                )
            await self.buckets.require(dst_bucket)
            return await self._copy(source, src_key, dst_bucket, dst_key, options, checkpoint)
        finally:
            await self.fs.close(source.handle)

    async def _copy(
        self,
        source: OpenObject,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        options: CopyOptions,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        if options.replace is None:
            attributes = replace(source.attributes.for_key(src_key, dst_key), version_id=None)
        else:
            attributes = Attributes.of(dst_key, options.replace, source.attributes.checksums)
        temporary = await self.fs.create_temporary()
        try:
            await self.fs.copy_data(source.handle, temporary.handle, checkpoint)
            return await self.objects.commit(
                dst_bucket,
                dst_key,
                temporary,
                attributes.normal(),
                checkpoint,
                if_match=options.if_match,
                if_none_match=options.if_none_match,
            )
        finally:
            await self.fs.discard(temporary)

    async def restore(self, bucket: str, key: str, version_id: str, checkpoint: Checkpoint) -> ObjectInfo:
        """Make a copy of a version the latest."""
        return await self.copy(bucket, key, bucket, key, CopyOptions(source_version_id=version_id), checkpoint)

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
        await self.fs.close(opened.handle)
        return dict(opened.attributes.tags)

    async def prove_writable(self) -> None:
        """Write and remove a file."""
        await self.fs.discard(await self.fs.create_temporary())
