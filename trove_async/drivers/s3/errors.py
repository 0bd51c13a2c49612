"""What S3 and its SDK say went wrong, in the classes of `trove_async.errors`: one table of codes, one of statuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

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
from trove_async.wire.fields import parse_retry_after
from trove_async.wire.xml import parse, text

__all__ = ["CODES", "ELSEWHERE", "EXPIRED", "SKEWED", "STATUSES", "Refusal", "error_of", "refusal", "sdk_error"]

EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
"""The codes that new credentials mend."""

SKEWED: Final = frozenset({"RequestTimeTooSkewed"})
"""The codes that the right time mends."""

ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect"}
)
"""The codes that the right region mends, where the answer names it."""

_SECRET = "check the secret key, and that nothing between here and the service changes requests"
_RENEW = "the credentials expired and could not be renewed"
_CLOCK = "this machine's clock is wrong; set it"
_REGION = "the bucket is in another region; write that one into the DSN"
_ARCHIVED = "the object is archived; restore it first"
_AGAIN = "another write of the same object was under way"

CODES: Final[dict[str, tuple[type[TroveError], str | None]]] = {
    # Who asks. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
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
    # Where it is.
    "AuthorizationHeaderMalformed": (UnauthenticatedError, None),
    "IllegalLocationConstraintException": (BackendError, _REGION),
    "IncorrectEndpoint": (BackendError, _REGION),
    "InvalidLocationConstraint": (InvalidArgumentError, "there is no such region"),
    "InvalidRegionName": (InvalidArgumentError, "there is no such region"),
    "PermanentRedirect": (BackendError, _REGION),
    "TemporaryRedirect": (BackendError, _REGION),
    # What is not there, or is already.
    "BucketAlreadyExists": (BucketAlreadyExistsError, "the name is taken, by whomever"),
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
    "ConditionalRequestConflict": (PreconditionFailedError, _AGAIN),
    "InvalidRange": (RangeNotSatisfiableError, None),
    "NotModified": (NotModifiedError, None),
    "OperationAborted": (TransientError, "another operation on the same thing is under way"),
    "PreconditionFailed": (PreconditionFailedError, None),
    "RestoreAlreadyInProgress": (TransientError, None),
    "InvalidObjectState": (BackendError, _ARCHIVED),
    "ObjectNotInActiveTierError": (BackendError, _ARCHIVED),
    # What was sent.
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
    "MetadataTooLarge": (InvalidMetadataError, "the metadata is larger than the service takes"),
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
    # Requests of ours that a service does not understand.
    "InvalidLifecycle": (InvalidLifecycleError, None),
    "InvalidLifecycleConfiguration": (InvalidLifecycleError, None),
    "MalformedXML": (BackendError, "the service does not understand the request"),
    "MethodNotAllowed": (UnsupportedError, "the service does not have the operation"),
    "MissingContentLength": (BackendError, None),
    "NotImplemented": (UnsupportedError, "the service does not have the operation"),
    "XNotImplemented": (UnsupportedError, "the service does not have the operation"),
    # What passes, or does not fit.
    "BandwidthLimitExceeded": (ThrottledError, None),
    "EC2ThrottledException": (ThrottledError, None),
    "IncompleteBody": (TransientError, "the body did not arrive whole"),
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
    "TooManyBuckets": (StorageFullError, "the account has as many buckets as it may"),
    "TooManyRequestsException": (ThrottledError, None),
    "WillExceedQuota": (StorageFullError, "the quota is used up"),
}
"""A service's code: the class of the error, and what to say about it beside the service's own words."""

STATUSES: Final[dict[int, type[TroveError]]] = {
    301: BackendError,
    304: NotModifiedError,
    307: BackendError,
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
    509: ThrottledError,
}
"""The class for an answer without a code that is known."""

# The loser of a race may win the next one, and where the condition does not hold is told so then.
_RETRYABLE: Final = frozenset({"ConditionalRequestConflict"})
_EXPECTED_REGION = re.compile(r"expecting '([A-Za-z0-9_-]+)'")
_LONGEST_MESSAGE: Final = 400


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success.

    Attributes:
        error: to raise.
        code: the service's; None where the answer has none, as to every HEAD.
        region: that the bucket is in, where the answer says it.
    """

    error: TroveError
    code: str | None = None
    region: str | None = None


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
    element = _error_element(content)
    code = message = None
    if element is not None:
        code, message = text(element, "Code"), text(element, "Message")
    request_id = headers.get("x-amz-request-id") or (element is not None and text(element, "RequestId")) or None
    region = _region(headers, element, message)
    if element is None and content and status < 500 and not _is_amazonian(headers):
        error: TroveError = _no_s3(status, headers)
    elif status == 405 and headers.get("x-amz-delete-marker") == "true":
        error = VersionNotFoundError("the version is a delete marker", status=status, request_id=request_id)
    elif region is not None and (code in ELSEWHERE or status in (301, 307)):
        error = _elsewhere(bucket, region, status, request_id)
    else:
        error = error_of(
            status,
            code,
            message,
            request_id=request_id,
            retry_after=parse_retry_after(headers.get("retry-after")),
            about="object" if key else "bucket" if bucket else "service",
        )
    if isinstance(error, BucketNotFoundError) and bucket:
        error.bucket = bucket
    error.ambiguous = ambiguous
    return Refusal(error, code, region)


