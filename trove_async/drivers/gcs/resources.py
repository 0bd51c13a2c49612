"""How an object is described in the JSON API and in the headers of the XML API, both ways.

Metadata values that are not plain ASCII are stored as encoded words of RFC 2047: the XML API returns them in headers,
which hold nothing else (https://cloud.google.com/storage/docs/metadata#editable).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from trove_async.checksums import Checksum, stored_checksums
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.drivers.gcs.documents import MALFORMED
from trove_async.errors import BackendError, InvalidMetadataError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import parse_http_date, required
from trove_async.wire.metadata import decode_value, encode_value
from trove_async.wire.sigv4 import encode_query

__all__ = [
    "CHECKSUM",
    "FIELDS",
    "LISTED",
    "MAX_METADATA",
    "TAGS",
    "attribute_headers",
    "info_of_headers",
    "info_of_resource",
    "is_generation",
    "parse_time",
    "resource_of",
    "tags_of",
]

CHECKSUM: Final = "trove-checksum"
"""The name of the metadata that holds the checksum that a caller asked for; the service need not know its algorithm."""

TAGS: Final = "trove-tags"
"""The name of the metadata that holds the tags, as a query string; users do not see it."""

CONTENT: Final = [
    (head + "".join(word.title() for word in words), field)
    for (head, *words), field in ((name.split("-"), field) for name, field in CONTENT_HEADERS)
]
"""The members of a resource that hold the content headers, such as ``cacheControl``, and the fields for them."""

FIELDS: Final = ",".join(
    ("size", "generation", "updated", "contentType", "metadata", "storageClass", *(name for name, _ in CONTENT))
)
"""The members of a resource that make an `ObjectInfo`."""

LISTED: Final = "name,size,generation,updated,contentType,storageClass"
"""The members that a listing asks for."""

MAX_METADATA: Final = 8192
"""Bytes of the names and values: https://cloud.google.com/storage/quotas#objects."""

_META: Final = "x-goog-meta-"
_GENERATION: Final = re.compile(r"[1-9][0-9]{0,18}")

_UNSET_CACHE_CONTROL: Final = "private, max-age=0"
"""What the XML API answers for an object that is not public and has no Cache-Control."""


def is_generation(value: str) -> bool:
    """Tell whether an ETag or version id is the number of a generation, as all of this driver are."""
    return _GENERATION.fullmatch(value) is not None and int(value) < 1 << 63


def resource_of(attributes: ObjectAttributes, checksum: Checksum | None = None) -> dict[str, Any]:
    """Return the resource of an object that is written.

    Args:
        attributes: of the object.
        checksum: the caller's; one without a value is left out.

    Raises:
        InvalidMetadataError: the metadata is larger than the service accepts, or has a name that the library uses.
    """
    resource: dict[str, Any] = {"contentType": attributes.content_type}
    for name, field in CONTENT:
        if (value := getattr(attributes, field)) is not None:
            resource[name] = value
    if attributes.storage_class is not None:
        resource["storageClass"] = attributes.storage_class
    if attributes.metadata or attributes.tags or checksum is not None:
        resource["metadata"] = _metadata(attributes, checksum)
    return resource


def attribute_headers(attributes: ObjectAttributes, checksum: Checksum | None = None) -> list[tuple[str, str]]:
    """Return the headers of the XML API that describe an object that is written; as `resource_of`."""
    headers = attributes.content_headers()
    if attributes.storage_class is not None:
        headers.append(("x-goog-storage-class", attributes.storage_class))
    if attributes.metadata or attributes.tags or checksum is not None:
        headers += [(_META + name, value) for name, value in _metadata(attributes, checksum).items()]
    return headers


