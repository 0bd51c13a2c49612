"""Puts of bodies of any size, with multipart uploads for large ones: S3's part of `wire.multipart`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from trove_async.body import Body, Piece
from trove_async.checksums import Checksum
from trove_async.driver import CompleteOptions, HeadOptions, ObjectAttributes, PutOptions
from trove_async.driver.put_settling import Settling
from trove_async.driver.retry import many_requests
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.headers import etag_in
from trove_async.drivers.s3.integrity import checksum_headers, document_headers, part_checksum
from trove_async.drivers.s3.objects import NAMESPACE, Objects
from trove_async.drivers.s3.profiles import Profile
from trove_async.drivers.s3.settings import S3Settings
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    ConflictError,
    NotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.types import EMPTY, ObjectInfo, PartInfo
from trove_async.wire.errors import condition_error
from trove_async.wire.fields import etag_of
from trove_async.wire.multipart import PartPlan, Upload, put_in_parts
from trove_async.wire.parts import PartSource
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import document, parse, text
from trove_async.wire.xml import number as number_in

__all__ = ["S3Upload", "Uploads", "plan_for"]

_ABORTS: Final = 3
_PLAIN: Final = ObjectAttributes()
_UNCONDITIONAL: Final = CompleteOptions()


def plan_for(settings: S3Settings, profile: Profile) -> PartPlan:
    """Return the sizes of parts in a store."""
    return PartPlan(
        part_size=settings.part_size,
        max_parts=profile.max_parts,
        max_part_size=profile.max_part_size,
        max_size=profile.max_part_size * profile.max_parts,
        equal=profile.equal_parts,
    )


class S3Upload(Upload[PartInfo]):
    """One upload.

    Args:
        uploads: of the store.
        bucket, key: of the object.
        attributes: of the object.
        body: the source of the parts; None if the service copies them.
        checksum: the caller's, if it is known when the upload begins.
        conditions: of the completion.
        upload_id: of an open upload.
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
        conditions: CompleteOptions = _UNCONDITIONAL,
        upload_id: str = "",
    ) -> None:
        self._uploads = uploads
        self.bucket = bucket
        self.key = key
        self.attributes = attributes
        self.body = body
        self.checksum = checksum
        self.conditions = conditions
        self.id = upload_id

    def __str__(self) -> str:
        return f"the upload {self.id or '(no id yet)'} of {self.key!r} in bucket {self.bucket!r}"

    async def begin(self) -> None:
        """Open the upload."""
        self.id = await self._uploads.create(self)

    async def send(self, number: int, chunks: Sequence[Piece]) -> PartInfo:
        """Store a part."""
        return await self._uploads.send_part(self.bucket, self.key, self.id, number, chunks)

    async def complete(self, parts: Sequence[PartInfo]) -> ObjectInfo:
        """Complete the upload."""
        return await self._uploads.complete(self, parts)

    async def find(self, parts: Sequence[PartInfo]) -> ObjectInfo | None:
        """Return the object if the upload is no longer open and the object's ETag is that of the parts.

        Another writer of the same parts gets the same ETag. Without a condition, it does not matter who wrote it.
        """
        conditional = self.conditions.if_match is not None or self.conditions.if_none_match is not None
        if conditional or not await self._uploads.is_gone(self):
            return None
        found = await self._uploads.objects.head(self.bucket, self.key, HeadOptions())
        return self.made(parts, {}, found.etag) if found.etag == expected_etag(parts) else None

    async def abort(self) -> None:
        """Abort the upload."""
        await self._uploads.abort(self.bucket, self.key, self.id)

    def made(self, parts: Sequence[PartInfo], headers: Mapping[str, str], etag: str) -> ObjectInfo:
        """Return the completed object."""
        size = sum(part.size for part in parts)
        checksum = self.checksum if self.body is None else self.body.computed
        return self._uploads.objects.written(self.key, size, headers, etag, self.attributes, checksum)


