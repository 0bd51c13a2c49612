"""What Cloud Storage says went wrong, in the classes of `trove_async.errors`: reasons, codes, statuses.

https://cloud.google.com/storage/docs/json_api/v1/status-codes,
https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ChecksumError,
    ContentTooLargeError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    NotFoundError,
    NotModifiedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.wire.fields import parse_retry_after
from trove_async.wire.xml import parse, text

__all__ = ["CODES", "REASONS", "STATUSES", "refusal"]

_TOKEN: Final = "the token is refused: check the credentials, and that the clock is right"
_HELD: Final = "an object hold or the bucket's retention keeps the object as it is"
_PAYER: Final = "the bucket bills whoever asks: give user_project"
_CLOCK: Final = "this machine's clock is wrong; set it"

Rule = tuple[type[TroveError], str | None]

REASONS: Final[Mapping[str, Rule]] = {
    "authError": (UnauthenticatedError, _TOKEN),
    "accountDisabled": (AccessDeniedError, "the account is disabled"),
    "backendError": (TransientError, None),
    "badRequest": (InvalidArgumentError, None),
    "conditionNotMet": (PreconditionFailedError, None),
    "conflict": (BucketAlreadyExistsError, "the name is taken, by whomever"),
    "countryBlocked": (AccessDeniedError, None),
    "dailyLimitExceeded": (ThrottledError, None),
    "expired": (UnauthenticatedError, _TOKEN),
    "forbidden": (AccessDeniedError, None),
    "insufficientPermissions": (AccessDeniedError, None),
    "internalError": (TransientError, None),
    "invalid": (InvalidArgumentError, None),
    "invalidArgument": (InvalidArgumentError, None),
    "invalidParameter": (InvalidArgumentError, None),
    "methodNotAllowed": (UnsupportedError, "the service does not have the operation"),
    "notFound": (NotFoundError, None),
    "notImplemented": (UnsupportedError, "the service does not have the operation"),
    "notModified": (NotModifiedError, None),
    "parseError": (InvalidArgumentError, None),
    "objectUnderActiveHold": (AccessDeniedError, _HELD),
    "orgPolicyConstraintFailed": (AccessDeniedError, "a policy of the organisation forbids it"),
    "quotaExceeded": (StorageFullError, "the quota is used up"),
    "rateLimitExceeded": (ThrottledError, None),
    "required": (InvalidArgumentError, None),
    "requestedRangeNotSatisfiable": (RangeNotSatisfiableError, None),
    "retentionPolicyNotMet": (AccessDeniedError, _HELD),
    "sslRequired": (AccessDeniedError, "the service wants https"),
    "stalled": (OperationTimeoutError, None),
    "uploadBrokenConnection": (TransientError, "the body did not arrive whole"),
    "uploadTooLarge": (ContentTooLargeError, None),
    "usageLimits": (ThrottledError, None),
    "userProjectInconsistent": (InvalidArgumentError, None),
    "userProjectMissing": (AccessDeniedError, _PAYER),
    "userRateLimitExceeded": (ThrottledError, None),
}
"""A reason of the JSON API: the class of the error, and what to say about it beside the service's own words."""

CODES: Final[Mapping[str, Rule]] = {
    "AccessDenied": (AccessDeniedError, None),
    "AccountProblem": (AccessDeniedError, None),
    "AuthenticationRequired": (UnauthenticatedError, _TOKEN),
    "BadDigest": (ChecksumError, None),
    "BucketNotEmpty": (BucketNotEmptyError, None),
    "EntityTooLarge": (ContentTooLargeError, None),
    "EntityTooSmall": (InvalidPartError, "a part other than the last is too small"),
    "ExpiredToken": (UnauthenticatedError, _CLOCK),
    "InternalError": (TransientError, None),
    "InvalidArgument": (InvalidArgumentError, None),
    "InvalidBucketName": (InvalidBucketNameError, None),
    "InvalidDigest": (ChecksumError, None),
    "InvalidPart": (InvalidPartError, None),
    "InvalidPartNumber": (InvalidPartError, None),
    "InvalidPartOrder": (InvalidPartError, "the parts are not in the order of their numbers"),
    "InvalidRange": (RangeNotSatisfiableError, None),
    "InvalidSecurity": (UnauthenticatedError, None),
    "InvalidURI": (InvalidKeyError, None),
    "KeyTooLong": (InvalidKeyError, None),
    "MalformedCompleteMultipartUploadRequest": (InvalidPartError, None),
    "MetadataTooLarge": (InvalidMetadataError, "the metadata is larger than the service takes"),
    "MethodNotAllowed": (UnsupportedError, "the service does not have the operation"),
    "MissingSecurityHeader": (UnauthenticatedError, None),
    "NoSuchBucket": (BucketNotFoundError, None),
    "NoSuchKey": (ObjectNotFoundError, None),
    "NoSuchUpload": (UploadNotFoundError, None),
    "NotImplemented": (UnsupportedError, "the service does not have the operation"),
    "ObjectUnderActiveHold": (AccessDeniedError, _HELD),
    "OperationAborted": (TransientError, "another operation on the same thing is under way"),
    "PreconditionFailed": (PreconditionFailedError, None),
    "RequestTimeout": (OperationTimeoutError, None),
    "RetentionPolicyNotMet": (AccessDeniedError, _HELD),
    "ServiceUnavailable": (UnavailableError, None),
    "SignatureDoesNotMatch": (UnauthenticatedError, "the key does not fit the account"),
    "SlowDown": (ThrottledError, None),
    "TooManyBuckets": (StorageFullError, "the project has as many buckets as it may"),
    "UserProjectMissing": (AccessDeniedError, _PAYER),
}
"""A code of the XML API: as `REASONS`."""

