"""Metadata and tags in headers, encoded and decoded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from trove_async.driver import ObjectAttributes
from trove_async.drivers.azure.headers import attribute_headers, info_of, metadata_headers
from trove_async.types import FrozenDict

NAMES = st.text("abcxyz0129_-.", min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def back(headers: list[tuple[str, str]]) -> dict[str, str]:
    return dict(info_of("key", 0, {"etag": '"0x1"', **dict(headers)}).metadata)


@settings(max_examples=300)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_metadata_round_trips(metadata: dict[str, str]) -> None:
    headers = metadata_headers(metadata)
    for name, value in headers:
        assert IDENTIFIER.fullmatch(name.removeprefix("x-ms-meta-")), name
        assert value.isascii()
        assert value.isprintable()
        assert value
        assert value == value.strip()
    assert len({name for name, _ in headers}) == len(metadata)
    assert back(headers) == metadata


@pytest.mark.parametrize(
    "name",
    [
        "_x2d_",
        "a_x41_b",
        "_x5f_x2d_",
        "__x2d_",
        "_x2d",
        "x2d_",
        "0",
        "-",
        "trove_version",
        "trove_checksum",
        "a-_x2d_",
        "_x00.",
    ],
)
def test_names_that_look_encoded_round_trip(name: str) -> None:
    assert back(metadata_headers({name: "value"})) == {name: "value"}


def test_plain_names_and_values_are_not_encoded() -> None:
    assert metadata_headers({"author": "Some One", "a_b": "1"}) == [
        ("x-ms-meta-author", "Some One"),
        ("x-ms-meta-a_b", "1"),
    ]


def test_foreign_metadata_is_decoded_if_possible() -> None:
    headers = [("x-ms-meta-odd", "=?UTF-8?B?not base64?="), ("x-ms-meta-word", "=?ISO-8859-1?Q?=FC?=")]
    assert back(headers) == {"odd": "=?UTF-8?B?not base64?=", "word": "ü"}


def test_encoded_metadata_that_is_too_large_is_refused() -> None:
    with pytest.raises(trove.InvalidMetadataError, match="bytes"):
        metadata_headers({"name": "ü" * 3500})


def test_tags_with_unsupported_characters_are_refused() -> None:
    with pytest.raises(trove.InvalidTagsError, match="characters"):
        attribute_headers(ObjectAttributes(tags=FrozenDict({"ä": "1"})))
    with pytest.raises(trove.InvalidTagsError, match="characters"):
        attribute_headers(ObjectAttributes(tags=FrozenDict({"a": "1;"})))


def test_tiers_are_storage_classes_in_capital_letters() -> None:
    assert ("x-ms-access-tier", "Cool") in attribute_headers(ObjectAttributes(storage_class="cool"))
    with pytest.raises(trove.InvalidArgumentError, match="HOT, COOL, COLD, ARCHIVE"):
        attribute_headers(ObjectAttributes(storage_class="STANDARD_IA"))
    found = {"etag": '"0x1"', "x-ms-access-tier": "Cold"}
    assert info_of("key", 0, found).storage_class == "COLD"
    assert info_of("key", 0, {**found, "x-ms-access-tier-inferred": "true"}).storage_class is None
