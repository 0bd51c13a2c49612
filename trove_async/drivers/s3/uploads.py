"""Uploads in parts: one by one for their users, and whole bodies that are larger than a part."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from trove_async.body import Body, Chunk
from trove_async.cancellation import finish, to_the_end
from trove_async.checksums import Checksum
from trove_async.driver import CompleteOptions, HeadOptions, ObjectAttributes, PutOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.headers import object_headers
from trove_async.drivers.s3.integrity import checksum_headers, document_headers, part_checksum
from trove_async.drivers.s3.objects import NAMESPACE, Objects, condition_error
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import (
    BackendError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionFailedError,
    TransientError,
    TroveError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.types import EMPTY, ObjectInfo, PartInfo
from trove_async.wire.fields import etag_of
from trove_async.wire.parts import PartSource, in_parallel
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import document, parse, text

__all__ = ["Uploads", "part_size_at", "part_size_for"]

PartJob = Callable[[], Awaitable[PartInfo]]

_MIB: Final = 1024 * 1024
_ABORTS: Final = 3
_EVEN: Final = 1000
"""Parts after which the size of parts doubles, where a body's length is unknown."""


def part_size_for(size: int, settings: S3Settings, profile: Profile) -> int:
    """Return the size of all parts but the last of a body whose length is known.

    Raises:
        InvalidArgumentError: no number of parts that the service allows holds it.
    """
    needed = -(-size // profile.max_parts)
    part_size = settings.part_size
    if needed > part_size:
        part_size = -(-needed // _MIB) * _MIB
    if part_size > profile.max_part_size:
        largest = profile.max_part_size * profile.max_parts
        raise InvalidArgumentError(f"the body has {size} bytes; the service takes {largest} in one object")
    return part_size


def part_size_at(number: int, settings: S3Settings, profile: Profile) -> int:
    """Return the size of a part, by its number, of a body whose length is unknown.

    It doubles every thousand parts, so that ten thousand hold the largest object there is; where parts must be
    equal it cannot.

    Raises:
        InvalidArgumentError: there are more parts than the service allows.
    """
    if number > profile.max_parts:
        raise InvalidArgumentError(
            f"the body does not fit into {profile.max_parts} parts of {settings.part_size} bytes: "
            "open the store with a larger part_size, or tell put() the size"
        )
    if profile.equal_parts:
        return settings.part_size
    return int(min(settings.part_size << ((number - 1) // _EVEN), profile.max_part_size))


@dataclass(slots=True)
class OpenUpload:
    """An upload, the tags that its object is to have, and whether it has become one."""

    bucket: str
    key: str
    id: str
    tags: Mapping[str, str] = EMPTY
    completed: bool = False


class Uploads:
    """Uploads in parts.

    Args:
        client: sends the requests.
        objects: for what fits into one request.
        settings, profile: of the store.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(
        self, client: Client, objects: Objects, settings: S3Settings, profile: Profile, cleanup_timeout: float
    ) -> None:
        self._client = client
        self._objects = objects
        self._settings = settings
        self._profile = profile
        self._cleanup_timeout = cleanup_timeout

    # Whole bodies

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions, *, conditional: bool) -> ObjectInfo:
        """Store a body of any length in bounded memory: what is no larger than a part in one request.

        Args:
            bucket, key, body, options: of the put.
            conditional: whether the service honours conditions when an upload is completed.

        Raises:
            UnsupportedError: the body is larger than a part, and there is a condition that would be ignored.
        """
        source = PartSource(body)
        if body.size is None:
            part_size = self._settings.part_size
        else:
            part_size = part_size_for(body.size, self._settings, self._profile)
            if body.size > part_size:
                self._require_condition(options, conditional)
        first = await source.take(part_size)
        if source.ended:
            return await self._objects.put(bucket, key, first, options, body)
        self._require_condition(options, conditional)
        return await self._put_in_parts(bucket, key, body, source, first, options)

    def _require_condition(self, options: PutOptions, conditional: bool) -> None:
        """Refuse a condition that a completion would not honour, before there is an upload."""
        if self._objects.write_conditions(options.if_match, options.if_none_match) and not conditional:
            raise UnsupportedError(
                "this service does not honour the condition 'complete', and the object takes more than one request; "
                "it would not be ignored. A larger part_size may do"
            )

    async def _put_in_parts(
        self, bucket: str, key: str, body: Body, source: PartSource, first: list[Chunk], options: PutOptions
    ) -> ObjectInfo:
        conditions = CompleteOptions(if_match=options.if_match, if_none_match=options.if_none_match)
        known = body.checksum
        if known is not None and body.buffer is not None:
            known = Checksum(known.algorithm, body.digest)
        async with self.open(bucket, key, options.attributes, known) as upload:
            parts = await in_parallel(self._jobs(upload, body.size, source, first), self._settings.part_concurrency)
            headers, etag = await self.finish(upload, parts, conditions)
        checksum = Checksum(body.checksum.algorithm, body.digest) if body.checksum is not None else None
        return self._objects.written(key, body.taken, headers, etag, options.attributes, checksum)

    async def _jobs(
        self, upload: OpenUpload, size: int | None, source: PartSource, first: list[Chunk]
    ) -> AsyncGenerator[PartJob, None]:
        """Yield what is to be done for each part, which is read only when there is someone to send it."""
        fixed = None if size is None else part_size_for(size, self._settings, self._profile)
        chunks, number = first, 1
        while True:
            yield partial(self.send_part, upload.bucket, upload.key, upload.id, number, chunks)
            if source.ended:
                return
            number += 1
            chunks = await source.take(fixed or part_size_at(number, self._settings, self._profile))

    @asynccontextmanager
    async def open(
        self, bucket: str, key: str, attributes: ObjectAttributes, checksum: Checksum | None
    ) -> AsyncGenerator[OpenUpload, None]:
        """Begin an upload, and give it up unless it was completed when the block ends."""
        upload = OpenUpload(bucket, key, await self.initiate(bucket, key, attributes, checksum), attributes.tags)
        try:
            yield upload
        finally:
            if not upload.completed:
                await self._give_up(bucket, key, self.abort(bucket, key, upload.id), upload.id)

    async def _give_up(self, bucket: str, key: str, work: Coroutine[Any, Any, None], upload_id: str) -> None:
        leftover = f"the upload {upload_id} of {key!r} in bucket {bucket!r}"
        await finish(work, timeout=self._cleanup_timeout, leftover=leftover)

    # One by one

    async def initiate(
        self, bucket: str, key: str, attributes: ObjectAttributes, checksum: Checksum | None = None
    ) -> str:
        """Begin an upload and return its id; if the call is cancelled, none is left open."""
        beginning = asyncio.ensure_future(self._initiate(bucket, key, attributes, checksum))

        async def undo() -> None:
            await asyncio.wait({beginning})
            if beginning.exception() is None:
                await self.abort(bucket, key, beginning.result())

        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The service may have begun it already: only its answer tells what to abort.
            await self._give_up(bucket, key, undo(), "that was about to begin")
            raise

    async def _initiate(self, bucket: str, key: str, attributes: ObjectAttributes, checksum: Checksum | None) -> str:
        headers = self._objects.description(attributes, checksum) + self._objects.encryption
        _, content = await self._client.document("POST", bucket, key, query="uploads=", headers=headers)
        upload_id = text(parse(content), "UploadId")
        if not upload_id:
            raise BackendError("the answer to an upload's begin has no id: is the endpoint an S3 service?")
        return upload_id

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part."""
        headers = self._objects.customer_key + await checksum_headers(part_checksum(self._profile.checksum), chunks)
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        response = await self._client.request(
            "PUT", bucket, key, query=query, headers=headers, body=chunks, writes=True
        )
        if response.content is None:
            await response.aclose()
        return PartInfo(number, etag_of(object_headers(response.headers, "etag")), sum(map(len, chunks)))

    async def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of parts, and describe it."""
        _, etag = await self.finish(OpenUpload(bucket, key, upload_id), parts, options)
        info = await self._objects.head(bucket, key, HeadOptions())
        return info if info.etag == etag else ObjectInfo(key, sum(part.size for part in parts), etag)

    async def finish(
        self, upload: OpenUpload, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> tuple[Mapping[str, str], str]:
        """Make the object of parts; return the answer's headers and the ETag.

        Once it was sent it is awaited, also by a caller that was cancelled: an abort that overtakes a completion
        would take away what that is making an object of.
        """
        return await to_the_end(
            self._make(upload, parts, options),
            timeout=self._cleanup_timeout,
            leftover=f"the completion of the upload {upload.id} of {upload.key!r} in bucket {upload.bucket!r}",
        )

    async def _make(
        self, upload: OpenUpload, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> tuple[Mapping[str, str], str]:
        made = await self._finish(upload, parts, options)
        if upload.tags and not self._profile.tagging_header:
            await self.tag(upload.bucket, upload.key, upload.tags)
        return made

    async def tag(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Give an object that was just made its tags, where it could not be made with them."""
        pairs = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags.items()]
        content = document("Tagging", [("TagSet", pairs)], NAMESPACE)
        headers = document_headers(content)
        await self._client.document("PUT", bucket, key, query="tagging=", headers=headers, body=[content], writes=True)

    async def _finish(
        self, upload: OpenUpload, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> tuple[Mapping[str, str], str]:
        bucket, key = upload.bucket, upload.key
        listed = [("Part", [("PartNumber", str(part.number)), ("ETag", f'"{part.etag}"')]) for part in parts]
        content = document("CompleteMultipartUpload", listed, NAMESPACE)
        headers = [("content-type", "application/xml")]
        headers += self._objects.write_conditions(options.if_match, options.if_none_match)
        expected = expected_etag(parts)
        try:
            response, answer = await self._client.document(
                "POST",
                bucket,
                key,
                query=encode_query([("uploadId", upload.id)]),
                headers=headers,
                body=[content],
                writes=True,
            )
            upload.completed = True
        except PreconditionFailedError as error:
            raise condition_error(error, options) from error
        except (UploadNotFoundError, TransientError) as error:
            # An attempt whose answer was lost may have completed it.
            if not error.ambiguous or not await self._is_there(bucket, key, expected):
                raise
            upload.completed = True
            return {}, expected
        # Ceph says no ETag here.
        return response.headers, etag_of(text(parse(answer), "ETag") or "") or expected

    async def _is_there(self, bucket: str, key: str, etag: str) -> bool:
        try:
            return (await self._objects.head(bucket, key, HeadOptions())).etag == etag
        except TroveError:
            return False

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not open is success.

        A part that was under way may be stored after an abort, which must then be said again
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html).
        """
        query = encode_query([("uploadId", upload_id)])
        try:
            for _ in range(_ABORTS):
                response = await self._client.request("DELETE", bucket, key, query=query)
                await response.aclose()
                await self._client.document("GET", bucket, key, query=f"max-parts=1&{query}")
        except UploadNotFoundError:
            return
        except NotFoundError:
            await self._objects.require_bucket(bucket)


def expected_etag(parts: Sequence[PartInfo]) -> str:
    """Return the ETag that an object of parts gets where parts' ETags are MD5, as they mostly are."""
    try:
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