STATUSES: Final[Mapping[int, type[TroveError]]] = {
    304: NotModifiedError,
    400: BackendError,
    401: UnauthenticatedError,
    403: AccessDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    408: OperationTimeoutError,
    409: TransientError,
    410: NotFoundError,
    411: BackendError,
    412: PreconditionFailedError,
    413: ContentTooLargeError,
    416: RangeNotSatisfiableError,
    429: ThrottledError,
    501: UnsupportedError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
"""The class for an answer without a reason or code that is known."""

_LONGEST_MESSAGE: Final = 400
_MISMATCH = re.compile(r"(?:crc32c|md5)\b.*(?:does(?:n't| not)|did not) match", re.I | re.S)
_MISSING_BUCKET = re.compile(r"bucket does not exist", re.I)
_MISSING_OBJECT = re.compile(r"no such object|object .*not found|not found in bucket", re.I)
_NOT_EMPTY = re.compile(r"not empty", re.I)
_METADATA = re.compile(r"metadata.*(?:too large|exceed)", re.I | re.S)


def refusal(
    bucket: str,
    key: str,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    ambiguous: bool = False,
    plain: bool = False,
) -> TroveError:
    """Return the error for an answer that is no success.

    Args:
        bucket, key: of the request; empty where it was about none.
        status, headers, content: of the answer; the headers' names in lower case.
        ambiguous: whether the request may have taken effect all the same.
        plain: whether the message may come as text, as it does where bytes of an object were asked for.
    """
    told = _read(content)
    if told is None and plain and not content.lstrip().startswith(b"<"):
        told = None, content.decode(errors="replace").strip()
    if told is None and content and status < 500 and not _is_googles(headers):
        error: TroveError = _alien(status, headers)
    else:
        code, message = told or (None, None)
        error = _error_of(status, code, message, headers, about="object" if key else "bucket" if bucket else "service")
    if isinstance(error, BucketNotFoundError) and bucket:
        error.bucket = bucket
    error.ambiguous = ambiguous
    return error


def _error_of(
    status: int, code: str | None, message: str | None, headers: Mapping[str, str], *, about: str
) -> TroveError:
    kind, advice = _rule(status, code, message or "", about)
    if kind is NotFoundError:
        kind = _missing(message or "", about)
    said = ": ".join(part for part in (code, message) if part)
    words = [advice or kind.default_message, redact(said)[:_LONGEST_MESSAGE]]
    return kind(
        "; the service says: ".join(part for part in words if part),
        status=status,
        request_id=headers.get("x-guploader-uploadid"),
        retry_after=parse_retry_after(headers.get("retry-after")),
    )


def _rule(status: int, code: str | None, message: str, about: str) -> Rule:
    if status in (400, 412) and _MISMATCH.search(message):
        return ChecksumError, None
    if status == 400 and _METADATA.search(message):
        return InvalidMetadataError, "the metadata is larger than the service takes"
    if status == 409 and _NOT_EMPTY.search(message):
        return BucketNotEmptyError, None
    if status == 409 and about == "object":
        return TransientError, "another operation on the same object is under way"
    if status == 401:
        return UnauthenticatedError, _TOKEN
    if code is not None and code in CODES:
        return CODES[code]
    if code is not None and code in REASONS:
        return REASONS[code]
    if status in STATUSES:
        return STATUSES[status], None
    return (TransientError if status >= 500 else BackendError), None


def _missing(message: str, about: str) -> type[NotFoundError]:
    if _MISSING_BUCKET.search(message):
        return BucketNotFoundError
    if _MISSING_OBJECT.search(message):
        return ObjectNotFoundError
    return BucketNotFoundError if about == "bucket" else NotFoundError


def _read(content: bytes) -> tuple[str | None, str | None] | None:
    """Return reason or code, and message; None for a body that tells no error of the service's."""
    start = content.lstrip()[:1]
    if start == b"<":
        try:
            root = parse(content)
        except BackendError:
            return None
        return (
            (text(root, "Code"), _joined(text(root, "Message"), text(root, "Details"))) if root.tag == "Error" else None
        )
    if start != b"{":
        return None
    try:
        error = json.loads(content)["error"]
        if isinstance(error, str):  # as the service of tokens says it
            return error, None
        reasons = [item.get("reason") for item in error.get("errors", ())]
        return (reasons[0] if reasons else error.get("status")), error.get("message")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _is_googles(headers: Mapping[str, str]) -> bool:
    return any(name.startswith(("x-goog-", "x-guploader-")) for name in headers)


def _alien(status: int, headers: Mapping[str, str]) -> BackendError:
    kind = headers.get("content-type", "something").partition(";")[0]
    server = headers.get("server")
    named = f" of {server!r}" if server else ""
    return BackendError(
        f"the endpoint does not speak the protocol of Cloud Storage: the answer{named} is {kind}, "
        "and tells no error as the service does; check the endpoint",
        status=status,
    )
