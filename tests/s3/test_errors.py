"""Errors of S3 and of its SDK, mapped to the classes of the tree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import ClientPayloadError
from botocore import exceptions as sdk
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from trove_async.drivers.s3.errors import CODES, ELSEWHERE, EXPIRED, RULES, SKEWED, read_error, sdk_error
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BucketNotFoundError,
    ConflictError,
    InvalidArgumentError,
    InvalidDSNError,
    NotFoundError,
    ObjectNotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async.wire.errors import STATUSES

AMAZONIAN = {"x-amz-request-id": "REQ1"}


def document(code: str, message: str = "words", more: str = "") -> bytes:
    body = f"<Code>{code}</Code><Message>{message}</Message>{more}"
    return f'<?xml version="1.0"?><Error>{body}<RequestId>REQ2</RequestId></Error>'.encode()


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_its_class(code: str) -> None:
    kind, advice = CODES[code]
    parsed = read_error("b", "k", 400, AMAZONIAN, document(code))
    expected = ObjectNotFoundError if code == "NotFound" else kind
    assert type(parsed.error) is expected
    assert parsed.code == code
    assert parsed.error.status == 400
    assert parsed.error.request_id == "REQ1"
    assert code in parsed.error.message
    assert "words" in parsed.error.message
    assert (advice or expected.default_message) in parsed.error.message
    assert "\n" not in str(parsed.error)
    assert parsed.error.retryable == (code == "ConditionalRequestConflict" or issubclass(kind, TransientError))


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_every_status_without_a_body_has_its_class(status: int) -> None:
    parsed = read_error("b", "k", status, {}, b"")
    assert type(parsed.error) is (ObjectNotFoundError if status in (404, 410) else RULES.class_of(status))
    assert parsed.code is None
    assert parsed.error.status == status


@pytest.mark.parametrize(("status", "kind"), [(418, BackendError), (500, TransientError), (599, TransientError)])
def test_other_statuses(status: int, kind: type[TroveError]) -> None:
    assert type(read_error("b", "k", status, AMAZONIAN, b"").error) is kind
    assert type(read_error("b", "k", status, AMAZONIAN, document("NeverHeardOf")).error) is kind


@pytest.mark.parametrize(
    ("bucket", "key", "kind"),
    [("b", "k", ObjectNotFoundError), ("b", "", BucketNotFoundError), ("", "", NotFoundError)],
)
def test_not_found_without_a_code(bucket: str, key: str, kind: type[TroveError]) -> None:
    assert type(read_error(bucket, key, 404, {}, b"").error) is kind


def test_a_missing_bucket_is_named() -> None:
    error = read_error("b", "k", 404, AMAZONIAN, document("NoSuchBucket")).error
    error.locate("get", "b", "k", "s3")
    assert error.bucket == "b"


@pytest.mark.parametrize(
    ("headers", "content", "region"),
    [
        ({"x-amz-bucket-region": "eu-west-1"}, b"", "eu-west-1"),
        ({}, document("PermanentRedirect", more="<Region>eu-west-1</Region>"), "eu-west-1"),
        ({}, document("AuthorizationHeaderMalformed", "the region 'a' is wrong; expecting 'eu-west-1'"), "eu-west-1"),
        ({}, document("PermanentRedirect"), None),
    ],
)
def test_another_region(headers: dict[str, str], content: bytes, region: str | None) -> None:
    parsed = read_error("b", "k", 301, {**AMAZONIAN, **headers}, content)
    assert parsed.region == region
    assert isinstance(parsed.error, BackendError)
    assert not parsed.error.retryable
    if region is not None:
        assert "'b' is in the region 'eu-west-1'; write s3://eu-west-1/" in parsed.error.message


def test_a_malformed_authorization_without_a_region_is_a_credentials_error() -> None:
    parsed = read_error("b", "k", 400, AMAZONIAN, document("AuthorizationHeaderMalformed", "no credential"))
    assert type(parsed.error) is UnauthenticatedError


def test_the_codes_that_the_driver_corrects_are_known_ones() -> None:
    for code in EXPIRED | SKEWED | ELSEWHERE:
        assert code in CODES


@pytest.mark.parametrize(("value", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", None), ("-3", None), (None, None)])
def test_retry_after(value: str | None, seconds: float | None) -> None:
    headers = AMAZONIAN if value is None else {**AMAZONIAN, "retry-after": value}
    error = read_error("b", "k", 503, headers, document("SlowDown")).error
    assert type(error) is ThrottledError
    assert error.retry_after == seconds


@pytest.mark.parametrize(("away", "least", "most"), [(600, 500, 600), (-600, 0, 0)])
def test_retry_after_a_date(away: int, least: float, most: float) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=away), usegmt=True)
    after = read_error("b", "k", 503, {**AMAZONIAN, "retry-after": date}, b"").error.retry_after
    assert after is not None
    assert least <= after <= most


def test_a_delete_marker_is_not_a_version() -> None:
    headers = {**AMAZONIAN, "x-amz-delete-marker": "true"}
    error = read_error("b", "k", 405, headers, document("MethodNotAllowed")).error
    assert type(error) is VersionNotFoundError
    assert type(read_error("b", "k", 405, AMAZONIAN, document("MethodNotAllowed")).error) is UnsupportedError


def test_an_invalid_version_id_is_a_missing_version() -> None:
    error = RULES.error(400, "InvalidArgument", "Invalid version id specified")
    assert type(error) is VersionNotFoundError
    assert type(RULES.error(400, "InvalidArgument", "Invalid prefix")) is InvalidArgumentError


@pytest.mark.parametrize(
    ("status", "content"),
    [(404, b"<html><body>Not Found</body></html>"), (404, b"404 page not found\n"), (400, b'{"error": "x"}')],
)
def test_an_endpoint_that_is_not_s3(status: int, content: bytes) -> None:
    headers = {"content-type": "text/html; charset=utf-8", "server": "nginx"}
    error = read_error("b", "k", status, headers, content).error
    assert type(error) is BackendError
    assert "the endpoint does not speak S3: the answer of 'nginx' is text/html" in error.message


def test_errors_of_a_gateway_are_retryable() -> None:
    error = read_error("b", "k", 502, {"content-type": "text/html"}, b"<html>Bad Gateway</html>").error
    assert type(error) is UnavailableError
    assert error.retryable


@pytest.mark.parametrize(
    "content", [b"<Error>", b"<Error", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]><Error/>", b"<E/>"]
)
def test_bodies_that_are_not_error_documents(content: bytes) -> None:
    parsed = read_error("b", "k", 403, AMAZONIAN, content)
    assert type(parsed.error) is AccessDeniedError
    assert parsed.code is None


def test_the_request_id_in_the_document_is_used_if_no_header_has_one() -> None:
    assert read_error("b", "k", 403, {}, document("AccessDenied")).error.request_id == "REQ2"


def test_a_long_message_with_secrets_is_cut_and_redacted() -> None:
    error = RULES.error(400, "InvalidRequest", "https://user:hunter2@host/?X-Amz-Signature=abcdef " + "x" * 5000)
    assert "hunter2" not in error.message
    assert "abcdef" not in error.message
    assert len(error.message) < 600


def client_error(code: str, status: int, operation: str = "GetObjectTagging", **headers: str) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "words"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "REQ3", "HTTPHeaders": headers},
    }
    return ClientError(response, operation)


@pytest.mark.parametrize("code", sorted(CODES))
def test_the_sdk_s_errors_have_the_same_classes(code: str) -> None:
    error = sdk_error(client_error(code, 400, **{"x-amz-request-id": "REQ3"}), about="object")
    assert type(error) is (ObjectNotFoundError if code == "NotFound" else CODES[code][0])
    assert error.request_id == "REQ3"


def test_the_sdk_s_errors_without_a_code() -> None:
    assert type(sdk_error(client_error("404", 404, "HeadBucket"))) is BucketNotFoundError
    assert type(sdk_error(client_error("403", 403, "HeadBucket"))) is AccessDeniedError
    page = {"content-type": "text/html"}
    assert type(sdk_error(client_error("404", 404, "HeadBucket", **page))) is BucketNotFoundError
    assert "does not speak S3" in sdk_error(client_error("404", 404, "ListBuckets", **page)).message
    elsewhere = sdk_error(client_error("301", 301, "HeadBucket", **{"x-amz-bucket-region": "eu-west-1"}))
    assert "eu-west-1" in elsewhere.message


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (sdk.ProfileNotFound(profile="p"), InvalidDSNError),
        (sdk.ConfigParseError(path="p"), InvalidDSNError),
        (sdk.NoCredentialsError(), UnauthenticatedError),
        (sdk.PartialCredentialsError(provider="p", cred_var="v"), UnauthenticatedError),
        (sdk.CredentialRetrievalError(provider="p", error_msg="e"), UnauthenticatedError),
        (sdk.UnauthorizedSSOTokenError(), UnauthenticatedError),
        (sdk.TokenRetrievalError(provider="p", error_msg="e"), UnauthenticatedError),
        (sdk.ParamValidationError(report="r"), InvalidArgumentError),
        (sdk.ConnectTimeoutError(endpoint_url="u"), OperationTimeoutError),
        (sdk.ReadTimeoutError(endpoint_url="u"), OperationTimeoutError),
        (sdk.EndpointConnectionError(endpoint_url="u"), UnavailableError),
        (sdk.ProxyConnectionError(proxy_url="http://u:p@h"), UnavailableError),
        (sdk.ConnectionClosedError(endpoint_url="u"), UnavailableError),
        (sdk.HTTPClientError(error="e"), UnavailableError),
        (ClientPayloadError("cut"), UnavailableError),
        (ConnectionResetError("reset"), UnavailableError),
        (ResponseParserError("no xml"), BackendError),
        (sdk.BotoCoreError(), BackendError),
    ],
)
def test_exceptions_of_the_sdk(raised: Exception, kind: type[TroveError]) -> None:
    assert type(sdk_error(raised)) is kind


def test_a_refused_certificate_is_not_retried() -> None:
    error = sdk_error(sdk.SSLError(endpoint_url="u", error="self-signed"))
    assert type(error) is UnavailableError
    assert not error.retryable
    assert "ca_file" in error.message


def test_a_write_whose_answer_was_lost_is_ambiguous() -> None:
    assert sdk_error(sdk.ReadTimeoutError(endpoint_url="u"), writes=True).ambiguous
    assert sdk_error(sdk.ConnectionClosedError(endpoint_url="u"), writes=True).ambiguous
    assert not sdk_error(sdk.EndpointConnectionError(endpoint_url="u"), writes=True).ambiguous
    assert not sdk_error(sdk.ReadTimeoutError(endpoint_url="u")).ambiguous


def test_a_conflict_of_conditional_writes_is_retryable() -> None:
    error = RULES.error(409, "ConditionalRequestConflict", None)
    assert type(error) is ConflictError
    assert error.retryable
