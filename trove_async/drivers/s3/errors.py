"""Convert errors of S3 and its SDK to the classes of `trove_async.errors`: a table of codes, and one of statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ChecksumError,
    ConflictError,
    ContentTooLargeError,
    CopyNotSupportedError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidLifecycleError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidTagsError,
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
    VersionNotFoundError,
)
from trove_async.wire.client import may_have_succeeded
from trove_async.wire.errors import ErrorDocument, ErrorRules, Rule, clean
from trove_async.wire.fields import parse_retry_after
from trove_async.wire.tls import ADVICE
from trove_async.wire.xml import parse_if_xml

__all__ = [
    "CODES",
    "ELSEWHERE",
    "EXPIRED",
    "MOST_SKEW",
    "RULES",
    "SKEWED",
    "STATUSES",
    "ErrorResponse",
    "read_error",
    "sdk_error",
]

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
"""Codes after which a request is sent again with new credentials."""

SKEWED: Final = frozenset({"RequestTimeTooSkewed"})
"""Codes after which a request is signed again with the service's time."""

MOST_SKEW: Final = 15 * 60
"""Seconds by which a clock may be wrong before S3 refuses what it has signed."""

ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect"}
)
"""Codes after which a request is sent again to the bucket's own region, if the answer names it."""

_SECRET = "check the secret key, and that nothing between here and the service changes requests"
_RENEW = "the credentials expired and could not be renewed"
_CLOCK = "this machine's clock is wrong; set it"
_REGION = "the bucket is in another region; put that region into the DSN"
_ARCHIVED = "the object is archived; restore it first"
_AGAIN = "another write of the same object is under way"

