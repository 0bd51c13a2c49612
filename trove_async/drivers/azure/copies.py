"""Copies within the service, each of which is over when its request is answered.

The service's other copy, which goes on after its answer, is not used: it empties the destination at once, so
that readers would see neither the old object nor the new one, and a cancellation would leave nothing of either
(https://learn.microsoft.com/rest/api/storageservices/copy-blob).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from trove_async.cancellation import to_the_end
from trove_async.checksums import Checksum
from trove_async.driver import CopyOptions, HeadOptions, ObjectAttributes
from trove_async.drivers.azure.client import Client, Headers, Params
from trove_async.drivers.azure.headers import (
    VERSION,
    checksum_metadata,
    metadata_headers,
    named,
    object_headers,
    tier_header,
)
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.objects import Objects, condition_error
from trove_async.drivers.azure.sas import Signatures
from trove_async.drivers.azure.settings import AzureSettings
from trove_async.drivers.azure.staging import Staging
from trove_async.drivers.azure.tags import Tags
from trove_async.drivers.azure.uploads import MAX_BLOCKS, BlockIds, Uploads
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    InvalidPartError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TransientError,
    UnsupportedError,
)
from trove_async.types import EMPTY, ObjectInfo, ObjectRef
from trove_async.wire.fields import etag_of, write_conditions
from trove_async.wire.parts import in_parallel

__all__ = ["Copies"]

_BLOCK: Final = 256 * 1024 * 1024
"""Bytes of a block that the service copies: no memory of ours is needed."""


class Copies:
    """Copies.

    Args:
        client: sends the requests.
        objects, uploads, tags, staging, signatures: do what is done to each of them.
        settings: of the store.
        cleanup_timeout: seconds for which a copy that was sent is awaited after a cancellation.
    """

    def __init__(
        self,
        client: Client,
        objects: Objects,
        uploads: Uploads,
        tags: Tags,
        staging: Staging,
        signatures: Signatures,
        settings: AzureSettings,
        cleanup_timeout: float,
    ) -> None:
        self._client = client
        self._objects = objects
        self._uploads = uploads
        self._tags = tags
        self._staging = staging
        self._signatures = signatures
        self._settings = settings
        self._cleanup_timeout = cleanup_timeout

    async def copy(
        self,
        src: ObjectRef,
        dst: ObjectRef,
        options: CopyOptions,
        params: Params = (),
    ) -> ObjectInfo:
        """Copy an object.

        Args:
            src, dst: the object and its copy.
            options: of the copy; the version of the source is in ``params``.
            params: what names a version or snapshot of the source.
        """
        wanted = HeadOptions(if_match=options.source_if_match)
        source, tagged = await self._source(src, wanted, params)
        gate = self._objects.gate
        if options.replace is not None:
            return await self._replace(src, dst, source, options, options.replace, params)
        if (src.bucket, src.key) == (dst.bucket, dst.key) and not params and gate is None:
            return await self._onto_itself(dst, source, options)
        return await self.transfer(src, dst, source, options, params, tagged=tagged)

    async def _source(self, src: ObjectRef, wanted: HeadOptions, params: Params) -> tuple[ObjectInfo, bool]:
        try:
            return await self._objects.describe(src.bucket, src.key, wanted, params)
        except NotFoundError as error:
            error.locate("copy", src.bucket, None if isinstance(error, BucketNotFoundError) else src.key)
            raise

    async def _onto_itself(self, dst: ObjectRef, source: ObjectInfo, options: CopyOptions) -> ObjectInfo:
        """Decide the conditions: there is nothing else to do."""
        if options.if_none_match in ("*", source.etag):
            raise condition_error(PreconditionFailedError("the copy is the source itself"), options)
        if options.if_match not in (None, "*", source.etag):
            raise PreconditionFailedError(f"the object's ETag is {source.etag!r}, not {options.if_match!r}")
        return source

    async def transfer(
        self,
        src: ObjectRef,
        dst: ObjectRef,
        source: ObjectInfo,
        options: CopyOptions,
        params: Params = (),
        *,
        tagged: bool = False,
        on_done: Callable[[], object] | None = None,
    ) -> ObjectInfo:
        """Copy what was seen of an object, with all that is said of it.

        Once it was sent it is awaited, also by a caller that was cancelled.

        Args:
            src, dst, options, params: as of `copy`.
            source: what was seen; its storage class is that of the copy.
            tagged: whether it has tags.
            on_done: called when the copy is there.
        """
        url, authorization = await self._signatures.source_url(src, params, tags=tagged)
        wanted = [("x-ms-copy-source", url), *authorization, ("x-ms-source-if-match", f'"{source.etag}"')]
        if source.size > self._settings.max_copy_size:
            try:
                tags = await self._tags.get(src.bucket, src.key, params) if tagged else {}
                return await self._copy_in_blocks(dst, source, wanted, options, tags, on_done)
            except UnsupportedError:
                pass  # the emulator, which has no copies of blocks, copies blobs of any size in one request
        wanted.append(("x-ms-requires-sync", "true"))
        if tagged:
            wanted.append(("x-ms-copy-source-tag-option", "COPY"))
        own_blob = dst.key[0] == OWN
        kept = source.storage_class or self._settings.storage_class
        if kept is not None and not own_blob:
            wanted.append(tier_header(kept))
        send = partial(self._send, dst, source, wanted, options, on_done)
        gate = self._objects.gate
        if gate is None or own_blob:
            return await send(options.if_match, options.if_none_match, EMPTY)
        return await gate.write(dst.bucket, dst.key, options, send)

    async def promote(self, bucket: str, key: str, source: ObjectInfo, params: Params, etag: str | None) -> ObjectInfo:
        """Put a version back in the place of the object, as it was.

        Args:
            bucket, key: of the object.
            source: the version.
            params: what names it.
            etag: of the object that there is now; None for none.
        """
        ref = ObjectRef(bucket, key)
        url, authorization = await self._signatures.source_url(ref, params, tags=True)
        wanted = [("x-ms-copy-source", url), *authorization, ("x-ms-requires-sync", "true")]
        wanted.append(("x-ms-copy-source-tag-option", "COPY"))
        return await self._send(ref, source, wanted, CopyOptions(), None, etag, None if etag else "*", EMPTY)

    async def _send(
        self,
        dst: ObjectRef,
        source: ObjectInfo,
        wanted: Headers,
        options: CopyOptions,
        on_done: Callable[[], object] | None,
        if_match: str | None,
        if_none_match: str | None,
        own: Mapping[str, str],
    ) -> ObjectInfo:
        """Send a copy, which is awaited also by a caller that was cancelled."""
        headers = [*wanted, *write_conditions(if_match, if_none_match)]
        if own:
            # With metadata in the request none is taken from the source.
            headers += metadata_headers(source.metadata, {**checksum_metadata(source), **own})
        answer = await to_the_end(
            self._request(dst, headers, options, on_done),
            timeout=self._cleanup_timeout,
            leftover=f"the copy to {dst.key!r} in bucket {dst.bucket!r}",
        )
        return replace(
            source,
            key=dst.key,
            etag=etag_of(object_headers(answer, "etag")),
            version_id=named(own.get(VERSION)) or answer.get("x-ms-version-id"),
            last_modified=None,
        )

    async def _request(
        self, dst: ObjectRef, headers: Headers, options: CopyOptions, on_done: Callable[[], object] | None
    ) -> Mapping[str, str]:
        try:
            response = await self._client.request("PUT", dst.bucket, dst.key, headers=headers, writes=True)
        except ObjectChangedError:
            raise  # the source, after it was looked at
        except PreconditionFailedError as error:
            raise condition_error(error, options) from error
        except ObjectNotFoundError as error:
            raise ObjectNotFoundError("the source was deleted meanwhile") from error
        status = response.headers.get("x-ms-copy-status", "success")
        if status != "success":
            raise BackendError(f"the copy is {status!r}, and was asked for at once: is the endpoint Azure's?")
        if on_done is not None:
            on_done()
        return response.headers

    async def _copy_in_blocks(
        self,
        dst: ObjectRef,
        source: ObjectInfo,
        wanted: Headers,
        options: CopyOptions,
        tags: Mapping[str, str],
        on_done: Callable[[], object] | None,
    ) -> ObjectInfo:
        """Have the service copy blocks, and commit them."""
        ids = BlockIds()
        numbers = await in_parallel(self._jobs(dst, ids, source.size, wanted), self._settings.part_concurrency)
        checksum = next((Checksum(*item) for item in source.checksums.items()), None)
        blocks = [ids[number] for number in numbers]
        described = ObjectAttributes.of(source, tags)
        try:
            return await self._uploads.make(
                dst.bucket, dst.key, blocks, source.size, described, checksum, options, on_done
            )
        except InvalidPartError as error:
            raise TransientError(
                f"another write of the same object discarded the blocks of the copy, so that it is not made: "
                f"{error.message}",
                status=error.status,
                request_id=error.request_id,
            ) from error

    async def _jobs(
        self, dst: ObjectRef, ids: BlockIds, size: int, wanted: Headers
    ) -> AsyncGenerator[Callable[[], Awaitable[int]], None]:
        block = max(min(_BLOCK, self._settings.max_copy_size), -(-size // MAX_BLOCKS))
        for number, start in enumerate(range(0, size, block), start=1):
            yield partial(self._copy_block, dst, ids, number, wanted, start, min(start + block, size))

    async def _copy_block(
        self, dst: ObjectRef, ids: BlockIds, number: int, wanted: Headers, start: int, stop: int
    ) -> int:
        headers = [*wanted, ("x-ms-source-range", f"bytes={start}-{stop - 1}")]

        async def send(block_id: str) -> None:
            params = [("comp", "block"), ("blockid", block_id)]
            await self._client.request("PUT", dst.bucket, dst.key, params=params, headers=headers)

        await self._uploads.fitted(dst.bucket, dst.key, ids, number, send)
        return number

    async def _replace(
        self,
        src: ObjectRef,
        dst: ObjectRef,
        source: ObjectInfo,
        options: CopyOptions,
        described: ObjectAttributes,
        params: Params,
    ) -> ObjectInfo:
        """Copy with another description: by way of a blob of our own, which is described before it is copied.

        A copy takes content type and headers from its source, and so does it metadata where there is to be none.
        """
        self._objects.description(dst.key, described)
        async with self._staging.name(dst.bucket) as name:
            staged = ObjectRef(dst.bucket, name)
            await self.transfer(src, staged, source, CopyOptions(), params)
            if described.tags:
                await self._tags.set(staged.bucket, staged.key, described.tags)
            await self._describe(staged, described)
            seen = await self._objects.head(staged.bucket, staged.key, HeadOptions())
            storage_class = described.storage_class
            seen = replace(seen, storage_class=None if storage_class is None else storage_class.upper())
            made = await self.transfer(staged, dst, seen, options, tagged=bool(described.tags))
        return replace(made, key=dst.key)

    async def _describe(self, blob: ObjectRef, described: ObjectAttributes) -> None:
        """Set a blob's headers and metadata, in two requests."""
        headers = self._objects.description(blob.key, replace(described, metadata=EMPTY, tags=EMPTY))
        params = [("comp", "properties")]
        await self._client.request("PUT", blob.bucket, blob.key, params=params, headers=headers)
        params = [("comp", "metadata")]
        headers = metadata_headers(described.metadata)
        await self._client.request("PUT", blob.bucket, blob.key, params=params, headers=headers)
