"""Resumable Uploads for HTTP: how requests are answered, in each version."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trove_async.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BodySizeError,
    ChecksumError,
    ClosedError,
    ContentTooLargeError,
    InvalidArgumentError,
    LeaseLostError,
    ObjectAlreadyExistsError,
    OperationTimeoutError,
    ThrottledError,
    UnavailableError,
    UploadExpiredError,
    UploadLengthError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.uploads.info import FileInfo, FinalAnswer
from trove_async.uploads.protocol.ietf import IETF
from trove_async.uploads.protocol.messages import Request, Settings
from trove_async.uploads.protocol.problems import COMPLETED_UPLOAD, INCONSISTENT_LENGTH, MISMATCHING_OFFSET
from trove_async.web.objects import Answer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INFO = FileInfo(id="a", size=10, offset=4, expires_at=NOW + timedelta(seconds=90.9))
DONE = replace(INFO, offset=10, is_finished=True)
SHA256 = hashlib.sha256(b"abc")
DIGEST = f"sha-256=:{b64encode(SHA256.digest()).decode()}:"
VERSIONS = [None, 3, 4, 5, 6, 7, 8, 9]


def protocol(
    version: int | None, method: str = "PATCH", complete: bool | None = None, offset: int = 4, **settings: Any
) -> IETF:
    headers = {"content-type": "application/partial-upload", "upload-offset": str(offset)}
    if version is not None:
        headers["upload-draft-interop-version"] = str(version)
    if complete is not None and version == 3:
        headers["upload-incomplete"] = f"?{not complete:d}"
    elif complete is not None:
        headers["upload-complete"] = f"?{complete:d}"
    upload_id = None if method == "POST" else "a"
    return IETF(Request(method, headers, upload_id), Settings(**settings), lambda: NOW)


def said(answer: Answer) -> dict[str, str]:
    """Return the headers; none is there twice."""
    headers = dict(answer.headers)
    assert len(headers) == len(answer.headers)
    if answer.status == 204:
        assert not answer.body
        assert "Content-Length" not in headers
    return headers


def is_complete(version: int | None, headers: dict[str, str]) -> bool:
    if version == 3:
        assert "Upload-Complete" not in headers
        return headers["Upload-Incomplete"] == "?0"
    assert "Upload-Incomplete" not in headers
    return headers["Upload-Complete"] == "?1"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_answer_has_the_version_that_was_asked_for(version: int | None) -> None:
    asked = protocol(version, complete=False)
    answers = [
        asked.created(INFO, "/a"),
        asked.appended(INFO),
        asked.finished(DONE, None),
        asked.described(INFO),
        asked.downloaded(Answer(200, [("Content-Length", "1")], b"x")),
        asked.terminated(),
        asked.discovered(),
        asked.failed(UploadNotFoundError()),
    ]
    expected = None if version is None else str(version)
    assert {said(answer).get("Upload-Draft-Interop-Version") for answer in answers} == {expected}


@pytest.mark.parametrize("version", VERSIONS)
def test_created(version: int | None) -> None:
    answer = protocol(version, "POST", complete=False).created(INFO, "/files/a")
    headers = said(answer)
    assert answer.status == 201
    assert headers["Location"] == "/files/a"
    assert headers["Upload-Offset"] == "4"
    assert not is_complete(version, headers)


@pytest.mark.parametrize("version", VERSIONS)
def test_appended(version: int | None) -> None:
    answer = protocol(version, complete=False).appended(INFO)
    headers = said(answer)
    assert answer.status == (201 if version in (3, 4, 5, 6) else 204)
    assert headers["Upload-Offset"] == "4"
    assert not is_complete(version, headers)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_last_body_is_too_short(version: int | None) -> None:
    answer = protocol(version, complete=True).appended(INFO)
    assert answer.status == 400
    assert json.loads(answer.body)["type"] == INCONSISTENT_LENGTH  # type: ignore[arg-type]
    assert not is_complete(version, said(answer))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("location", [None, "/files/a"])
def test_finished(version: int | None, location: str | None) -> None:
    answer = protocol(version, complete=True).finished(DONE, location)
    headers = said(answer)
    assert answer.status == (201 if location or version in (3, 4, 5, 6) else 204)
    assert headers.get("Location") == location
    assert headers["Upload-Offset"] == "10"
    assert is_complete(version, headers)


def test_finished_as_the_application_says() -> None:
    said_headers = (("Content-Type", "application/json"), ("location", "/done/1"), ("content-length", "9"))
    own = FinalAnswer(202, said_headers, b"{}")
    asked = protocol(8, "POST", complete=True)
    answer = asked.finished(replace(DONE, answer=own), "/files/a")
    headers = said(answer)
    assert (answer.status, answer.body, headers["Content-Length"]) == (202, b"{}", "2")
    assert headers["location"] == "/done/1"
    assert headers.keys().isdisjoint({"Location", "content-length"})
    # The client that has missed it asks at the end of the upload, and gets the same.
    again = protocol(8, complete=True, offset=10).finished(replace(DONE, answer=own), None)
    assert (again.status, again.body) == (answer.status, answer.body)
    assert not said(asked.finished(replace(DONE, answer=FinalAnswer(204, body=b"x")), None)).get("Content-Length")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_finished_upload_does_not_go_on(version: int | None) -> None:
    answer = protocol(version, complete=False, offset=10).finished(DONE, None)
    if version in (5, 6):  # tus-js-client may say of the last bytes that others follow
        assert (answer.status, is_complete(version, said(answer))) == (201, True)
        return
    assert answer.status == 400
    assert json.loads(answer.body)["type"] == COMPLETED_UPLOAD  # type: ignore[arg-type]
    assert not is_complete(version, said(answer))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("info", "length"),
    [(INFO, 10), (DONE, 10), (replace(INFO, size=None), None), (replace(INFO, offset=10), 10)],
    ids=["active", "finished", "unknown length", "all bytes, not finished"],
)
def test_described(version: int | None, info: FileInfo, length: int | None) -> None:
    answer = protocol(version, "HEAD").described(info)
    headers = said(answer)
    assert answer.status == 204
    assert headers["Upload-Offset"] == str(info.offset)
    assert headers["Cache-Control"] == "no-store"
    assert is_complete(version, headers) is info.is_finished
    if version in (3, 4):
        assert "Upload-Length" not in headers
    else:
        assert headers.get("Upload-Length") == (None if length is None else str(length))


@pytest.mark.parametrize("version", VERSIONS)
def test_limits(version: int | None) -> None:
    asked = protocol(version, max_size=100, chunk_size=50)
    answers = [
        said(asked.created(INFO, "/a")),
        said(asked.described(INFO)),
        dict(asked.interim(INFO, "/a") or ()),
        said(asked.failed(ContentTooLargeError())),
        said(asked.discovered()),
    ]
    if version in (3, 4, 5):
        assert not any("Upload-Limit" in headers for headers in answers)
        return
    limits = [headers.get("Upload-Limit") for headers in answers]
    age = "expires" if version == 6 else "max-age"
    if version is None:
        assert limits.pop(2) is None
    assert set(limits[:-2]) == {f"max-size=100, max-append-size=50, {age}=90"}
    assert set(limits[-2:]) == {"max-size=100, max-append-size=50"}


def test_limits_of_one_upload() -> None:
    info = replace(INFO, max_size=20, expires_at=NOW - timedelta(seconds=5))
    assert said(protocol(8, max_size=100).described(info))["Upload-Limit"] == "max-size=20, max-age=0"
    assert said(protocol(8, max_size=10).described(info))["Upload-Limit"] == "max-size=10, max-age=0"
    assert said(protocol(8).described(replace(INFO, expires_at=None)))["Upload-Limit"] == "min-size=0"
    assert said(protocol(8).discovered())["Upload-Limit"] == "min-size=0"


def test_terminated_and_discovered() -> None:
    assert protocol(None, "DELETE").terminated() == Answer(204)
    answer = protocol(None, "OPTIONS").discovered()
    assert answer.status == 204
    assert said(answer)["Accept-Patch"] == "application/partial-upload"


def test_downloaded() -> None:
    answer = protocol(8, "GET").downloaded(Answer(206, [("Content-Length", "1")], b"x"))
    assert answer == Answer(206, [("Upload-Draft-Interop-Version", "8"), ("Content-Length", "1")], b"x")


def test_digests_of_a_finished_upload() -> None:
    done = replace(DONE, digests={"sha256": SHA256.hexdigest(), "blake2b": "00"})
    asked = protocol(8, complete=True)
    assert said(asked.finished(done, None))["Repr-Digest"] == DIGEST
    assert said(asked.described(done))["Repr-Digest"] == DIGEST
    assert "Repr-Digest" not in said(asked.described(replace(done, is_finished=False)))
    wanted = IETF(Request("HEAD", {"want-repr-digest": "sha-512=1"}, "a"), Settings())
    assert "Repr-Digest" not in said(wanted.described(done))


@pytest.mark.parametrize("version", VERSIONS)
def test_interim(version: int | None) -> None:
    """The limits of it are compared with those of other answers."""
    found = protocol(version, "POST", complete=True).interim(INFO, "/files/a")
    if version is None:
        assert found is None
    else:
        assert found is not None
        assert found[:2] == [("Upload-Draft-Interop-Version", str(version)), ("Location", "/files/a")]


@pytest.mark.parametrize("version", VERSIONS)
def test_another_offset(version: int | None) -> None:
    answer = protocol(version, complete=True, offset=7).failed(UploadOffsetError(offset=4), INFO)
    headers = said(answer)
    assert answer.status == 409
    assert headers["Upload-Offset"] == "4"
    assert headers["Content-Type"] == "application/problem+json"
    assert not is_complete(version, headers)
    problem = json.loads(answer.body)  # type: ignore[arg-type]
    assert (problem["type"], problem["expected-offset"], problem["provided-offset"]) == (MISMATCHING_OFFSET, 4, 7)
    assert problem["upload"] == "a"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_body_that_goes_beyond_the_upload(version: int | None) -> None:
    asked, error = protocol(version, complete=True), ContentTooLargeError()
    answer = asked.failed(error, INFO)
    assert answer.status == 400
    assert json.loads(answer.body)["type"] == INCONSISTENT_LENGTH  # type: ignore[arg-type]
    assert not is_complete(version, said(answer))
    assert asked.invalidates(error, INFO) is (version not in (3, 4, 5, 6))
    # Without a length, it is the limit of the server.
    unknown = replace(INFO, size=None)
    assert asked.failed(error, unknown).status == 413
    assert not asked.invalidates(error, unknown)
    assert not asked.invalidates(UnavailableError(), INFO)


ERRORS: list[tuple[Exception, int]] = [
    (UploadLengthError(), 400),
    (InvalidArgumentError(), 400),
    (ChecksumError(), 400),
    (AccessDeniedError(), 403),
    (UploadNotFoundError(), 404),
    (UploadExpiredError(), 410),
    (ObjectAlreadyExistsError(), 412),
    (UploadRejectedError(status_code=402), 402),
    (UploadRejectedError(status_code=423), 423),
    (UploadRejectedError(status_code=429), 429),
    (BodySizeError(), 500),
    (ValueError(), 500),
    (UploadLockedError(), 503),
    (LeaseLostError(), 503),
    (ThrottledError(), 503),
    (UnavailableError(), 503),
    (BackendUnavailableError(), 503),
    (ClosedError(), 503),
    (OperationTimeoutError(), 504),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda value: type(value).__name__)
def test_statuses(version: int | None, error: Exception, status: int) -> None:
    if isinstance(error, UploadExpiredError) and version in (3, 4, 5, 6):
        status = 404
    assert protocol(version, complete=True).failed(error).status == status
    answer = protocol(version, "HEAD").failed(error, INFO)
    assert not answer.body
    if version in (5, 6) and (status >= 500 or status == 429):  # after these, tus-js-client begins a new upload
        assert answer.status == 423
        assert "Retry-After" in said(answer)
    else:
        assert answer.status == status


def test_a_failure_after_the_creation_names_the_upload() -> None:
    answer = protocol(8, "POST", complete=False).failed(UnavailableError(), INFO)
    assert json.loads(answer.body)["upload"] == "a"  # type: ignore[arg-type]
    assert "upload" not in json.loads(protocol(8, "POST").failed(UnavailableError()).body)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["HEAD", "GET", "DELETE"])
def test_only_what_sends_bytes_is_told_whether_it_was_processed(method: str) -> None:
    assert "Upload-Complete" not in said(protocol(8, method).failed(UploadNotFoundError()))


@pytest.mark.parametrize("version", VERSIONS)
def test_old_versions_have_the_offset_with_every_failure(version: int | None) -> None:
    headers = said(protocol(version, complete=True).failed(UnavailableError(), INFO))
    assert headers.get("Upload-Offset") == ("4" if version in (3, 4, 5, 6) else None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("error", "status"), ERRORS, ids=lambda value: type(value).__name__)
def test_a_refusal_of_what_is_uploaded_completely_is_its_result(
    version: int | None, error: Exception, status: int
) -> None:
    """Resuming the upload would not help. What may succeed later does not complete it."""
    all_bytes = replace(INFO, offset=10)
    answer = protocol(version, complete=True).failed(error, all_bytes)
    final = status < 500 and not isinstance(error, UploadLengthError)
    assert is_complete(version, said(answer)) is final
    assert not is_complete(version, said(protocol(version, complete=False).failed(error, all_bytes)))
    assert not is_complete(version, said(protocol(version, complete=True).failed(error, INFO)))
