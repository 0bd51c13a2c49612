"""HTTP rules, tested without a server."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async import errors
from trove_async.errors import ContentTooLargeError
from trove_async.web.http import check_headers, content_disposition, error_status, join_headers


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("a.txt", 'attachment; filename="a.txt"'),
        ("a b (1).txt", 'attachment; filename="a b (1).txt"'),
        ("naïve.txt", "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
        ("€ rates", "attachment; filename=\"_ rates\"; filename*=UTF-8''%E2%82%AC%20rates"),
        ('a"b.txt', "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
        ("100%25", "attachment; filename=\"100_25\"; filename*=UTF-8''100%2525"),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie_ x\"; filename*=UTF-8''a__Set-Cookie%3A%20x"),
        ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
        ("C:\\x", "attachment; filename=\"C__x\"; filename*=UTF-8''C%3A_x"),
        ("gpj.\u202eexe", 'attachment; filename="gpj._exe"'),
        ("\ud800", 'attachment; filename="_"'),
        ("", 'attachment; filename="_"'),
        ("..", 'attachment; filename="_"'),
    ],
)
def test_content_disposition(filename: str, expected: str) -> None:
    assert content_disposition("attachment", filename) == expected


@given(st.text())
def test_any_filename_round_trips(filename: str) -> None:
    header = content_disposition("inline", filename)
    check_headers([("Content-Disposition", header)])
    assert header.isascii()
    plain, encoded = re.fullmatch(r"inline; filename=\"([^\"]+)\"(?:; filename\*=UTF-8''(\S+))?", header).groups()  # type: ignore[union-attr]
    printable = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in filename)
    assert (unquote(encoded) if encoded else plain) == (printable if printable.strip(" .") else "_")


def test_a_disposition_is_inline_or_attachment() -> None:
    with pytest.raises(ValueError, match="'inline' or 'attachment'"):
        content_disposition("form-data", "a")  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [("", "x"), ("a b", "x"), ("a", "x\n"), ("a", "x\r\nb: c"), ("a", "☃"), ("a", "\0")])
def test_invalid_headers(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="is not valid in a header"):
        check_headers([("ok", "fine"), pair])


def test_repeated_headers_are_joined() -> None:
    pairs = [("If-Match", ' "a"'), ("X", "1"), ("IF-MATCH", '"b" ')]
    assert join_headers(pairs) == {"if-match": '"a", "b"', "x": "1"}


STATUSES = {
    "InvalidArgumentError": 400, "InvalidKeyError": 400, "InvalidBucketNameError": 400, "InvalidCursorError": 400,
    "InvalidMetadataError": 400, "InvalidRangeError": 400, "BodySizeError": 400, "ChecksumError": 400,
    "AccessDeniedError": 403, "UnauthenticatedError": 403,
    "NotFoundError": 404, "ObjectNotFoundError": 404, "BucketNotFoundError": 404, "VersionNotFoundError": 404,
    "BucketAlreadyExistsError": 409, "BucketNotEmptyError": 409,
    "PreconditionFailedError": 412, "ObjectAlreadyExistsError": 412, "ObjectChangedError": 412,
    "RangeNotSatisfiableError": 416,
    "BackendError": 500, "TroveError": 500,
    "UnsupportedError": 501,
    "TransientError": 503, "ThrottledError": 503, "UnavailableError": 503, "ClosedError": 503,
    "OperationTimeoutError": 504,
    "StorageFullError": 507,
}  # fmt: skip


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_the_status_of_an_error(name: str, status: int) -> None:
    assert error_status(getattr(errors, name)()) == status


def test_the_status_of_a_body_that_is_too_long() -> None:
    assert error_status(ContentTooLargeError()) == 413