CODES: Final[dict[str, Rule]] = {
    # Credentials. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    "AccessDenied": (AccessDeniedError, None),
    "AccessDeniedException": (AccessDeniedError, None),
    "AccountProblem": (AccessDeniedError, None),
    "AllAccessDisabled": (AccessDeniedError, None),
    "AuthorizationQueryParametersError": (UnauthenticatedError, None),
    "CredentialsNotSupported": (UnauthenticatedError, None),
    "ExpiredToken": (UnauthenticatedError, _RENEW),
    "ExpiredTokenException": (UnauthenticatedError, _RENEW),
    "Forbidden": (AccessDeniedError, None),
    "InvalidAccessKeyId": (UnauthenticatedError, "the service does not know the access key"),
    "InvalidClientTokenId": (UnauthenticatedError, "the service does not know the access key"),
    "InvalidPayer": (AccessDeniedError, None),
    "InvalidSecurity": (UnauthenticatedError, None),
    "InvalidToken": (UnauthenticatedError, "the session token is wrong"),
    "MissingAuthenticationToken": (UnauthenticatedError, None),
    "MissingSecurityHeader": (UnauthenticatedError, None),
    "NotSignedUp": (AccessDeniedError, None),
    "RequestExpired": (UnauthenticatedError, _CLOCK),
    "RequestTimeTooSkewed": (UnauthenticatedError, _CLOCK),
    "SignatureDoesNotMatch": (UnauthenticatedError, _SECRET),
    "TokenRefreshRequired": (UnauthenticatedError, _RENEW),
    "Unauthorized": (UnauthenticatedError, None),
    "UnauthorizedAccess": (AccessDeniedError, None),
    "UnrecognizedClientException": (UnauthenticatedError, "the service does not know the access key"),
    # Regions.
    "AuthorizationHeaderMalformed": (UnauthenticatedError, None),
    "IllegalLocationConstraintException": (BackendError, _REGION),
    "IncorrectEndpoint": (BackendError, _REGION),
    "InvalidLocationConstraint": (InvalidArgumentError, "there is no such region"),
    "InvalidRegionName": (InvalidArgumentError, "there is no such region"),
    "PermanentRedirect": (BackendError, _REGION),
    "TemporaryRedirect": (BackendError, _REGION),
    # Missing and existing things.
    "BucketAlreadyExists": (BucketAlreadyExistsError, "the name is taken, by this account or another"),
    "BucketAlreadyOwnedByYou": (BucketAlreadyExistsError, None),
    "BucketNotEmpty": (BucketNotEmptyError, None),
    "NoSuchBucket": (BucketNotFoundError, None),
    "NoSuchConfiguration": (NotFoundError, None),
    "NoSuchKey": (ObjectNotFoundError, None),
    "NoSuchLifecycleConfiguration": (NotFoundError, "the bucket has no lifecycle rules"),
    "NoSuchTagSet": (NotFoundError, "there are no tags"),
    "NoSuchTagSetError": (NotFoundError, "there are no tags"),
    "NoSuchUpload": (UploadNotFoundError, None),
    "NoSuchVersion": (VersionNotFoundError, None),
    "NotFound": (NotFoundError, None),
    # Conditions and conflicts.
    "ConditionalRequestConflict": (ConflictError, _AGAIN),
    "InvalidRange": (RangeNotSatisfiableError, None),
    "NotModified": (NotModifiedError, None),
    "OperationAborted": (ConflictError, None),
    "PreconditionFailed": (PreconditionFailedError, None),
    "RestoreAlreadyInProgress": (ConflictError, None),
    "InvalidObjectState": (BackendError, _ARCHIVED),
    "ObjectNotInActiveTierError": (BackendError, _ARCHIVED),
    # Invalid requests.
    "BadDigest": (ChecksumError, None),
    "ChecksumMismatch": (ChecksumError, None),
    "EntityTooLarge": (ContentTooLargeError, None),
    "EntityTooSmall": (InvalidPartError, "a part other than the last is too small"),
    "InvalidArgument": (InvalidArgumentError, None),
    "InvalidBucketName": (InvalidBucketNameError, None),
    "InvalidDigest": (ChecksumError, None),
    "InvalidEncryptionAlgorithmError": (InvalidArgumentError, None),
    "InvalidPart": (InvalidPartError, None),
    "InvalidPartNumber": (InvalidPartError, None),
    "InvalidPartOrder": (InvalidPartError, "the parts are not in the order of their numbers"),
    "InvalidRequest": (InvalidArgumentError, None),
    "InvalidStorageClass": (InvalidArgumentError, "the service has no such storage class"),
    "InvalidTag": (InvalidTagsError, None),
    "InvalidURI": (InvalidKeyError, None),
    "KeyTooLong": (InvalidKeyError, None),
    "KeyTooLongError": (InvalidKeyError, None),
    "MetadataTooLarge": (InvalidMetadataError, "the metadata is larger than the service accepts"),
    "TooManyParts": (InvalidPartError, None),
    "XAmzContentChecksumMismatch": (ChecksumError, None),
    "XAmzContentSHA256Mismatch": (ChecksumError, None),
    # https://github.com/minio/minio/blob/master/cmd/api-errors.go
    "XMinioAdminBucketQuotaExceeded": (StorageFullError, "the bucket's quota is used up"),
    "XMinioInvalidObjectName": (InvalidKeyError, None),
    "XMinioObjectExistsAsDirectory": (InvalidKeyError, "the key is the folder of another object"),
    "XMinioParentIsObject": (InvalidKeyError, "a part of the key before a slash is an object"),
    "XMinioServerNotInitialized": (UnavailableError, None),
    "XMinioStorageFull": (StorageFullError, None),
    # Requests that a service does not understand.
    "InvalidLifecycle": (InvalidLifecycleError, None),
    "InvalidLifecycleConfiguration": (InvalidLifecycleError, None),
    "MalformedXML": (BackendError, "the service does not understand the request"),
    "MethodNotAllowed": (UnsupportedError, "the service does not have the operation"),
    "MissingContentLength": (BackendError, None),
    "NotImplemented": (UnsupportedError, "the service does not have the operation"),
    "XNotImplemented": (UnsupportedError, "the service does not have the operation"),
    # Transient failures, and quotas.
    "BandwidthLimitExceeded": (ThrottledError, None),
    "EC2ThrottledException": (ThrottledError, None),
    "IncompleteBody": (TransientError, "the body did not arrive completely"),
    "InternalError": (TransientError, None),
    "InternalFailure": (TransientError, None),
    "LimitExceededException": (ThrottledError, None),
    "QuotaExceeded": (StorageFullError, "the quota is used up"),
    "RequestLimitExceeded": (ThrottledError, None),
    "RequestThrottled": (ThrottledError, None),
    "RequestThrottledException": (ThrottledError, None),
    "RequestTimeout": (OperationTimeoutError, None),
    "RequestTimeoutException": (OperationTimeoutError, None),
    "ServiceUnavailable": (ThrottledError, None),
    "SlowDown": (ThrottledError, None),
    "SlowDownRead": (ThrottledError, None),
    "SlowDownWrite": (ThrottledError, None),
    "ThrottledException": (ThrottledError, None),
    "Throttling": (ThrottledError, None),
    "ThrottlingException": (ThrottledError, None),
    "TooManyBuckets": (StorageFullError, "the account has its maximum number of buckets"),
    "TooManyRequestsException": (ThrottledError, None),
    "WillExceedQuota": (StorageFullError, "the quota is used up"),
}
"""The class of the error for a code of the service, with an explanation that is added to the service's message."""

