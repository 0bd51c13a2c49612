"""Every row of the error tables, in the form of an answer."""

from __future__ import annotations

import json

import pytest

import trove_async as trove
from trove_async.drivers.gcs.errors import CODES, REASONS, read_error
from trove_async.wire.errors import STATUSES


def read(bucket: str, key: str, status: int, headers: dict[str, str], body: bytes) -> trove.TroveError:
    return read_error(bucket, key, status, headers, body).error


def error_in_json(status: int, reason: str, message: str = "the message", *, key: str = "key") -> trove.TroveError:
    body = {"error": {"code": status, "message": message, "errors": [{"reason": reason, "message": message}]}}
    return read("bucket", key, status, {}, json.dumps(body).encode())


def error_in_xml(status: int, code: str, message: str = "the message", details: str = "") -> trove.TroveError:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message><Details>{details}</Details></Error>"
    return read("bucket", "key", status, {}, body.encode())


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason(reason: str) -> None:
    kind, advice = REASONS[reason]
    error = error_in_json(418, reason)
    assert type(error) is (trove.ObjectNotFoundError if reason == "notFound" else kind)
    assert f"{reason}: the message" in str(error)
    assert (advice or type(error).default_message) in str(error)


@pytest.mark.parametrize("code", CODES)
def test_a_code(code: str) -> None:
    kind, advice = CODES[code]
    error = error_in_xml(418, code, details="and more")
    assert type(error) is kind
    assert f"{code}: the message and more" in str(error)
    assert (advice or kind.default_message) in str(error)


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_alone(status: int) -> None:
    error = read("bucket", "key", status, {"x-guploader-uploadid": "id"}, b"")
    assert isinstance(error, STATUSES[status])
    assert (error.status, error.request_id) == (status, "id")


@pytest.mark.parametrize(
    ("status", "reason", "message", "kind"),
    [
        (404, "notFound", "The specified bucket does not exist.", trove.BucketNotFoundError),
        (404, "notFound", "No such object: bucket/key", trove.ObjectNotFoundError),
        (409, "conflict", "The bucket you tried to delete is not empty.", trove.BucketNotEmptyError),
        (409, "conflict", "Concurrent change", trove.ConflictError),
        (400, "invalid", 'Provided CRC32C "a" doesn\'t match calculated CRC32C "b".', trove.ChecksumError),
        (400, "invalid", 'Provided MD5 hash "a" does not match calculated MD5 hash "b".', trove.ChecksumError),
        (400, "invalid", "The metadata for your object is too large", trove.InvalidMetadataError),
        (401, "required", "Anonymous caller", trove.UnauthenticatedError),
        (400, "required", "Required parameter: project", trove.InvalidArgumentError),
        (503, "unheard-of", "later", trove.UnavailableError),
        (599, "unheard-of", "later", trove.TransientError),
        (418, "unheard-of", "tea", trove.BackendError),
    ],
)
def test_errors_that_are_identified_by_their_message(
    status: int, reason: str, message: str, kind: type[trove.TroveError]
) -> None:
    error = error_in_json(status, reason, message)
    assert type(error) is kind
    if kind is trove.BucketNotFoundError:
        assert error.bucket == "bucket"


def test_transient_errors_are_retryable() -> None:
    for status in (408, 429, 500, 502, 503, 504):
        assert read("bucket", "key", status, {}, b"").retryable
    for status in (304, 400, 401, 403, 404, 405, 411, 412, 413, 416, 501):
        assert not read("bucket", "key", status, {}, b"").retryable


def test_a_message_is_one_line_of_bounded_length() -> None:
    error = error_in_json(400, "invalid", "a\\nb" + "x" * 5000)
    assert "\n" not in str(error)
    assert len(str(error)) < 800
