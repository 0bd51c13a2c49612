"""Uploads in parts, step by step.

An upload is two hidden blobs: a manifest that describes the object, and a blob whose uncommitted blocks are the parts.
Writes of the key do not touch them, and two uploads of one key do not know each other. A completion commits the blocks,
and has the service copy the blob to the key, in one step and under the conditions. The service removes parts when none
was added for a week.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from trove_async.body import Chunk
from trove_async.cancellation import finish, shielded
from trove_async.driver import CompleteOptions, HeadOptions, ObjectAttributes, PutOptions, check_write
from trove_async.drivers.azure.blocks import STAGING, Blocks, decode_id
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.listing import Listing
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.errors import (
    BackendError,
    InvalidPartError,
    NotFoundError,
    ObjectNotFoundError,
    TransientError,
    UploadNotFoundError,
)
from trove_async.types import FrozenDict, ObjectInfo, ObjectRef, PartInfo, UploadInfo
from trove_async.wire.metadata import decode_value

__all__ = ["PARTS", "UPLOADS", "Multipart"]

UPLOADS: Final = f"{OWN}trove/uploads/"
PARTS: Final = f"{OWN}trove/parts/"

_ID: Final = re.compile(r"[0-9a-f]{30}")
_ID_SIZE: Final = 24
"""Bytes of a block's id: the part's number, when it was sent, and random bytes."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The blobs of an upload: the manifest, and the one that holds the parts."""

    bucket: str
    manifest: str
    parts: str


