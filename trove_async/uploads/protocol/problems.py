"""Errors as problem details (RFC 9457), with the problem types of resumable uploads. Both protocols use them.

The types are those of "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload); a client of tus finds in
them what its protocol has no field for.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from trove_async.errors import (
    BackendError,
    BodySizeError,
    ContentTooLargeError,
    LeaseLostError,
    NotFoundError,
    TroveError,
    UploadExpiredError,
    UploadLengthError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.web.http import error_members, error_status, retry_after
from trove_async.web.objects import Answer, log_fault

__all__ = [
    "COMPLETED_UPLOAD",
    "INCONSISTENT_LENGTH",
    "MISMATCHING_OFFSET",
    "PROBLEM_TYPE",
    "problem_answer",
    "upload_status",
]

PROBLEM_TYPE: Final = "application/problem+json"
"""The media type of the answers."""

_REGISTRY: Final = "https://iana.org/assignments/http-problem-types#"

MISMATCHING_OFFSET: Final = _REGISTRY + "mismatching-upload-offset"
"""A request continues at another offset than the upload's; ``expected-offset`` and ``provided-offset`` are given."""

INCONSISTENT_LENGTH: Final = _REGISTRY + "inconsistent-upload-length"
"""A request says a length that contradicts itself, an earlier request, or the bytes that came."""

COMPLETED_UPLOAD: Final = _REGISTRY + "completed-upload"
"""A request continues an upload that is complete."""

_STATUSES: Final[tuple[tuple[type[TroveError], int], ...]] = (
    (UploadOffsetError, 409),
    (UploadExpiredError, 410),
    (UploadLockedError, 423),
    (LeaseLostError, 423),
    (ContentTooLargeError, 413),
    (BodySizeError, 500),  # a finished object has another size than its upload
)

_TEMPORARY: Final = (423, 503)

_log = logging.getLogger("trove_async.uploads")


def upload_status(error: Exception) -> int:
    """Return the status code for an error; 500 for one that is not `trove_async`'s own.

    It is that of `trove_async.web.http.error_status`, except for the errors of resumable uploads. A client gives an
    upload up when it is answered with 404, so that this is the answer only if the upload is surely gone: when a
    backend misses a bucket, or an upload of its own, the fault is the server's.
    """
    if isinstance(error, UploadRejectedError):
        return error.status_code
    if isinstance(error, NotFoundError) and (error.driver or not isinstance(error, UploadNotFoundError)):
        return 500
    if isinstance(error, TroveError):
        return next((status for kind, status in _STATUSES if isinstance(error, kind)), error_status(error))
    return 500


def problem_answer(
    error: Exception,
    headers: Iterable[tuple[str, str]] = (),
    *,
    status: int | None = None,
    kind: str | None = None,
    provided_offset: int | None = None,
    upload_id: str | None = None,
    with_body: bool = True,
) -> Answer:
    """Answer with an error. Errors of the server are logged; a quota that is used up is none.

    The JSON has ``type`` (if there is one), ``title``, ``status``, ``detail``, and ``code``, the name of the error's
    class without ``Error``. Details of a fault of the server are only logged.

    Args:
        error: the error. The headers of an `UploadRejectedError` are sent, and Retry-After for a temporary error and
            with 423 and 503.
        headers: those of the protocol.
        status: default: `upload_status`.
        kind: the problem type; default: the type for the error's class.
        provided_offset: at which the request continues, for an `UploadOffsetError`.
        upload_id: becomes ``upload``, for clients with many uploads at once.
        with_body: False for HEAD.
    """
    fault = upload_status(error)
    status = status or fault
    rejected = isinstance(error, UploadRejectedError)
    if fault >= 500 and not rejected:
        log_fault(_log, status, error)
    if not isinstance(error, TroveError) or error_status(error) < 500 <= fault:
        error = BackendError()
    said = error_members(error)
    members: dict[str, str | int | None] = {
        "type": kind or _kind(error),
        "title": _title(status),
        "status": status,
        "detail": error.message if rejected else said["message"],  # a hook's words are for the client
        "code": said["code"],
        "upload": upload_id,
    }
    if isinstance(error, UploadOffsetError):
        members |= {"expected-offset": error.offset, "provided-offset": provided_offset}
    found = list(headers)
    if isinstance(error, UploadRejectedError):
        found += error.headers
    seconds = retry_after(error)
    if seconds is None and status in _TEMPORARY and not any(name.lower() == "retry-after" for name, _ in found):
        seconds = 1
    if seconds is not None:
        found.append(("Retry-After", str(seconds)))
    if not with_body:
        return Answer(status, found)
    body = json.dumps({name: value for name, value in members.items() if value is not None}).encode()
    return Answer(status, [*found, ("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(body)))], body)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # such as 460 (Checksum Mismatch) of tus
        return "Upload Failed"


def _kind(error: TroveError) -> str | None:
    if isinstance(error, UploadOffsetError):
        return MISMATCHING_OFFSET
    return INCONSISTENT_LENGTH if isinstance(error, UploadLengthError) else None
