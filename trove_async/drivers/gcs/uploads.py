"""Bodies larger than a part: in parts through the XML API, or in one session.

https://cloud.google.com/storage/docs/multipart-uploads. The service takes no conditions with uploads in parts, so that
a body with a condition goes in a session (`trove_async.drivers.gcs.resumable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from typing import Any, Final

from trove_async.body import Body, Chunk, Piece, loaded
from trove_async.checksums import Checksum, combine_crc32c
from trove_async.driver import DeleteOptions, ObjectAttributes, PutOptions
from trove_async.driver.put_settling import Settling
from trove_async.drivers.gcs.checksums import crc32c_in, encode, extend, mismatch
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.conditions import under_condition
from trove_async.drivers.gcs.objects import CHECKED, Objects
from trove_async.drivers.gcs.resources import info_of_resource
from trove_async.drivers.gcs.resumable import ResumableUpload
from trove_async.drivers.gcs.settings import CHUNK, MAX_PART_SIZE, GCSSettings
from trove_async.errors import BackendError, NotFoundError, TroveError, UploadNotFoundError
from trove_async.types import ObjectInfo, PartInfo
from trove_async.wire.fields import etag_of, required
from trove_async.wire.multipart import PartPlan, Upload, again, put_in_parts
from trove_async.wire.parts import PartSource
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import can_hold, document, parse, parse_time, text

__all__ = ["MAX_PARTS", "MAX_SIZE", "GCSUpload", "Uploads", "plan_for", "session_plan_for"]

MAX_PARTS: Final = 10_000
"""Parts of one upload: https://cloud.google.com/storage/quotas#requests."""

MAX_SIZE: Final = 5 * 1024**4
"""Bytes of one object: https://cloud.google.com/storage/quotas#objects."""

_SKEW: Final = timedelta(minutes=5)
_PLAIN: Final = ObjectAttributes()
_RESULT: Final = "CompleteMultipartUploadResult"


def plan_for(settings: GCSSettings) -> PartPlan:
    """Return the sizes of parts in a store."""
    return PartPlan(
        part_size=settings.part_size,
        max_parts=MAX_PARTS,
        max_part_size=MAX_PART_SIZE,
        max_size=MAX_SIZE,
        multiple=CHUNK,
    )