def error_of(
    status: int | None,
    code: str | None,
    message: str | None,
    *,
    request_id: str | None = None,
    retry_after: float | None = None,
    about: str = "object",
) -> TroveError:
    """Return the error for a service's status, code and message.

    Args:
        status: None where there is none, as for one key of a bulk request.
        code, message: the service's own; None or empty where it gave none.
        request_id: of the answer.
        retry_after: seconds.
        about: ``object``, ``bucket`` or ``service``: what is missing if the answer says only that something is.
    """
    kind, advice = _rule(status, code, message)
    if kind is NotFoundError and code in (None, "", "404", "NotFound"):
        kind = {"object": ObjectNotFoundError, "bucket": BucketNotFoundError}.get(about, NotFoundError)
    said = ": ".join(part for part in (code, message) if part and part != "None")
    words = [advice or kind.default_message, redact(said)[:_LONGEST_MESSAGE]]
    return kind(
        "; the service says: ".join(part for part in words if part),
        status=status,
        request_id=request_id,
        retryable=True if code in _RETRYABLE else None,
        retry_after=retry_after,
    )


def _rule(status: int | None, code: str | None, message: str | None) -> tuple[type[TroveError], str | None]:
    if code == "InvalidArgument" and "version id" in (message or "").lower():
        return VersionNotFoundError, None
    if code in CODES:
        return CODES[code]
    if status in STATUSES:
        return STATUSES[status], None
    return (TransientError if status is not None and status >= 500 else BackendError), None


def _error_element(content: bytes) -> Element | None:
    if not content.lstrip().startswith(b"<"):
        return None
    try:
        root = parse(content)
    except BackendError:
        return None
    # SQS and STS wrap it: <ErrorResponse><Error>…
    return root if root.tag == "Error" else root.find("Error")


def _is_amazonian(headers: Mapping[str, str]) -> bool:
    return any(name.startswith(("x-amz-", "x-goog-", "x-guploader-")) for name in headers)


def _no_s3(status: int, headers: Mapping[str, str]) -> BackendError:
    kind = headers.get("content-type", "something").partition(";")[0]
    server = headers.get("server")
    named = f" of {server!r}" if server else ""
    return BackendError(
        f"the endpoint does not speak S3: the answer{named} is {kind}, with none of S3's headers; check the endpoint",
        status=status,
    )


def _elsewhere(bucket: str, region: str, status: int, request_id: str | None) -> BackendError:
    return BackendError(
        f"the bucket {bucket!r} is in the region {region!r}; write s3://{region}/ into the DSN",
        status=status,
        request_id=request_id,
    )


def _region(headers: Mapping[str, str], element: Element | None, message: str | None) -> str | None:
    found = headers.get("x-amz-bucket-region")
    if not found and element is not None:
        found = text(element, "Region")
    if not found and message and (expected := _EXPECTED_REGION.search(message)):
        found = expected[1]
    return found or None


def sdk_error(error: Exception, *, about: str = "bucket", writes: bool = False) -> TroveError:
    """Return the error for one that botocore, aiobotocore or aiohttp raised; raise it ``from`` that one.

    Args:
        error: what was caught.
        about: as of `error_of`.
        writes: whether the request may have changed something; without an answer that is ``ambiguous`` then.
    """
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return _client_error(response, about, getattr(error, "operation_name", ""))
    return _library_error(error, writes)


def _client_error(response: dict[str, Any], about: str, operation: str) -> TroveError:
    told, metadata = response["Error"], response.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode")
    headers = {name.lower(): value for name, value in metadata.get("HTTPHeaders", {}).items()}
    code, message = told.get("Code"), told.get("Message")
    region = _region(headers, None, message) or told.get("Region")
    request_id = metadata.get("RequestId") or headers.get("x-amz-request-id")
    # botocore finds no code in a page that is XML, and makes the status one of a page that is not.
    is_page = code in ("", str(status)) and status < 500 and "html" in headers.get("content-type", "")
    # Without a body, as of every HEAD, the type of the content says nothing.
    if is_page and not operation.startswith("Head") and not _is_amazonian(headers):
        return _no_s3(status, headers)
    if region and (code in ELSEWHERE or status in (301, 307)):
        return _elsewhere(told.get("BucketName", ""), region, status, request_id)
    return error_of(
        status,
        # For an answer without a body botocore makes the status the code.
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

    words = redact(str(error))[:_LONGEST_MESSAGE]
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
        return UnauthenticatedError(f"the credentials could not be had: {words}")
    if isinstance(error, sdk.ParamValidationError | sdk.InvalidRegionError | sdk.UnknownEndpointError):
        return InvalidArgumentError(words)
    if isinstance(error, sdk.SSLError | aiohttp.ClientSSLError):
        return UnavailableError(f"the service's certificate was refused; see ca_file: {words}", retryable=False)
    if isinstance(error, sdk.ConnectTimeoutError | sdk.ReadTimeoutError | TimeoutError):
        return OperationTimeoutError(words, ambiguous=writes)
    if isinstance(error, sdk.EndpointConnectionError | sdk.ProxyConnectionError):
        return UnavailableError(words)
    if isinstance(error, sdk.HTTPClientError | aiohttp.ClientError | OSError):
        return UnavailableError(words, ambiguous=writes)
    if isinstance(error, ResponseParserError):
        return BackendError(f"the endpoint does not speak S3: {words}")
    return BackendError(words)
