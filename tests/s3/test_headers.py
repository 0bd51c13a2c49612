"""What S3's headers say of an object."""

from __future__ import annotations

import pytest

from trove_async.drivers.s3.headers import info_of


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, br", "gzip, br"),
        # What stored the object was sent in chunks; services that are not Amazon's return that with the object.
        ("aws-chunked", None),
        ("gzip,aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("", None),
    ],
)
def test_the_encoding_of_the_request_is_none_of_the_object(sent: str, encoding: str | None) -> None:
    assert info_of("key", 1, {"etag": '"e"', "content-encoding": sent}).content_encoding == encoding