def session_plan_for(settings: GCSSettings) -> PartPlan:
    """Return the sizes of what is sent in one request of a session: there may be any number of them."""
    return PartPlan(
        part_size=settings.part_size,
        max_parts=-(-MAX_SIZE // settings.part_size),
        max_part_size=settings.part_size,
        max_size=MAX_SIZE,
        equal=True,
    )


class GCSUpload(Upload[PartInfo]):
    """One upload in parts.

    Args:
        uploads: of the store.
        bucket, key: what it becomes.
        attributes: of the object.
        body: where the parts come from; None if the caller sends them one by one.
        checksum: the caller's, as far as it is known when the upload begins.
        upload_id: of an upload that is open.
    """

    def __init__(
        self,
        uploads: Uploads,
        bucket: str,
        key: str,
        *,
        attributes: ObjectAttributes = _PLAIN,
        body: Body | None = None,
        checksum: Checksum | None = None,
        upload_id: str = "",
    ) -> None:
        self._uploads = uploads
        self.bucket = bucket
        self.key = key
        self.attributes = attributes
        self.body = body
        self.checksum = checksum
        self.id = upload_id
        self._begun = datetime.now(UTC)
        self._sums: dict[int, int] = {}

    def __str__(self) -> str:
        return f"the upload {self.id or '(no id yet)'} of {self.key!r} in bucket {self.bucket!r}"

    async def begin(self) -> None:
        """Open the upload."""
        self.id = await self._uploads.create(self)

    async def send(self, number: int, chunks: Sequence[Piece]) -> PartInfo:
        """Store a part, which the service compares with its checksum."""
        crc32c = 0
        for chunk in chunks:
            crc32c = extend(crc32c, await loaded([chunk]))
        self._sums[number] = crc32c
        return await self._uploads.send_part(self.bucket, self.key, self.id, number, chunks, crc32c)

    async def complete(self, parts: Sequence[PartInfo]) -> ObjectInfo:
        """Make the object of the parts."""
        return self._made(parts, await self._uploads.complete(self, parts))

    async def find(self, parts: Sequence[PartInfo]) -> ObjectInfo | None:
        """Return the object if the upload is not open any more, and the object has the bytes of the parts."""
        if not await self._uploads.is_gone(self):
            return None
        found = await self._uploads.objects.resource(self.bucket, self.key, None, CHECKED)
        info = info_of_resource(self.key, found)
        expected = self.crc32c(parts)
        if expected is None:
            same = parse_time(str(found.get("timeCreated"))) > self._begun - _SKEW
        else:
            same = found.get("crc32c") == encode(expected)
        return self._made(parts, info.etag) if same and info.size == _size(parts) else None

    async def abort(self) -> None:
        """Give the upload up."""
        await self._uploads.abort(self.bucket, self.key, self.id)

    def crc32c(self, parts: Sequence[PartInfo]) -> int | None:
        """Return the checksum of all parts; None if another process sent some of them."""
        if any(part.number not in self._sums for part in parts):
            return None
        return reduce(lambda whole, part: combine_crc32c(whole, self._sums[part.number], part.size), parts, 0)

    def _made(self, parts: Sequence[PartInfo], generation: str) -> ObjectInfo:
        checksum = None if self.body is None else self.body.computed
        made = {"generation": generation}
        return self._uploads.objects.written(self.key, _size(parts), made, self.attributes, checksum)


def _size(parts: Sequence[PartInfo]) -> int:
    return sum(part.size for part in parts)


class Uploads:
    """Whole bodies, and the requests of uploads in parts.

    Args:
        client: sends the requests.
        objects: for what fits into one request.
        settings: of the store.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(self, client: Client, objects: Objects, settings: GCSSettings, cleanup_timeout: float) -> None:
        self._client = client
        self.objects = objects
        self._settings = settings
        self._plan = plan_for(settings)
        self._session_plan = session_plan_for(settings)
        self._timeout = cleanup_timeout

    # Whole bodies

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store a body of any length in bounded memory: what is no larger than a part in one request."""
        in_parts = self._can_go_in_parts(key, options)
        plan = self._plan if in_parts else self._session_plan
        source = PartSource(body)
        first = await source.take(plan.size_for(1, body.size))
        if source.ended:
            return await self.objects.put(bucket, key, first, options, body)
        if not in_parts:
            return await self._put_in_session(bucket, key, body, source, first, options)
        new_upload = partial(
            GCSUpload, self, bucket, key, attributes=options.attributes, body=body, checksum=body.known_checksum
        )
        return await self._put_in(new_upload, plan, body, source, first, self._settings.part_concurrency)

    def _can_go_in_parts(self, key: str, options: PutOptions) -> bool:
        """Tell whether a body can go in parts: they have no conditions and no holds, and answer in XML."""
        settings = self._settings
        conditional = options.if_match is not None or options.if_none_match is not None
        by_choice = settings.uploads == "parts" and settings.api == "xml"
        return by_choice and settings.hold is None and not conditional and can_hold(key)

    async def _put_in_session(
        self, bucket: str, key: str, body: Body, source: PartSource, first: list[Chunk], options: PutOptions
    ) -> ObjectInfo:
        unread: tuple[PartSource, list[Chunk]] | None = (source, first)

        async def write(conditions: Query) -> ObjectInfo:
            nonlocal unread
            source, first = unread or await again(body, self._session_plan)
            unread = None
            new_upload = partial(
                ResumableUpload,
                self._client,
                self.objects,
                bucket,
                key,
                body=body,
                options=options,
                conditions=conditions,
            )
            return await self._put_in(new_upload, self._session_plan, body, source, first, 1)

        return await under_condition(options, write, lambda: self.objects.etag(bucket, key), repeatable=body.replayable)

    async def _put_in(
        self,
        new_upload: Callable[[], Upload[Any]],
        plan: PartPlan,
        body: Body,
        source: PartSource,
        first: list[Chunk],
        concurrency: int,
    ) -> ObjectInfo:
        return await put_in_parts(
            body,
            source,
            first,
            plan,
            new_upload,
            concurrency=concurrency,
            timeout=self._timeout,
            retries=self._client.retries,
        )

    # Requests

    async def create(self, upload: GCSUpload) -> str:
        """Open an upload and return its id."""
        headers = self.objects.attribute_headers(upload.attributes, upload.checksum)
        _, content = await self._client.document("POST", upload.bucket, upload.key, query="uploads=", headers=headers)
        upload_id = text(parse(content), "UploadId")
        if not upload_id:
            raise BackendError("the answer that opens an upload has no id: is the endpoint Cloud Storage?")
        return upload_id

    async def send_part(
        self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Piece], crc32c: int
    ) -> PartInfo:
        """Store a part."""
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        headers = [("x-goog-hash", f"crc32c={encode(crc32c)}")]
        answer = await self._client.write("PUT", bucket, key, query=query, headers=headers, body=chunks)
        return PartInfo(number, etag_of(required(answer, "etag", "Cloud Storage")), sum(map(len, chunks)))

    async def complete(self, upload: GCSUpload, parts: Sequence[PartInfo]) -> str:
        """Make the object of parts and return its generation."""
        listed = [("Part", [("PartNumber", str(part.number)), ("ETag", f'"{part.etag}"')]) for part in parts]
        settling = Settling(partial(upload.find, parts))
        try:
            response, answer = await self._client.document(
                "POST",
                upload.bucket,
                upload.key,
                query=encode_query([("uploadId", upload.id)]),
                headers=[("content-type", "application/xml")],
                body=[document("CompleteMultipartUpload", listed)],
                writes=True,
                settling=settling,
            )
        except TroveError:
            if settling.made is None:
                raise
            upload.completed = True
            return settling.made.etag
        generation = await self._made(upload, response.headers, answer)
        found, expected = crc32c_in(response.headers.get("x-goog-hash")), upload.crc32c(parts)
        if found is not None and expected is not None and found != expected:
            await self.objects.delete(upload.bucket, upload.key, DeleteOptions(if_match=generation))
            raise mismatch(upload.key, expected, found)
        return generation

    async def _made(self, upload: GCSUpload, headers: Mapping[str, str], answer: bytes) -> str:
        """Return the generation of the object that an upload became.

        Raises:
            BackendError: something else than the service has answered, or the object does not exist any more; it is
                ambiguous.
        """
        generation = headers.get("x-goog-generation")
        if generation is None:
            try:
                root = parse(answer)
            except BackendError as error:
                error.ambiguous = True
                raise
            if root.tag != _RESULT:
                message = f"the answer to a completion is a <{root.tag[:40]}>: is the endpoint Cloud Storage?"
                raise BackendError(message, ambiguous=True)
        upload.completed = True
        generation = generation or await self.objects.etag(upload.bucket, upload.key)
        if generation is None:
            raise BackendError("the upload is complete, and its object was deleted meanwhile", ambiguous=True)
        return generation

    async def is_gone(self, upload: GCSUpload) -> bool:
        """Tell whether an upload is not open any more."""
        query = encode_query([("max-parts", "1"), ("uploadId", upload.id)])
        try:
            await self._client.document("GET", upload.bucket, upload.key, query=query)
        except UploadNotFoundError:
            return True
        return False

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up; one that is not open is success."""
        try:
            await self._client.write("DELETE", bucket, key, query=encode_query([("uploadId", upload_id)]))
        except UploadNotFoundError:
            return
        except NotFoundError:
            await self.objects.require_bucket(bucket)
