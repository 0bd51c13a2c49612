"""Resumable uploads, of the JSON and of the XML API.

https://cloud.google.com/storage/docs/resumable-uploads and
https://cloud.google.com/storage/docs/performing-resumable-uploads.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from trove_async.testing.gcs.conditions import Preconditions
from trove_async.testing.gcs.creation import Expected, create, hashed
from trove_async.testing.gcs.errors import ServiceError, gone, invalid, not_found
from trove_async.testing.gcs.http import Request, Response
from trove_async.testing.gcs.resources import answer_object, check_metadata, check_name
from trove_async.testing.gcs.signed import check_length_range
from trove_async.testing.gcs.state import Content, Storage, StoredObject

__all__ = ["Session", "Sessions", "client_url", "is_resumed"]

_SESSION_LIFETIME: Final = 7 * 86400
_SENDING: Final = ("PUT", "POST")
_REMEMBERED: Final = 10_000
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


def is_resumed(request: Request) -> bool:
    """Return True if a request has the URI of a resumable session, which needs no other credentials."""
    return request.method in (*_SENDING, "DELETE") and "upload_id" in request.query


def client_url(request: Request, fallback: str) -> str:
    """Return the base URL that the client used, which may be that of a proxy."""
    host = request.headers.get("host")
    return f"http://{host}" if host else fallback


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


class Sessions:
    """The resumable sessions.

    Attributes:
        granularity: multiples of this number of bytes are persisted, and each chunk but the last has at least as many.
        sessions: by id; finished sessions stay, so that late requests get the same response.
    """

    def __init__(self, storage: Storage, granularity: int) -> None:
        self.storage = storage
        self.granularity = granularity
        self.sessions: dict[str, Session] = {}

    def open(self) -> list[Session]:
        """Return the sessions that accept bytes."""
        return [session for session in self.sessions.values() if session.open]

    def expire(self) -> None:
        """Expire all open sessions, as after a week."""
        for session in self.sessions.values():
            session.cancelled = session.cancelled or session.answer is None

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
        """Persist the complete quanta of the bytes that arrived before a connection broke."""
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
                made = create(
                    self.storage,
                    session.bucket,
                    session.name,
                    content,
                    session.fields,
                    session.conditions,
                    session.expected,
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
