"""What an object's description looks like in the JSON API and in the headers of the XML API, both ways.

Metadata values that are not plain ASCII are stored as encoded words of RFC 2047: the headers in which the XML API
gives them back hold nothing else (https://cloud.google.com/storage/docs/metadata#editable).
"""

from __future__ import annotations

import base64
import re
from binascii import Error as Base64Error
from collections.abc import Mapping
from datetime import datetime
from email.header import decode_header
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from trove_async.checksums import Checksum
from trove_async.driver import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import BackendError, InvalidMetadataError
from trove_async.types import EMPTY, FrozenDict, ObjectInfo
from trove_async.wire.fields import parse_http_date, required

__all__ = [
    "CHECKSUM",
    "FIELDS",
    "LISTED",
    "TAGS",
    "description",
    "description_headers",
    "encode_tags",
    "info_of_headers",
    "info_of_resource",
    "is_generation",
    "parse_time",
    "tags_of",
]

CHECKSUM: Final = "trove-checksum"
"""The name of the metadata in which a checksum of the user's is kept, for it is one that the service need not know."""

TAGS: Final = "trove-tags"
"""The name of the metadata in which tags are kept, as a query string; users do not see it."""

CONTENT: Final = [
    (head + "".join(word.title() for word in words), field)
    for (head, *words), field in ((name.split("-"), field) for name, field in CONTENT_HEADERS)
]
"""The members of a resource that hold the content headers, such as ``cacheControl``, and our fields for them."""

FIELDS: Final = ",".join(
    ("size", "generation", "updated", "contentType", "metadata", "storageClass", *(name for name, _ in CONTENT))
)
"""What of a resource makes an `ObjectInfo`."""

LISTED: Final = "name,size,generation,updated,contentType,storageClass"
"""What of it a listing asks for."""

MAX_METADATA: Final = 8192
"""Bytes of the names and values: https://cloud.google.com/storage/quotas#objects."""

_META: Final = "x-goog-meta-"
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?[^?]*\?=")
_GENERATION = re.compile(r"[1-9][0-9]{0,18}")

_UNSET_CACHE_CONTROL: Final = "private, max-age=0"
"""What the XML API answers where an object that is not public has no Cache-Control of its own."""


def is_generation(value: str) -> bool:
    """Tell whether an ETag or version id can be one of ours: the number of a generation."""
    return _GENERATION.fullmatch(value) is not None and int(value) < 1 << 63


def description(attributes: ObjectAttributes, checksum: Checksum | None = None) -> dict[str, Any]:
    """Return the resource of an object that is written.

    Args:
        attributes: of the object.
        checksum: the user's, with its value; None for none.

    Raises:
        InvalidMetadataError: the metadata is more than the service takes, or has a name of ours.
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


def description_headers(attributes: ObjectAttributes, checksum: Checksum | None = None) -> list[tuple[str, str]]:
    """Return what `description` does as headers of the XML API."""
    headers = attributes.content_headers()
    if attributes.storage_class is not None:
        headers.append(("x-goog-storage-class", attributes.storage_class))
    if attributes.metadata or attributes.tags or checksum is not None:
        headers += [(_META + name, value) for name, value in _metadata(attributes, checksum).items()]
    return headers


def _metadata(attributes: ObjectAttributes, checksum: Checksum | None) -> dict[str, str]:
    if attributes.metadata:
        for name in (CHECKSUM, TAGS):
            if name in attributes.metadata:
                raise InvalidMetadataError(f"the metadata name {name!r} is the library's own")
    metadata = {name: _encoded(value) for name, value in attributes.metadata.items()}
    if attributes.tags:
        metadata[TAGS] = encode_tags(attributes.tags)
    if checksum is not None and checksum.value is not None:
        metadata[CHECKSUM] = str(checksum)
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise InvalidMetadataError(f"metadata and tags are {size} bytes as they are stored, more than {MAX_METADATA}")
    return metadata


def encode_tags(tags: Mapping[str, str]) -> str:
    """Return tags as the value of their metadata."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in tags.items())


def tags_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags in an object's metadata."""
    pairs = (item.partition("=") for item in (metadata.get(TAGS) or "").split("&") if item)
    return {unquote(name): unquote(value) for name, _, value in pairs}


def _encoded(value: str) -> str:
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


def _split(found: dict[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the user's metadata and checksums of what is stored as metadata."""
    found.pop(TAGS, None)
    algorithm, colon, value = found.pop(CHECKSUM, "").partition(":")
    metadata = {name: _decoded(value) for name, value in found.items()}
    return FrozenDict(metadata) if metadata else EMPTY, FrozenDict({algorithm: value}) if colon else EMPTY


def info_of_headers(key: str, size: int, headers: Mapping[str, str]) -> ObjectInfo:
    """Return what the headers of an answer of the XML API say of an object."""
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    found = {name[12:]: headers[name] for name in headers if name[:12] == _META}
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
    """Return what a resource of the JSON API says of an object.

    Raises:
        BackendError: it has not what every resource of an object has.
    """
    metadata: Mapping[str, str] = EMPTY
    checksums: Mapping[str, str] = EMPTY
    get = resource.get
    found = get("metadata")
    try:
        if found:
            metadata, checksums = _split({name.lower(): value for name, value in found.items() if value is not None})
        generation = str(resource["generation"])
        size = int(get("size", 0))
        time = parse_time(get("updated"))
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise BackendError(f"the answer describes no object, is the endpoint Cloud Storage? {error!r}") from error
    storage_class = get("storageClass")
    return ObjectInfo(
        key,
        size,
        generation,
        time,
        get("contentType"),
        metadata,
        generation,
        None if storage_class == "STANDARD" else storage_class,
        checksums=checksums,
        **{field: resource[name] for name, field in CONTENT if name in resource},
    )


def parse_time(value: str | None) -> datetime | None:
    """Read a time of RFC 3339, to the second: the headers of the XML API tell no more."""
    return None if value is None else _parse_second(value[:19])


@lru_cache(1024)  # what is listed together was often written together
def _parse_second(value: str) -> datetime:
    return datetime.fromisoformat(f"{value}+00:00")
