"""Bodies that are larger than a block: staged in blocks, and committed with the conditions.

Blocks that are not committed belong to the blob's name, where no reader sees them. Their ids begin with what one upload
alone has drawn, so that two uploads of one key do not replace each other's blocks. What commits first discards the
blocks of all others, though, and so does a put of a small object; see `Puts` for what is done then. Blocks of an
upload that was given up stay until the next write of the key, or for a week: the service has no way to remove them
that readers would not see.
"""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from trove_async.body import Body, Chunk
from trove_async.cancellation import to_the_end
from trove_async.checksums import Checksum
from trove_async.driver import CopyOptions, ObjectAttributes, PutOptions
from trove_async.drivers.azure.client import Client, Headers
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects, condition_error
from trove_async.drivers.azure.settings import MAX_PART_SIZE, AzureSettings
from trove_async.errors import (
    BackendError,
    InvalidArgumentError,
    InvalidPartError,
    NotFoundError,
    PreconditionFailedError,
    TransientError,
    TroveError,
)
from trove_async.types import EMPTY, ObjectInfo
from trove_async.wire.fields import write_conditions
from trove_async.wire.parts import PartSource, in_parallel
from trove_async.wire.xml import document, parse

__all__ = ["MAX_BLOCKS", "BlockIds", "Uploads", "block_list", "part_size_at", "part_size_for"]

MAX_BLOCKS: Final = 50_000

_MIB: Final = 1024 * 1024
_EVEN: Final = 5000
"""Blocks after which the size of blocks doubles, where a body's length is unknown."""

_ID_SIZE: Final = 48
"""Bytes of a block's id. All blocks of a blob have ids of one size, and this is that of Microsoft's SDK for Python."""

_LEAST_ID_SIZE: Final = 8


