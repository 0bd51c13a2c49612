"""The description of an object in S3's headers."""

from __future__ import annotations

import pytest

from trove_async.drivers.s3.headers import info_of


@pytest.mark.parametrize(
    ("sent", "encoding"),
    [
        ("gzip", "gzip"),
        ("gzip, br", "gzip, br"),
        # The object was uploaded in chunks; services other than Amazon's return that encoding with the object.
        ("aws-chunked", None),
        ("gzip,aws-chunked", "gzip"),
        ("aws-chunked, gzip", "gzip"),
        ("", None),
    ],
)
def test_the_encoding_of_the_upload_is_not_part_of_the_object_s_encoding(sent: str, encoding: str | None) -> None:
    assert info_of("key", 1, {"etag": '"e"', "content-encoding": sent}).content_encoding == encoding
