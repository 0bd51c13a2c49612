"""The pages of a listing, read fast: a thousand names hold the event loop twice for some milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from trove_async.errors import BackendError
from trove_async.types import EMPTY, ObjectInfo
from trove_async.wire.fields import etag_of, parse_http_date
from trove_async.wire.xml import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree.ElementTree import Element

__all__ = ["Listed", "Page", "parse_page"]

_NOTHING: Final[dict[str, str | None]] = {}


@dataclass(slots=True)
class Listed:
    """A blob of a listing.

    Attributes:
        info: of the blob.
        snapshot: the time that names a snapshot; None for a blob.
        version_id: of a version, where the account keeps them.
        current: whether it is the blob itself, of blobs with versions.
        metadata: as the service has it, names in lower case; empty unless it was asked for.
    """

    info: ObjectInfo
    snapshot: str | None = None
    version_id: str | None = None
    current: bool = False
    metadata: Mapping[str, str] = EMPTY


@dataclass(slots=True)
class Page:
    """A page of a listing.

    Attributes:
        blobs: in the service's order.
        prefixes: the groups, in their order.
        marker: of the next page; None for none.
    """

    blobs: list[Listed]
    prefixes: list[str]
    marker: str | None


async def parse_page(content: bytes) -> Page:
    """Return the page that an answer to List Blobs is.

    Raises:
        BackendError: it is none.
    """
    root = parse(content)
    if root.tag != "EnumerationResults":
        raise BackendError(f"the answer to a listing is a <{root.tag}>: is the endpoint an Azure Blob service?")
    await asyncio.sleep(0)  # half of the work is done: others may have waited
    blobs: list[Listed] = []
    prefixes: list[str] = []
    for found in root.find("Blobs") or ():
        if found.tag == "Blob":
            blobs.append(_blob(found))
        elif found.tag == "BlobPrefix":
            prefixes.append(_name(found.find("Name")))
    return Page(blobs, prefixes, root.findtext("NextMarker") or None)


def _name(element: Element | None) -> str:
    if element is None or not element.text:
        raise BackendError("the answer to a listing has a blob without a name")
    # Names that XML cannot hold are percent-encoded.
    return unquote(element.text) if element.get("Encoded") == "true" else element.text


def _blob(element: Element) -> Listed:
    properties: dict[str, str | None] = _NOTHING
    name: Element | None = None
    rest: dict[str, str | None] = {}
    metadata: Mapping[str, str] = EMPTY
    for child in element:
        tag = child.tag
        if tag == "Properties":
            properties = {item.tag: item.text for item in child}
        elif tag == "Name":
            name = child
        elif tag == "Metadata":
            metadata = dict(_pairs(child))
        else:
            rest[tag] = child.text
    tier = properties.get("AccessTier")
    inferred = tier is None or properties.get("AccessTierInferred") == "true"
    version_id = rest.get("VersionId")
    info = ObjectInfo(
        _name(name),
        int(properties.get("Content-Length") or 0),
        etag_of(properties.get("Etag") or ""),
        parse_http_date(properties.get("Last-Modified")),
        properties.get("Content-Type"),
        version_id=version_id,
        storage_class=None if inferred or tier is None else tier.upper(),
    )
    return Listed(info, rest.get("Snapshot"), version_id, rest.get("IsCurrentVersion") == "true", metadata)


def _pairs(element: Element) -> Iterator[tuple[str, str]]:
    for item in element:
        yield item.tag.lower(), item.text or ""
