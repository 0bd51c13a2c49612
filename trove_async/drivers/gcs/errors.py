"""What Cloud Storage says went wrong, in the classes of `trove_async.errors`: reasons of JSON, codes of XML.

https://cloud.google.com/storage/docs/json_api/v1/status-codes,
https://cloud.google.com/storage/docs/xml-api/reference-status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trove_async.drivers.gcs.documents import MALFORMED
from trove_async.errors import (
    AccessDeniedError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ChecksumError,
    ConflictError,
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
from trove_async.wire.errors import ErrorDocument, ErrorRules, Rule
from trove_async.wire.xml import parse_if_xml, text

__all__ = ["CODES", "REASONS", "RULES", "ErrorResponse", "read_error"]

_TOKEN: Final = "the token is refused: check the credentials, and that the clock is right"
_HELD: Final = "an object hold or the bucket's retention keeps the object as it is"
_PAYER: Final = "the bucket bills whoever asks: give user_project"
_CLOCK: Final = "this machine's clock is wrong; set it"

REASONS: Final[Mapping[str, Rule]] = {
    "authError": (UnauthenticatedError, _TOKEN),
    "accountDisabled": (AccessDeniedError, "the account is disabled"),
    "backendError": (TransientError, None),
    "badRequest": (InvalidArgumentError, None),
    "conditionNotMet": (PreconditionFailedError, None),
    "conflict": (ConflictError, None),
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
    "uploadBrokenConnection": (TransientError, "the body did not arrive completely"),
    "uploadTooLarge": (ContentTooLargeError, None),
    "usageLimits": (ThrottledError, None),
    "userProjectInconsistent": (InvalidArgumentError, None),
    "userProjectMissing": (AccessDeniedError, _PAYER),
    "userRateLimitExceeded": (ThrottledError, None),
}
"""A reason of the JSON API: the class of the error, and advice that stands before the service's own words."""

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
    "MetadataTooLarge": (InvalidMetadataError, "the metadata is larger than the service accepts"),
    "MethodNotAllowed": (UnsupportedError, "the service does not have the operation"),
    "MissingSecurityHeader": (UnauthenticatedError, None),
    "NoSuchBucket": (BucketNotFoundError, None),
    "NoSuchKey": (ObjectNotFoundError, None),
    "NoSuchUpload": (UploadNotFoundError, None),
    "NotImplemented": (UnsupportedError, "the service does not have the operation"),
    "ObjectUnderActiveHold": (AccessDeniedError, _HELD),
    "OperationAborted": (ConflictError, None),
    "PreconditionFailed": (PreconditionFailedError, None),
    "RequestTimeout": (OperationTimeoutError, None),
    "RetentionPolicyNotMet": (AccessDeniedError, _HELD),
    "ServiceUnavailable": (UnavailableError, None),
    "SignatureDoesNotMatch": (UnauthenticatedError, "the key does not fit the account"),
    "SlowDown": (ThrottledError, None),
    "TooManyBuckets": (StorageFullError, "the project has its maximum number of buckets"),
    "UserProjectMissing": (AccessDeniedError, _PAYER),
}
"""A code of the XML API; as `REASONS`."""

_MISMATCH = re.compile(r"(?:crc32c|md5)\b.*(?:does(?:n't| not)|did not) match", re.I | re.S)
_MISSING_BUCKET = re.compile(r"bucket does not exist", re.I)
_MISSING_OBJECT = re.compile(r"no such object|object .*not found|not found in bucket", re.I)
_NOT_EMPTY = re.compile(r"not empty", re.I)
_METADATA = re.compile(r"metadata.*(?:too large|exceed)", re.I | re.S)


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is an error.

    Attributes:
        error: to raise.
        unclear: whether something does not exist and the answer does not say what: the object, or its bucket.
    """

    error: TroveError
    unclear: bool


def _read(content: bytes) -> ErrorDocument | None:
    if not content.lstrip().startswith(b"{"):
        return _read_xml(content)
    try:
        error = json.loads(content)["error"]
        if isinstance(error, str):  # the form of the token service
            return ErrorDocument(error, None)
        reasons = [item.get("reason") for item in error.get("errors") or ()]
        return ErrorDocument(_text(reasons[0] if reasons else error.get("status")), _text(error.get("message")))
    except MALFORMED:
        return None


def _read_xml(content: bytes) -> ErrorDocument | None:
    root = parse_if_xml(content)
    if root is None or root.tag != "Error":
        return None
    message = " ".join(part for part in (text(root, "Message"), text(root, "Details")) if part)
    return ErrorDocument(text(root, "Code"), message)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _special(status: int | None, code: str | None, message: str) -> Rule | None:
    if status in (400, 412) and _MISMATCH.search(message):
        return ChecksumError, None
    if status == 400 and _METADATA.search(message):
        return InvalidMetadataError, "the metadata is larger than the service accepts"
    if status == 401:
        return UnauthenticatedError, _TOKEN
    if status == 409 and _NOT_EMPTY.search(message):
        return BucketNotEmptyError, None
    if status in (404, 410) or code == "notFound":
        if _MISSING_BUCKET.search(message):
            return BucketNotFoundError, None
        if _MISSING_OBJECT.search(message):
            return ObjectNotFoundError, None
    return None


RULES: Final = ErrorRules(
    service="Cloud Storage",
    read=_read,
    codes={**REASONS, **CODES},
    statuses={},
    headers=("x-goog-", "x-guploader-"),
    request_ids=("x-guploader-uploadid",),
    special=_special,
    unnamed=frozenset({"notFound"}),
)


def read_error(
    bucket: str, key: str, status: int, headers: Mapping[str, str], content: bytes, *, plain: bool = False
) -> ErrorResponse:
    """Read an answer that is an error.

    Args:
        bucket, key: of the request; empty if it was about none.
        status, headers, content: of the answer; the headers' names in lower case.
        plain: whether the message may come as text, as it does where bytes of an object were asked for.
    """
    document = RULES.read(content)
    if document is None and plain and not content.lstrip().startswith(b"<"):
        document = ErrorDocument(None, content.decode(errors="replace").strip())
    error = RULES.error_of(bucket, key, status, headers, content, document)
    named = document is not None and (
        document.code == "NoSuchKey" or _MISSING_OBJECT.search(document.message or "") is not None
    )
    return ErrorResponse(error, isinstance(error, ObjectNotFoundError) and not named)
