"""What an object's description looks like in S3's headers, both ways."""

from __future__ import annotations

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Mapping
from email.header import decode_header
from typing import Final
from urllib.parse import quote

from trove_async.checksums import Checksum
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import InvalidMetadataError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import etag_of, parse_http_date, required

__all__ = [
    "CHECKSUM",
    "description_headers",
    "info_of",
    "object_headers",
    "version_of",
]

_META: Final = "x-amz-meta-"
CHECKSUM: Final = "trove-checksum"
"""The name of the metadata in which a checksum of the user's is kept, for it is one that S3 need not know."""

_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?[^?]*\?=")
_MAX_METADATA: Final = 2048


def description_headers(attributes: ObjectAttributes, checksum: Checksum | None = None) -> list[tuple[str, str]]:
    """Return the headers that describe an object that is written; tags are among them.

    Args:
        attributes: of the object.
        checksum: the user's, with its value; None for none.

    Raises:
        InvalidMetadataError: the metadata is more than the 2 KB that S3 takes
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
    """
    headers = attributes.content_headers()
    if attributes.metadata or checksum is not None:
        headers += _metadata_headers(attributes.metadata, checksum)
    if attributes.tags:
        headers.append(("x-amz-tagging", tagging(attributes.tags)))
    if attributes.storage_class is not None:
        headers.append(("x-amz-storage-class", attributes.storage_class))
    return headers


def _metadata_headers(metadata: Mapping[str, str], checksum: Checksum | None) -> list[tuple[str, str]]:
    headers = [(_META + name, _encoded(value)) for name, value in metadata.items()]
    if checksum is not None and checksum.value is not None:
        headers.append((_META + CHECKSUM, str(checksum)))
    size = sum(len(name) - len(_META) + len(value) for name, value in headers)
    if size > _MAX_METADATA:
        raise InvalidMetadataError(f"the metadata is {size} bytes as S3 counts them, more than {_MAX_METADATA}")
    return headers


def tagging(tags: Mapping[str, str]) -> str:
    """Return tags as the header that holds them: a query string."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags.items())


def _encoded(value: str) -> str:
    """Return a value as it can stand in a header: as it is, or as an encoded word of RFC 2047, as S3 has it."""
    if _PLAIN.fullmatch(value) and "  " not in value and not _WORD.search(value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?=" if value else ""


def _decoded(value: str) -> str:
    if "=?" not in value:
        return value
    try:
        return "".join(
            part if isinstance(part, str) else part.decode(charset or "ascii") for part, charset in decode_header(value)
        )
    except (LookupError, UnicodeDecodeError, Base64Error, ValueError):
        return value  # written by another program, in another way


def object_headers(headers: Mapping[str, str], name: str) -> str:
    """Return a header that every answer about an object has.

    Raises:
        BackendError: it has none, so that the answer is not S3's.
    """
    return required(headers, name, "an S3 service")


def version_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the version that an answer is about; None where the bucket keeps none."""
    version_id = headers.get("x-amz-version-id")
    return None if version_id in ("", "null") else version_id


def info_of(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of a get or head say of an object."""
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    found: dict[str, str] = {}
    for name in headers:
        if name[:11] == _META:
            found[name[11:]] = _decoded(headers[name])
    if found:
        algorithm, colon, value = found.pop(CHECKSUM, "").partition(":")
        checksums = FrozenDict({algorithm: value}) if colon else EMPTY
        metadata = FrozenDict(found) if found else EMPTY
    storage_class = headers.get("x-amz-storage-class")
    content: dict[str, str] = {}
    for name, field in CONTENT_HEADERS:
        if name in headers:
            content[field] = headers[name]
    return ObjectInfo(
        key,
        size,
        etag_of(object_headers(headers, "etag")),
        parse_http_date(headers.get("last-modified")),
        headers.get("content-type"),
        metadata,
        version_of(headers),
        None if storage_class == "STANDARD" else storage_class,
        checksums=checksums,
        **content,
    )
