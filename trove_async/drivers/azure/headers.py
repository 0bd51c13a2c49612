"""How Azure's headers describe an object, both ways."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Final

from trove_async.body import Piece
from trove_async.checksums import Checksum, digest, stored_checksums
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import InvalidArgumentError, InvalidMetadataError, InvalidTagsError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import etag_of, parse_http_date, required
from trove_async.wire.metadata import decode_value, encode_value
from trove_async.wire.sigv4 import encode_query

__all__ = [
    "DELETED",
    "MAX_METADATA",
    "NULL",
    "SERVICE",
    "TIERS",
    "VERSION",
    "attribute_headers",
    "check_tags",
    "checksum_headers",
    "checksum_metadata",
    "etag_in",
    "info_of",
    "metadata_headers",
    "tier_header",
    "version_of",
]

SERVICE: Final = "an Azure Blob service"

_META: Final = "x-ms-meta-"

CHECKSUM: Final = "trove_checksum"
VERSION: Final = "trove_version"
DELETED: Final = "trove_deleted"
"""The names of the library's own metadata: the caller's checksum, the id of a version, a delete marker."""

NULL: Final = "null"
"""The id of the version that was written while the container kept none."""

MAX_METADATA: Final = 7 * 1024
"""Bytes of a user's metadata; the service takes 8 KiB, of which the library needs some for its own."""

_MAX_ENCODED: Final = 8 * 1024

TIERS: Final = {"HOT": "Hot", "COOL": "Cool", "COLD": "Cold", "ARCHIVE": "Archive"}
"""Storage classes, and Azure's names of these access tiers."""

# https://learn.microsoft.com/rest/api/storageservices/set-blob-tags
_TAG = re.compile(r"[A-Za-z0-9 +\-./:=_]*")

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_ESCAPED = re.compile(r"_x([0-9a-f]{2})_")
_ESCAPABLE = re.compile(r"_(?=x)|[^a-z0-9_]|\A[0-9]")
_EMPTY: Final = "=?UTF-8?B??="
"""An empty value as an encoded word: Azure takes no empty ones."""


def attribute_headers(
    attributes: ObjectAttributes, checksum: Checksum | None = None, own: Mapping[str, str] = EMPTY
) -> list[tuple[str, str]]:
    """Return the headers that describe an object that is written, its tags and its tier included.

    Args:
        attributes: of the object.
        checksum: the caller's; one without a value is left out.
        own: metadata of the library's own.

    Raises:
        InvalidMetadataError: the metadata is larger than Azure takes
            (https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources).
        InvalidTagsError: the tags have characters that Azure does not take.
        InvalidArgumentError: there is no such tier.
    """
    headers = attributes.content_headers("x-ms-blob-")
    if attributes.metadata or checksum is not None or own:
        known = {CHECKSUM: str(checksum), **own} if checksum is not None and checksum.value is not None else own
        headers += metadata_headers(attributes.metadata, known)
    if attributes.tags:
        check_tags(attributes.tags)
        headers.append(("x-ms-tags", encode_query(attributes.tags.items())))
    if attributes.storage_class is not None:
        headers.append(tier_header(attributes.storage_class))
    return headers


def metadata_headers(metadata: Mapping[str, str], own: Mapping[str, str] = EMPTY) -> list[tuple[str, str]]:
    """Return metadata as headers, the library's own after the user's.

    Raises:
        InvalidMetadataError: it is larger than Azure takes.
    """
    headers = [(_META + _escaped(name), encode_value(value) or _EMPTY) for name, value in metadata.items()]
    headers += [(_META + name, value) for name, value in own.items()]
    size = sum(len(name) - len(_META) + len(value) for name, value in headers)
    if size > _MAX_ENCODED:
        raise InvalidMetadataError(f"the metadata has {size} bytes as Azure counts them, more than {_MAX_ENCODED}")
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


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags with characters that Azure does not take.

    Raises:
        InvalidTagsError: names the characters that Azure takes.
    """
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            raise InvalidTagsError(
                f"the tag {name!r} has characters that Azure does not take; it takes ASCII letters, digits, spaces "
                "and + - . / : = _"
            )


def _escaped(name: str) -> str:
    """Return the name of metadata as an identifier of C#, the only names that Azure takes.

    A character that an identifier cannot hold becomes ``_xHH_``, its code in hex; so does a ``_`` before an ``x``.
    """
    if _PLAIN_NAME.fullmatch(name) and "_x" not in name:
        return name if not name.startswith("trove_") else f"_x74_{name[1:]}"
    return _ESCAPABLE.sub(lambda found: f"_x{ord(found[0]):02x}_", name)


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name) if "_x" in name else name


async def checksum_headers(algorithm: str, chunks: Sequence[Piece]) -> list[tuple[str, str]]:
    """Return the header by which the service verifies a body.

    Args:
        algorithm: ``md5``, or ``none`` for no header.
        chunks: the body. One that is large is read in a thread.
    """
    if algorithm == "none":
        return []
    return [("content-md5", base64.b64encode(await digest("md5", chunks)).decode())]


def etag_in(headers: Mapping[str, str]) -> str:
    """Return the ETag of an answer about an object.

    Raises:
        BackendError: there is none, so that the answer is not Azure's.
    """
    return etag_of(headers.get("etag") or required(headers, "etag", SERVICE))


def version_of(headers: Mapping[str, str], own: Mapping[str, str]) -> str | None:
    """Return the id of a version; None if the object is none.

    Args:
        headers: of an answer; the account's own versions are named there.
        own: metadata of the library's own, in which the versions are named that it keeps.
    """
    version_id = own.get(VERSION) or headers.get("x-ms-version-id")
    return None if version_id == NULL else version_id


def info_of(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of the answer to a GET or HEAD say of an object."""
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    version_id = headers.get("x-ms-version-id")
    found: dict[str, str] = {}
    for name in headers:
        if name[:10] == _META:
            found[name[10:]] = headers[name]
    if found:
        if CHECKSUM in found:
            checksums = FrozenDict(stored_checksums(found.pop(CHECKSUM)))
        version_id = version_of(headers, found)
        found.pop(VERSION, None)
        metadata = FrozenDict({_unescaped(name): decode_value(text) for name, text in found.items()})
    tier = headers.get("x-ms-access-tier")
    content: dict[str, str] = {}
    for name, field in CONTENT_HEADERS:
        if name in headers:
            content[field] = headers[name]
    return ObjectInfo(
        key,
        size,
        etag_in(headers),
        parse_http_date(headers.get("last-modified")),
        headers.get("content-type"),
        metadata,
        version_id,
        None if tier is None or headers.get("x-ms-access-tier-inferred") == "true" else tier.upper(),
        checksums=checksums,
        **content,
    )
