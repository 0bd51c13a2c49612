"""Objects in the XML API (https://cloud.google.com/storage/docs/xml-api/overview), which signed URLs use."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from trove_async.testing.gcs.conditions import SOURCE, Preconditions, check_http_conditions, header_number
from trove_async.testing.gcs.copies import Copies, inherited
from trove_async.testing.gcs.creation import Expected, create, hashed
from trove_async.testing.gcs.downloads import download_headers, media
from trove_async.testing.gcs.errors import ServiceError, condition_failed, invalid
from trove_async.testing.gcs.http import Request, Response, decoded
from trove_async.testing.gcs.resources import check_metadata, check_name, set_kms_key, stamp
from trove_async.testing.gcs.sessions import Sessions, client_url, is_resumed
from trove_async.testing.gcs.signed import check_length_range
from trove_async.testing.gcs.state import Content, Storage, StoredObject
from trove_async.testing.gcs.unsupported import KMS_HEADER
from trove_async.testing.gcs.xml_multipart import MultipartUploads, xml_response

__all__ = ["XMLObjects", "fields_of"]

_LENGTH_RANGE: Final = "x-goog-content-length-range"
_META: Final = "x-goog-meta-"
_COPIES_OWN: Final = ("kmsKeyName", "storageClass")
_FIELDS: Final = {
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "content-type": "contentType",
    "x-goog-custom-time": "customTime",
    "x-goog-storage-class": "storageClass",
}
_OVERRIDES: Final = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}


def fields_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the properties of an object from headers or from the fields of a form."""
    fields: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for header, value in headers.items():
        if header in _FIELDS:
            fields[_FIELDS[header]] = value
        elif header.startswith(_META):
            metadata[header.removeprefix(_META)] = value
    if metadata:
        fields["metadata"] = metadata
    set_kms_key(fields, headers.get(KMS_HEADER))
    return fields


