"""Uploads of the JSON API: simple, multipart and resumable.

https://cloud.google.com/storage/docs/uploading-objects, https://cloud.google.com/storage/docs/resumable-uploads and
https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.errors import ServiceError, gone, invalid, not_found
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.multipart import split
from trove_async.testing.gcs.resources import answer_object, check_metadata, check_name, set_kms_key, writable
from trove_async.testing.gcs.signed import check_length_range
from trove_async.testing.gcs.state import Content, Storage, StoredObject

__all__ = ["Expected", "Session", "Uploads", "client_url", "hashed", "is_resumed"]

_T = TypeVar("_T")
_AT_ONCE: Final = 1 << 20
_SESSION_LIFETIME: Final = 7 * 86400
_SENDING: Final = ("PUT", "POST")
_REMEMBERED: Final = 10_000
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_WITHOUT_TYPE: Final = "Upload requests must include an uploadType URL parameter and a URL path beginning with /upload/"

_CONTENT_TYPES: Final = (
    "Content-Type specified in the upload ({}) does not match Content-Type specified in metadata ({}). If it was a "
    "simple upload (uploadType=media), the Content-Type was specified as a bare header. If it was a multipart upload "
    "(uploadType=multipart), then the Content-Type was specified in the second part of the multipart. If it was a "
    "resumable upload (uploadType=resumable), then the Content-Type was specified with the X-Upload-Content-Type "
    "header with the start of the resumable session. For more information, see "
    "https://cloud.google.com/storage/docs/json_api/v1/how-tos/upload."
)


def is_resumed(request: Request) -> bool:
    """Return True if a request has the URI of a resumable session, which needs no other credentials."""
    return request.method in (*_SENDING, "DELETE") and "upload_id" in request.query


def client_url(request: Request, fallback: str) -> str:
    """Return the base URL that the client used, which may be that of a proxy."""
    host = request.headers.get("host")
    return f"http://{host}" if host else fallback


def hashed(
    data: bytes, then: Callable[[Content], _T], make: Callable[[bytes], Content] = Content.of
) -> _T | Awaitable[_T]:
    """Hash bytes, in a thread if they are many, and return the result of ``then`` with them."""
    if len(data) <= _AT_ONCE:
        return then(make(data))

    async def later() -> _T:
        return then(await asyncio.to_thread(make, data))

    return later()


@dataclass(frozen=True, slots=True)
class Expected:
    """The checksums that a client declares."""

    crc32c: str | None = None
    md5: str | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str], metadata: Mapping[str, Any] | None = None) -> Expected:
        """Read ``x-goog-hash`` and ``Content-MD5``, and the metadata of the object."""
        metadata = metadata or {}
        crc32c, md5 = metadata.get("crc32c"), metadata.get("md5Hash")
        for item in headers.get("x-goog-hash", "").split(","):
            name, _, value = item.strip().partition("=")
            if name == "crc32c":
                crc32c = value
            elif name == "md5":
                md5 = value
        return cls(crc32c, headers.get("content-md5") or md5)

    def merged(self, later: Expected) -> Expected:
        """Return these checksums, overridden by those of a later request."""
        return Expected(later.crc32c or self.crc32c, later.md5 or self.md5)

    def check(self, content: Content) -> None:
        """Compare with the checksums of content.

        Raises:
            ServiceError: 400; one differs.
        """
        for name, wanted, actual in (("CRC32C", self.crc32c, content.crc32c), ("MD5", self.md5, content.md5)):
            if wanted and actual and wanted != actual:
                message = f'Provided {name} hash "{wanted}" doesn\'t match calculated {name} hash "{actual}".'
                raise invalid(message, xml_code="BadDigest")


@dataclass(slots=True)
class Session:
    """A resumable upload.

    Attributes:
        id: the ``upload_id`` in its URI.
        data: the persisted bytes.
        total: the size of the object, once a request has declared it.
        answer: the response to the request that completed it, which later requests get too.
        length_range: the value of ``X-Goog-Content-Length-Range``, if any.
        cancelled: True once it was cancelled, has expired or has failed.
    """

    id: str
    bucket: str
    name: str
    fields: dict[str, Any]
    conditions: Preconditions
    expected: Expected
    total: int | None
    begun: float = field(default_factory=time.time)
    data: bytearray = field(default_factory=bytearray)
    finishing: bool = False
    answer: Response | None = None
    length_range: str | None = None
    cancelled: bool = False

    @property
    def open(self) -> bool:
        """True while it accepts bytes."""
        return self.answer is None and not self.cancelled


class Uploads:
    """The upload endpoint, and the resumable sessions.

    Attributes:
        granularity: multiples of this number of bytes are persisted, and each chunk but the last has at least as many.
        sessions: by id; finished sessions stay, so that late requests get the same response.
    """

    def __init__(self, storage: Storage, granularity: int) -> None:
        self.storage = storage
        self.granularity = granularity
        self.sessions: dict[str, Session] = {}

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

    def create(
        self,
        bucket_name: str,
        name: str,
        content: Content,
        fields: dict[str, Any],
        conditions: Preconditions,
        expected: Expected,
    ) -> StoredObject:
        """Create an object, if its checksums and the preconditions match.

        Raises:
            ServiceError: 400, 403, 404 or 412.
        """
        expected.check(content)
        bucket = self.storage.bucket(bucket_name)
        conditions.check(bucket.live(name))
        return self.storage.store(bucket, name, content, fields)

    def expire(self) -> None:
        """Expire all open sessions, as after a week."""
        for session in self.sessions.values():
            session.cancelled = session.cancelled or session.answer is None

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
            made = self.create(bucket, name, content, fields, conditions, expected)
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
        session = self.begin(
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

    def begin(
        self,
        bucket: str,
        name: str,
        fields: dict[str, Any],
        conditions: Preconditions,
        expected: Expected,
        total: int | None = None,
    ) -> Session:
        """Begin a session; the preconditions are checked now and on completion.

        Raises:
            ServiceError: 400, 404 or 412.
        """
        check_name(name)
        check_metadata(fields)
        conditions.check(self.storage.bucket(bucket).live(name))
        session = Session(secrets.token_urlsafe(48), bucket, name, fields, conditions, expected, total)
        self._forget()
        self.sessions[session.id] = session
        return session

    def resume(
        self, request: Request, render: Callable[[StoredObject], Response] | None = None
    ) -> Response | Awaitable[Response]:
        """Answer a request to a session's URI: an upload of bytes, a status query or a cancellation.

        Args:
            request: the request.
            render: makes the response once the object is complete; by default that of the JSON API.

        Raises:
            ServiceError: the request is refused.
        """

        def as_json(made: StoredObject) -> Response:
            return answer_object(request, self.storage, made)

        render = render or as_json
        session = self._session(request)
        if request.method == "DELETE":
            if session.answer is not None:
                raise not_found("The upload is complete.")
            session.cancelled = True
            session.data.clear()
            return Response(499, {"X-GUploader-UploadID": session.id})
        if request.method not in _SENDING:
            raise ServiceError(405, "methodNotAllowed", "Method Not Allowed")
        if session.cancelled:
            raise gone("The upload session is gone.")
        if session.answer is not None:
            return session.answer
        if session.finishing:
            raise ServiceError(503, "backendError", "Backend Error")
        session.expected = session.expected.merged(Expected.of(request.headers))
        if self._take(request, session):
            return self._finish(session, render)
        return _incomplete(request, session)

    def abandoned(self, request: Request) -> None:
        """Persist whole quanta of the bytes that came before a connection broke."""
        session = self.sessions.get(request.query.get("upload_id", ""))
        if session is None or not session.open or session.finishing or request.method not in _SENDING:
            return
        start = 0
        if request.header("content-range"):
            found = _RANGE.fullmatch(request.headers["content-range"])
            if found is None or found[1] is None:
                return
            start = int(found[1])
        end = (start + request.size) // self.granularity * self.granularity
        persisted = len(session.data)
        if start <= persisted < end:
            session.data += request.body[persisted - start : end - start]

    def _forget(self) -> None:
        if len(self.sessions) >= _REMEMBERED:
            self.sessions = {identity: session for identity, session in self.sessions.items() if session.open}

    def _session(self, request: Request) -> Session:
        session = self.sessions.get(request.query.get("upload_id", ""))
        if session is None:
            raise ServiceError(404, "notFound", "No such upload session.", xml_code="NoSuchUpload")
        if session.open and session.begun + _SESSION_LIFETIME < time.time():
            session.cancelled = True
        return session

    def _take(self, request: Request, session: Session) -> bool:
        """Persist the bytes of a request, and return True if the object is complete."""
        start, end, total = _content_range(request)
        persisted = len(session.data)
        if total is not None:
            if session.total not in (None, total):
                raise invalid(f"The size of the object is {session.total} byte(s), not {total}.")
            if end is not None and total < max(persisted, end):
                raise invalid(f"The size of the object is {total} byte(s), which is less than was uploaded.")
        if start is not None and end is not None:
            self._check_chunk(request, start, end, persisted, final=end == total)
            # Bytes that are persisted already are skipped.
            session.data += memoryview(request.body)[max(persisted - start, 0) :]
            if end != total:
                del session.data[len(session.data) // self.granularity * self.granularity :]
        if total is not None and end is not None:
            session.total = total
        return total is not None and len(session.data) == total

    def _check_chunk(self, request: Request, start: int, end: int, persisted: int, *, final: bool) -> None:
        if request.size != end - start:
            message = (
                f"Invalid request.  There were {request.size} byte(s) in the request body.  There should have been "
                f"{end - start} byte(s) (starting at offset {start} and ending at offset {end - 1}) according to the "
                "Content-Range header."
            )
            raise _refused(message)
        if start > persisted:
            message = (
                f"Invalid request.  According to the Content-Range header, the upload offset is {start} byte(s), "
                f"which exceeds already uploaded size of {persisted} byte(s)."
            )
            raise _refused(message, 503)
        if not final and request.size < self.granularity:
            least = self.granularity
            message = (
                f"Invalid request.  The number of bytes uploaded is required to be equal or greater than {least}, "
                f"except for the final request (it's recommended to be the exact multiple of {least}).  The received "
                f"request contained {request.size} bytes, which does not meet this requirement."
            )
            raise _refused(message)

    def _finish(self, session: Session, render: Callable[[StoredObject], Response]) -> Response | Awaitable[Response]:
        session.finishing = True

        def store(content: Content) -> Response:
            session.finishing = False
            try:
                check_length_range(session.length_range, len(content.data))
                made = self.create(
                    session.bucket, session.name, content, session.fields, session.conditions, session.expected
                )
            except ServiceError:
                session.cancelled = True
                raise
            finally:
                session.data = bytearray()
            session.answer = render(made)
            return session.answer

        return hashed(bytes(session.data), store)


def _refused(message: str, status: int = 400) -> ServiceError:
    error = ServiceError(status, "badRequest", message)
    error.plain = True
    return error


def _incomplete(request: Request, session: Session) -> Response:
    headers = {"X-GUploader-UploadID": session.id}
    if session.data:
        headers["Range"] = f"bytes=0-{len(session.data) - 1}"
    if request.header("x-guploader-no-308").lower() == "yes":  # sent by clients that would treat a 308 as a redirect
        return Response(200, {**headers, "X-HTTP-Status-Code-Override": "308"})
    return Response(308, headers)


def _content_range(request: Request) -> tuple[int | None, int | None, int | None]:
    """Return the start and the end (exclusive) of the bytes and the size of the object; None for what is unknown."""
    header = request.headers.get("content-range")
    if header is None:
        return 0, request.size, request.size
    found = _RANGE.fullmatch(header)
    if found is None or (found[1] is not None and int(found[1]) > int(found[2])):
        raise _refused("Failed to parse Content-Range header.")
    total = None if found[3] == "*" else int(found[3])
    if found[1] is None:
        if request.size:
            raise _refused("Failed to parse Content-Range header.")
        return None, None, total
    return int(found[1]), int(found[2]) + 1, total


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
