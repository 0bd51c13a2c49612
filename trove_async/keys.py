"""The rules for bucket names, object keys, metadata and tags.

Each function returns its argument in normal form, or raises a subclass of `InvalidArgumentError` that says
what is wrong. There is no I/O here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trove_async.content_types import CONTENT_TYPES
from trove_async.errors import (
    InvalidBucketNameError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidTagsError,
)
from trove_async.types import EMPTY, FrozenDict

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "MAX_KEY_BYTES",
    "check_bucket",
    "check_content_type",
    "check_header",
    "check_key",
    "check_metadata",
    "check_prefix",
    "check_tags",
    "content_type_of",
    "successor",
]

MAX_KEY_BYTES: Final = 1024
MAX_BUCKET_BYTES: Final = 255
MAX_METADATA_BYTES: Final = 64 * 1024
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

_METADATA_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

# A program uses few buckets, and names one in every call.
_valid_buckets: set[str] = set()


def check_key(key: str) -> None:
    """Check that a key is text of 1 to 1,024 bytes of UTF-8 without NUL.

    Raises:
        InvalidKeyError: it is not; the message says why.
    """
    # Nearly every key is ASCII and short enough; this check is then one pass in C.
    if type(key) is str and 0 < len(key) <= MAX_KEY_BYTES and key.isascii() and "\0" not in key:
        return
    _check_key_slowly(key)


def _check_key_slowly(key: object) -> None:
    if not isinstance(key, str):
        raise InvalidKeyError(f"a key is a str, not {type(key).__name__}")
    if not key:
        raise InvalidKeyError("the key is empty; give 1 to 1024 bytes of UTF-8", key=key)
    if "\0" in key:
        raise InvalidKeyError("the key contains NUL", key=key)
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidKeyError(
            f"the key is not valid Unicode: lone surrogate at position {error.start}", key=ascii(key)
        ) from None
    if size > MAX_KEY_BYTES:
        raise InvalidKeyError(f"the key is {size} bytes of UTF-8, more than {MAX_KEY_BYTES}", key=key[:64] + "…")


def check_prefix(prefix: str) -> None:
    """Check that a prefix is text with which a key could begin; it may be empty."""
    if not isinstance(prefix, str):
        raise InvalidKeyError(f"a prefix is a str, not {type(prefix).__name__}")
    if prefix != "":
        check_key(prefix)


def check_bucket(bucket: str) -> None:
    r"""Check the rules for bucket names that apply to every backend; a driver may have more rules.

    Raises:
        InvalidBucketNameError: the name is empty, ``.``, ``..``, begins with ``.trove``,
            is longer than 255 bytes, or contains ``/``, ``\\`` or a control character.
    """
    if type(bucket) is not str or bucket not in _valid_buckets:
        _check_bucket_slowly(bucket)


def _check_bucket_slowly(bucket: str) -> None:
    if not isinstance(bucket, str):
        raise InvalidBucketNameError(f"a bucket name is a str, not {type(bucket).__name__}")
    if not bucket:
        raise InvalidBucketNameError("the bucket name is empty", bucket=bucket)
    if bucket in (".", "..") or bucket.startswith(".trove"):
        raise InvalidBucketNameError(f"{bucket!r} is reserved and cannot name a bucket", bucket=bucket)
    if "/" in bucket or "\\" in bucket or not bucket.isprintable():
        raise InvalidBucketNameError(
            f"{bucket!r} contains a slash, a backslash or a character that cannot be printed", bucket=ascii(bucket)
        )
    if len(bucket.encode()) > MAX_BUCKET_BYTES:
        raise InvalidBucketNameError(f"the bucket name is longer than {MAX_BUCKET_BYTES} bytes", bucket=bucket[:64])
    if len(_valid_buckets) < 1024:
        _valid_buckets.add(bucket)


def content_type_of(key: str) -> str:
    """Return the media type of a key's extension, or ``application/octet-stream`` if it is unknown."""
    dot = key.rfind(".")
    if dot <= key.rfind("/") + 1:
        return DEFAULT_CONTENT_TYPE
    extension = key[dot + 1 :]
    return CONTENT_TYPES.get(extension) or CONTENT_TYPES.get(extension.lower(), DEFAULT_CONTENT_TYPE)


