"""Copies within the service, each of which is over when its request is answered.

The service's other copy, which goes on after its answer, is not used: it empties the destination at once, so that
readers would see neither the old object nor the new one, and a cancellation would leave neither
(https://learn.microsoft.com/rest/api/storageservices/copy-blob).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.cancellation import shielded
from trove_async.checksums import Checksum
from trove_async.driver import CopyOptions, GetOptions, HeadOptions, ObjectAttributes, check_write, reading_source
from trove_async.driver.copy_settling import COMPARED
from trove_async.driver.put_settling import holds_once, sha256_of
from trove_async.drivers.azure.blocks import Blocks, BlockUpload
from trove_async.drivers.azure.client import Client, Headers, Params
from trove_async.drivers.azure.control import Control
from trove_async.drivers.azure.headers import checksum_metadata, etag_in, metadata_headers, tier_header, version_of
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects
from trove_async.drivers.azure.sas import Signatures
from trove_async.drivers.azure.settings import MAX_BLOCKS, AzureSettings
from trove_async.drivers.azure.versions import Conditions, Versions
from trove_async.errors import (
    BackendError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    UnsupportedError,
)
from trove_async.ranges import check_within
from trove_async.types import ObjectInfo, ObjectRef
from trove_async.wire.client import same_object, settle
from trove_async.wire.errors import condition_error, copying
from trove_async.wire.fields import write_conditions
from trove_async.wire.multipart import MIB, make_of_parts, pace_of_copies

__all__ = ["Copies"]

_BLOCK: Final = 256 * MIB
"""Bytes of a block that the service copies, which needs no memory of this process."""

_UNCONDITIONAL: Final = CopyOptions()


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects, blocks, control: do what is done to objects, blocks and tags.
        versions: keep what is replaced, and find versions.
        signatures: let the service read what it copies.
        settings: of the store.
        cleanup_timeout: seconds for which a copy that was sent is awaited after a cancellation.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        blocks: Blocks,
        control: Control,
        versions: Versions,
        signatures: Signatures,
        settings: AzureSettings,
        cleanup_timeout: float,
    ) -> None:
        self._client = client
        self._objects = objects
        self._blocks = blocks
        self._control = control
        self._versions = versions
        self._signatures = signatures
        self._settings = settings
        self._timeout = cleanup_timeout

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object, or a version of it."""
        src, dst = ObjectRef(src_bucket, src_key, options.source_version_id), ObjectRef(dst_bucket, dst_key)
        source, tagged, params = await self._source(src, options.source_if_match)
        src = replace(src, version_id=None)
        if options.replace is not None:
            return await self._replace(src, dst, source, options, options.replace, params)
        if src == dst and not params and not self._versions.records:
            return _onto_itself(source, options)
        return await self.transfer(src, dst, source, options, params, tagged=tagged)

    async def _source(self, src: ObjectRef, if_match: str | None = None) -> tuple[ObjectInfo, bool, Params]:
        """Return the description of an object or a version, whether it has tags, and what names it in requests."""
        params: Params = ()
        with reading_source(src.bucket, src.key):
            if src.version_id is not None:
                found = await self._versions.find(src.bucket, src.key, src.version_id)
                params, if_match = found.params, if_match or found.etag
            wanted = HeadOptions(if_match=if_match)
            source, tagged = await self._objects.describe(src.bucket, src.key, wanted, params)
        return source, tagged, params

    async def copy_block(self, blob: ObjectRef, block_id: str, src: ObjectRef, offset: int, length: int) -> None:
        """Have the service copy a range of an object to a block of a blob.

        Raises:
            CopyNotSupportedError: the service cannot read the object, or is the emulator, which has no such request.
            ObjectChangedError: the object was replaced after it was looked at.
            RangeNotSatisfiableError: the object ends before the range does.
        """
        source, _, params = await self._source(src)
        with reading_source(src.bucket, src.key):
            check_within(offset, length, source.size)
        named = await self._named(src, source, params)
        named.append(_range(offset, offset + length))
        try:
            with copying():
                await self._blocks.copy(blob.bucket, blob.key, block_id, named)
        except ObjectChangedError:
            with reading_source(src.bucket, src.key):
                raise

    async def _named(self, src: ObjectRef, source: ObjectInfo, params: Params, *, tags: bool = False) -> Headers:
        """Return the headers that name the source of a copy in the state that was seen, and let the service read it."""
        url, authorization = await self._signatures.source_url(src, params, tags=tags)
        return [("x-ms-copy-source", url), *authorization, ("x-ms-source-if-match", f'"{source.etag}"')]

    async def publish(
        self,
        hidden: ObjectRef,
        ids: Sequence[str],
        dst: ObjectRef,
        attributes: ObjectAttributes,
        checksum: Checksum | None,
        conditions: Conditions,
        on_done: Callable[[], object] | None = None,
    ) -> ObjectInfo:
        """Commit the blocks of a hidden blob, and copy it to its key in one step.

        Args:
            hidden, ids: the blob and its blocks.
            dst, attributes, checksum: the object.
            conditions: under which the object is made.
            on_done: as in `transfer`.
        """
        headers = self._objects.attribute_headers(hidden.key, attributes, checksum)
        await self._blocks.commit(hidden.bucket, hidden.key, ids, headers)
        return await self._move(hidden, dst, attributes, conditions, on_done)

    async def _move(
        self,
        hidden: ObjectRef,
        dst: ObjectRef,
        attributes: ObjectAttributes,
        conditions: Conditions,
        on_done: Callable[[], object] | None = None,
    ) -> ObjectInfo:
        """Copy a hidden blob, which has all attributes but the tier, to its key."""
        source = await self._objects.head(hidden.bucket, hidden.key, HeadOptions())
        tier = attributes.storage_class
        source = replace(source, storage_class=None if tier is None else tier.upper())
        try:
            return await self.transfer(hidden, dst, source, conditions, tagged=bool(attributes.tags), on_done=on_done)
        except TransientError as error:
            if conditions.if_match is not None or conditions.if_none_match is not None:
                raise
            made = await settle(error, partial(self._moved, source, dst, attributes))
            if made is None:
                raise
            if on_done is not None:
                on_done()
            return made

    async def _moved(self, source: ObjectInfo, dst: ObjectRef, attributes: ObjectAttributes) -> ObjectInfo | None:
        """Return the object if it is the copy of a hidden blob, which holds the same bytes and description."""
        found = await self._objects.head(dst.bucket, dst.key, HeadOptions())
        if not same_object(found, replace(source, key=found.key, etag=found.etag)) or found.size > COMPARED:
            return None
        if await self._control.get_tags(dst.bucket, dst.key) != attributes.tags:
            return None
        sums = []
        for ref, info in ((ObjectRef(dst.bucket, source.key), source), (dst, found)):
            async with await self._objects.get(ref.bucket, ref.key, GetOptions()) as reader:
                sums.append(await sha256_of(reader, info))
        return found if sums[0] == sums[1] else None

    async def transfer(
        self,
        src: ObjectRef,
        dst: ObjectRef,
        source: ObjectInfo,
        conditions: Conditions,
        params: Params = (),
        *,
        tagged: bool = False,
        on_done: Callable[[], object] | None = None,
    ) -> ObjectInfo:
        """Copy the state of an object that was seen, with all its attributes.

        Once a copy was sent it is awaited, also by a caller that was cancelled.

        Args:
            src, dst: the object and its copy.
            source: what was seen; its storage class is that of the copy.
            conditions: on the destination.
            params: what names a version or snapshot of the source.
            tagged: whether it has tags.
            on_done: called when the copy is made.
        """
        named = await self._named(src, source, params, tags=tagged)
        if source.size > self._settings.max_copy_size:
            try:
                tags = await self._control.get_tags(src.bucket, src.key, params) if tagged else {}
                return await self._copy_in_blocks(dst, source, named, conditions, tags, on_done)
            except UnsupportedError:
                pass  # the emulator, which has no copies of blocks, copies blobs of any size in one request
        named.append(("x-ms-requires-sync", "true"))
        if tagged:
            named.append(("x-ms-copy-source-tag-option", "COPY"))
        kept = source.storage_class or self._settings.storage_class
        if kept is not None and dst.key[0] != OWN:
            named.append(tier_header(kept))
        send = partial(self._send, dst, source, named, conditions, on_done)
        return await self._versions.write(dst.bucket, dst.key, conditions, send)

    async def _send(
        self,
        dst: ObjectRef,
        source: ObjectInfo,
        named: Headers,
        conditions: Conditions,
        on_done: Callable[[], object] | None,
        if_match: str | None,
        if_none_match: str | None,
        own: Mapping[str, str],
    ) -> ObjectInfo:
        """Send a copy, which is awaited also by a caller that was cancelled."""
        headers = [*named, *write_conditions(if_match, if_none_match)]
        if own:
            # With metadata in the request none is taken from the source.
            headers += metadata_headers(source.metadata, {**checksum_metadata(source), **own})
        once = dst.key[0] != OWN and not holds_once(if_match, if_none_match)  # nobody else sees a hidden blob
        answer = await shielded(
            self._request(dst, headers, conditions, on_done, once=once),
            timeout=self._timeout,
            leftover=f"the copy to {dst.key!r} in bucket {dst.bucket!r}",
        )
        return replace(
            source, key=dst.key, etag=etag_in(answer), version_id=version_of(answer, own), last_modified=None
        )

    async def _request(
        self,
        dst: ObjectRef,
        headers: Headers,
        conditions: Conditions,
        on_done: Callable[[], object] | None,
        *,
        once: bool,
    ) -> Mapping[str, str]:
        try:
            answer = await self._client.write("PUT", dst.bucket, dst.key, headers=headers, once=once)
        except ObjectChangedError:
            raise  # the source, after it was looked at
        except PreconditionFailedError as error:
            raise condition_error(error, conditions.if_none_match) from error
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError("the source was deleted meanwhile") from error
        status = answer.get("x-ms-copy-status", "success")
        if status != "success" or "etag" not in answer:
            raise BackendError(
                f"the service answers that the copy is {status[:80]!r}, and not that it has ended: "
                "is the endpoint an Azure Blob service?",
                ambiguous=True,
            )
        if on_done is not None:
            on_done()
        return answer

    async def _copy_in_blocks(
        self,
        dst: ObjectRef,
        source: ObjectInfo,
        named: Headers,
        conditions: Conditions,
        tags: Mapping[str, str],
        on_done: Callable[[], object] | None,
    ) -> ObjectInfo:
        """Have the service copy blocks, and commit them."""
        upload = BlockUpload(
            self._objects,
            self._blocks,
            self._versions,
            dst.bucket,
            dst.key,
            attributes=ObjectAttributes.of(source, tags),
            conditions=conditions,
            size=source.size,
            checksum=next((Checksum(*item) for item in source.checksums.items()), None),
        )
        jobs = self._jobs(upload, source.size, named)
        pace = pace_of_copies(self._settings.part_concurrency)
        try:
            return await make_of_parts(upload, jobs, pace=pace, timeout=self._timeout)
        finally:
            if upload.completed and on_done is not None:
                on_done()

    async def _jobs(
        self, upload: BlockUpload, size: int, named: Headers
    ) -> AsyncGenerator[Callable[[], Awaitable[int]], None]:
        block = max(min(_BLOCK, self._settings.max_copy_size), -(-size // MAX_BLOCKS))
        for number, start in enumerate(range(0, size, block), start=1):
            yield partial(self._copy_block, upload, named, number, start, min(start + block, size))

    async def _copy_block(self, upload: BlockUpload, named: Headers, number: int, start: int, stop: int) -> int:
        headers = [*named, _range(start, stop)]

        async def send(block_id: str) -> None:
            await self._blocks.copy(upload.bucket, upload.key, block_id, headers)

        await self._blocks.fitting(upload.bucket, upload.key, upload.ids, number, send)
        return number

    async def _replace(
        self,
        src: ObjectRef,
        dst: ObjectRef,
        source: ObjectInfo,
        options: CopyOptions,
        attributes: ObjectAttributes,
        params: Params,
    ) -> ObjectInfo:
        """Copy with other attributes: by way of a hidden blob, which gets them before it is copied.

        A copy takes the content type and the other headers from its source, and the metadata too if it is to have none.
        """
        self._objects.attribute_headers(dst.key, attributes)  # what Azure does not take is refused before any request
        async with self._blocks.hidden(dst.bucket) as name:
            hidden = ObjectRef(dst.bucket, name)
            await self.transfer(src, hidden, source, _UNCONDITIONAL, params)
            if attributes.tags:
                await self._control.set_tags(hidden.bucket, hidden.key, attributes.tags)
            await self._describe(hidden, attributes)
            return await self._move(hidden, dst, attributes, options)

    async def _describe(self, blob: ObjectRef, attributes: ObjectAttributes) -> None:
        """Set the headers and the metadata of a blob, in two requests."""
        headers = attributes.content_headers("x-ms-blob-")
        await self._client.write("PUT", blob.bucket, blob.key, params=[("comp", "properties")], headers=headers)
        headers = metadata_headers(attributes.metadata)
        await self._client.write("PUT", blob.bucket, blob.key, params=[("comp", "metadata")], headers=headers)


def _range(start: int, stop: int) -> tuple[str, str]:
    return "x-ms-source-range", f"bytes={start}-{stop - 1}"


def _onto_itself(source: ObjectInfo, options: CopyOptions) -> ObjectInfo:
    """Decide the conditions of a copy that changes nothing."""
    check_write(source.etag, options.if_match, options.if_none_match)
    return source