class Uploads:
    """Whole bodies, and the requests of uploads in parts.

    Args:
        client: sends the requests.
        objects: for bodies that fit into one request.
        settings, profile: of the store.
        cleanup_timeout: the time limit in seconds of aborting an upload.
    """

    def __init__(
        self, client: Client, objects: Objects, settings: S3Settings, profile: Profile, cleanup_timeout: float
    ) -> None:
        self._client = client
        self.objects = objects
        self._profile = profile
        self._plan = plan_for(settings, profile)
        self._concurrency = settings.part_concurrency
        self._timeout = cleanup_timeout

    # Whole bodies

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store a body of any length in bounded memory; a body no larger than a part takes one request.

        Raises:
            UnsupportedError: the body is larger than a part, and the service would ignore a condition.
        """
        source = PartSource(body)
        part_size = self._plan.size_for(1, body.size)
        if body.size is not None and body.size > part_size:
            self._require_condition(options)
        first = await source.take(part_size)
        if source.ended:
            return await self.objects.put(bucket, key, first, options, body)
        self._require_condition(options)
        new_upload = partial(
            S3Upload,
            self,
            bucket,
            key,
            attributes=options.attributes,
            body=body,
            checksum=body.known_checksum,
            conditions=CompleteOptions(if_match=options.if_match, if_none_match=options.if_none_match),
        )
        return await put_in_parts(
            body,
            source,
            first,
            self._plan,
            new_upload,
            concurrency=self._concurrency,
            timeout=self._timeout,
            retries=self._client.retries,
        )

    def _require_condition(self, options: PutOptions) -> None:
        """Refuse a condition that a completion would ignore, before an upload is begun."""
        conditions = self.objects.write_conditions(options.if_match, options.if_none_match)
        if conditions and "complete" not in self._profile.conditions:
            raise UnsupportedError(
                "this service does not honour conditions when an upload in parts is completed, and the object needs "
                "more than one request; a larger part_size may help"
            )

    # Requests

    async def create(self, upload: S3Upload) -> str:
        """Open an upload and return its id."""
        headers = self.objects.attribute_headers(upload.attributes, upload.checksum) + self.objects.encryption
        _, content = await self._client.document("POST", upload.bucket, upload.key, query="uploads=", headers=headers)
        upload_id = text(parse(content), "UploadId")
        if not upload_id:
            raise BackendError("the answer that opens an upload has no id: is the endpoint an S3 service?")
        return upload_id

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Piece]) -> PartInfo:
        """Store a part."""
        headers = self.objects.customer_key + await checksum_headers(part_checksum(self._profile.checksum), chunks)
        query = encode_query([("partNumber", str(number)), ("uploadId", upload_id)])
        answer = await self._client.write("PUT", bucket, key, query=query, headers=headers, body=chunks)
        return PartInfo(number, etag_in(answer), sum(map(len, chunks)))

    async def complete(self, upload: S3Upload, parts: Sequence[PartInfo]) -> ObjectInfo:
        """Complete an upload, and set the tags if the service does not accept them when the upload is opened."""
        listed = [("Part", [("PartNumber", str(part.number)), ("ETag", f'"{part.etag}"')]) for part in parts]
        content = document("CompleteMultipartUpload", listed, NAMESPACE)
        headers = [("content-type", "application/xml")]
        headers += self.objects.write_conditions(upload.conditions.if_match, upload.conditions.if_none_match)
        query = encode_query([("uploadId", upload.id)])
        settling = Settling(partial(upload.find, parts))
        try:
            response, answer = await self._client.document(
                "POST",
                upload.bucket,
                upload.key,
                query=query,
                headers=headers,
                body=[content],
                writes=True,
                final=(ConflictError,),
                settling=settling,
            )
        except PreconditionFailedError as error:
            raise condition_error(error, upload.conditions.if_none_match) from error
        except TroveError:
            if settling.made is None:
                raise
            made = settling.made
        else:
            made = upload.made(parts, response.headers, _made_etag(answer) or expected_etag(parts))
        upload.completed = True
        if upload.attributes.tags and not self._profile.tagging_header:
            await self.tag(upload.bucket, upload.key, upload.attributes.tags)
        return made

    async def tag(self, bucket: str, key: str, tags: Mapping[str, str] = EMPTY) -> None:
        """Set the tags of a new object, if the service did not accept them when it was created."""
        pairs = [("Tag", [("Key", name), ("Value", value)]) for name, value in tags.items()]
        content = document("Tagging", [("TagSet", pairs)], NAMESPACE)
        headers = document_headers(content)
        with many_requests():  # the object is stored: it must not be stored again
            await self._client.document(
                "PUT", bucket, key, query="tagging=", headers=headers, body=[content], writes=True
            )

    async def is_gone(self, upload: S3Upload) -> bool:
        """Return whether an upload is no longer open."""
        try:
            await self._list_one_part(upload.bucket, upload.key, upload.id)
        except UploadNotFoundError:
            return True
        return False

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload; success if it is not open.

        A part that was in progress may be stored after an abort, which must then be repeated
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html).
        """
        query = encode_query([("uploadId", upload_id)])
        try:
            for _ in range(_ABORTS):
                await self._client.write("DELETE", bucket, key, query=query)
                try:
                    await self._list_one_part(bucket, key, upload_id)
                except AccessDeniedError:
                    return  # the upload was aborted, and the credentials do not allow listing its parts
        except UploadNotFoundError:
            return
        except NotFoundError:
            await self.objects.require_bucket(bucket)

    async def size_of_part(self, bucket: str, key: str, upload_id: str, number: int) -> int:
        """Return the size with which the service has stored a part.

        Raises:
            BackendError: it does not list the part.
        """
        found = parse(await self._list_one_part(bucket, key, upload_id, after=number - 1)).find("Part")
        if found is None or number_in(found, "PartNumber") != number:
            raise BackendError(f"part {number} was stored, and the service does not list it", ambiguous=True)
        return number_in(found, "Size")

    async def _list_one_part(self, bucket: str, key: str, upload_id: str, after: int = 0) -> bytes:
        query = encode_query([("max-parts", "1"), ("part-number-marker", str(after)), ("uploadId", upload_id)])
        try:
            _, content = await self._client.document("GET", bucket, key, query=query)
        except ObjectNotFoundError as error:  # so Ceph calls it
            raise UploadNotFoundError(status=error.status, request_id=error.request_id) from error
        return content


def _made_etag(answer: bytes) -> str:
    """Return the ETag in the answer to a completion, which Ceph leaves empty.

    Raises:
        BackendError: the answer does not come from the service; the error is ambiguous.
    """
    try:
        root = parse(answer)
        etag = text(root, "ETag")
        if etag is None and root.tag != "CompleteMultipartUploadResult":
            raise BackendError(f"the answer to a completion is a <{root.tag[:40]}>: is the endpoint an S3 service?")
    except BackendError as error:
        error.ambiguous = True
        raise
    return etag_of(etag or "")


def expected_etag(parts: Sequence[PartInfo]) -> str:
    """Return the ETag of an object from the ETags of its parts if these are MD5 digests, as usual; else ``""``."""
    try:
        digests = b"".join(bytes.fromhex(part.etag) for part in parts)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