def part_size_for(size: int, settings: AzureSettings) -> int:
    """Return the size of all blocks but the last of a body whose length is known.

    Raises:
        InvalidArgumentError: no number of blocks that the service allows holds it.
    """
    needed = -(-size // MAX_BLOCKS)
    part_size = settings.part_size
    if needed > part_size:
        part_size = -(-needed // _MIB) * _MIB
    if part_size > MAX_PART_SIZE:
        raise InvalidArgumentError(
            f"the body has {size} bytes; the service takes {MAX_PART_SIZE * MAX_BLOCKS} in one blob"
        )
    return part_size


def part_size_at(number: int, settings: AzureSettings) -> int:
    """Return the size of a block, by its number from 1, of a body whose length is unknown.

    Raises:
        InvalidArgumentError: there are more blocks than the service allows.
    """
    if number > MAX_BLOCKS:
        raise InvalidArgumentError(
            f"the body does not fit into {MAX_BLOCKS} blocks: open the store with a larger part_size, "
            "or tell put() the size"
        )
    return min(settings.part_size << ((number - 1) // _EVEN), MAX_PART_SIZE)


class BlockIds:
    """The ids of one upload's blocks: the number of each, behind it what the upload has drawn.

    Attributes:
        size: bytes of each id.
    """

    def __init__(self) -> None:
        self.size = _ID_SIZE
        self._drawn = os.urandom(64)

    def __getitem__(self, number: int) -> str:
        return base64.b64encode(number.to_bytes(3, "big") + self._drawn[: self.size - 3]).decode()

    def fit(self, other: str) -> None:
        """Take the size of another's id, where that is long enough to be drawn by lot."""
        size = len(base64.b64decode(other))
        if size >= _LEAST_ID_SIZE:
            self.size = size


class Uploads:
    """Uploads of whole bodies.

    Args:
        client: sends the requests.
        objects: for what fits into one request.
        settings: of the store.
        cleanup_timeout: seconds for which a commit that was sent is awaited after a cancellation.
    """

    def __init__(self, client: Client, objects: Objects, settings: AzureSettings, cleanup_timeout: float) -> None:
        self._client = client
        self._objects = objects
        self._settings = settings
        self._cleanup_timeout = cleanup_timeout

    async def stage(self, bucket: str, key: str, body: Body, source: PartSource, first: list[Chunk]) -> list[str]:
        """Stage a body in blocks, some at a time, and return their ids in order.

        Args:
            bucket, key: whose blocks they are to be.
            body: for its size.
            source: what is left of it.
            first: the first block.
        """
        ids = BlockIds()
        jobs = self._jobs(bucket, key, ids, body.size, source, first)
        numbers = await in_parallel(jobs, self._settings.part_concurrency)
        return [ids[number] for number in numbers]

    async def make(
        self,
        bucket: str,
        key: str,
        ids: Sequence[str],
        size: int,
        described: ObjectAttributes,
        checksum: Checksum | None,
        conditions: PutOptions | CopyOptions,
        on_done: Callable[[], object] | None = None,
    ) -> ObjectInfo:
        """Make the object of blocks, which have ``size`` bytes.

        Once that was sent it is awaited, also by a caller that was cancelled; ``on_done`` is called when it is done.

        Raises:
            InvalidPartError: a block is not there.
            PreconditionFailedError: a condition does not hold.
        """

        async def send(if_match: str | None, if_none_match: str | None, own: Mapping[str, str]) -> ObjectInfo:
            headers = self._objects.description(key, described, checksum, own)
            headers += write_conditions(if_match, if_none_match)
            try:
                answer = await self.commit(bucket, key, ids, headers, on_done)
            except PreconditionFailedError as error:
                raise condition_error(error, conditions) from error
            return self._objects.written(key, size, answer, described, checksum, own)

        gate = self._objects.gate
        if gate is None or key[0] == OWN:
            return await send(conditions.if_match, conditions.if_none_match, EMPTY)
        return await gate.write(bucket, key, conditions, send)

    async def _jobs(
        self, bucket: str, key: str, ids: BlockIds, size: int | None, source: PartSource, first: list[Chunk]
    ) -> AsyncGenerator[Callable[[], Awaitable[int]], None]:
        """Yield what is to be done for each block, which is read only when there is someone to send it."""
        fixed = None if size is None else part_size_for(size, self._settings)
        chunks, number = first, 1
        while True:
            yield partial(self._send, bucket, key, ids, number, chunks)
            if source.ended:
                return
            number += 1
            chunks = await source.take(fixed or part_size_at(number, self._settings))

    async def _send(self, bucket: str, key: str, ids: BlockIds, number: int, chunks: Sequence[Chunk]) -> int:
        await self.fitted(bucket, key, ids, number, lambda block_id: self.send_block(bucket, key, block_id, chunks))
        return number

    async def fitted(
        self, bucket: str, key: str, ids: BlockIds, number: int, send: Callable[[str], Awaitable[object]]
    ) -> None:
        """Send a block, and once more with another id where others have left blocks that this one does not fit.

        Raises:
            BackendError: their ids are too short for ours.
        """
        size = ids.size
        try:
            await send(ids[number])
        except InvalidPartError as error:
            # Others have left blocks under this name whose ids have another size.
            if ids.size == size:
                await self._fit(bucket, key, ids)
            if ids.size == size:
                raise BackendError(error.message, status=error.status, request_id=error.request_id) from error
            await send(ids[number])

    async def _fit(self, bucket: str, key: str, ids: BlockIds) -> None:
        try:
            _, blocks = await self.blocks(bucket, key, "uncommitted")
        except NotFoundError:
            return
        if blocks:
            ids.fit(next(iter(blocks)))

    async def send_block(self, bucket: str, key: str, block_id: str, chunks: Sequence[Chunk]) -> None:
        """Stage a block."""
        params = [("comp", "block"), ("blockid", block_id)]
        headers = await self._objects.checksum_headers(chunks)
        response = await self._client.request("PUT", bucket, key, params=params, headers=headers, body=chunks)
        if response.content is None:
            await response.aclose()

    async def blocks(self, bucket: str, key: str, kind: str) -> tuple[Mapping[str, str], dict[str, int]]:
        """Return the headers of a blob's block list, and the blocks of it: their ids and sizes, in their order.

        Args:
            bucket, key: of the blob.
            kind: ``committed``, ``uncommitted`` or ``all``.
        """
        params = [("comp", "blocklist"), ("blocklisttype", kind)]
        response, content = await self._client.document("GET", bucket, key, params=params)
        found = parse(content).iter("Block")
        return response.headers, {item.findtext("Name") or "": int(item.findtext("Size") or 0) for item in found}

    async def commit(
        self,
        bucket: str,
        key: str,
        ids: Sequence[str],
        headers: Headers,
        on_done: Callable[[], object] | None = None,
    ) -> Mapping[str, str]:
        """Commit blocks; return the answer's headers. It is awaited also by a caller that was cancelled.

        Args:
            bucket, key, ids: the blob and its blocks.
            headers: the description and the conditions.
            on_done: called when they are committed.
        """

        async def work() -> Mapping[str, str]:
            answer = await self._commit(bucket, key, ids, headers)
            if on_done is not None:
                on_done()
            return answer

        return await to_the_end(
            work(),
            timeout=self._cleanup_timeout,
            leftover=f"the commit of {key!r} in bucket {bucket!r}",
        )

    async def _commit(self, bucket: str, key: str, ids: Sequence[str], headers: Headers) -> Mapping[str, str]:
        params = [("comp", "blocklist")]
        body = [block_list(ids)]
        verified = await self._objects.checksum_headers(body)
        try:
            response = await self._client.request(
                "PUT", bucket, key, params=params, headers=[*headers, *verified], body=body, writes=True
            )
        except (InvalidPartError, PreconditionFailedError, TransientError) as error:
            # An attempt whose answer was lost may have committed them.
            found = await self._committed(bucket, key, ids) if error.ambiguous else None
            if found is None:
                raise
            return found
        return response.headers

    async def _committed(self, bucket: str, key: str, ids: Sequence[str]) -> Mapping[str, str] | None:
        try:
            headers, blocks = await self.blocks(bucket, key, "committed")
        except TroveError:
            return None
        return headers if list(blocks) == list(ids) else None


def block_list(ids: Sequence[str]) -> bytes:
    """Return the document that commits blocks in an order."""
    # "Latest", so that a commit whose answer was lost succeeds when it is sent again.
    return document("BlockList", [("Latest", block_id) for block_id in ids])
