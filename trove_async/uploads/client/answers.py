"""What the error answers of upload servers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from trove_async.errors import (
    ChecksumError,
    TroveError,
    UnsupportedError,
    UploadExpiredError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.types import EMPTY
from trove_async.uploads.protocol.fields import whole_number
from trove_async.uploads.protocol.problems import COMPLETED_UPLOAD, PROBLEM_TYPE
from trove_async.web.http import media_type
from trove_async.wire.errors import STATUSES, ErrorDocument, ErrorRules, Rule
from trove_async.wire.fields import parse_retry_after

__all__ = ["error_of"]

_OWN: Final[Mapping[int, type[TroveError]]] = {
    404: UploadNotFoundError,
    409: UploadOffsetError,
    410: UploadExpiredError,
    423: UploadLockedError,
    460: ChecksumError,
}
_ADVICE: Final[Mapping[int, Rule]] = {
    401: (STATUSES[401], "the server wants other credentials, such as another header Authorization"),
    404: (UploadNotFoundError, "the server has no such upload; check the URL, or upload again"),
    405: (UnsupportedError, "the server does not offer this at the URL; check that uploads are created there"),
    409: (UploadOffsetError, "the server has another offset"),
    410: (UploadExpiredError, "the server has removed the upload; upload again"),
    412: (UnsupportedError, "the server does not speak version 1.0.0 of tus"),
    460: (ChecksumError, "the server received other bytes than were sent; something on the way changes them"),
}


def _special(status: int | None, code: str | None, message: str) -> Rule | None:
    return None if status is None else _ADVICE.get(status)


def _read(body: bytes) -> ErrorDocument | None:
    """Return the words of problem details, or of a text that is short enough to be meant for people."""
    try:
        found = json.loads(body)
    except ValueError:
        text = body.decode(errors="replace").strip()
        return ErrorDocument(None, None if text.startswith("<") else text)
    if not isinstance(found, dict):
        return None
    words = (found.get(name) for name in ("detail", "title", "message", "error"))
    return ErrorDocument(None, next((word for word in words if isinstance(word, str) and word), None))


_RULES: Final = ErrorRules(
    service="an upload server",
    read=_read,
    codes={},
    statuses={status: _OWN.get(status) or STATUSES.get(status, UploadRejectedError) for status in range(400, 500)},
    headers=(),
    request_ids=("x-request-id",),
    special=_special,
)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> TroveError:
    """Return the error of an answer whose status is no success.

    Args:
        status, headers: of the answer; names in lower case.
        body: its first bytes.
    """
    document = _read(body)
    problem = _problem(headers, body)
    if problem.get("type") == COMPLETED_UPLOAD:
        return UploadOffsetError("the server has completed the upload already", status=status)
    if problem.get("code") == "Checksum":  # of this library's server, in the protocol that has no status for it
        status = 460
    error = _RULES.error(
        status,
        None,
        None if document is None else document.message,
        request_id=headers.get("x-request-id"),
        retry_after=parse_retry_after(headers.get("retry-after")),
        about="service",
    )
    if isinstance(error, UploadOffsetError):
        error.offset = whole_number(headers, "upload-offset")
    if isinstance(error, UploadRejectedError):
        error.status_code = status
    if 300 <= status < 400 and "location" in headers:
        error.message += "; only the redirects 307 and 308 are followed"
    return error


def _problem(headers: Mapping[str, str], body: bytes) -> Mapping[str, object]:
    """Return the members of problem details (RFC 9457); none if the body is something else."""
    if media_type(headers) != PROBLEM_TYPE:
        return EMPTY
    try:
        found = json.loads(body)
    except ValueError:
        return EMPTY
    return found if isinstance(found, dict) else EMPTY
