"""Whole bodies of any length: in one request, or in blocks; by way of a hidden blob if other writes get in the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from trove_async.body import Body, Chunk
from trove_async.driver import PutOptions
from trove_async.driver.retry import Retries
from trove_async.drivers.azure.blocks import Blocks, BlockUpload, staging_name
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.settings import MAX_BLOCKS, MAX_PART_SIZE, AzureSettings
from trove_async.drivers.azure.versions import Versions
from trove_async.errors import UnsupportedError
from trove_async.types import ObjectInfo, ObjectRef
from trove_async.wire.multipart import PartPlan, again, put_in_parts
from trove_async.wire.parts import PartSource

__all__ = ["Uploads", "plan_for"]


def plan_for(settings: AzureSettings) -> PartPlan:
    """Return the sizes of blocks in a store."""
    return PartPlan(
        part_size=settings.part_size,
        max_parts=MAX_BLOCKS,
        max_part_size=MAX_PART_SIZE,
        max_size=MAX_PART_SIZE * MAX_BLOCKS,
    )


class _HiddenUpload(BlockUpload):
    """Blocks of a hidden blob, which no write of the key discards; the blob is copied to the key in one step."""

    def __init__(
        self,
        objects: Objects,
        blocks: Blocks,
        versions: Versions,
        copies: Copies,
        target: ObjectRef,
        body: Body,
        options: PutOptions,
    ) -> None:
        name = staging_name()
        super().__init__(
            objects, blocks, versions, target.bucket, name, attributes=options.attributes, conditions=options, body=body
        )
        self._copies = copies
        self._target = target
        self._options = options

    def __str__(self) -> str:
        return f"the blob {self.key!r} in bucket {self.bucket!r}"

    async def make(self, parts: Sequence[int], timeout: float) -> ObjectInfo:
        """Commit the blocks, and copy the blob to its key."""
        hidden, attributes = ObjectRef(self.bucket, self.key), self._options.attributes
        ids = [self.ids[number] for number in parts]
        return await self._copies.publish(hidden, ids, self._target, attributes, self.checksum, self._options)

    async def abort(self) -> None:
        """Remove the blob, which is done after a copy too."""
        await self._blocks.discard(self.bucket, self.key)


class Uploads:
    """Stores whole bodies.

    Args:
        objects, blocks, copies: send the requests.
        versions: keep what is replaced.
        settings: of the store.
        cleanup_timeout: seconds that giving an upload up may take.
        retries: of the store.
    """

    def __init__(
        self,
        objects: Objects,
        blocks: Blocks,
        copies: Copies,
        versions: Versions,
        settings: AzureSettings,
        cleanup_timeout: float,
        retries: Retries,
    ) -> None:
        self._objects = objects
        self._blocks = blocks
        self._copies = copies
        self._versions = versions
        self._retries = retries
        self._plan = plan_for(settings)
        self._concurrency = settings.part_concurrency
        self._max_copy_size = settings.max_copy_size
        self._timeout = cleanup_timeout

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store a body of any length in bounded memory: what is no larger than a block in one request.

        Raises:
            ConflictError: another write of the key discarded the blocks, and the body cannot be read again.
            UnsupportedError: the key holds an append blob or a page blob.
        """
        source = PartSource(body)
        first = await source.take(self._plan.size_for(1, body.size))
        if source.ended:
            return await self._objects.put(bucket, key, first, options, body)
        # What Azure does not take is refused before any request.
        self._objects.attribute_headers(key, options.attributes, body.known_checksum)
        uploads = self._attempts(ObjectRef(bucket, key), body, options)
        try:
            return await self._put_in_blocks(body, source, first, uploads)
        except UnsupportedError:
            # The key holds an append or page blob, which takes no blocks. Whether one can be replaced is for the
            # service to decide, as it does for small objects; a copy asks it at the cost of an upload.
            if not body.replayable or max(body.size or 0, body.taken) > self._max_copy_size:
                raise
        source, first = await again(body, self._plan)
        return await self._put_in_blocks(body, source, first, uploads)

    def _attempts(self, target: ObjectRef, body: Body, options: PutOptions) -> Iterator[BlockUpload]:
        """Yield an upload to the key itself, then those that no other write of the key disturbs."""
        yield BlockUpload(
            self._objects,
            self._blocks,
            self._versions,
            target.bucket,
            target.key,
            attributes=options.attributes,
            conditions=options,
            body=body,
        )
        while True:
            yield _HiddenUpload(self._objects, self._blocks, self._versions, self._copies, target, body, options)

    async def _put_in_blocks(
        self, body: Body, source: PartSource, first: list[Chunk], uploads: Iterator[BlockUpload]
    ) -> ObjectInfo:
        new_upload = partial(next, uploads)
        return await put_in_parts(
            body,
            source,
            first,
            self._plan,
            new_upload,
            concurrency=self._concurrency,
            timeout=self._timeout,
            retries=self._retries,
        )
