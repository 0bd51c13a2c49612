"""Puts: in one request, or in blocks; and what is done where other writes of the key get in the way."""

from __future__ import annotations

from dataclasses import replace

from trove_async.body import Body, Chunk
from trove_async.checksums import Checksum
from trove_async.driver import CopyOptions, HeadOptions, PutOptions
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.staging import Staging
from trove_async.drivers.azure.uploads import Uploads, part_size_for
from trove_async.errors import InvalidPartError, TransientError
from trove_async.types import FrozenDict, ObjectInfo, ObjectRef
from trove_async.wire.parts import PartSource

__all__ = ["Puts"]


class Puts:
    """Stores bodies of any length in bounded memory.

    Args:
        objects, uploads, copies, staging: do what is done to each of them.
        settings: of the store.
    """

    def __init__(
        self, objects: Objects, uploads: Uploads, copies: Copies, staging: Staging, settings: AzureSettings
    ) -> None:
        self._objects = objects
        self._uploads = uploads
        self._copies = copies
        self._staging = staging
        self._settings = settings

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store a body: what is no larger than a block in one request.

        Raises:
            TransientError: another write of the same key discarded its blocks, and it cannot be read again.
        """
        source = PartSource(body)
        first = await source.take(self._first_size(body))
        if source.ended:
            return await self._objects.put(bucket, key, first, options, body)
        # What the service would not take is refused before anything is sent.
        self._objects.description(key, options.attributes, body.checksum)
        ids = await self._uploads.stage(bucket, key, body, source, first)
        try:
            return await self._uploads.make(bucket, key, ids, body.taken, options.attributes, _checksum(body), options)
        except InvalidPartError as error:
            if not body.replayable:
                raise TransientError(
                    "another write of the same object discarded the blocks of this one before they were committed, and "
                    f"the body cannot be read again; nothing was stored: {error.message}",
                    status=error.status,
                    request_id=error.request_id,
                ) from error
        if body.buffer is None:
            await body.rewind()
        source = PartSource(body)
        return await self._put_apart(bucket, key, body, source, await source.take(self._first_size(body)), options)

    def _first_size(self, body: Body) -> int:
        return self._settings.part_size if body.size is None else part_size_for(body.size, self._settings)

    async def _put_apart(
        self, bucket: str, key: str, body: Body, source: PartSource, first: list[Chunk], options: PutOptions
    ) -> ObjectInfo:
        """Store a body by way of a blob of our own, whose blocks no other write discards, and which is then copied."""
        async with self._staging.name(bucket) as name:
            ids = await self._uploads.stage(bucket, name, body, source, first)
            checksum = _checksum(body)
            headers = self._objects.description(name, options.attributes, checksum)
            await self._uploads.commit(bucket, name, ids, headers)
            seen = await self._objects.head(bucket, name, HeadOptions())
            storage_class = options.attributes.storage_class
            seen = replace(seen, storage_class=None if storage_class is None else storage_class.upper())
            conditions = CopyOptions(if_match=options.if_match, if_none_match=options.if_none_match)
            staged, target = ObjectRef(bucket, name), ObjectRef(bucket, key)
            made = await self._copies.transfer(staged, target, seen, conditions, tagged=bool(options.attributes.tags))
        checksums = {checksum.algorithm: checksum.value or ""} if checksum is not None else {}
        return replace(made, key=key, checksums=FrozenDict(checksums))


def _checksum(body: Body) -> Checksum | None:
    return None if body.checksum is None else Checksum(body.checksum.algorithm, body.digest)
