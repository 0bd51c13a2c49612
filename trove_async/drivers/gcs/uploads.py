"""Multipart uploads of the XML API: one by one for their users, and whole bodies that are larger than a part.

https://cloud.google.com/storage/docs/multipart-uploads. The service takes no conditions with them, so that a body with
a condition goes in one session instead, which does (`trove_async.drivers.gcs.resumable`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from typing import Any, Final
from xml.etree.ElementTree import Element

from trove_async.body import Body, Chunk
from trove_async.cancellation import finish, to_the_end
from trove_async.checksums import Checksum
from trove_async.driver import DeleteOptions, HeadOptions, ObjectAttributes, PutOptions
from trove_async.drivers.gcs.checksums import combine, crc32c_in, encode, extend, mismatch
from trove_async.drivers.gcs.client import Client
from trove_async.drivers.gcs.conditions import under_condition
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.resumable import Resumable
from trove_async.drivers.gcs.settings import CHUNK, MAX_PART_SIZE, GCSSettings
from trove_async.drivers.gcs.writes import Writes
from trove_async.errors import (
    BackendError,
    InvalidArgumentError,
    InvalidKeyError,
    NotFoundError,
    TransientError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.types import ObjectInfo, PartInfo, UploadInfo
from trove_async.wire.fields import etag_of, required
from trove_async.wire.parts import PartSource, in_parallel
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import can_hold, document, parse, parse_time, text

__all__ = ["MAX_PARTS", "Uploads", "part_size_at", "part_size_for"]

PartJob = Callable[[], Awaitable[PartInfo]]

MAX_PARTS: Final = 10_000
"""Parts of one upload: https://cloud.google.com/storage/quotas#requests."""

MAX_SIZE: Final = 5 * 1024**4
"""Bytes of one object: https://cloud.google.com/storage/quotas#objects."""

_EVEN: Final = 1000
"""Parts after which the size of parts doubles, where a body's length is unknown."""

_PAGE: Final = 1000
_SKEW: Final = timedelta(minutes=5)


