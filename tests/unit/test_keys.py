from __future__ import annotations

import mimetypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.content_types import _EXTENSIONS, CONTENT_TYPES
from trove_async.errors import (
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidTagsError,
)
from trove_async.keys import (
    MAX_KEY_BYTES,
    check_bucket,
    check_content_type,
    check_header,
    check_key,
    check_metadata,
    check_prefix,
    check_tags,
    content_type_of,
    successor,
)
from trove_async.types import EMPTY, FrozenDict

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    "key", ["a", "/", "//", "..", ".", "../etc/passwd", "%2F", "a\\b", "\n", "ключ", "🗝", " ", "k" * 1024, "é" * 512]
)
def test_keys_are_opaque(key: str) -> None:
    check_key(key)
    check_prefix(key)


@pytest.mark.parametrize("key", ["", "a\0b", "k" * 1025, "é" * 513, "\ud800", "a\udfff"])
def test_an_invalid_key_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    str(caught.value).encode()  # it can be written to a log, whatever the key contains


@pytest.mark.parametrize("key", [None, 1, b"bytes", ["a"]])
def test_a_key_is_text(key: object) -> None:
    with pytest.raises(InvalidKeyError, match=type(key).__name__):
        check_key(key)  # type: ignore[arg-type]


def test_the_empty_prefix_is_valid_and_an_invalid_prefix_is_refused() -> None:
    check_prefix("")
    with pytest.raises(InvalidKeyError):
        check_prefix("a\0")
    with pytest.raises(InvalidKeyError):
        check_prefix(None)  # type: ignore[arg-type]


@given(unicode_text)
def test_a_key_is_valid_if_and_only_if_it_has_1_to_1024_bytes_and_no_nul(key: str) -> None:
    valid = 0 < len(key.encode()) <= MAX_KEY_BYTES and "\0" not in key
    if valid:
        check_key(key)
    else:
        with pytest.raises(InvalidKeyError):
            check_key(key)


@pytest.mark.parametrize("bucket", ["b", "my-bucket", "Bücket", "a.b", "_", "x" * 255, "...", "with space"])
def test_valid_bucket_names(bucket: str) -> None:
    check_bucket(bucket)


@pytest.mark.parametrize(
    "bucket", ["", ".", "..", ".trove", ".trove-x", "a/b", "a\\b", "a\0", "a\n", "x" * 256, "\ud800", "\u202e"]
)
def test_invalid_bucket_names(bucket: str) -> None:
    with pytest.raises(InvalidBucketNameError) as caught:
        check_bucket(bucket)
    str(caught.value).encode()


