"""Uploads in parts, one by one for their users.

An upload is two blobs of the library's own: one that says what it is to become, and one whose uncommitted blocks are
the parts. What becomes of the key meanwhile does not touch them, and two uploads of one key know nothing of each other.
To complete an upload its blocks are committed, and what they are is copied to the key by the service, in one step and
with the conditions. Parts that nobody adds to for a week are removed by the service.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from trove_async.body import Body
from trove_async.cancellation import finish
from trove_async.driver import (
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ObjectAttributes,
    PutOptions,
    check_write,
)
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.copies import Copies
from trove_async.drivers.azure.headers import decoded
from trove_async.drivers.azure.listing import Lister
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.settings import MAX_PART_SIZE
from trove_async.drivers.azure.staging import STAGING, Staging
from trove_async.drivers.azure.uploads import Uploads
from trove_async.errors import (
    InvalidPartError,
    NotFoundError,
    ObjectNotFoundError,
    TransientError,
    UploadNotFoundError,
)
from trove_async.types import FrozenDict, ObjectInfo, ObjectRef, PartInfo, UploadInfo
from trove_async.wire.parts import PartSource

__all__ = ["PARTS", "UPLOADS", "Multipart"]

UPLOADS: Final = f"{OWN}trove/uploads/"
PARTS: Final = f"{OWN}trove/parts/"

_ID = re.compile(r"[0-9a-f]{30}")
_ID_SIZE: Final = 24
"""Bytes of a block's id: the part's number, when it was sent, and what was drawn for it."""


@dataclass(frozen=True, slots=True)
class _Names:
    """The blobs of an upload: what says what it becomes, and what holds the parts."""

    bucket: str
    manifest: str
    parts: str


class Multipart:
    """Uploads in parts.

    Args:
        client, objects, uploads, copies, lister, staging: do what is done to each of them.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        uploads: Uploads,
        copies: Copies,
        lister: Lister,
        staging: Staging,
        cleanup_timeout: float,
    ) -> None:
        self._client = client
        self._objects = objects
        self._uploads = uploads
        self._copies = copies
        self._lister = lister
        self._staging = staging
        self._cleanup_timeout = cleanup_timeout

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id; if the call is cancelled, none is left open."""
        self._objects.description(key, options.attributes)
        upload_id = f"{int(self._client.now * 1_000_000):014x}{secrets.token_hex(8)}"
        names = _names(bucket, key, upload_id)
        manifest = PutOptions(attributes=ObjectAttributes(metadata=FrozenDict({"key": key})))
        try:
            content = json.dumps(options.dump()).encode()
            await self._objects.put(bucket, names.manifest, [content], manifest, None)
        except (asyncio.CancelledError, TransientError):
            # It may have been begun nevertheless.
            await self._give_up(names, upload_id)
            raise
        return upload_id

    async def _give_up(self, names: _Names, upload_id: str) -> None:
        await finish(
            self._remove(names),
            timeout=self._cleanup_timeout,
            leftover=f"the upload {upload_id} in bucket {names.bucket!r}",
        )

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, which is held in memory until it is stored."""
        names = _names(bucket, key, upload_id)
        await self._require(names)
        source = PartSource(body)
        chunks = await source.take(MAX_PART_SIZE)
        if not source.ended:
            raise InvalidPartError(f"the part has more than {MAX_PART_SIZE} bytes")
        size = sum(map(len, chunks))
        if not size:
            raise InvalidPartError("Azure has no parts without bytes")
        drawn = int(self._client.now * 1_000_000).to_bytes(8, "big") + secrets.token_bytes(_ID_SIZE - 11)
        block_id = base64.b64encode(number.to_bytes(3, "big") + drawn).decode()
        await self._uploads.send_block(names.bucket, names.parts, block_id, chunks)
        return PartInfo(number, drawn.hex(), size)

    async def parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        names = _names(bucket, key, upload_id)
        await self._require(names)
        return await self._parts(names)

    async def _parts(self, names: _Names) -> list[PartInfo]:
        """Return the last that was sent of each part, by number."""
        try:
            _, blocks = await self._uploads.blocks(names.bucket, names.parts, "all")
        except ObjectNotFoundError:
            return []
        found: dict[int, PartInfo] = {}
        # The time of each part stands in its id behind the number.
        for raw, size in sorted((base64.b64decode(name), size) for name, size in blocks.items()):
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
        source = await self._assemble(names, parts, described)
        conditions = CopyOptions(if_match=options.if_match, if_none_match=options.if_none_match)
        copied = asyncio.Event()
        try:
            return await self._copies.transfer(
                ObjectRef(names.bucket, names.parts),
                ObjectRef(bucket, key),
                source,
                conditions,
                tagged=bool(described.attributes.tags),
                on_done=copied.set,
            )
        finally:
            # Also where the caller was cancelled while the service copied.
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
        """Look whether the conditions can hold, before the parts that are not given are dropped."""
        if options.if_match is None and options.if_none_match is None:
            return
        try:
            etag: str | None = (await self._objects.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            etag = None
        check_write(etag, options.if_match, options.if_none_match)

    async def _assemble(self, names: _Names, parts: Sequence[PartInfo], described: PutOptions) -> ObjectInfo:
        """Commit the blocks, so that they are a blob of our own, and return what that is."""
        ids = [base64.b64encode(part.number.to_bytes(3, "big") + bytes.fromhex(part.etag)).decode() for part in parts]
        headers = self._objects.description(names.parts, described.attributes, described.checksum)
        await self._uploads.commit(names.bucket, names.parts, ids, headers)
        made = await self._objects.head(names.bucket, names.parts, HeadOptions())
        storage_class = described.attributes.storage_class
        return replace(made, storage_class=None if storage_class is None else storage_class.upper())

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not open is success."""
        try:
            names = _names(bucket, key, upload_id)
            await self._require(names)
        except UploadNotFoundError:
            return
        await self._remove(names)

    async def _remove(self, names: _Names) -> None:
        """Remove the blobs: first what makes it an upload, then the parts."""
        await self._objects.delete(names.bucket, names.manifest, DeleteOptions())
        await self._staging.discard(names.bucket, names.parts)

    async def open_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads, by key and then by their begin."""
        found = []
        for blob in await self._lister.all(bucket, prefix=UPLOADS, include="metadata"):
            upload_id = blob.info.key.removeprefix(UPLOADS).partition("-")[0]
            key = decoded(blob.metadata.get("key", ""))
            if key.startswith(prefix) and _ID.fullmatch(upload_id):
                begun = datetime.fromtimestamp(int(upload_id[:14], 16) / 1_000_000, UTC)
                found.append(UploadInfo(upload_id, key, begun))
        return sorted(found, key=lambda upload: (upload.key, upload.upload_id))

    async def leftovers(self, bucket: str) -> list[ObjectInfo]:
        """Return the blobs of the library's own that no open upload needs."""
        blobs = await self._lister.all(bucket, prefix=f"{OWN}trove/", include="uncommittedblobs")
        infos = [blob.info for blob in blobs]
        needed = {info.key.replace(UPLOADS, PARTS) for info in infos if info.key.startswith(UPLOADS)}
        return [info for info in infos if info.key.startswith((PARTS, STAGING)) and info.key not in needed]

    async def sweep(self, bucket: str, older_than: timedelta) -> list[str]:
        """Remove what processes that were killed have left, and return the names."""
        latest = datetime.fromtimestamp(self._client.now, UTC) - older_than
        old = [i.key for i in await self.leftovers(bucket) if i.last_modified is None or i.last_modified <= latest]
        for name in old:
            await self._staging.discard(bucket, name)
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
            async with await self._objects.get(names.bucket, names.manifest, GetOptions()) as reader:
                return PutOptions.load(json.loads(await reader.read()))
        except ObjectNotFoundError as error:
            raise _unknown(error) from error


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
