"""What Azure says went wrong, in the classes of `trove_async.errors`: one table of codes, one of statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trove_async.dsn import redact
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotFoundError,
    ChecksumError,
    ContentTooLargeError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidTagsError,
    NotFoundError,
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectChangedError,
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
)
from trove_async.wire.fields import parse_retry_after
from trove_async.wire.xml import parse, text

__all__ = ["CODES", "DISCARDED", "MIXED_IDS", "STATUSES", "UNAUTHENTICATED", "Refusal", "credential_error", "refusal"]

UNAUTHENTICATED: Final = frozenset({"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"})
"""The codes that a new token, or the right time, may mend."""

DISCARDED: Final = "InvalidBlockList"
"""The code of a commit some of whose blocks are not there."""

MIXED_IDS: Final = "InvalidBlobOrBlock"
"""The code of a block whose id has another length than those that there are."""

_KEY = "check the account key, or the shared access signature and its expiry"
_TOKEN = "the token was refused"
_ARCHIVED = "the blob is archived; rehydrate it first"
_LEASED = "the blob or container is leased to someone else"
_SNAPSHOTS = "the blob has snapshots, which would go with it; delete them first"
_WITHOUT = "the service does not have the operation"

CODES: Final[dict[str, tuple[type[TroveError], str | None]]] = {
    # https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
    # https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
    # Who asks.
    "AccountIsDisabled": (AccessDeniedError, None),
    "AuthenticationFailed": (UnauthenticatedError, _KEY),
    "AuthorizationFailure": (AccessDeniedError, None),
    "AuthorizationPermissionMismatch": (
        AccessDeniedError,
        "the credentials lack a role, or the signature a permission",
    ),
    "AuthorizationProtocolMismatch": (AccessDeniedError, None),
    "AuthorizationResourceTypeMismatch": (AccessDeniedError, None),
    "AuthorizationServiceMismatch": (AccessDeniedError, None),
    "AuthorizationSourceIPMismatch": (AccessDeniedError, None),
    "CannotVerifyCopySource": (BackendError, "the source of the copy could not be read"),
    "InsufficientAccountPermissions": (AccessDeniedError, None),
    "InvalidAuthenticationInfo": (UnauthenticatedError, _TOKEN),
    "KeyBasedAuthenticationNotPermitted": (AccessDeniedError, "the account takes no account keys"),
    "NoAuthenticationInformation": (UnauthenticatedError, None),
    "PublicAccessNotPermitted": (AccessDeniedError, None),
    # What is not there, or is already.
    "BlobAlreadyExists": (ObjectAlreadyExistsError, None),
    "BlobNotFound": (ObjectNotFoundError, None),
    "ContainerAlreadyExists": (BucketAlreadyExistsError, None),
    "ContainerBeingDeleted": (TransientError, "the container is being deleted, which takes half a minute or so"),
    "ContainerDisabled": (AccessDeniedError, None),
    "ContainerNotFound": (BucketNotFoundError, None),
    "MessageNotFound": (NotFoundError, None),
    "PopReceiptMismatch": (NotFoundError, None),
    "QueueNotFound": (NotFoundError, "the queue does not exist"),
    "ResourceAlreadyExists": (ObjectAlreadyExistsError, None),
    "ResourceNotFound": (NotFoundError, None),
    # Conditions and conflicts.
    "BlobArchived": (BackendError, _ARCHIVED),
    "BlobBeingRehydrated": (BackendError, "the blob is being rehydrated"),
    "BlobImmutableDueToPolicy": (AccessDeniedError, "the container keeps its blobs unchanged"),
    "BlobOverwritten": (TransientError, "the blob was overwritten meanwhile"),
    "ConditionHeadersNotSupported": (UnsupportedError, None),
    "ConditionNotMet": (PreconditionFailedError, None),
    "LeaseIdMissing": (AccessDeniedError, _LEASED),
    "LeaseAlreadyPresent": (AccessDeniedError, _LEASED),
    "NoPendingCopyOperation": (NotFoundError, None),
    "PendingCopyOperation": (TransientError, "a copy to the blob is under way"),
    "SnapshotsPresent": (BackendError, _SNAPSHOTS),
    "SourceConditionNotMet": (ObjectChangedError, "the source of the copy was replaced meanwhile"),
    "TargetConditionNotMet": (PreconditionFailedError, None),
    # What was sent.
    "BlockCountExceedsLimit": (InvalidPartError, None),
    "BlockListTooLong": (InvalidPartError, None),
    "Crc64Mismatch": (ChecksumError, None),
    "EmptyMetadataKey": (InvalidMetadataError, None),
    "EmptyTagName": (InvalidTagsError, None),
    "InvalidBlobOrBlock": (InvalidPartError, "the blob has uncommitted blocks whose ids have another length"),
    "InvalidBlobTier": (InvalidArgumentError, "the account has no such tier"),
    "InvalidBlobType": (BackendError, "the blob is no block blob"),
    "InvalidBlockId": (InvalidPartError, None),
    "InvalidBlockList": (InvalidPartError, "blocks are missing: another write of the same blob has discarded them"),
    "InvalidHeaderValue": (InvalidArgumentError, None),
    "InvalidMd5": (ChecksumError, None),
    "InvalidMetadata": (InvalidMetadataError, None),
    "InvalidRange": (RangeNotSatisfiableError, None),
    "InvalidResourceName": (InvalidBucketNameError, None),
    "InvalidTag": (InvalidTagsError, None),
    "InvalidUri": (InvalidKeyError, None),
    "Md5Mismatch": (ChecksumError, None),
    "MetadataTooLarge": (InvalidMetadataError, "the metadata is larger than Azure takes"),
    "OutOfRangeInput": (InvalidArgumentError, None),
    "RequestBodyTooLarge": (ContentTooLargeError, None),
    "TagsTooLarge": (InvalidTagsError, None),
    # What the service does not have.
    "FeatureNotSupported": (UnsupportedError, _WITHOUT),
    "FeatureVersionMismatch": (UnsupportedError, None),
    "NotImplemented": (UnsupportedError, _WITHOUT),
    "UnsupportedHeader": (UnsupportedError, None),
    "UnsupportedHttpVerb": (UnsupportedError, _WITHOUT),
    # What passes, or does not fit.
    "InternalError": (TransientError, None),
    "OperationTimedOut": (OperationTimeoutError, None),
    "ServerBusy": (ThrottledError, None),
    "IngressQuotaExceeded": (ThrottledError, None),
    "TooManyRequests": (ThrottledError, None),
    "AccountLimitExceeded": (StorageFullError, None),
}
"""A service's code: the class of the error, and what to say about it beside the service's own words."""

STATUSES: Final[dict[int, type[TroveError]]] = {
    304: NotModifiedError,
    400: BackendError,
    401: UnauthenticatedError,
    403: AccessDeniedError,
    404: NotFoundError,
    405: UnsupportedError,
    408: OperationTimeoutError,
    412: PreconditionFailedError,
    413: ContentTooLargeError,
    416: RangeNotSatisfiableError,
    429: ThrottledError,
    501: UnsupportedError,
    502: UnavailableError,
    503: ThrottledError,
    504: UnavailableError,
    507: StorageFullError,
}
"""The class for an answer without a code that is known."""

_MD5 = re.compile(r"md5", re.IGNORECASE)
_LONGEST_MESSAGE: Final = 400


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success.

    Attributes:
        error: to raise.
        code: the service's; None where the answer has none, as those of proxies.
    """

    error: TroveError
    code: str | None = None


