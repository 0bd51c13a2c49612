"""Blocks, which blobs are made of, and the hidden blobs in which an object is made before it is copied to its key.

Blocks that are not committed belong to the name of a blob, where no reader sees them. Their ids hold random bytes of
the upload, so that two uploads of one key do not replace each other's blocks. The first write of a blob discards all
its uncommitted blocks, though: those of other uploads too. Blocks of an upload that was given up stay until the next
write of the key, or for a week: the service has no way to remove them that readers would not see.

The names of hidden blobs begin with a character with which no user's key begins, and no listing of the library shows
them. What is written to a key meanwhile does not touch their blocks.
"""

from __future__ import annotations

import base64
import os
import secrets
from binascii import Error as Base64Error
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from trove_async.body import Body, Piece
from trove_async.cancellation import finish
from trove_async.checksums import Checksum
from trove_async.driver import ObjectAttributes
from trove_async.driver.put_settling import Settling
from trove_async.drivers.azure.client import Client, Headers
from trove_async.drivers.azure.headers import checksum_headers
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.versions import Conditions, Versions
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ConflictError,
    InvalidPartError,
    NotFoundError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.types import EMPTY, ObjectInfo
from trove_async.wire.errors import condition_error
from trove_async.wire.fields import write_conditions
from trove_async.wire.multipart import Upload, complete
from trove_async.wire.xml import document, parse

__all__ = ["STAGING", "BlockIds", "BlockUpload", "Blocks", "decode_id", "staging_name"]

STAGING: Final = f"{OWN}trove/staging/"

_ID_SIZE: Final = 48
"""Bytes of a block's id. All blocks of a blob have ids of one size; this is the size in Microsoft's SDK for Python."""

_LEAST_ID_SIZE: Final = 8


class BlockIds:
    """The ids of one upload's blocks: the number of each, then random bytes of the upload.

    Attributes:
        size: bytes of each id.
    """

    def __init__(self) -> None:
        self.size = _ID_SIZE
        self._random = os.urandom(64)

    def __getitem__(self, number: int) -> str:
        return base64.b64encode(number.to_bytes(3, "big") + self._random[: self.size - 3]).decode()

    def fit(self, other: str) -> None:
        """Adopt the size of another's id, if enough of it is left for random bytes."""
        size = len(decode_id(other))
        if size >= _LEAST_ID_SIZE:
            self.size = size


def decode_id(block_id: str) -> bytes:
    """Return the bytes of a block's id.

    Raises:
        BackendError: it is not base64.
    """
    try:
        return base64.b64decode(block_id, validate=True)
    except (Base64Error, ValueError):
        raise BackendError(f"the service gives a block the id {block_id[:80]!r}, which is not base64") from None


class Blocks:
    """Requests about blocks and hidden blobs.

    Args:
        client: sends them.
        settings: of the store.
        cleanup_timeout: seconds that removing a hidden blob may take.
    """

    def __init__(self, client: Client, settings: AzureSettings, cleanup_timeout: float) -> None:
        self._client = client
        self._checksum = settings.checksum
        self._timeout = cleanup_timeout

    async def send(self, bucket: str, key: str, block_id: str, chunks: Sequence[Piece]) -> None:
        """Store a block."""
        headers = await checksum_headers(self._checksum, chunks)
        params = [("comp", "block"), ("blockid", block_id)]
        await self._client.write("PUT", bucket, key, params=params, headers=headers, body=chunks)

    async def copy(self, bucket: str, key: str, block_id: str, source: Headers) -> None:
        """Have the service store a range of another blob as a block; ``source`` names it."""
        params = [("comp", "block"), ("blockid", block_id)]
        await self._client.write("PUT", bucket, key, params=params, headers=source)

    async def fitting(
        self, bucket: str, key: str, ids: BlockIds, number: int, send: Callable[[str], Awaitable[object]]
    ) -> None:
        """Send a block, and once more with an id of another size if others have left blocks with such ids.

        Raises:
            BackendError: their ids are too short to hold random bytes.
        """
        size = ids.size
        try:
            await send(ids[number])
        except InvalidPartError as error:
            if ids.size == size:
                await self._fit(bucket, key, ids)
            if ids.size == size:
                raise BackendError(error.message, status=error.status, request_id=error.request_id) from error
            await send(ids[number])

    async def _fit(self, bucket: str, key: str, ids: BlockIds) -> None:
        try:
            _, blocks = await self.list(bucket, key, "uncommitted")
        except NotFoundError:
            return
        if blocks:
            ids.fit(next(iter(blocks)))

    async def list(self, bucket: str, key: str, kind: str) -> tuple[Mapping[str, str], dict[str, int]]:
        """Return the headers of a blob's block list, and its blocks: their ids and sizes, in their order.

        Args:
            bucket, key: of the blob.
            kind: ``committed``, ``uncommitted`` or ``all``.
        """
        params = [("comp", "blocklist"), ("blocklisttype", kind)]
        headers, content = await self._client.document("GET", bucket, key, params=params)
        blocks: dict[str, int] = {}
        for block in parse(content).iter("Block"):
            size = block.findtext("Size") or ""
            if not (size.isascii() and size.isdecimal() and len(size) < 20):
                raise BackendError(f"the service gives a block the size {size[:40]!r}")
            blocks[block.findtext("Name") or ""] = int(size)
        return headers, blocks

    async def commit(
        self, bucket: str, key: str, ids: Sequence[str], headers: Headers, settling: Settling | None = None
    ) -> Mapping[str, str]:
        """Make a blob of blocks and return the headers of the answer.

        Args:
            bucket, key, ids: the blob and its blocks.
            headers: the description and the conditions.
            settling: looks for the blob after a lost answer; None to send the request again.

        Raises:
            InvalidPartError: a block does not exist.
        """
        # "Latest", so that a commit whose answer was lost succeeds when it is sent again.
        body = [document("BlockList", [("Latest", block_id) for block_id in ids])]
        headers = headers + await checksum_headers(self._checksum, body)
        return await self._client.write(
            "PUT", bucket, key, params=[("comp", "blocklist")], headers=headers, body=body, settling=settling
        )

    # Hidden blobs

    @asynccontextmanager
    async def hidden(self, bucket: str) -> AsyncGenerator[str, None]:
        """Yield the name of a hidden blob, and remove the blob when the block ends, however it ends."""
        name = staging_name()
        leftover = f"the blob {name!r} in bucket {bucket!r}"
        try:
            yield name
        except BaseException:
            await finish(self.discard(bucket, name), timeout=self._timeout, leftover=leftover)
            raise
        await finish(self._client.delete(bucket, name), timeout=self._timeout, leftover=leftover)

    async def discard(self, bucket: str, name: str) -> None:
        """Remove a hidden blob with its uncommitted blocks; a missing one is success.

        A blob that has uncommitted blocks alone cannot be deleted; an empty one can, and takes them with it.
        """
        try:
            await self.commit(bucket, name, [], [])
        except BucketNotFoundError:
            return
        await self._client.delete(bucket, name)


