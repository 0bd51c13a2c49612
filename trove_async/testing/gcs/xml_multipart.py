"""Multipart uploads of the XML API (https://cloud.google.com/storage/docs/multipart-uploads).

"Preconditions are not supported in the requests": they are refused. Limits are those of
https://cloud.google.com/storage/quotas#requests: parts 1 to 10 000, each but the last of 5 MiB or more.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from trove_async.testing.gcs.creation import Expected, hashed
from trove_async.testing.gcs.errors import ServiceError, invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.resources import check_metadata, check_name, stamp
from trove_async.testing.gcs.state import Content, Storage

__all__ = ["MultipartUpload", "MultipartUploads", "xml_response"]

_PARTS: Final = 10_000
_LISTED: Final = 1000
_NAMESPACE: Final = re.compile(r"\{.*\}")
_XMLNS: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@dataclass(frozen=True, slots=True)
class _Part:
    content: Content
    uploaded: float

    @property
    def etag(self) -> str:
        assert self.content.md5 is not None
        return f'"{base64.b64decode(self.content.md5).hex()}"'


@dataclass(slots=True)
class MultipartUpload:
    """An open multipart upload.

    Attributes:
        id: its upload ID.
        parts: by number.
        begun: when it was begun, in seconds since the epoch.
    """

    id: str
    bucket: str
    name: str
    fields: dict[str, Any]
    parts: dict[int, _Part] = field(default_factory=dict)
    begun: float = field(default_factory=time.time)


def xml_response(document: str) -> Response:
    """Return a response with an XML document."""
    body = f"<?xml version='1.0' encoding='UTF-8'?>{document}".encode()
    return Response(200, {"Content-Type": "application/xml; charset=UTF-8"}, body)


class MultipartUploads:
    """The multipart uploads of all buckets.

    Attributes:
        minimum: the minimum size of a part that is not the last.
        uploads: the open uploads, by ID.
    """

    def __init__(self, storage: Storage, minimum: int) -> None:
        self.storage = storage
        self.minimum = minimum
        self.uploads: dict[str, MultipartUpload] = {}

    def initiate(self, bucket: str, name: str, fields: dict[str, Any]) -> Response:
        """Answer ``POST /{bucket}/{object}?uploads``.

        Raises:
            ServiceError: the request is refused.
        """
        self.storage.bucket(bucket)
        check_name(name)
        check_metadata(fields)
        # Uploads of one name are listed by their IDs, and so in the order in which they were begun.
        upload = MultipartUpload(f"{time.time_ns():x}{secrets.token_urlsafe(40)}", bucket, name, fields)
        self.uploads[upload.id] = upload
        return xml_response(
            f"<InitiateMultipartUploadResult {_XMLNS}><Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
            f"<UploadId>{upload.id}</UploadId></InitiateMultipartUploadResult>"
        )

    def put(self, request: Request, bucket: str, name: str) -> Response | Awaitable[Response]:
        """Answer ``PUT …?partNumber=…&uploadId=…``.

        Raises:
            ServiceError: the request is refused.
        """
        upload = self._find(request, bucket, name)
        number = request.integer("partNumber") or 0
        if not 1 <= number <= _PARTS:
            raise invalid(f"Part number must be an integer between 1 and {_PARTS}, inclusive.")
        expected = Expected.of(request.headers)

        def store(content: Content) -> Response:
            expected.check(content)
            self._find(request, bucket, name)
            part = upload.parts[number] = _Part(content, time.time())
            digest = f"crc32c={content.crc32c},md5={content.md5}"
            return Response(200, {"ETag": part.etag, "X-Goog-Hash": digest, "Server": "UploadServer"})

        return hashed(request.body, store)

    def complete(self, request: Request, bucket: str, name: str) -> Response | Awaitable[Response]:
        """Answer ``POST …?uploadId=…`` with the list of parts.

        Raises:
            ServiceError: the request is refused.
        """
        upload = self._find(request, bucket, name)
        chosen = self._chosen(upload, request.body)
        etag = hashlib.md5(b"".join(part.etag.encode() for part in chosen), usedforsecurity=False).hexdigest()
        etag = f"{etag}-{len(chosen)}"

        def store(content: Content) -> Response:
            self._find(request, bucket, name)
            made = self.storage.store(self.storage.bucket(bucket), name, content, dict(upload.fields))
            del self.uploads[upload.id]
            location = f"{self.storage.base_url}/{bucket}/{name}"
            response = xml_response(
                f"<CompleteMultipartUploadResult {_XMLNS}><Location>{escape(location)}</Location>"
                f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
                f"<ETag>{escape(made.xml_etag)}</ETag></CompleteMultipartUploadResult>"
            )
            generation = {"X-Goog-Hash": f"crc32c={content.crc32c}", "X-Goog-Generation": str(made.generation)}
            response.headers = {**response.headers, **generation, "X-Goog-Metageneration": "1"}
            return response

        data = b"".join(part.content.data for part in chosen)
        return hashed(data, store, lambda joined: Content.joined(joined, xml_etag=etag))

    def abort(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``DELETE …?uploadId=…``.

        Raises:
            ServiceError: 404.
        """
        del self.uploads[self._find(request, bucket, name).id]
        return Response(204)

    def list_parts(self, request: Request, bucket: str, name: str) -> Response:
        """Answer ``GET …?uploadId=…``.

        Raises:
            ServiceError: 400 or 404.
        """
        upload = self._find(request, bucket, name)
        size = min(request.integer("max-parts") or _LISTED, _LISTED)
        marker = request.integer("part-number-marker") or 0
        numbers = sorted(number for number in upload.parts if number > marker)
        shown = numbers[:size]
        following = f"<NextPartNumberMarker>{shown[-1]}</NextPartNumberMarker>" if len(numbers) > size else ""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>{stamp(part.uploaded)}</LastModified>"
            f"<ETag>{escape(part.etag)}</ETag><Size>{len(part.content.data)}</Size></Part>"
            for number, part in ((number, upload.parts[number]) for number in shown)
        )
        return xml_response(
            f"<ListPartsResult {_XMLNS}><Bucket>{bucket}</Bucket><Key>{escape(name)}</Key>"
            f"<UploadId>{upload.id}</UploadId>"
            f"<StorageClass>{upload.fields.get('storageClass', 'STANDARD')}</StorageClass>"
            f"<PartNumberMarker>{marker}</PartNumberMarker>{following}<MaxParts>{size}</MaxParts>"
            f"<IsTruncated>{'true' if following else 'false'}</IsTruncated>{parts}</ListPartsResult>"
        )

    def list_uploads(self, request: Request, bucket: str) -> Response:
        """Answer ``GET /{bucket}?uploads``.

        Raises:
            ServiceError: 400 or 404.
        """
        self.storage.bucket(bucket)
        prefix = request.query.get("prefix", "")
        size = min(request.integer("max-uploads") or _LISTED, _LISTED)
        marker = (request.query.get("key-marker", ""), request.query.get("upload-id-marker", ""))
        after = marker if marker[1] else (marker[0], "\U0010ffff")
        found = sorted(
            (upload.name, upload.id)
            for upload in self.uploads.values()
            if upload.bucket == bucket and upload.name.startswith(prefix)
        )
        found = [item for item in found if not marker[0] or item > after]
        shown = found[:size]
        following = ""
        if len(found) > size:
            following = (
                f"<NextKeyMarker>{escape(shown[-1][0])}</NextKeyMarker>"
                f"<NextUploadIdMarker>{shown[-1][1]}</NextUploadIdMarker>"
            )
        uploads = "".join(
            f"<Upload><Key>{escape(name)}</Key><UploadId>{identity}</UploadId><StorageClass>"
            f"{self.uploads[identity].fields.get('storageClass', 'STANDARD')}</StorageClass>"
            f"<Initiated>{stamp(self.uploads[identity].begun)}</Initiated></Upload>"
            for name, identity in shown
        )
        return xml_response(
            f"<ListMultipartUploadsResult {_XMLNS}><Bucket>{bucket}</Bucket><Prefix>{escape(prefix)}</Prefix>"
            f"<KeyMarker>{escape(marker[0])}</KeyMarker><UploadIdMarker>{escape(marker[1])}</UploadIdMarker>"
            f"{following}<MaxUploads>{size}</MaxUploads><IsTruncated>{'true' if following else 'false'}</IsTruncated>"
            f"{uploads}</ListMultipartUploadsResult>"
        )

    def _find(self, request: Request, bucket: str, name: str) -> MultipartUpload:
        self.storage.bucket(bucket)
        upload = self.uploads.get(request.query.get("uploadId", ""))
        if upload is None or (upload.bucket, upload.name) != (bucket, name):
            message = "The requested upload was not found."
            raise ServiceError(404, "notFound", message, xml_code="NoSuchUpload")
        return upload

    def _chosen(self, upload: MultipartUpload, document: bytes) -> list[_Part]:
        numbers: list[int] = []
        chosen: list[_Part] = []
        for number, etag in _listed(document):
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                message = "One or more of the specified parts could not be found."
                raise ServiceError(400, "invalid", message, xml_code="InvalidPart")
            if numbers and number <= numbers[-1]:
                message = "The list of parts was not in ascending order."
                raise ServiceError(400, "invalid", message, xml_code="InvalidPartOrder")
            numbers.append(number)
            chosen.append(part)
        if not chosen:
            raise invalid("At least one part is required.", xml_code="MalformedCompleteMultipartUploadRequest")
        if any(len(part.content.data) < self.minimum for part in chosen[:-1]):
            message = "Your proposed upload is smaller than the minimum allowed size."
            raise ServiceError(400, "invalid", message, xml_code="EntityTooSmall")
        return chosen


def _listed(document: bytes) -> list[tuple[int, str]]:
    try:
        root = ElementTree.fromstring(document)
        found = []
        for part in root:
            fields = {_NAMESPACE.sub("", item.tag): (item.text or "").strip() for item in part}
            found.append((int(fields["PartNumber"]), fields["ETag"]))
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        message = "The request body is not a list of parts."
        raise invalid(message, xml_code="MalformedCompleteMultipartUploadRequest") from error
    return found
