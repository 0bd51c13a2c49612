"""Uploads in parts, step by step."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final
from xml.etree.ElementTree import Element

from trove_async.body import Chunk
from trove_async.driver import CompleteOptions, HeadOptions, PutOptions
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.objects import Objects
from trove_async.drivers.gcs.uploads import GCSUpload, Uploads
from trove_async.errors import BackendError, InvalidKeyError, TroveError
from trove_async.types import ObjectInfo, PartInfo, UploadInfo
from trove_async.wire.fields import etag_of
from trove_async.wire.multipart import begin, complete
from trove_async.wire.paging import pages
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import can_hold, number, parse, parse_time, required, text

__all__ = ["Multipart"]

_PAGE: Final = 1000

_Marker = tuple[tuple[str, str], ...]


class Multipart:
    """Uploads in parts.

    Args:
        client, uploads, objects: send the requests.
        cleanup_timeout: seconds that giving an upload up may take.
    """

    def __init__(self, client: Client, uploads: Uploads, objects: Objects, cleanup_timeout: float) -> None:
        self._client = client
        self._uploads = uploads
        self._objects = objects
        self._timeout = cleanup_timeout

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id; if the call is cancelled, none stays open.

        Raises:
            InvalidKeyError: XML cannot hold the key.
        """
        if not can_hold(key):
            raise InvalidKeyError("the key holds a control character, which multipart uploads cannot name", key=key)
        upload = GCSUpload(self._uploads, bucket, key, attributes=options.attributes, checksum=options.checksum)
        await begin(upload, self._timeout)
        return upload.id

    async def send_part(self, bucket: str, key: str, upload_id: str, number: int, chunks: Sequence[Chunk]) -> PartInfo:
        """Store a part."""
        return await GCSUpload(self._uploads, bucket, key, upload_id=upload_id).send(number, chunks)

    async def complete(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object of the parts, and describe it; conditions are not declared, and so there are none."""
        upload = GCSUpload(self._uploads, bucket, key, upload_id=upload_id)
        made = await complete(upload, parts, self._timeout)
        try:
            info = await self._objects.head(bucket, key, HeadOptions())
        except TroveError:
            return made  # it is made; the credentials may be good for writing alone
        return info if info.etag == made.etag else made

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Give an upload up."""
        await self._uploads.abort(bucket, key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts that are stored, in the order of their numbers.

        Raises:
            UploadNotFoundError: no such upload is open.
        """
        found: list[PartInfo] = []
        query = [("uploadId", upload_id), ("max-parts", str(_PAGE))]
        markers = {"NextPartNumberMarker": "part-number-marker"}
        async with aclosing(self._pages(bucket, key, query, markers, "parts")) as answers:
            async for page in answers:
                found += [_part(element) for element in page.iterfind("Part")]
        return sorted(found, key=lambda part: part.number)

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their begin."""
        found: list[UploadInfo] = []
        query = [("uploads", ""), ("max-uploads", str(_PAGE)), ("prefix", prefix)]
        markers = {"NextKeyMarker": "key-marker", "NextUploadIdMarker": "upload-id-marker"}
        async with aclosing(self._pages(bucket, "", query, markers, "uploads")) as answers:
            async for page in answers:
                found += [_upload(element) for element in page.iterfind("Upload")]
        return sorted(found, key=lambda upload: (upload.key, str(upload.initiated_at or "")))

    def _pages(
        self, bucket: str, key: str, query: Query, markers: Mapping[str, str], what: str
    ) -> AsyncGenerator[Element, None]:
        """Yield the answers of a listing.

        Args:
            bucket, key: what is listed.
            query: of the first page.
            markers: the elements that say where the next page begins, and the parameters that ask for it.
            what: is listed, for errors.
        """

        async def fetch(marker: _Marker | None) -> Element:
            asked = [*query, *(marker or ())]
            _, content = await self._client.document("GET", bucket, key, query=encode_query(asked))
            return parse(content)

        def following(page: Element) -> _Marker | None:
            if text(page, "IsTruncated") != "true":
                return None
            found = tuple((name, value) for element, name in markers.items() if (value := text(page, element)))
            if not found:
                raise BackendError(f"the listing of {what} is truncated, and does not say where the next page begins")
            return found

        return pages(fetch, following, what)


def _part(element: Element) -> PartInfo:
    return PartInfo(number(element, "PartNumber"), etag_of(required(element, "ETag")), number(element, "Size"))


def _upload(element: Element) -> UploadInfo:
    begun = text(element, "Initiated")
    return UploadInfo(required(element, "UploadId"), required(element, "Key"), parse_time(begun) if begun else None)
