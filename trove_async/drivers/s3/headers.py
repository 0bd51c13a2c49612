"""What an object's description looks like in S3's headers, both ways."""

from __future__ import annotations

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import UTC, datetime
from email.header import decode_header
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from trove_async.checksums import Checksum
from trove_async.driver import HeadOptions, PutOptions
from trove_async.errors import BackendError, InvalidMetadataError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo

__all__ = [
    "CHECKSUM",
    "condition_headers",
    "description_headers",
    "etag_of",
    "http_date",
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

_CONTENT_HEADERS: Final = (
    ("cache-control", "cache_control"),
    ("content-disposition", "content_disposition"),
    ("content-encoding", "content_encoding"),
    ("content-language", "content_language"),
)


def description_headers(options: PutOptions, checksum: Checksum | None = None) -> list[tuple[str, str]]:
    """Return the headers that describe an object that is written; tags are among them.

    Args:
        options: of the put.
        checksum: the user's, with its value; None for none.

    Raises:
        InvalidMetadataError: the metadata is more than the 2 KB that S3 takes
            (https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html).
    """
    headers = [("content-type", options.content_type)]
    headers += [(name, value) for name, field in _CONTENT_HEADERS if (value := getattr(options, field)) is not None]
    if options.metadata or checksum is not None:
        headers += _metadata_headers(options.metadata, checksum)
    if options.tags:
        headers.append(("x-amz-tagging", tagging(options.tags)))
    if options.storage_class is not None:
        headers.append(("x-amz-storage-class", options.storage_class))
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


def condition_headers(options: HeadOptions, *, quoted: bool = True) -> list[tuple[str, str]]:
    """Return the conditions of a read; ``"*"`` is none, since to be asked about there must be an object."""
    headers: list[tuple[str, str]] = []
    if options.if_match not in (None, "*"):
        headers.append(("if-match", _quoted(options.if_match, quoted)))
    if options.if_none_match not in (None, "*"):
        headers.append(("if-none-match", _quoted(options.if_none_match, quoted)))
    # A date counts only where there is no ETag of the same sense (RFC 9110, 13.2.2), which not all servers know.
    if options.if_modified_since is not None and options.if_none_match is None:
        headers.append(("if-modified-since", http_date(options.if_modified_since)))
    if options.if_unmodified_since is not None and options.if_match is None:
        headers.append(("if-unmodified-since", http_date(options.if_unmodified_since)))
    return headers


def _quoted(etag: str | None, quoted: bool) -> str:
    return f'"{etag}"' if quoted else str(etag)


def write_conditions(if_match: str | None, if_none_match: str | None, *, quoted: bool) -> list[tuple[str, str]]:
    """Return the conditions of a write."""
    headers: list[tuple[str, str]] = []
    if if_match is not None:
        headers.append(("if-match", _quoted(if_match, quoted)))
    if if_none_match is not None:
        headers.append(("if-none-match", if_none_match if if_none_match == "*" else _quoted(if_none_match, quoted)))
    return headers


def http_date(moment: datetime) -> str:
    """Return a time as HTTP writes it (RFC 9110, section 5.6.7)."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def etag_of(value: str) -> str:
    """Return an ETag without its quotes."""
    if value[:1] == '"' == value[-1:] and len(value) > 2:
        return value[1:-1]
    return value.strip().removeprefix("W/").strip('"')


def object_headers(headers: Mapping[str, str], name: str) -> str:
    """Return a header that every answer about an object has.

    Raises:
        BackendError: it has none, so that the answer is not S3's.
    """
    try:
        return headers[name]
    except KeyError:
        raise BackendError(f"the answer has no {name} header: is the endpoint an S3 service?") from None


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
    return ObjectInfo(
        key,
        size,
        etag_of(object_headers(headers, "etag")),
        _time(headers.get("last-modified")),
        headers.get("content-type"),
        metadata,
        version_of(headers),
        None if storage_class == "STANDARD" else storage_class,
        headers.get("cache-control"),
        headers.get("content-disposition"),
        headers.get("content-encoding"),
        headers.get("content-language"),
        checksums,
    )


_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}


@lru_cache(1024)  # what is read at once was often written at once
def _time(value: str | None) -> datetime | None:
    """Read a time of HTTP's preferred form at the cost of a slice; any other by the library's parser."""
    if value is None:
        return None
    try:
        return datetime(
            int(value[12:16]), _MONTHS[value[8:11]], int(value[5:7]),
            int(value[17:19]), int(value[20:22]), int(value[23:25]), tzinfo=UTC,
        )  # fmt: skip
    except (KeyError, ValueError):
        pass
    try:
        return parsedate_to_datetime(value).astimezone(UTC)
    except ValueError:
        return None