class XMLObjects:
    """Requests for ``/{bucket}/{object}``; the caller checks their credentials."""

    def __init__(self, storage: Storage, sessions: Sessions, multipart: MultipartUploads, copies: Copies) -> None:
        self.storage = storage
        self.sessions = sessions
        self.multipart = multipart
        self.copies = copies

    def handle(self, request: Request, bucket: str, name: str) -> Response | Awaitable[Response]:
        """Answer a request about an object.

        Raises:
            ServiceError: the request is refused.
        """
        query = request.query
        if is_resumed(request):
            return self.sessions.resume(request, lambda made: Response(200, _described(made)))
        if ("uploads" in query or "uploadId" in query) and Preconditions.of_headers(request) != Preconditions():
            raise invalid("Preconditions are not supported in the requests of multipart uploads.")
        match request.method:
            case "GET" if "uploadId" in query:
                return self.multipart.list_parts(request, bucket, name)
            case "GET" | "HEAD":
                return self._get(request, bucket, name)
            case "PUT" if "uploadId" in query:
                return self.multipart.put(request, bucket, name)
            case "PUT":
                return self._put(request, bucket, name)
            case "DELETE" if "uploadId" in query:
                return self.multipart.abort(request, bucket, name)
            case "DELETE":
                return self._delete(request, bucket, name)
            case "POST" if "uploads" in query:
                return self.multipart.initiate(bucket, name, fields_of(request.headers))
            case "POST" if "uploadId" in query:
                return self.multipart.complete(request, bucket, name)
            case "POST" if request.header("x-goog-resumable").lower() == "start":
                return self._start(request, bucket, name)
        raise ServiceError(405, "methodNotAllowed", "The specified method is not allowed against this resource.")

    def _get(self, request: Request, bucket: str, name: str) -> Response:
        found = self._found(request, bucket, name)
        Preconditions.of_headers(request).check(found, reading=True)
        check_http_conditions(request, found.xml_etag, found.updated)
        if request.method == "HEAD" and "range" not in request.headers:
            return Response(200, download_headers(found, xml=True), length=len(found.data))
        response = media(request, found, xml=True)
        overrides = {header: request.query[name] for name, header in _OVERRIDES.items() if name in request.query}
        if overrides:
            response.headers = {**response.headers, **overrides}
        return response

    def _put(self, request: Request, bucket: str, name: str) -> Response | Awaitable[Response]:
        self.storage.bucket(bucket)
        if request.header("x-goog-copy-source"):
            return self._copy(request, bucket, name)
        fields = fields_of(request.headers)
        check_name(name)
        check_metadata(fields)
        check_length_range(request.headers.get(_LENGTH_RANGE), request.size)
        conditions, expected = Preconditions.of_headers(request), Expected.of(request.headers)

        def store(content: Content) -> Response:
            made = create(self.storage, bucket, name, content, fields, conditions, expected)
            return Response(200, _described(made))

        return hashed(request.body, store)

    def _copy(self, request: Request, bucket: str, name: str) -> Response:
        """Copy an object (https://cloud.google.com/storage/docs/xml-api/put-object-copy)."""
        if request.size:
            raise invalid("The body of a request that copies an object must be empty.")
        directive = request.header("x-goog-metadata-directive", "COPY")
        if directive not in ("COPY", "REPLACE"):
            raise invalid(f"Invalid argument: x-goog-metadata-directive: {directive}")
        source_bucket, source_name = _copy_source(request.headers["x-goog-copy-source"])
        if (source_bucket, source_name) == (bucket, name) and directive == "COPY":
            raise invalid("An object can be copied to itself only with x-goog-metadata-directive: REPLACE.")
        generation = header_number(request, f"{SOURCE}generation")
        found = self.storage.find(self.storage.bucket(source_bucket), source_name, generation)
        _check_copy_source(request, found)
        given = fields_of(request.headers)
        if directive == "REPLACE":
            fields = {"contentType": "application/octet-stream", **given}
        else:
            fields = inherited(found) | {key: value for key, value in given.items() if key in _COPIES_OWN}
        made = self.copies.make(found, bucket, name, Preconditions.of_headers(request), fields)
        response = xml_response(
            f"<CopyObjectResult><LastModified>{stamp(made.updated)}</LastModified>"
            f"<ETag>{escape(made.xml_etag)}</ETag></CopyObjectResult>"
        )
        return Response(200, {**_described(made), **response.headers}, response.body)

    def _delete(self, request: Request, bucket: str, name: str) -> Response:
        found = self._found(request, bucket, name)
        Preconditions.of_headers(request).check(found)
        holder = self.storage.bucket(bucket)
        permanently = request.integer("generation") is not None or not holder.versioned
        self.storage.delete(holder, found, permanently=permanently)
        return Response(204)

    def _start(self, request: Request, bucket: str, name: str) -> Response:
        session = self.sessions.begin(
            bucket, name, fields_of(request.headers), Preconditions.of_headers(request), Expected.of(request.headers)
        )
        session.length_range = request.headers.get(_LENGTH_RANGE)
        base = client_url(request, self.storage.base_url)
        location = f"{base}{request.raw_path}?upload_id={session.id}"
        return Response(201, {"Location": location, "X-GUploader-UploadID": session.id})

    def _found(self, request: Request, bucket: str, name: str) -> StoredObject:
        return self.storage.find(self.storage.bucket(bucket), name, request.integer("generation"))


def _copy_source(header: str) -> tuple[str, str]:
    bucket, _, name = header.removeprefix("/").partition("/")
    if not bucket or not name:
        raise invalid(f"Invalid argument: x-goog-copy-source: {header}")
    return decoded(bucket), decoded(name)


def _check_copy_source(request: Request, found: StoredObject) -> None:
    """Check the conditions on the source; "if any of them fails to match, you get a 412"."""
    try:
        Preconditions.of_headers(request, source=True).check(found)
        check_http_conditions(request, found.xml_etag, found.updated, SOURCE)
    except ServiceError as error:
        raise condition_failed() if error.status == 304 else error from None


def _described(made: StoredObject) -> dict[str, str]:
    digest = f"crc32c={made.content.crc32c}"
    if made.content.md5 is not None:
        digest += f",md5={made.content.md5}"
    return {
        "ETag": made.xml_etag,
        "Server": "UploadServer",
        "X-Goog-Generation": str(made.generation),
        "X-Goog-Metageneration": str(made.metageneration),
        "X-Goog-Hash": digest,
        "X-Goog-Stored-Content-Encoding": made.fields.get("contentEncoding") or "identity",
        "X-Goog-Stored-Content-Length": str(len(made.data)),
    }