def check_header(name: str, value: str) -> None:
    """Check that a value is valid in an HTTP header: printable ASCII and spaces, no line break."""
    if not isinstance(value, str):
        raise InvalidMetadataError(f"{name} is a str, not {type(value).__name__}")
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidMetadataError(
            f"{name} {value!r} is not valid in a header: use printable ASCII without spaces at the ends"
        )


def check_content_type(value: str) -> None:
    """Check that a media type has the shape ``type/subtype`` of RFC 9110, section 8.3.1."""
    check_header("content_type", value)
    essence = value.partition(";")[0].strip()
    kind, slash, subtype = essence.partition("/")
    if not (kind and slash and subtype) or any(c in '()<>@,:\\"/[]?= ' for c in kind + subtype):
        raise InvalidMetadataError(f"content_type {value!r} is not a media type; give one such as 'text/plain'")


def check_metadata(metadata: Mapping[str, str] | None) -> FrozenDict:
    """Return metadata with its keys in lower case.

    Keys are 1 to 128 ASCII letters, digits, ``-``, ``_`` and ``.``; values are any text without control characters.
    The total is at most 64 KiB; services allow less.

    Raises:
        InvalidMetadataError: a key or value is invalid, the metadata are too large, or two keys differ only in case.
    """
    if not metadata:
        return EMPTY
    if not isinstance(metadata, Mapping):
        raise InvalidMetadataError(f"metadata is a mapping of str to str, not of type {type(metadata).__name__}")
    result: dict[str, str] = {}
    size = 0
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidMetadataError(f"metadata maps str to str; {key!r} does not")
        name = key.lower()
        if _METADATA_KEY.fullmatch(name) is None:
            raise InvalidMetadataError(
                f"metadata key {key!r} is not 1 to 128 ASCII letters, digits, hyphens, underscores or dots"
            )
        if name in result:
            raise InvalidMetadataError(f"metadata keys are case-insensitive, and {name!r} is given twice")
        _check_text(f"the value of metadata key {key!r}", value)
        size += len(name) + len(value.encode())
        result[name] = value
    if size > MAX_METADATA_BYTES:
        raise InvalidMetadataError(f"the metadata is {size} bytes, more than {MAX_METADATA_BYTES}")
    return FrozenDict(result)


def check_tags(tags: Mapping[str, str] | None) -> FrozenDict:
    """Check tags and return them.

    An object has at most 10 tags, with keys of 1 to 128 and values of 0 to 256 characters, as on S3
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html).

    Raises:
        InvalidTagsError: there are more than 10, or one is malformed.
    """
    if not tags:
        return EMPTY
    if not isinstance(tags, Mapping):
        raise InvalidTagsError(f"tags are a mapping of str to str, not of type {type(tags).__name__}")
    if len(tags) > 10:
        raise InvalidTagsError(f"an object has at most 10 tags, not {len(tags)}")
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidTagsError(f"tags map str to str; {key!r} does not")
        if not 1 <= len(key) <= 128:
            raise InvalidTagsError(f"a tag's key has 1 to 128 characters, not {len(key)}")
        if len(value) > 256:
            raise InvalidTagsError(f"a tag's value has at most 256 characters; that of {key!r} has {len(value)}")
        try:
            _check_text(f"tag {key!r}", key + value)
        except InvalidMetadataError as error:
            raise InvalidTagsError(error.message) from None
    return FrozenDict(tags)


def _check_text(what: str, value: str) -> None:
    if _CONTROL.search(value) is not None:
        raise InvalidMetadataError(f"{what} contains a control character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidMetadataError(f"{what} is not valid Unicode") from None


def successor(prefix: str) -> str | None:
    """Return the smallest text that sorts after all text that begins with ``prefix``.

    Return None if there is none. Text sorts by code point, which is the order of its UTF-8 bytes.
    """
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None
