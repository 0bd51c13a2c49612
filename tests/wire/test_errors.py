"""`ErrorRules`: the rules for error answers that all HTTP services share."""

from __future__ import annotations

import pytest

from trove_async.drivers.azure.errors import RULES as AZURE
from trove_async.drivers.gcs.errors import RULES as GCS
from trove_async.drivers.s3.errors import RULES as S3
from trove_async.errors import (
    BackendError,
    ContentTooLargeError,
    OperationTimeoutError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)
from trove_async.wire.client import may_have_succeeded
from trove_async.wire.errors import ErrorRules, clean

PAGES = {"text/html": b"<html><h1>no</h1></html>", "text/plain": b"no", "application/json": b'{"message": "no"}'}

every_service = pytest.mark.parametrize("rules", [S3, GCS, AZURE], ids=lambda rules: rules.service)


def answer(rules: ErrorRules, status: int, kind: str = "text/html", **more: str) -> TroveError:
    body = PAGES[kind]
    return rules.error_of("b", "k", status, {"content-type": kind, **more}, body, rules.read(body))


@every_service
@pytest.mark.parametrize("kind", PAGES)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (408, OperationTimeoutError),
        (413, ContentTooLargeError),
        (429, ThrottledError),
        (500, TransientError),
        (502, UnavailableError),
        (504, UnavailableError),
        (520, TransientError),
    ],
)
def test_answers_of_gateways_are_retried_by_status(
    rules: ErrorRules, status: int, expected: type[TroveError], kind: str
) -> None:
    error = answer(rules, status, kind, **{"retry-after": "7", "server": "a gateway"})
    assert type(error) is expected
    assert error.retryable is (status != 413)
    assert error.retry_after == 7
    assert "a gateway" in error.message


@every_service
@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 418])
def test_other_answers_of_unknown_servers_advise_to_check_the_endpoint(rules: ErrorRules, status: int) -> None:
    error = answer(rules, status)
    assert type(error) is BackendError
    assert "check the endpoint" in error.message
    assert rules.service in error.message


@every_service
def test_a_proxy_that_requires_a_password_is_named(rules: ErrorRules) -> None:
    error = answer(rules, 407)
    assert type(error) is UnauthenticatedError
    assert "the URL of the proxy, before '@'" in error.message


@every_service
def test_a_redirect_shows_its_location_without_secrets(rules: ErrorRules) -> None:
    error = answer(rules, 302, location="https://user:hunter2@login.example/?token=abc")
    assert "login.example" in error.message
    assert "hunter2" not in error.message
    assert "abc" not in error.message


def test_a_message_is_short_printable_and_on_one_line() -> None:
    assert clean("a\r\n\tb\u202ec\x00") == "a b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}"
    assert len(clean("word " * 1_000_000)) <= 400


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520, 599])
def test_statuses_after_which_a_write_may_have_been_carried_out(status: int) -> None:
    assert may_have_succeeded(status)


@pytest.mark.parametrize("status", [304, 400, 403, 404, 409, 412, 413, 416, 501, 505, 507])
def test_statuses_after_which_a_write_was_not_carried_out(status: int) -> None:
    assert not may_have_succeeded(status)
