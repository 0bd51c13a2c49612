"""Uploads of the JSON API: simple, multipart and resumable.

https://cloud.google.com/storage/docs/uploading-objects, https://cloud.google.com/storage/docs/resumable-uploads and
https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.creation import Expected, create, hashed
from trove_async.testing.gcs.errors import invalid
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.multipart import split
from trove_async.testing.gcs.resources import answer_object, check_metadata, check_name, set_kms_key, writable
from trove_async.testing.gcs.sessions import Sessions, client_url
from trove_async.testing.gcs.state import Content, Storage

__all__ = ["Uploads"]

_WITHOUT_TYPE: Final = "Upload requests must include an uploadType URL parameter and a URL path beginning with /upload/"

_CONTENT_TYPES: Final = (
    "Content-Type specified in the upload ({}) does not match Content-Type specified in metadata ({}). If it was a "
    "simple upload (uploadType=media), the Content-Type was specified as a bare header. If it was a multipart upload "
    "(uploadType=multipart), then the Content-Type was specified in the second part of the multipart. If it was a "
    "resumable upload (uploadType=resumable), then the Content-Type was specified with the X-Upload-Content-Type "
    "header with the start of the resumable session. For more information, see "
    "https://cloud.google.com/storage/docs/json_api/v1/how-tos/upload."
)


class Uploads:
    """The upload endpoint: ``POST /upload/storage/v1/b/{bucket}/o``."""

    def __init__(self, storage: Storage, sessions: Sessions) -> None:
        self.storage = storage
        self.sessions = sessions

    def insert(self, request: Request, bucket: str) -> Response | Awaitable[Response]:
        """Answer ``POST /upload/storage/v1/b/{bucket}/o``.

        Raises:
            ServiceError: the request is refused.
        """
        self.storage.bucket(bucket)
        match request.query.get("uploadType"):
            case "media":
                return self._media(request, bucket)
            case "multipart":
                return self._multipart(request, bucket)
            case "resumable":
                return self._start(request, bucket)
            case _:
                raise invalid(_WITHOUT_TYPE, reason="wrongUrlForUpload")

    def _media(self, request: Request, bucket: str) -> Response | Awaitable[Response]:
        fields = {"contentType": request.headers["content-type"]} if request.header("content-type") else {}
        return self._create(request, bucket, request.query.get("name", ""), request.body, fields, {})

    def _multipart(self, request: Request, bucket: str) -> Response | Awaitable[Response]:
        parts = split(request.body, request.header("content-type"))
        if len(parts) != 2:
            raise invalid("Multipart must contain exactly 2 parts.", reason="badContent")
        metadata = _loaded(bytes(parts[0].body))
        fields = writable(metadata)
        _take_content_type(fields, parts[1].headers.get("content-type"))
        name = request.query.get("name") or metadata.get("name", "")
        return self._create(request, bucket, name, bytes(parts[1].body), fields, metadata)

    def _create(
        self, request: Request, bucket: str, name: str, data: bytes, fields: dict[str, Any], metadata: dict[str, Any]
    ) -> Response | Awaitable[Response]:
        _complete_fields(request, metadata, fields)
        check_name(name)
        check_metadata(fields)
        conditions = Preconditions.of(request)
        expected = Expected.of(request.headers, metadata)

        def store(content: Content) -> Response:
            made = create(self.storage, bucket, name, content, fields, conditions, expected)
            return answer_object(request, self.storage, made)

        return hashed(data, store)

    def _start(self, request: Request, bucket: str) -> Response:
        metadata = request.json()
        fields = writable(metadata)
        _take_content_type(fields, request.headers.get("x-upload-content-type"))
        _complete_fields(request, metadata, fields)
        name = request.query.get("name") or metadata.get("name", "")
        length = request.header("x-upload-content-length")
        if length and not length.isdigit():
            raise invalid("Invalid value for header: X-Upload-Content-Length")
        session = self.sessions.begin(
            bucket,
            name,
            fields,
            Preconditions.of(request),
            Expected.of(request.headers, metadata),
            total=int(length) if length else None,
        )
        query = f"uploadType=resumable&upload_id={session.id}"
        location = f"{client_url(request, self.storage.base_url)}/upload/storage/v1/b/{bucket}/o?{query}"
        return Response(200, {"Location": location, "X-GUploader-UploadID": session.id})


def _loaded(document: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(document) if document.strip() else {}
    except ValueError as error:
        raise invalid("Parse Error", reason="parseError") from error
    if not isinstance(metadata, dict):
        raise invalid("Parse Error", reason="parseError")
    return metadata


def _take_content_type(fields: dict[str, Any], uploaded: str | None) -> None:
    """Use the content type that came with the bytes; it must be that of the metadata, if both name one.

    Source: https://github.com/googleapis/google-cloud-go/issues/306 quotes Google's announcement of this check.

    Raises:
        ServiceError: 400; the two differ.
    """
    named = fields.get("contentType")
    if not uploaded or uploaded == named:
        return
    if named is not None:
        raise invalid(_CONTENT_TYPES.format(uploaded, named))
    fields["contentType"] = uploaded


def _complete_fields(request: Request, metadata: Mapping[str, Any], fields: dict[str, Any]) -> None:
    """Set the properties that the query gives."""
    set_kms_key(fields, request.query.get("kmsKeyName") or metadata.get("kmsKeyName"))
    encoding = request.query.get("contentEncoding")
    if encoding:
        fields["contentEncoding"] = encoding
