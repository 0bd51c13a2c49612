"""Errors of both protocols as problem+json."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from trove_async.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BodySizeError,
    ChecksumError,
    ClosedError,
    ContentTooLargeError,
    InvalidArgumentError,
    TroveError,
    UnavailableError,
    UploadExpiredError,
    UploadLengthError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.uploads.info import FileInfo
from trove_async.uploads.protocol.ietf import IETF
from trove_async.uploads.protocol.messages import Request, Settings, UploadProtocol
from trove_async.uploads.protocol.problems import (
    INCONSISTENT_LENGTH,
    MISMATCHING_OFFSET,
    PROBLEM_TYPE,
    problem_answer,
    upload_status,
)
from trove_async.uploads.protocol.tus import Tus
from trove_async.web.objects import Answer


def members(answer: Answer) -> dict[str, object]:
    headers = dict(answer.headers)
    assert isinstance(answer.body, bytes)
    assert headers["Content-Type"] == PROBLEM_TYPE
    assert headers["Content-Length"] == str(len(answer.body))
    said: dict[str, object] = json.loads(answer.body)
    assert said["status"] == answer.status
    return said


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (UploadOffsetError(offset=3), 409, MISMATCHING_OFFSET),
        (UploadLengthError(), 400, INCONSISTENT_LENGTH),
        (ContentTooLargeError(), 413, None),
        (BodySizeError("the object has 3 bytes"), 500, None),
        (InvalidArgumentError(), 400, None),
        (ChecksumError(), 400, None),
        (UploadNotFoundError(), 404, None),
        (UploadExpiredError(), 410, None),
        (UploadLockedError(), 423, None),
        (AccessDeniedError(), 403, None),
        (UnavailableError(), 503, None),
        (UploadRejectedError(status_code=451), 451, None),
        (TroveError(), 500, None),
        (ValueError("secret"), 500, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value).rpartition("#")[2],
)
def test_status_and_type(error: Exception, status: int, kind: str | None) -> None:
    answer = problem_answer(error)
    assert answer.status == upload_status(error) == status
    assert members(answer).get("type") == kind


def test_an_offset_is_explained() -> None:
    said = members(problem_answer(UploadOffsetError(offset=3), provided_offset=0, upload_id="a"))
    assert (said["expected-offset"], said["provided-offset"], said["upload"]) == (3, 0, "a")
    assert said["title"] == "Conflict"
    assert said["code"] == "UploadOffset"


def test_words_and_headers_of_a_hook_reach_the_client() -> None:
    answer = problem_answer(UploadRejectedError("no cats", status_code=503, headers=[("X-Why", "cats")]), [("A", "b")])
    assert members(answer)["detail"] == "no cats"
    assert answer.headers[:2] == [("A", "b"), ("X-Why", "cats")]


def test_faults_of_the_server_are_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "trove_async.uploads"):
        said = members(problem_answer(ValueError("the password is wrong")))
    assert said["code"] == "Backend"
    assert "password" not in str(said)
    assert caplog.records[0].exc_info
    caplog.clear()
    problem_answer(BackendUnavailableError())
    assert not caplog.records[0].exc_info


def test_temporary_errors_say_when_to_come_again() -> None:
    assert dict(problem_answer(UnavailableError(retry_after=7.2)).headers)["Retry-After"] == "8"
    assert dict(problem_answer(UploadLockedError()).headers)["Retry-After"] == "1"
    assert dict(problem_answer(ClosedError()).headers)["Retry-After"] == "1"
    assert dict(problem_answer(ValueError(), status=423).headers)["Retry-After"] == "1"
    assert "Retry-After" not in dict(problem_answer(ChecksumError()).headers)
    said = UploadRejectedError(status_code=503, headers=[("retry-after", "9")])
    assert [value for name, value in problem_answer(said).headers if name.lower() == "retry-after"] == ["9"]


@pytest.mark.parametrize("protocol", [Tus, IETF])
def test_both_protocols_use_them(protocol: Callable[[Request, Settings], UploadProtocol]) -> None:
    asked = protocol(Request("PATCH", {"upload-offset": "7"}, "a"), Settings())
    said = members(asked.failed(UploadOffsetError(offset=3)))
    assert (said["expected-offset"], said["provided-offset"], said["upload"]) == (3, 7, "a")
    assert members(asked.failed(BodySizeError("the object has 3 bytes")))["code"] == "Backend"
    assert not asked.invalidates(UnavailableError(), FileInfo(size=3))


def test_statuses_without_a_name_and_answers_without_a_body() -> None:
    assert members(problem_answer(ChecksumError(), status=460))["title"] == "Upload Failed"
    answer = problem_answer(UploadLockedError(), with_body=False)
    assert (answer.status, answer.headers, answer.body) == (423, [("Retry-After", "1")], b"")