def staging_name() -> str:
    """Return a new name of a hidden blob."""
    return f"{STAGING}{secrets.token_hex(16)}"


class BlockUpload(Upload[int]):
    """Blocks of a key, which become its object; a part is known by its number.

    Args:
        objects, blocks: send the requests.
        versions: keep what is replaced.
        bucket, key: of the object.
        attributes: of the object.
        conditions: under which it is made.
        body: where the blocks come from; None if the service copies them.
        size, checksum: of the object, if there is no body.
    """

    def __init__(
        self,
        objects: Objects,
        blocks: Blocks,
        versions: Versions,
        bucket: str,
        key: str,
        *,
        attributes: ObjectAttributes,
        conditions: Conditions,
        body: Body | None = None,
        size: int = 0,
        checksum: Checksum | None = None,
    ) -> None:
        self._objects = objects
        self._blocks = blocks
        self._versions = versions
        self.bucket = bucket
        self.key = key
        self.ids = BlockIds()
        self._attributes = attributes
        self._conditions = conditions
        self._body = body
        self._size = size
        self._known_checksum = checksum
        self._if_match: str | None = None
        self._if_none_match: str | None = None
        self._own: Mapping[str, str] = EMPTY

    def __str__(self) -> str:
        return f"the blocks of {self.key!r} in bucket {self.bucket!r}"

    @property
    def checksum(self) -> Checksum | None:
        """The caller's checksum, which that of a body is only after its end."""
        return self._known_checksum if self._body is None else self._body.computed

    async def begin(self) -> None:
        """Do nothing: the first block begins an upload."""

    async def send(self, number: int, chunks: Sequence[Piece]) -> int:
        """Store a block."""

        async def send(block_id: str) -> None:
            await self._blocks.send(self.bucket, self.key, block_id, chunks)

        await self._blocks.fitting(self.bucket, self.key, self.ids, number, send)
        return number

    async def make(self, parts: Sequence[int], timeout: float) -> ObjectInfo:
        """Make the object of the blocks, after the version that it replaces was kept."""

        async def send(if_match: str | None, if_none_match: str | None, own: Mapping[str, str]) -> ObjectInfo:
            self._if_match, self._if_none_match, self._own = if_match, if_none_match, own
            return await complete(self, parts, timeout)

        return await self._versions.write(self.bucket, self.key, self._conditions, send)

    async def complete(self, parts: Sequence[int]) -> ObjectInfo:
        """Commit the blocks.

        Raises:
            ConflictError: another write of the key has discarded them.
        """
        headers = self._objects.attribute_headers(self.key, self._attributes, self.checksum, self._own)
        headers += write_conditions(self._if_match, self._if_none_match)
        settling = Settling(partial(self.find, parts))
        try:
            answer = await self._blocks.commit(self.bucket, self.key, self._ids_of(parts), headers, settling)
        except PreconditionFailedError as error:
            raise condition_error(error, self._conditions.if_none_match) from error
        except InvalidPartError as error:
            raise ConflictError(
                f"another write of the same object discarded the blocks before they were committed: {error.message}",
                status=error.status,
                request_id=error.request_id,
                ambiguous=error.ambiguous,
            ) from error
        except TroveError:
            if settling.made is None:
                raise
            return settling.made
        return self._made(answer)

    async def find(self, parts: Sequence[int]) -> ObjectInfo | None:
        """Return the object if its blocks are those of the upload; their ids are random."""
        headers, blocks = await self._blocks.list(self.bucket, self.key, "committed")
        return self._made(headers) if list(blocks) == self._ids_of(parts) else None

    async def abort(self) -> None:
        """Do nothing: what would remove the blocks would be seen by readers of the object."""

    def _ids_of(self, parts: Sequence[int]) -> list[str]:
        return [self.ids[number] for number in parts]

    def _made(self, headers: Mapping[str, str]) -> ObjectInfo:
        size = self._size if self._body is None else self._body.taken
        return self._objects.written(self.key, size, headers, self._attributes, self.checksum, self._own)