def refusal(
    method: str,
    bucket: str,
    key: str,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    ambiguous: bool = False,
) -> Refusal:
    """Read an answer that is no success.

    Args:
        method, bucket, key: of the request; empty where it was about none.
        status, headers, content: of the answer; the headers' names in lower case.
        ambiguous: whether the request may have taken effect all the same.
    """
    code, message = _told(content)
    code = headers.get("x-ms-error-code") or code
    request_id = headers.get("x-ms-request-id")
    if code is None and request_id is None and "x-ms-version" not in headers and (content or status in (404, 405)):
        error: TroveError = _no_azure(status, headers)
    else:
        kind, advice = _rule(status, code, message)
        if kind is NotFoundError and code in (None, "ResourceNotFound"):
            kind = ObjectNotFoundError if key else BucketNotFoundError if bucket else NotFoundError
        said = ": ".join(part for part in (code, message) if part)
        words = [advice or kind.default_message, redact(said)[:_LONGEST_MESSAGE]]
        error = kind(
            "; the service says: ".join(part for part in words if part),
            status=status,
            request_id=request_id,
            retry_after=parse_retry_after(headers.get("retry-after")),
        )
    if isinstance(error, BucketNotFoundError) and bucket:
        error.bucket = bucket
    error.ambiguous = ambiguous
    return Refusal(error, code)


def _rule(status: int, code: str | None, message: str | None) -> tuple[type[TroveError], str | None]:
    if code is not None and _MD5.search(message or "") and status == 400:
        return ChecksumError, None  # the emulator has no code of its own for it
    if code in CODES and status != 304:
        return CODES[code]
    if status in STATUSES:
        return STATUSES[status], None
    return (TransientError if status >= 500 else BackendError), None


def _told(content: bytes) -> tuple[str | None, str | None]:
    # A byte order mark stands before the documents of the service.
    content = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not content.startswith(b"<"):
        return None, None
    try:
        root = parse(content)
    except BackendError:
        return None, None
    if root.tag != "Error":
        return None, None
    message = text(root, "Message") or ""
    detail = text(root, "AuthenticationErrorDetail")
    # The lines after the first are the request's id and time.
    return text(root, "Code") or None, "; ".join(part for part in (message.partition("\n")[0], detail) if part)


def _no_azure(status: int, headers: Mapping[str, str]) -> TroveError:
    kind = headers.get("content-type", "something").partition(";")[0]
    server = headers.get("server")
    named = f" of {server!r}" if server else ""
    words = f"the endpoint does not speak Azure's protocol: the answer{named} is {kind}, with none of its headers"
    retryable = STATUSES.get(status, TransientError if status >= 500 else BackendError)
    if issubclass(retryable, TransientError):
        return retryable(words, status=status, retry_after=parse_retry_after(headers.get("retry-after")))
    return BackendError(f"{words}; check the endpoint", status=status)


def credential_error(error: Exception) -> TroveError:
    """Return the error for one that azure-identity raised; raise it ``from`` that one."""
    words = redact(" ".join(str(error).split()))[:_LONGEST_MESSAGE]
    return UnauthenticatedError(
        "no token of Microsoft Entra ID could be had; give an account key, a sas or a connection string, "
        f"or sign in: {words}"
    )