STATUSES: Final[dict[int, type[TroveError]]] = {
    503: ThrottledError,
}
"""S3's meaning of a status if it differs from the usual one."""

_EXPECTED_REGION: Final = re.compile(r"expecting '([A-Za-z0-9_-]+)'|expected: \d+/([A-Za-z0-9_-]+)/s3/")
"""The formats in which MinIO and Garage name the region to sign for."""


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer with an error.

    Attributes:
        error: to raise.
        code: the service's; None if the answer has none, as every answer to a HEAD.
        region: of the bucket, if the answer names it.
    """

    error: TroveError
    code: str | None = None
    region: str | None = None


def _read(content: bytes) -> ErrorDocument | None:
    root = parse_if_xml(content)
    if root is None:
        return None
    # SQS and STS wrap it: <ErrorResponse><Error>…
    element = root if root.tag == "Error" else root.find("Error")
    if element is None:
        return None
    fields = {child.tag: child.text or "" for child in element}
    return ErrorDocument(fields.get("Code"), fields.get("Message"), fields)


def _special(status: int | None, code: str | None, message: str) -> Rule | None:
    words = message.lower()
    if code == "InvalidArgument" and "version id" in words:
        return VersionNotFoundError, None
    if code == "InvalidArgument" and "range specified is not valid" in words:
        return RangeNotSatisfiableError, None
    # Amazon copies ranges of objects of more than 5 MB only:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    if code == "InvalidRequest" and "byte-range copy source" in words:
        return CopyNotSupportedError, None
    return None


RULES: Final = ErrorRules(
    service="S3",
    read=_read,
    codes=CODES,
    statuses=STATUSES,
    headers=("x-amz-", "x-goog-", "x-guploader-"),
    request_ids=("x-amz-request-id",),
    special=_special,
    unnamed=frozenset({"404", "NotFound"}),
)


def read_error(bucket: str, key: str, status: int, headers: Mapping[str, str], content: bytes) -> ErrorResponse:
    """Parse an answer with an error.

    Args:
        bucket, key: of the request; empty if it had none.
        status, headers, content: of the answer; the names of headers in lower case.
    """
    document = RULES.read(content)
    code = message = None
    if document is not None:
        code, message = document.code, document.message
    region = _region(headers, document, message)
    if status == 405 and headers.get("x-amz-delete-marker") == "true":
        request_id = headers.get("x-amz-request-id")
        return ErrorResponse(
            VersionNotFoundError("the version is a delete marker", status=status, request_id=request_id), code
        )
    error = RULES.error_of(bucket, key, status, headers, content, document)
    if region is not None and (code in ELSEWHERE or status in (301, 307)):
        error = _elsewhere(bucket, region, status, error.request_id)
    return ErrorResponse(error, code, region)


def _elsewhere(bucket: str, region: str, status: int | None, request_id: str | None) -> BackendError:
    return BackendError(
        f"the bucket {bucket!r} is in the region {region[:80]!r}; write s3://{region[:80]}/ into the DSN",
        status=status,
        request_id=request_id,
    )


def _region(headers: Mapping[str, str], document: ErrorDocument | None, message: str | None) -> str | None:
    found = headers.get("x-amz-bucket-region")
    if not found and document is not None:
        found = document.fields.get("Region")
    if not found and message and (expected := _EXPECTED_REGION.search(message)):
        found = expected[1] or expected[2]
    return found or None


def sdk_error(error: Exception, *, about: str = "bucket", writes: bool = False) -> TroveError:
    """Convert an error of botocore, aiobotocore or aiohttp; raise the result ``from`` the original.

    Args:
        error: the caught error.
        about: ``object``, ``bucket`` or ``service``: the missing thing, if the answer does not say what is missing.
        writes: whether the request may have changed something; without an answer the error is then ``ambiguous``.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        found = _client_error(response, about, getattr(error, "operation_name", ""))
        found.ambiguous = writes and found.status is not None and may_have_succeeded(found.status)
        return found
    return _library_error(error, writes)


