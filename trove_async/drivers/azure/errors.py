"""What the error answers of Azure mean, in the classes of `trove_async.errors`: one table of codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotFoundError,
    ChecksumError,
    ConflictError,
    ContentTooLargeError,
    CopyNotSupportedError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidTagsError,
    NotFoundError,
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
    UnsupportedError,
)
from trove_async.wire.errors import ErrorDocument, ErrorRules, Rule, clean
from trove_async.wire.xml import parse_if_xml, text

__all__ = ["CODES", "RULES", "UNAUTHENTICATED", "credential_error", "read_error"]

UNAUTHENTICATED: Final = frozenset({"AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"})
"""Codes after which a new token, or the service's own time, may help."""

_KEY = "check the account key, or the shared access signature and its expiry"
_TOKEN = "the token was refused"
_ARCHIVED = "the blob is archived; rehydrate it first"
_LEASED = "the blob or container is leased to someone else"
_SNAPSHOTS = "the blob has snapshots, which would be deleted with it; delete them first"
_OTHER_TYPE = (
    "the blob is an append blob or a page blob, and Azure does not replace one by a block blob; delete it first"
)
_WITHOUT = "the service does not have the operation"

CODES: Final[dict[str, Rule]] = {
    # https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
    # https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
    # Who asks.
    "AccountBeingCreated": (TransientError, "the account is being created"),
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
    "CannotVerifyCopySource": (CopyNotSupportedError, "the service cannot read the source of the copy"),
    "InsufficientAccountPermissions": (AccessDeniedError, None),
    "InvalidAuthenticationInfo": (UnauthenticatedError, _TOKEN),
    "KeyBasedAuthenticationNotPermitted": (AccessDeniedError, "the account takes no account keys"),
    "NoAuthenticationInformation": (UnauthenticatedError, None),
    "PublicAccessNotPermitted": (AccessDeniedError, None),
    # What is not there, or is already.
    "BlobAlreadyExists": (ObjectAlreadyExistsError, None),
    "BlobNotFound": (ObjectNotFoundError, None),
    "ContainerAlreadyExists": (BucketAlreadyExistsError, None),
    "ContainerBeingDeleted": (TransientError, "the container is being deleted, which takes about half a minute"),
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
    "BlobOverwritten": (ConflictError, "the blob was overwritten meanwhile"),
    "ConditionHeadersNotSupported": (UnsupportedError, None),
    "ConditionNotMet": (PreconditionFailedError, None),
    "InfiniteLeaseDurationRequired": (AccessDeniedError, _LEASED),
    "LeaseAlreadyBroken": (AccessDeniedError, _LEASED),
    "LeaseAlreadyPresent": (AccessDeniedError, _LEASED),
    "LeaseIdMismatchWithBlobOperation": (AccessDeniedError, _LEASED),
    "LeaseIdMismatchWithContainerOperation": (AccessDeniedError, _LEASED),
    "LeaseIdMismatchWithLeaseOperation": (AccessDeniedError, _LEASED),
    "LeaseIdMissing": (AccessDeniedError, _LEASED),
    "LeaseIsBreakingAndCannotBeAcquired": (AccessDeniedError, _LEASED),
    "LeaseIsBreakingAndCannotBeChanged": (AccessDeniedError, _LEASED),
    "LeaseIsBrokenAndCannotBeRenewed": (AccessDeniedError, _LEASED),
    "LeaseLost": (AccessDeniedError, _LEASED),
    "LeaseNotPresentWithBlobOperation": (AccessDeniedError, _LEASED),
    "LeaseNotPresentWithContainerOperation": (AccessDeniedError, _LEASED),
    "LeaseNotPresentWithLeaseOperation": (AccessDeniedError, _LEASED),
    "NoPendingCopyOperation": (NotFoundError, None),
    "PendingCopyOperation": (ConflictError, "a copy to the blob is under way"),
    "ResourceTypeMismatch": (BackendError, None),
    "SnapshotOperationRateExceeded": (ThrottledError, None),
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
    "InvalidBlobType": (UnsupportedError, _OTHER_TYPE),
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
    "CopyAcrossAccountsNotSupported": (CopyNotSupportedError, None),
    "FeatureNotSupported": (UnsupportedError, _WITHOUT),
    "FeatureVersionMismatch": (UnsupportedError, None),
    "NotImplemented": (UnsupportedError, _WITHOUT),
    "UnsupportedHeader": (UnsupportedError, None),
    "UnsupportedHttpVerb": (UnsupportedError, _WITHOUT),
    # Transient failures, and quotas.
    "InternalError": (TransientError, None),
    "OperationTimedOut": (OperationTimeoutError, None),
    "ServerBusy": (ThrottledError, None),
    "IngressQuotaExceeded": (ThrottledError, None),
    "TooManyRequests": (ThrottledError, None),
    "AccountLimitExceeded": (StorageFullError, None),
}
"""A service's code: the class of the error, and what to say about it beside the service's own words."""

_MD5: Final = re.compile(r"md5", re.IGNORECASE)


def _read(content: bytes) -> ErrorDocument | None:
    root = parse_if_xml(content)
    if root is None or root.tag != "Error":
        return None
    message = text(root, "Message") or ""
    detail = text(root, "AuthenticationErrorDetail")
    # The lines after the first are the request's id and time.
    words = "; ".join(part for part in (message.partition("\n")[0], detail) if part)
    return ErrorDocument(text(root, "Code") or None, words or None)


def _special(status: int | None, code: str | None, message: str) -> Rule | None:
    if code is not None and status == 400 and _MD5.search(message):
        return ChecksumError, None  # the emulator has no code of its own for it
    return None


RULES: Final = ErrorRules(
    service="Azure Blob Storage",
    read=_read,
    codes=CODES,
    statuses={503: ThrottledError},
    headers=("x-ms-",),
    request_ids=("x-ms-request-id",),
    special=_special,
    unnamed=frozenset({"ResourceNotFound"}),
    headed=frozenset({404, 405}),
    successes=frozenset({200, 201, 202, 204}),
    headed_writes=True,
)


def read_error(
    bucket: str, key: str, status: int, headers: Mapping[str, str], content: bytes
) -> tuple[TroveError, str | None]:
    """Read an answer that is an error; return the error and the service's code, None if the answer has none.

    Args:
        bucket, key: of the request; empty if it was about none.
        status, headers, content: of the answer; the headers' names in lower case.
    """
    document = RULES.read(content)
    code = headers.get("x-ms-error-code") or (document.code if document is not None else None)
    if code is not None:
        # The header stands in answers without a body too, such as those to a HEAD.
        document = ErrorDocument(code, document.message if document is not None else None)
    return RULES.error_of(bucket, key, status, headers, content, document), code


def credential_error(error: Exception) -> TroveError:
    """Return the error for one that azure-identity raised; raise it ``from`` that one."""
    return UnauthenticatedError(
        "no token of Microsoft Entra ID could be fetched; give an account key, a sas or a connection string, "
        f"or sign in: {clean(str(error))}"
    )