class Multipart:
    """Uploads in parts.

    Args:
        client, objects, blocks, copies, listing: send the requests.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        blocks: Blocks,
        copies: Copies,
        listing: Listing,
        cleanup_timeout: float,
    ) -> None:
        self._client = client
        self._objects = objects
        self._blocks = blocks
        self._copies = copies
        self._listing = listing
        self._timeout = cleanup_timeout

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id; if the call is cancelled, none stays open."""
        self._objects.attribute_headers(key, options.attributes)
        upload_id = f"{self._microseconds():014x}{secrets.token_hex(8)}"
        names = _names(bucket, key, upload_id)
        attributes = ObjectAttributes(metadata=FrozenDict({"key": key}))
        headers = [("x-ms-blob-type", "BlockBlob"), *self._objects.attribute_headers(names.manifest, attributes)]
        body = [json.dumps(options.dump()).encode()]
        leftover = f"the request that begins the upload {upload_id} in bucket {bucket!r}"
        try:
            # A manifest that is stored after its deletion would leave the upload open.
            await shielded(
                self._client.write("PUT", bucket, names.manifest, headers=headers, body=body),
                timeout=self._timeout,
                leftover=leftover,
            )
        except (asyncio.CancelledError, TransientError):
            # The upload may have been begun all the same.
            await self._give_up(names, upload_id)
            raise
        return upload_id

    def _microseconds(self) -> int:
        return int(self._client.now * 1_000_000)

    async def _give_up(self, names: _Names, upload_id: str) -> None:
        leftover = f"the upload {upload_id} in bucket {names.bucket!r}"
        await finish(self._remove(names), timeout=self._timeout, leftover=leftover)

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part."""
        names = _names(bucket, key, upload_id)
        await self._require(names)
        size = sum(map(len, chunks))
        if not size:
            raise InvalidPartError("Azure has no parts without bytes")
        part = self._new_part(number, size)
        await self._blocks.send(names.bucket, names.parts, _block_id(part), chunks)
        return part

    def _new_part(self, number: int, size: int) -> PartInfo:
        etag = self._microseconds().to_bytes(8, "big") + secrets.token_bytes(_ID_SIZE - 11)
        return PartInfo(number, etag.hex(), size)

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object."""
        names = _names(bucket, key, upload_id)
        await self._require(names)
        part = self._new_part(number, length)
        await self._copies.copy_block(ObjectRef(names.bucket, names.parts), _block_id(part), src, offset, length)
        return part

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        names = _names(bucket, key, upload_id)
        await self._require(names)
        return await self._parts(names)

    async def _parts(self, names: _Names) -> list[PartInfo]:
        """Return the parts by number, of each the one that was sent last."""
        try:
            _, blocks = await self._blocks.list(names.bucket, names.parts, "all")
        except ObjectNotFoundError:
            return []
        found: dict[int, PartInfo] = {}
        # The time at which a part was sent stands in its id after the number.
        for raw, size in sorted((decode_id(name), size) for name, size in blocks.items()):
            number = int.from_bytes(raw[:3], "big")
            found[number] = PartInfo(number, raw[3:].hex(), size)
        return [found[number] for number in sorted(found)]

    async def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts, and describe it."""
        names = _names(bucket, key, upload_id)
        described = await self._manifest(names)
        await self._check(names, parts)
        await self._check_target(bucket, key, options)
        copied = asyncio.Event()
        try:
            return await self._copies.publish(
                ObjectRef(names.bucket, names.parts),
                [_block_id(part) for part in parts],
                ObjectRef(bucket, key),
                described.attributes,
                described.checksum,
                options,
                on_done=copied.set,
            )
        finally:
            # A caller that was cancelled while the service copied has made the object too.
            if copied.is_set():
                await self._give_up(names, upload_id)

    async def _check(self, names: _Names, parts: Sequence[PartInfo]) -> None:
        if not parts:
            raise InvalidPartError("an upload is completed with one part at least")
        stored = {part.number: part for part in await self._parts(names)}
        for part in parts:
            found = stored.get(part.number)
            if found is None or found.etag != part.etag:
                raise InvalidPartError(f"part {part.number} was not stored, or not with the ETag {part.etag!r}")

    async def _check_target(self, bucket: str, key: str, options: CompleteOptions) -> None:
        """Look whether the conditions can hold, before the commit drops the parts that are not given."""
        if options.if_match is None and options.if_none_match is None:
            return
        try:
            etag: str | None = (await self._objects.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            etag = None
        check_write(etag, options.if_match, options.if_none_match)

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not open is success."""
        try:
            names = _names(bucket, key, upload_id)
            await self._require(names)
        except UploadNotFoundError:
            return
        await self._remove(names)

    async def _remove(self, names: _Names) -> None:
        """Remove the blobs: first the manifest, which makes it an upload, then the parts."""
        await self._client.delete(names.bucket, names.manifest)
        await self._blocks.discard(names.bucket, names.parts)

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their begin."""
        found = []
        for blob in await self._listing.all(bucket, prefix=UPLOADS, include="metadata"):
            upload_id = blob.info.key.removeprefix(UPLOADS).partition("-")[0]
            key = decode_value(blob.metadata.get("key", ""))
            if key.startswith(prefix) and _ID.fullmatch(upload_id):
                begun = datetime.fromtimestamp(int(upload_id[:14], 16) / 1_000_000, UTC)
                found.append(UploadInfo(upload_id, key, begun))
        return sorted(found, key=lambda upload: (upload.key, upload.upload_id))

    async def leftovers(self, bucket: str) -> list[ObjectInfo]:
        """Return the hidden blobs of copies and uploads that did not end, and that no open upload needs."""
        blobs = await self._listing.all(bucket, prefix=f"{OWN}trove/", include="uncommittedblobs")
        infos = [blob.info for blob in blobs]
        needed = {info.key.replace(UPLOADS, PARTS) for info in infos if info.key.startswith(UPLOADS)}
        return [info for info in infos if info.key.startswith((PARTS, STAGING)) and info.key not in needed]

    async def sweep(self, bucket: str, older_than: timedelta) -> list[str]:
        """Remove what processes that were killed have left, and return the names."""
        latest = datetime.fromtimestamp(self._client.now, UTC) - older_than
        old = [i.key for i in await self.leftovers(bucket) if i.last_modified is None or i.last_modified <= latest]
        for name in old:
            await self._blocks.discard(bucket, name)
        return old

    async def _require(self, names: _Names) -> None:
        """Check that an upload is open.

        Raises:
            UploadNotFoundError: it is not.
        """
        try:
            await self._objects.head(names.bucket, names.manifest, HeadOptions())
        except ObjectNotFoundError as error:
            raise _unknown(error) from error

    async def _manifest(self, names: _Names) -> PutOptions:
        try:
            _, content = await self._client.document("GET", names.bucket, names.manifest)
        except ObjectNotFoundError as error:
            raise _unknown(error) from error
        try:
            return PutOptions.load(json.loads(content))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BackendError(f"the manifest {names.manifest!r} of the upload cannot be read") from error


def _block_id(part: PartInfo) -> str:
    """Return the id of the block that is a part, whose ETag is the id without the number.

    Raises:
        InvalidPartError: the ETag is none of an upload's.
    """
    try:
        return base64.b64encode(part.number.to_bytes(3, "big") + bytes.fromhex(part.etag)).decode()
    except ValueError:
        raise InvalidPartError(f"part {part.number} was not stored with the ETag {part.etag!r}") from None


def _unknown(error: NotFoundError | None = None) -> UploadNotFoundError:
    if error is None:
        return UploadNotFoundError()
    return UploadNotFoundError(status=error.status, request_id=error.request_id)


def _names(bucket: str, key: str, upload_id: str) -> _Names:
    """Return the names of an upload's blobs; the key is in them, so that an id of another key finds nothing.

    Raises:
        UploadNotFoundError: there can be no upload of that id.
    """
    if not _ID.fullmatch(upload_id):
        raise _unknown()
    name = f"{upload_id}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    return _Names(bucket, UPLOADS + name, PARTS + name)