@pytest.mark.parametrize("bucket", [None, 1, b"b"])
def test_a_bucket_name_is_text(bucket: object) -> None:
    with pytest.raises(InvalidBucketNameError, match=type(bucket).__name__):
        check_bucket(bucket)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.txt", "text/plain"),
        ("photos/a.JPG", "image/jpeg"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.TAR.GZ", "application/gzip"),
        ("a.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.zst", "application/zstd"),
        ("a.br", "application/x-brotli"),
        ("a.7z", "application/x-7z-compressed"),
        ("a.webp", "image/webp"),
        ("a.avif", "image/avif"),
        ("a.jxl", "image/jxl"),
        ("a.heic", "image/heic"),
        ("a.woff2", "font/woff2"),
        ("README.md", "text/markdown"),
        ("a.js", "text/javascript"),
        ("a.mjs", "text/javascript"),
        ("a.wasm", "application/wasm"),
        ("a.yaml", "application/yaml"),
        ("a.yml", "application/yaml"),
        ("a.toml", "application/toml"),
        ("a.jsonl", "application/x-ndjson"),
        ("a.ndjson", "application/x-ndjson"),
        ("a.ipynb", "application/x-ipynb+json"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.arrow", "application/vnd.apache.arrow.file"),
        ("a.orc", "application/vnd.apache.orc"),
        ("a.avro", "application/avro"),
        ("a.opus", "audio/opus"),
        ("a.flac", "audio/flac"),
        ("a.m4a", "audio/mp4"),
        ("a.webm", "video/webm"),
        ("a.mkv", "video/matroska"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.", "application/octet-stream"),
        ("a.bin", "application/octet-stream"),
        ("a", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("dir.txt/a", "application/octet-stream"),
        ("a.no-such-extension", "application/octet-stream"),
    ],
)
def test_the_content_type_follows_from_the_extension(key: str, expected: str) -> None:
    assert content_type_of(key) == expected


def test_the_table_of_content_types_is_well_formed() -> None:
    for extension, kind in CONTENT_TYPES.items():
        assert extension == extension.lower()
        assert "." not in extension
        check_content_type(kind)
    listed = [extension for extensions in _EXTENSIONS.values() for extension in extensions.split()]
    assert len(listed) == len(CONTENT_TYPES), "an extension has two types"


def test_the_machine_and_python_have_no_say_in_content_types() -> None:
    mimetypes.add_type("application/x-other", ".webp")
    try:
        assert content_type_of("a.webp") == "image/webp"
    finally:
        mimetypes.init()


@pytest.mark.parametrize("value", ["text/plain", "text/html; charset=utf-8", "application/vnd.x+json", "x/y"])
def test_media_types(value: str) -> None:
    check_content_type(value)


@pytest.mark.parametrize(
    "value", ["", "text", "text/", "/plain", "te xt/plain", "text/plain\n", "tëxt/plain", "a/b/c", " a/b"]
)
def test_an_invalid_media_type_is_refused(value: str) -> None:
    with pytest.raises(InvalidMetadataError):
        check_content_type(value)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "", " a", "a ", "ü", 1, None])
def test_a_value_that_is_invalid_in_a_header_is_refused_with_its_name(value: object) -> None:
    with pytest.raises(InvalidMetadataError, match="cache_control"):
        check_header("cache_control", value)  # type: ignore[arg-type]


def test_metadata_keys_become_lower_case_and_the_result_is_frozen() -> None:
    checked = check_metadata({"Author": "Zoë", "x_y.z-1": ""})
    assert checked == {"author": "Zoë", "x_y.z-1": ""}
    assert type(checked) is FrozenDict
    assert check_metadata(None) is check_metadata({}) is EMPTY


@pytest.mark.parametrize(
    "metadata",
    [
        {"": "v"},
        {"k" * 129: "v"},
        {"ü": "v"},
        {"a b": "v"},
        {"A": "1", "a": "2"},
        {"a": "line\nbreak"},
        {"a": "\x7f"},
        {"a": "\ud800"},
        {"a": 1},
        {1: "a"},
        {"a": "v" * (64 * 1024)},
    ],
)
def test_malformed_metadata_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidMetadataError) as caught:
        check_metadata(metadata)
    str(caught.value).encode()


def test_tags_are_checked_and_frozen() -> None:
    tags = {f"Key {i}": "" for i in range(10)}
    assert check_tags(tags) == tags
    assert type(check_tags(tags)) is FrozenDict
    assert check_tags(None) is EMPTY
    check_tags({"k" * 128: "v" * 256})


@pytest.mark.parametrize(
    "tags",
    [
        {str(i): "" for i in range(11)},
        {"": "v"},
        {"k" * 129: "v"},
        {"k": "v" * 257},
        {"k": "\n"},
        {"k": "\ud800"},
        {"k": 1},
        {1: "v"},
    ],
)
def test_malformed_tags_are_refused(tags: dict[str, str]) -> None:
    with pytest.raises(InvalidTagsError):
        check_tags(tags)


@given(unicode_text.filter(bool), unicode_text)
def test_the_successor_sorts_after_all_strings_with_the_prefix_and_before_all_others(prefix: str, other: str) -> None:
    after = successor(prefix)
    assert after is None or (prefix + other) < after
    if after is not None:
        after.encode()
        if other > prefix and not other.startswith(prefix):
            assert other >= after


def test_the_successor_skips_surrogates_and_ends_with_the_last_character() -> None:
    assert successor("a") == "b"
    assert successor("a\U0010ffff") == "b"
    assert successor("\ud7ff") == "\ue000"
    assert successor("\U0010ffff") is None
    assert successor("") is None
