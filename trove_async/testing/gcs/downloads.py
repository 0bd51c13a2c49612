"""Downloads of objects, with headers, ranges and decompressive transcoding.

https://cloud.google.com/storage/docs/json_api/v1/objects/get, https://cloud.google.com/storage/docs/xml-api/get-object-download,
https://cloud.google.com/storage/docs/transcoding and https://cloud.google.com/storage/docs/xml-api/reference-headers.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from email.utils import formatdate
from typing import Final

from trove_async.testing.gcs.errors import ServiceError
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.state import StoredObject

__all__ = ["download_headers", "media"]

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(?:(\d+)-(\d*)|-(\d+))\s*")
_NAMED: Final[Mapping[str, str]] = {
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentEncoding": "Content-Encoding",
    "contentLanguage": "Content-Language",
}
_UNTYPED: Final = "application/octet-stream"


def download_headers(found: StoredObject, *, xml: bool) -> dict[str, str]:
    """Return the headers with an object's properties; only the XML API includes custom metadata."""
    fields = found.fields
    content = found.content
    digest = f"crc32c={content.crc32c}" if content.md5 is None else f"crc32c={content.crc32c},md5={content.md5}"
    headers = {
        "Content-Type": fields.get("contentType") or _UNTYPED,
        "ETag": found.xml_etag if xml else found.etag,
        "Last-Modified": formatdate(found.updated, usegmt=True),
        "Accept-Ranges": "bytes",
        "Server": "UploadServer",
        "X-Goog-Generation": str(found.generation),
        "X-Goog-Metageneration": str(found.metageneration),
        "X-Goog-Hash": digest,
        "X-Goog-Storage-Class": fields["storageClass"],
        "X-Goog-Stored-Content-Encoding": fields.get("contentEncoding") or "identity",
        "X-Goog-Stored-Content-Length": str(len(content.data)),
        "Cache-Control": "private, max-age=0",
    }
    if content.components is not None:
        headers["X-Goog-Component-Count"] = str(content.components)
    for name, header in _NAMED.items():
        if fields.get(name):
            headers[header] = fields[name]
    if fields.get("kmsKeyName"):
        headers["X-Goog-Encryption-Kms-Key-Name"] = fields["kmsKeyName"]
    if xml:
        for key, value in (fields.get("metadata") or {}).items():
            headers[f"x-goog-meta-{key}"] = " ".join(value.splitlines())
    return headers


def media(request: Request, found: StoredObject, *, xml: bool = False) -> Response:
    """Return an object's bytes or the requested range, decompressed if Google would decompress it.

    Raises:
        ServiceError: 416; the object has no byte of the range.
    """
    headers = download_headers(found, xml=xml)
    data = found.data
    if found.fields.get("contentEncoding", "").lower() == "gzip":
        headers["Vary"] = "Accept-Encoding"
        if _is_transcoded(request, found):
            return _transcoded(headers, data)
    wanted = request.headers.get("range")
    span = None if wanted is None else _span(wanted, len(data))
    if span is None:
        return Response(200, headers, data, length=len(data))
    start, end = span
    if start >= end:
        raise ServiceError(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            location=("header", "Range"),
            headers={"Content-Range": f"bytes */{len(data)}"},
        )
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    return Response(206, headers, memoryview(data)[start:end], length=end - start)


def _is_transcoded(request: Request, found: StoredObject) -> bool:
    accepted = {item.partition(";")[0].strip().lower() for item in request.header("accept-encoding").split(",")}
    return "gzip" not in accepted and "no-transform" not in found.fields.get("cacheControl", "").lower()


def _transcoded(headers: dict[str, str], data: bytes) -> Response:
    # The length is not known in advance, the hashes are those of the stored bytes, and a range is ignored.
    try:
        plain = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ServiceError(503, "backendError", "The object is not gzip, as its Content-Encoding says.") from error
    headers.pop("Content-Encoding")
    headers.pop("Accept-Ranges")
    headers["Warning"] = "214 UploadServer gunzipped"
    return Response(200, headers, plain, chunked=True)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """Return the start and the end of a range; None if the header is to be ignored (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(header)
    if found is None:
        return None
    if found[3] is not None:
        return max(size - int(found[3]), 0), size
    start = int(found[1])
    end = int(found[2]) + 1 if found[2] else size
    if found[2] and end <= start:
        return None
    return start, min(end, size)
