"""The metadata of uploads: byte for byte, in order, and refused if it is malformed."""

from __future__ import annotations

import pytest

from trove_async import InvalidMetadataError
from trove_async.uploads import MetaData


def test_a_header_is_returned_unchanged() -> None:
    header = "filename d29ybGQ=,  is_confidential,empty ,Z AAH/"
    metadata = MetaData.parse(header)
    assert metadata.header == header
    assert list(metadata.items()) == [
        ("filename", b"world"), ("is_confidential", b""), ("empty", b""), ("Z", b"\x00\x01\xff")
    ]  # fmt: skip
    assert metadata.text("filename") == "world"
    assert metadata.text("Z", "?") == "?"
    assert metadata.text("missing") is None


def test_pairs_are_encoded_in_their_order() -> None:
    metadata = MetaData([("b", "ü"), ("a", b"\xff"), ("c", "")])
    assert metadata.header == "b w7w=,a /w==,c"
    assert MetaData.parse(metadata.header) == metadata
    assert hash(MetaData.parse(metadata.header)) == hash(metadata)
    assert MetaData.parse("") == MetaData()


@pytest.mark.parametrize(
    "header",
    ["a d29ybGQ", "a d29 ybGQ=", "a ü", "ü", "a,a", "a YQ==,a YQ==", ",", "a,,b", " ", "a\tYQ==", "a" * 17_000],
)
def test_malformed_headers_are_refused(header: str) -> None:
    with pytest.raises(InvalidMetadataError):
        MetaData.parse(header)


@pytest.mark.parametrize("name", ["", "a b", "a,b", "ä", "a\n"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidMetadataError):
        MetaData({name: "value"})