def part_size_for(size: int, part_size: int) -> int:
    """Return the size of all parts but the last of a body whose length is known.

    Raises:
        InvalidArgumentError: the service takes no object of so many bytes.
    """
    if size > MAX_SIZE:
        raise InvalidArgumentError(f"the body has {size} bytes; the service takes {MAX_SIZE} in one object")
    needed = -(-size // MAX_PARTS)
    return part_size if needed <= part_size else -(-needed // CHUNK) * CHUNK


def part_size_at(number: int, part_size: int) -> int:
    """Return the size of a part, by its number, of a body whose length is unknown.

    It doubles every thousand parts, so that ten thousand hold the largest object there is.

    Raises:
        InvalidArgumentError: there are more parts than the service allows.
    """
    if number > MAX_PARTS:
        raise InvalidArgumentError(
            f"the body does not fit into {MAX_PARTS} parts; open the store with a larger part_size"
        )
    return min(part_size << ((number - 1) // _EVEN), MAX_PART_SIZE)


@dataclass(slots=True)
class OpenUpload:
    """An upload: when it began, the checksum of all its parts where it is known, and whether it became an object."""

    bucket: str
    key: str
    id: str
    begun: datetime
    crc32c: int | None = None
    completed: bool = False


class Uploads:
    """Uploads of more than one request.

    Args:
        client: sends the requests.
        objects: look at what there is.
        writes: store what fits into one request, and describe the rest.
        settings: of the store.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(
        self, client: Client, objects: Objects, writes: Writes, settings: GCSSettings, cleanup_timeout: float
    ) -> None:
        self._client = client
        self._objects = objects
        self._writes = writes
        self._settings = settings
        self._cleanup_timeout = cleanup_timeout
        self._resumable = Resumable(client, objects, writes, settings.part_size, cleanup_timeout)

    # Whole bodies

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store a body of any length in bounded memory: what is no larger than a part in one request."""
        source = PartSource(body)
        part_size = self._settings.part_size
        if body.size is not None:
            part_size = part_size_for(body.size, part_size)
        first = await source.take(part_size)
        if source.ended:
            return await self._writes.put(bucket, key, first, options, body)
        if self._in_parts(key, options):
            return await self._put_in_parts(bucket, key, body, source, first, options)

        def write(conditions: list[tuple[str, str]]) -> Awaitable[ObjectInfo]:
            return self._resumable.put(bucket, key, body, source, first, options, conditions)

        return await under_condition(options, write, lambda: self._objects.etag(bucket, key), again=False)

    def _in_parts(self, key: str, options: PutOptions) -> bool:
        """Tell whether a body can go in parts: they have no conditions and no holds, and answer in XML."""
        settings = self._settings
        conditional = options.if_match is not None or options.if_none_match is not None
        by_choice = settings.uploads == "parts" and settings.api == "xml"
        return by_choice and settings.hold is None and not conditional and can_hold(key)

    async def _put_in_parts(
        self, bucket: str, key: str, body: Body, source: PartSource, first: list[Chunk], options: PutOptions
    ) -> ObjectInfo:
        known = body.checksum
        if known is not None and body.buffer is not None:
            known = Checksum(known.algorithm, body.digest)
        async with self._open(bucket, key, options.attributes, known) as upload:
            sums: dict[int, int] = {}
            jobs = self._jobs(upload, sums, body.size, source, first)
            parts = await in_parallel(jobs, self._settings.part_concurrency)
            upload.crc32c = reduce(lambda whole, part: combine(whole, sums[part.number], part.size), parts, 0)
            generation = await self._finish(upload, parts)
        checksum = Checksum(body.checksum.algorithm, body.digest) if body.checksum is not None else None
        return self._writes.written(key, body.taken, {"generation": generation}, options.attributes, checksum)

    async def _jobs(
        self, upload: OpenUpload, sums: dict[int, int], size: int | None, source: PartSource, first: list[Chunk]
    ) -> AsyncGenerator[PartJob, None]:
        """Yield what is to be done for each part, which is read only when there is someone to send it.

        The checksum of each part is put into ``sums``, by its number.
        """
        part_size = self._settings.part_size
        fixed = None if size is None else part_size_for(size, part_size)
        chunks, number = first, 1
        while True:
            sums[number] = crc32c = extend(0, chunks)
            yield partial(self._send, upload.bucket, upload.key, upload.id, number, chunks, crc32c)
            if source.ended:
                return
            number += 1
            chunks = await source.take(fixed or part_size_at(number, part_size))

    @asynccontextmanager
    async def _open(
        self, bucket: str, key: str, attributes: ObjectAttributes, checksum: Checksum | None
    ) -> AsyncGenerator[OpenUpload, None]:
        """Begin an upload, and give it up unless it was completed when the block ends."""
        begun = datetime.now(UTC)
        upload = OpenUpload(bucket, key, await self.initiate(bucket, key, attributes, checksum), begun)
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
        """Begin an upload and return its id; if the call is cancelled, none is left open.

        Raises:
            InvalidKeyError: the key holds what XML cannot.
        """
        if not can_hold(key):
            raise InvalidKeyError("the key holds a control character, which multipart uploads cannot name", key=key)
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
        headers = self._writes.headers(attributes, checksum)
        _, content = await self._client.document("POST", bucket, key, query="uploads=", headers=headers)
        upload_id = text(parse(content), "UploadId")
        if not upload_id:
            raise BackendError("the answer to an upload's begin has no id: is the endpoint Cloud Storage?")
        return upload_id

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part, which the service compares with its checksum."""
        return await self._send(bucket, key, upload_id, number, chunks, extend(0, chunks))

    async def _send(
        self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk], crc32c: int
    ) -> PartInfo:
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        headers = [("x-goog-hash", f"crc32c={encode(crc32c)}")]
        response = await self._client.xml("PUT", bucket, key, query=query, headers=headers, body=chunks, writes=True)
        if response.content is None:
            await response.aclose()
        return PartInfo(number, etag_of(required(response.headers, "etag", "Cloud Storage")), sum(map(len, chunks)))

    async def complete(self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo]) -> ObjectInfo:
        """Make the object of parts, and describe it."""
        generation = await self._finish(OpenUpload(bucket, key, upload_id, datetime.now(UTC)), parts)
        info = await self._objects.head(bucket, key, HeadOptions())
        return info if info.etag == generation else ObjectInfo(key, sum(part.size for part in parts), generation)

    async def _finish(self, upload: OpenUpload, parts: Sequence[PartInfo]) -> str:
        """Make the object of parts; return its generation.

        Once it was sent it is awaited, also by a caller that was cancelled: an abort that overtakes a completion
        would take away what that is making an object of.
        """
        return await to_the_end(
            self._make(upload, parts),
            timeout=self._cleanup_timeout,
            leftover=f"the completion of the upload {upload.id} of {upload.key!r} in bucket {upload.bucket!r}",
        )

    async def _make(self, upload: OpenUpload, parts: Sequence[PartInfo]) -> str:
        listed = [("Part", [("PartNumber", str(part.number)), ("ETag", f'"{part.etag}"')]) for part in parts]
        content = document("CompleteMultipartUpload", listed)
        try:
            response, _ = await self._client.document(
                "POST",
                upload.bucket,
                upload.key,
                query=encode_query([("uploadId", upload.id)]),
                headers=[("content-type", "application/xml")],
                body=[content],
                writes=True,
            )
        except (UploadNotFoundError, TransientError) as error:
            # An attempt whose answer was lost may have completed it.
            found = await self._made(upload, sum(part.size for part in parts)) if error.ambiguous else None
            if found is None:
                raise
            upload.completed = True
            return found
        upload.completed = True
        return await self._verified(upload, response.headers)

    async def _verified(self, upload: OpenUpload, headers: Mapping[str, str]) -> str:
        generation = headers.get("x-goog-generation") or await self._objects.etag(upload.bucket, upload.key)
        if generation is None:
            raise BackendError("the upload was completed, and there is no object: another may have deleted it")
        found = crc32c_in(headers.get("x-goog-hash"))
        if upload.crc32c is not None and found is not None and found != upload.crc32c:
            await self._objects.delete(upload.bucket, upload.key, DeleteOptions(if_match=generation))
            raise mismatch(upload.key, upload.crc32c, found)
        return generation

    async def _made(self, upload: OpenUpload, size: int) -> str | None:
        """Return the generation of the object that the upload became, if it did."""
        try:
            found = await self._objects.resource(upload.bucket, upload.key)
        except TroveError:
            return None
        created = parse_time(str(found.get("timeCreated", "1970-01-01T00:00:00Z")))
        checksum = crc32c_in(f"crc32c={found.get('crc32c')}")
        ours = checksum == upload.crc32c if upload.crc32c is not None else created > upload.begun - _SKEW
        return str(found.get("generation")) if ours and str(found.get("size")) == str(size) else None

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not open is success."""
        try:
            response = await self._client.xml("DELETE", bucket, key, query=encode_query([("uploadId", upload_id)]))
            await response.aclose()
        except UploadNotFoundError:
            return
        except NotFoundError:
            await self._client.require_bucket(bucket)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts that are stored, in the order of their numbers.

        Raises:
            UploadNotFoundError: no such upload is open.
        """
        found: list[PartInfo] = []
        query = [("uploadId", upload_id), ("max-parts", str(_PAGE))]
        markers = {"NextPartNumberMarker": "part-number-marker"}
        async for page in self._pages(bucket, key, query, markers):
            found += [_part(element) for element in page.iterfind("Part")]
        return sorted(found, key=lambda part: part.number)

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their begin."""
        found: list[UploadInfo] = []
        query = [("uploads", ""), ("max-uploads", str(_PAGE)), ("prefix", prefix)]
        markers = {"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}
        async for page in self._pages(bucket, "", query, markers):
            found += [_upload(element) for element in page.iterfind("Upload")]
        return sorted(found, key=lambda upload: (upload.key, str(upload.initiated_at or "")))

    async def _pages(
        self, bucket: str, key: str, query: list[tuple[str, str]], markers: Mapping[str, str]
    ) -> AsyncGenerator[Element, None]:
        """Yield the answers of a listing to its end.

        Args:
            bucket, key: what is listed.
            query: of the first page.
            markers: the elements that say where the next page begins, and the parameters that ask for it.
        """
        more: list[tuple[str, str]] = []
        while True:
            _, content = await self._client.document("GET", bucket, key, query=encode_query(query + more))
            page = parse(content)
            yield page
            if text(page, "IsTruncated") != "true":
                return
            following = [(name, value) for element, name in markers.items() if (value := text(page, element))]
            if not following or following == more:
                raise BackendError("the service repeats the same page of a listing")
            more = following


def _required(element: Element, name: str) -> str:
    value = text(element, name)
    if value is None:
        raise BackendError(f"the answer has a <{element.tag}> without a <{name}>")
    return value


def _part(element: Element) -> PartInfo:
    number, size = _required(element, "PartNumber"), _required(element, "Size")
    if not number.isdigit() or not size.isdigit():
        raise BackendError("the answer has a part whose number or size is none")
    return PartInfo(int(number), etag_of(_required(element, "ETag")), int(size))


def _upload(element: Element) -> UploadInfo:
    begun = text(element, "Initiated")
    return UploadInfo(_required(element, "UploadId"), _required(element, "Key"), parse_time(begun) if begun else None)
