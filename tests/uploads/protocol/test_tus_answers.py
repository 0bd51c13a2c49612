"""tus 1.0 from results to answers: the headers and the status of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.uploads.protocol.test_tus_requests import BYTES, SETTINGS, tus
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BodySizeError,
    BucketNotFoundError,
    ChecksumError,
    ConflictError,
    ContentTooLargeError,
    InvalidArgumentError,
    LeaseLostError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    OperationTimeoutError,
    StorageFullError,
    ThrottledError,
    UnavailableError,
    UnsupportedError,
    UploadExpiredError,
    UploadLockedError,
    UploadNotFoundError,
    UploadOffsetError,
    UploadRejectedError,
)
from trove_async.uploads import FileInfo, FinalAnswer, MetaData
from trove_async.uploads.protocol.messages import Settings
from trove_async.web.objects import Answer

SOON = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
EXPIRES = ("Upload-Expires", "Wed, 02 Jan 2030 03:04:05 GMT")
TUS = ("Tus-Resumable", "1.0.0")


def test_options() -> None:
    answer = tus("OPTIONS").discovered()
    assert answer.status == 204
    assert dict(answer.headers) == {
        "Tus-Resumable": "1.0.0",
        "Tus-Version": "1.0.0",
        "Tus-Extension": "creation,creation-with-upload,creation-defer-length,termination,concatenation,"
        "concatenation-unfinished,expiration,checksum",
        "Tus-Max-Size": "1000",
        "Tus-Checksum-Algorithm": "sha1,md5,sha256,crc32,crc32c",
    }
    assert dict(tus("OPTIONS", None, SETTINGS, True).discovered().headers)["Tus-Extension"].endswith(
        ",checksum-trailer"
    )


def test_options_of_a_plain_store() -> None:
    settings = Settings(terminates=False, defers=False, concatenates=False, verifies=False)
    assert tus("OPTIONS", None, settings, True).discovered() == Answer(
        204, [TUS, ("Tus-Version", "1.0.0"), ("Tus-Extension", "creation,creation-with-upload")]
    )


def test_created() -> None:
    info = FileInfo(id="a", size=5, offset=0, expires_at=SOON)
    assert tus("POST", upload_length="5").created(info, "/files/a") == Answer(
        201, [TUS, ("Location", "/files/a"), EXPIRES, ("Content-Length", "0")]
    )
    assert tus("POST", upload_length="5", content_type=BYTES).created(info, "/files/a") == Answer(
        201, [TUS, ("Location", "/files/a"), ("Upload-Offset", "0"), EXPIRES, ("Content-Length", "0")]
    )


def test_appended() -> None:
    info = FileInfo(id="a", size=5, offset=3, expires_at=SOON)
    assert tus("PATCH", "a").appended(info) == Answer(204, [TUS, ("Upload-Offset", "3"), EXPIRES])


def test_finished() -> None:
    info = FileInfo(id="a", size=5, offset=5, expires_at=SOON, is_finished=True)
    assert tus("PATCH", "a").finished(info, None) == Answer(204, [TUS, ("Upload-Offset", "5")])
    assert tus("POST", upload_length="0").finished(info, "/files/a") == Answer(
        201, [TUS, ("Location", "/files/a"), ("Content-Length", "0")]
    )


def test_an_application_answers() -> None:
    plain = FinalAnswer(headers=(("X-Key", "k"), ("location", "/photos/1")))
    info = FileInfo(id="a", size=5, offset=5, is_finished=True, answer=plain)
    assert tus("PATCH", "a").finished(info, None) == Answer(
        204, [TUS, ("Upload-Offset", "5"), ("X-Key", "k"), ("location", "/photos/1")]
    )
    assert tus("POST", upload_length="0").finished(info, "/files/a") == Answer(
        201, [TUS, ("X-Key", "k"), ("location", "/photos/1"), ("Content-Length", "0")]
    )
    body = FinalAnswer(status=202, headers=(("Content-Type", "text/plain"),), body=b"done")
    info = FileInfo(id="a", size=5, offset=5, is_finished=True, answer=body)
    assert tus("PATCH", "a").finished(info, None) == Answer(
        202,
        [TUS, ("Upload-Offset", "5"), ("Content-Type", "text/plain"), ("Content-Length", "4")],
        b"done",
    )


def test_described() -> None:
    metadata = MetaData.parse("b ,a AP8=")
    info = FileInfo(id="a", size=5, offset=3, metadata=metadata, expires_at=SOON)
    assert tus("HEAD", "a").described(info) == Answer(
        200,
        [
            TUS,
            ("Cache-Control", "no-store"),
            ("Upload-Offset", "3"),
            ("Upload-Length", "5"),
            ("Upload-Metadata", "b ,a AP8="),
            EXPIRES,
            ("Content-Length", "0"),
        ],
    )
    headers = dict(tus("HEAD", "a").described(FileInfo(id="a", is_partial=True)).headers)
    assert headers["Upload-Offset"] == "0"
    assert headers["Upload-Defer-Length"] == "1"
    assert headers["Upload-Concat"] == "partial"
    assert "Upload-Length" not in headers
    assert "Upload-Metadata" not in headers


def test_described_final() -> None:
    waiting = FileInfo(id="a", size=8, is_final=True, partial_ids=("b", "c", "b"))
    headers = dict(tus("HEAD", "a").described(waiting).headers)
    assert headers["Upload-Concat"] == "final;/files/b /files/c /files/b"
    assert headers["Upload-Length"] == "8"
    assert "Upload-Offset" not in headers
    joined = FileInfo(id="a", size=8, offset=8, is_final=True, partial_ids=("b",), is_finished=True)
    assert dict(tus("HEAD", "a").described(joined).headers)["Upload-Offset"] == "8"


def test_terminated() -> None:
    assert tus("DELETE", "a").terminated() == Answer(204, [TUS])


STATUSES = [
    (InvalidArgumentError("x"), 400, 400),
    (AccessDeniedError("x"), 403, 403),
    (UploadNotFoundError(), 404, 404),
    (UploadExpiredError(), 410, 410),
    (UploadOffsetError(offset=4), 409, 409),
    (ContentTooLargeError(), 413, 413),
    (ChecksumError(), 460, 460),
    (UploadLockedError(), 423, 423),
    (LeaseLostError(), 423, 423),
    (UnsupportedError(), 501, 423),
    (UnavailableError(), 503, 423),
    (ThrottledError(), 503, 423),
    (ConflictError(), 503, 423),
    (OperationTimeoutError(), 504, 423),
    (StorageFullError(), 507, 423),
    (BackendError(), 500, 423),
    (RuntimeError("secret"), 500, 423),
    (BodySizeError(), 500, 423),
    (ObjectAlreadyExistsError(), 422, 422),
    # What a backend misses is not the upload.
    (ObjectNotFoundError(driver="s3"), 500, 423),
    (BucketNotFoundError(), 500, 423),
    (UploadNotFoundError(driver="s3"), 500, 423),
    (UploadRejectedError("no", status_code=401), 401, 401),
    (UploadRejectedError("no", status_code=429), 429, 423),
    (UploadRejectedError("no", status_code=503), 503, 423),
]


@pytest.mark.parametrize(("error", "status", "of_head"), STATUSES)
def test_errors(error: Exception, status: int, of_head: int) -> None:
    for method, expected in (("PATCH", status), ("HEAD", of_head)):
        answer = tus(method, "abc", upload_offset="3").failed(error)
        headers = dict(answer.headers)
        assert answer.status == expected
        assert headers["Tus-Resumable"] == "1.0.0"
        assert headers["Cache-Control"] == "no-store"
        assert "Upload-Offset" not in headers
        assert ("Retry-After" in headers) == (expected in (423, 503, 504))
        assert isinstance(answer.body, bytes)
        if method == "HEAD":
            assert answer.body == b""
            continue
        problem = json.loads(answer.body)
        assert problem["status"] == status
        assert problem["upload"] == "abc"
        assert "secret" not in answer.body.decode()


def test_a_mismatching_offset_says_the_right_one() -> None:
    answer = tus("PATCH", "abc", upload_offset="3").failed(UploadOffsetError(offset=4))
    assert isinstance(answer.body, bytes)
    problem = json.loads(answer.body)
    assert (problem["expected-offset"], problem["provided-offset"]) == (4, 3)


def test_the_words_of_a_hook_reach_the_client() -> None:
    error = UploadRejectedError("2 GiB are left", status_code=507, headers=[("X-Left", "2")])
    answer = tus("POST").failed(error)
    assert answer.status == 507
    assert dict(answer.headers)["X-Left"] == "2"
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["detail"] == "2 GiB are left"


def test_no_text_of_a_backend_reaches_the_client() -> None:
    for error in (BackendError("secret", driver="s3", status=500), UnavailableError("secret", driver="s3")):
        answer = tus("PATCH", "abc").failed(error)
        assert isinstance(answer.body, bytes)
        assert b"secret" not in answer.body


def test_interim() -> None:
    assert tus("POST").interim(FileInfo(id="a"), "/files/a") is None
