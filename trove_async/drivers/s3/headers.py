"""Convert the description of an object to and from S3's headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trove_async.checksums import Checksum, stored_checksums
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import InvalidMetadataError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import etag_of, parse_http_date, required
from trove_async.wire.metadata import decode_value, encode_value
from trove_async.wire.sigv4 import encode_query

__all__ = [
    "CHECKSUM",
    "attribute_headers",
    "etag_in",
    "info_of",
    "version_of",
]

_META: Final = "x-amz-meta-"
CHECKSUM: Final = "trove-checksum"
"""The metadata key for the checksum that a caller requested; S3 need not support its algorithm."""

_MAX_METADATA: Final = 2048


def attribute_headers(attributes: ObjectAttributes, checksum: Checksum | None = None) -> list[tuple[str, str]]:
    """Return the headers that describe a new object, including its tags.

    Args:
        attributes: of the object.
        checksum: the caller's; one without a value is left out.

    Raises:
        InvalidMetadataError: the metadata is larger than the 2 KB that S3 accepts
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
    """
    headers = attributes.content_headers()
    if attributes.metadata or checksum is not None:
        headers += _metadata_headers(attributes.metadata, checksum)
    if attributes.tags:
        headers.append(("x-amz-tagging", encode_query(attributes.tags.items())))
    if attributes.storage_class is not None:
        headers.append(("x-amz-storage-class", attributes.storage_class))
    return headers


def _metadata_headers(metadata: Mapping[str, str], checksum: Checksum | None) -> list[tuple[str, str]]:
    headers = [(_META + name, encode_value(value)) for name, value in metadata.items()]
    if checksum is not None and checksum.value is not None:
        headers.append((_META + CHECKSUM, str(checksum)))
    size = sum(len(name) - len(_META) + len(value) for name, value in headers)
    if size > _MAX_METADATA:
        raise InvalidMetadataError(f"the metadata has {size} bytes as S3 counts them, more than {_MAX_METADATA}")
    return headers


def etag_in(headers: Mapping[str, str]) -> str:
    """Return the ETag of an answer about an object.

    Raises:
        BackendError: there is none, so the answer does not come from S3.
    """
    return etag_of(required(headers, "etag", "an S3 service"))


def version_of(headers: Mapping[str, str]) -> str | None:
    """Return the version id of an answer; None if the bucket does not keep versions."""
    version_id = headers.get("x-amz-version-id")
    return None if version_id in ("", "null") else version_id


def info_of(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return the object that the headers of an answer to a GET or HEAD describe."""
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    found: dict[str, str] = {}
    for name in headers:
        if name[:11] == _META:
            found[name[11:]] = decode_value(headers[name])
    if found:
        if CHECKSUM in found:
            checksums = FrozenDict(stored_checksums(found.pop(CHECKSUM)))
        metadata = FrozenDict(found) if found else EMPTY
    content: dict[str, str | None] = {}
    for name, field in CONTENT_HEADERS:
        if name in headers:
            content[field] = headers[name]
    if "content-encoding" in headers:
        content["content_encoding"] = _stored_encoding(headers["content-encoding"])
    storage_class = headers.get("x-amz-storage-class")
    return ObjectInfo(
        key,
        size,
        etag_of(required(headers, "etag", "an S3 service")),
        parse_http_date(headers.get("last-modified")),
        headers.get("content-type"),
        metadata,
        version_of(headers),
        None if storage_class == "STANDARD" else storage_class,
        checksums=checksums,
        **content,
    )


def _stored_encoding(value: str) -> str | None:
    """Return how an object is encoded; None if it is not.

    Some services keep the ``aws-chunked`` of the request that stored the object, or return an empty header for it,
    although the encoding is that request's alone
    (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html).
    """
    codings = [coding for coding in map(str.strip, value.split(",")) if coding not in ("", "aws-chunked")]
    return ", ".join(codings) or None
