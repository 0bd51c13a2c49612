"""Invalid names: keys, buckets, metadata, tags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import trove_async as trove
from trove_async.errors import (
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidTagsError,
)

pytestmark = pytest.mark.asyncio

Verb = Callable[[trove.Trove, Any, Any], Awaitable[object]]

VERBS: dict[str, Verb] = {
    "put": lambda t, b, k: t.put(b, k, b"data"),
    "get": lambda t, b, k: t.get(b, k),
    "read": lambda t, b, k: t.read(b, k),
    "head": lambda t, b, k: t.head(b, k),
    "exists": lambda t, b, k: t.exists(b, k),
    "delete": lambda t, b, k: t.delete(b, k),
    "copy from": lambda t, b, k: t.copy(b, k, "b", "copy"),
    "copy to": lambda t, b, k: t.copy("b", "kept", b, k),
    "move": lambda t, b, k: t.move("b", "kept", b, k),
    "get_tags": lambda t, b, k: t.get_tags(b, k),
    "list_versions": lambda t, b, k: t.list_versions(b, k),
    "initiate_multipart": lambda t, b, k: t.initiate_multipart(b, k),
    "presign_get": lambda t, b, k: t.presign_get(b, k),
}
each_verb = pytest.mark.parametrize("verb", VERBS)


@each_verb
@pytest.mark.parametrize(
    ("key", "expected_message"),
    [
        ("", "empty"),
        ("x" * 1025, "1025 bytes"),
        ("é" * 513, "1026 bytes"),
        ("a\0b", "NUL"),
        ("a\ud800b", "lone surrogate at position 1"),
        (b"bytes", "bytes"),
        (None, "NoneType"),
        (7, "int"),
    ],
    ids=["empty", "long", "long in UTF-8", "NUL", "surrogate", "bytes", "None", "int"],
)
async def test_invalid_keys(store: trove.Trove, verb: str, key: object, expected_message: str) -> None:
    with pytest.raises(InvalidKeyError, match=expected_message) as raised:
        await VERBS[verb](store, "b", key)
    assert isinstance(raised.value, ValueError)


@each_verb
@pytest.mark.parametrize(
    ("bucket", "expected_message"),
    [
        ("", "empty"),
        (".", "reserved"),
        ("..", "reserved"),
        (".trove", "reserved"),
        (".trove-other", "reserved"),
        ("a/b", "slash"),
        ("/etc", "slash"),
        ("a\\b", "backslash"),
        ("a\0", "cannot be printed"),
        ("a\n", "cannot be printed"),
        ("\ud800", "cannot be printed"),
        ("x" * 256, "longer than 255 bytes"),
        (b"bytes", "bytes"),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_invalid_bucket_names(store: trove.Trove, verb: str, bucket: object, expected_message: str) -> None:
    with pytest.raises(InvalidBucketNameError, match=expected_message):
        await VERBS[verb](store, bucket, "key")


@pytest.mark.parametrize("bucket", ["", "..", ".trove", "a/b", "a\0b", "x" * 256])
async def test_a_bucket_with_an_invalid_name_is_not_created(store: trove.Trove, bucket: str) -> None:
    for call in (store.create_bucket, store.delete_bucket, store.get_lifecycle, store.get_versioning):
        with pytest.raises(InvalidBucketNameError):
            await call(bucket)


@pytest.mark.parametrize(
    ("metadata", "expected_message"),
    [
        ({"": "v"}, "1 to 128"),
        ({"a b": "v"}, "'a b'"),
        ({"x" * 129: "v"}, "1 to 128"),
        ({"naïve": "v"}, "ASCII"),
        ({"a": "line\nbreak"}, "control character"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ({"a": 1}, "str to str"),
        ({"a": "1", "A": "2"}, "given twice"),
        ({"a": "x" * 70_000}, "70001 bytes"),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_invalid_metadata(store: trove.Trove, metadata: Any, expected_message: str) -> None:
    with pytest.raises(InvalidMetadataError, match=expected_message):
        await store.put("b", "kept", b"new", metadata=metadata)
    with pytest.raises(InvalidMetadataError, match=expected_message):
        await store.copy("b", "kept", "b", "copy", replace=True, metadata=metadata)
    with pytest.raises(InvalidMetadataError, match=expected_message):
        await store.initiate_multipart("b", "kept", metadata=metadata)


@pytest.mark.parametrize(
    ("tags", "expected_message"),
    [
        ({str(number): "" for number in range(11)}, "at most 10"),
        ({"": "v"}, "1 to 128"),
        ({"k" * 129: "v"}, "129"),
        ({"k": "v" * 257}, "257"),
        ({"k": "\n"}, "control character"),
        ({"k": 1}, "str to str"),
    ],
    ids=lambda value: ascii(value)[:20],
)
async def test_invalid_tags(store: trove.Trove, tags: Any, expected_message: str) -> None:
    with pytest.raises(InvalidTagsError, match=expected_message):
        await store.put("b", "kept", b"new", tags=tags)
    with pytest.raises(InvalidTagsError, match=expected_message):
        await store.set_tags("b", "kept", tags)


@pytest.mark.parametrize("name", ["content_type", "cache_control", "content_disposition", "storage_class"])
@pytest.mark.parametrize("value", ["", "line\r\nbreak", "ünïcode", " padded "])
async def test_invalid_headers(store: trove.Trove, name: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        await store.put("b", "kept", b"new", **{name: value})  # type: ignore[arg-type]
