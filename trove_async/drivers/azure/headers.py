"""What an object's description looks like in Azure's headers, both ways."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from trove_async.checksums import Checksum
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import InvalidArgumentError, InvalidMetadataError, InvalidTagsError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import etag_of, parse_http_date, required

__all__ = [
    "DELETED",
    "MAX_METADATA",
    "NULL",
    "TIERS",
    "VERSION",
    "check_tags",
    "checksum_metadata",
    "decoded",
    "description_headers",
    "info_of",
    "metadata_headers",
    "named",
    "object_headers",
    "tier_header",
]

_META: Final = "x-ms-meta-"

CHECKSUM: Final = "trove_checksum"
VERSION: Final = "trove_version"
DELETED: Final = "trove_deleted"
"""The names of the library's own metadata: a checksum of the user's, the id of a version, a delete marker."""

NULL: Final = "null"
"""The id of the version that was made while none were kept."""

MAX_METADATA: Final = 7 * 1024
"""Bytes of a user's metadata; the service takes 8 KiB, of which some are for the library's own."""

_MAX_ENCODED: Final = 8 * 1024

TIERS: Final = {"HOT": "Hot", "COOL": "Cool", "COLD": "Cold", "ARCHIVE": "Archive"}
"""Storage classes, and the names that Azure has for these access tiers."""

# https://learn.microsoft.com/rest/api/storageservices/set-blob-tags
_TAG = re.compile(r"[A-Za-z0-9 +\-./:=_]*")

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_ESCAPED = re.compile(r"_x([0-9a-f]{2})_")
_ESCAPABLE = re.compile(r"_(?=x)|[^a-z0-9_]|\A[0-9]")
_PLAIN_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WORD = re.compile(r"=\?UTF-8\?B\?([A-Za-z0-9+/]*={0,2})\?=")


def description_headers(
    attributes: ObjectAttributes, checksum: Checksum | None = None, own: Mapping[str, str] = EMPTY
) -> list[tuple[str, str]]:
    """Return the headers that describe an object that is written; tags and tier are among them.

    Args:
        attributes: of the object.
        checksum: the user's, with its value; None for none.
        own: metadata of the library's.

    Raises:
        InvalidMetadataError: the metadata is more than Azure takes
            (https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources).
        InvalidTagsError: Azure does not take the tags.
        InvalidArgumentError: there is no such tier.
    """
    headers = attributes.content_headers("x-ms-blob-")
    if attributes.metadata or checksum is not None or own:
        known = {CHECKSUM: str(checksum), **own} if checksum is not None and checksum.value is not None else own
        headers += metadata_headers(attributes.metadata, known)
    if attributes.tags:
        headers.append(("x-ms-tags", tagging(attributes.tags)))
    if attributes.storage_class is not None:
        headers.append(tier_header(attributes.storage_class))
    return headers


def metadata_headers(metadata: Mapping[str, str], own: Mapping[str, str] = EMPTY) -> list[tuple[str, str]]:
    """Return metadata as headers, the library's own behind the user's.

    Raises:
        InvalidMetadataError: it is more than Azure takes.
    """
    headers = [(_META + _escaped(name), _encoded(value)) for name, value in metadata.items()]
    headers += [(_META + name, value) for name, value in own.items()]
    size = sum(len(name) - len(_META) + len(value) for name, value in headers)
    if size > _MAX_ENCODED:
        raise InvalidMetadataError(f"the metadata is {size} bytes as Azure counts them, more than {_MAX_ENCODED}")
    return headers


def checksum_metadata(info: ObjectInfo) -> Mapping[str, str]:
    """Return the metadata that holds an object's checksum; empty if it has none."""
    for algorithm, value in info.checksums.items():
        return {CHECKSUM: f"{algorithm}:{value}"}
    return EMPTY


def tier_header(storage_class: str) -> tuple[str, str]:
    """Return the header that names an access tier.

    Raises:
        InvalidArgumentError: there is none of that name.
    """
    tier = TIERS.get(storage_class.upper())
    if tier is None:
        raise InvalidArgumentError(f"Azure has no storage class {storage_class!r}; there are {', '.join(TIERS)}")
    return "x-ms-access-tier", tier


def tagging(tags: Mapping[str, str]) -> str:
    """Return tags as the header that holds them: a query string.

    Raises:
        InvalidTagsError: Azure does not take them.
    """
    check_tags(tags)
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags.items())


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags of other characters than Azure takes.

    Raises:
        InvalidTagsError: names the characters that it takes.
    """
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            raise InvalidTagsError(
                f"the tag {name!r} has characters that Azure does not take: it takes ASCII letters, digits, spaces "
                "and + - . / : = _"
            )


def _escaped(name: str) -> str:
    """Return the name of metadata as an identifier of C#, which is what Azure takes.

    A character that one cannot hold becomes ``_xHH_``, its code in hex; so does a ``_`` before an ``x``.
    """
    if _PLAIN_NAME.fullmatch(name) and "_x" not in name:
        return name if not name.startswith("trove_") else f"_x74_{name[1:]}"
    return _ESCAPABLE.sub(lambda found: f"_x{ord(found[0]):02x}_", name)


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name) if "_x" in name else name


def _encoded(value: str) -> str:
    """Return a value as it can stand in a header: as it is, or as an encoded word of RFC 2047."""
    if _PLAIN_VALUE.fullmatch(value) and "  " not in value and not _WORD.search(value):
        return value
    return f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="


def decoded(value: str) -> str:
    """Return the value of metadata as it was before it was put into a header."""
    found = _WORD.fullmatch(value)
    if found is None:
        return value
    try:
        return base64.b64decode(found[1]).decode()
    except ValueError:
        return value  # written by another program, in another way


def object_headers(headers: Mapping[str, str], name: str) -> str:
    """Return a header that every answer about an object has.

    Raises:
        BackendError: it has none, so that the answer is not Azure's.
    """
    return required(headers, name, "an Azure Blob service")


def named(version_id: str | None) -> str | None:
    """Return the id of a version; None for that of an object that is none."""
    return None if version_id == NULL else version_id


def info_of(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of a get or head say of an object."""
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    version_id = headers.get("x-ms-version-id")
    found: dict[str, str] = {}
    for name in headers:
        if name[:10] == _META:
            found[name[10:]] = headers[name]
    if found:
        algorithm, colon, value = found.pop(CHECKSUM, "").partition(":")
        checksums = FrozenDict({algorithm: value}) if colon else EMPTY
        version_id = named(found.pop(VERSION, version_id))
        metadata = FrozenDict({_unescaped(name): decoded(text) for name, text in found.items()}) if found else EMPTY
    tier = headers.get("x-ms-access-tier")
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
        version_id,
        None if tier is None or headers.get("x-ms-access-tier-inferred") == "true" else tier.upper(),
        checksums=checksums,
        **content,
    )