def _client_error(response: dict[str, Any], about: str, operation: str) -> TroveError:
    document, metadata = response["Error"], response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode")
    headers = {name.lower(): value for name, value in metadata.get("HTTPHeaders", {}).items()}
    code, message = document.get("Code"), document.get("Message")
    region = _region(headers, None, message) or document.get("Region")
    request_id = metadata.get("RequestId") or headers.get("x-amz-request-id")
    # For an XML page botocore has no code; for another page the code is the status.
    page = code in ("", str(status)) and headers.get("content-type", "").startswith(("text/html", "text/plain"))
    # The answer to a HEAD has no body, so its content type means nothing.
    if page and not operation.startswith("Head") and not RULES.is_own(headers):
        return RULES.foreign(status, headers)
    if region and (code in ELSEWHERE or status in (301, 307)):
        return _elsewhere(document.get("BucketName", ""), region, status, request_id)
    return RULES.error(
        status,
        # For an answer without a body botocore's code is the status.
        None if code == str(status) else code,
        message,
        request_id=request_id,
        retry_after=parse_retry_after(headers.get("retry-after")),
        about=about,
    )


def _library_error(error: Exception, writes: bool) -> TroveError:
    import aiohttp
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    words = clean(str(error))
    if isinstance(error, sdk.ProfileNotFound | sdk.ConfigParseError | sdk.ConfigNotFound | sdk.InvalidConfigError):
        return InvalidDSNError(f"the credentials' configuration cannot be used: {words}")
    if isinstance(
        error,
        sdk.NoCredentialsError
        | sdk.PartialCredentialsError
        | sdk.CredentialRetrievalError
        | sdk.MetadataRetrievalError
        | sdk.TokenRetrievalError
        | sdk.SSOError,
    ):
        return UnauthenticatedError(f"there are no usable credentials: {words}")
    if isinstance(error, sdk.ParamValidationError | sdk.InvalidRegionError | sdk.UnknownEndpointError):
        return InvalidArgumentError(words)
    if isinstance(error, sdk.SSLError | aiohttp.ClientSSLError):
        return UnavailableError(f"the TLS certificate is refused; {ADVICE}: {words}", retryable=False)
    if isinstance(error, sdk.ConnectTimeoutError | sdk.ReadTimeoutError | TimeoutError):
        return OperationTimeoutError(words, ambiguous=writes)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ProxyConnectionError):
        return UnavailableError(words)
    if isinstance(error, sdk.HTTPClientError | aiohttp.ClientError | OSError):
        return UnavailableError(words, ambiguous=writes)
    if isinstance(error, ResponseParserError):
        return BackendError(f"the endpoint does not speak S3: {words}")
    return BackendError(words)