def _metadata(attributes: ObjectAttributes, checksum: Checksum | None) -> dict[str, str]:
    for name in (CHECKSUM, TAGS):
        if name in attributes.metadata:
            raise InvalidMetadataError(f"the library uses the metadata name {name!r} itself")
    metadata = {name: encode_value(value) for name, value in attributes.metadata.items()}
    if attributes.tags:
        metadata[TAGS] = encode_query(attributes.tags.items())
    if checksum is not None and checksum.value is not None:
        metadata[CHECKSUM] = str(checksum)
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise InvalidMetadataError(f"metadata and tags are {size} bytes as they are stored, more than {MAX_METADATA}")
    return metadata


def tags_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags in an object's metadata.

    Raises:
        BackendError: they are not text.
    """
    found = metadata.get(TAGS) or ""
    if not isinstance(found, str):
        raise BackendError("the answer has metadata that is not text: is the endpoint Cloud Storage?")
    pairs = (item.partition("=") for item in found.split("&") if item)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _split(found: dict[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the user's metadata and checksums of what is stored as metadata."""
    found.pop(TAGS, None)
    checksums = FrozenDict(stored_checksums(found.pop(CHECKSUM))) if CHECKSUM in found else EMPTY
    metadata = {name: decode_value(value) for name, value in found.items()}
    return FrozenDict(metadata) if metadata else EMPTY, checksums


def info_of_headers(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return the object that the headers of an answer of the XML API describe.

    Raises:
        BackendError: they describe none.
    """
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    found: dict[str, str] = {}
    for name in headers:
        if name[:12] == _META:
            found[name[12:]] = headers[name]
    if found:
        metadata, checksums = _split(found)
    generation = required(headers, "x-goog-generation", "Cloud Storage")
    storage_class = headers.get("x-goog-storage-class")
    content: dict[str, str] = {}
    for name, field in CONTENT_HEADERS:
        if name in headers:
            content[field] = headers[name]
    if content.get("cache_control") == _UNSET_CACHE_CONTROL:
        del content["cache_control"]
    return ObjectInfo(
        key,
        size,
        generation,
        parse_http_date(headers.get("last-modified")),
        headers.get("content-type"),
        metadata,
        generation,
        None if storage_class == "STANDARD" else storage_class,
        checksums=checksums,
        **content,
    )


def info_of_resource(key: str, resource: Mapping[str, Any]) -> ObjectInfo:
    """Return the object that a resource of the JSON API describes.

    Raises:
        BackendError: it describes none.
    """
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    get = resource.get
    content_type, storage_class = get("contentType"), get("storageClass")
    try:
        found = get("metadata")
        if found:
            pairs = {name.lower(): value for name, value in found.items() if value is not None}
            _require_texts(*pairs.values())
            metadata, checksums = _split(pairs)
        generation = str(resource["generation"])
        size = int(get("size", 0))
        if size < 0 or not generation.isdecimal():
            raise ValueError(f"size {size}, generation {generation[:20]!r}")
        time = parse_time(get("updated"))
        content = {field: resource[name] for name, field in CONTENT if name in resource}
        _require_texts(content_type, storage_class, *content.values())
    except MALFORMED as error:
        raise BackendError(
            f"the answer does not describe an object: is the endpoint Cloud Storage? {str(error)[:80]!r}"
        ) from error
    return ObjectInfo(
        key,
        size,
        generation,
        time,
        content_type,
        metadata,
        generation,
        None if storage_class == "STANDARD" else storage_class,
        checksums=checksums,
        **content,
    )


def _require_texts(*values: object) -> None:
    for value in values:
        if value is not None and not isinstance(value, str):
            raise TypeError(f"a {type(value).__name__} in place of text")


def parse_time(value: str | None) -> datetime | None:
    """Read a time of RFC 3339, to the second: the headers of the XML API have no more.

    Raises:
        ValueError, TypeError: it is something else.
    """
    return None if value is None else _parse_second(value[:19])


@lru_cache(1024)  # what is listed at once was often written at once
def _parse_second(value: str) -> datetime:
    return datetime.fromisoformat(f"{value}+00:00")
