"""The pages of a listing, read fast: a thousand names hold the event loop twice, for some milliseconds."""

from __future__ import annotations

import asyncio
import re
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
_SIZE: Final = re.compile(r"[0-9]{1,19}")


@dataclass(slots=True)
class Listed:
    """A blob of a listing.

    Attributes:
        info: of the blob.
        snapshot: the time that names a snapshot; None for a blob.
        version_id: of a version, if the account keeps them.
        current: whether it is the blob itself, among its versions.
        metadata: as the service has it, names in lower case; empty unless it was asked for.
        directory: whether it stands for a directory: the service marks those of accounts with a hierarchical
            namespace, and Hadoop's clients mark theirs in the metadata.
    """

    info: ObjectInfo
    snapshot: str | None = None
    version_id: str | None = None
    current: bool = False
    metadata: Mapping[str, str] = EMPTY
    directory: bool = False


@dataclass(slots=True)
class Page:
    """A page of a listing.

    Attributes:
        blobs: in the service's order.
        prefixes: the groups, in their order.
        marker: of the next page; None if there is none.
    """

    blobs: list[Listed]
    prefixes: list[str]
    marker: str | None


async def parse_page(content: bytes) -> Page:
    """Return the page in an answer to List Blobs.

    Raises:
        BackendError: there is none.
    """
    root = parse(content)
    if root.tag != "EnumerationResults":
        raise BackendError(f"the answer to a listing is a <{root.tag[:40]}>: is the endpoint an Azure Blob service?")
    await asyncio.sleep(0)  # half of the work is done: others may have waited
    blobs: list[Listed] = []
    prefixes: list[str] = []
    for found in root.iterfind("Blobs/*"):
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
    other: dict[str, str | None] = {}
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
            other[tag] = child.text
    key = _name(name)
    tier = properties.get("AccessTier")
    inferred = tier is None or properties.get("AccessTierInferred") == "true"
    version_id = other.get("VersionId")
    info = ObjectInfo(
        key,
        _size(key, properties.get("Content-Length")),
        etag_of(properties.get("Etag") or ""),
        parse_http_date(properties.get("Last-Modified")),
        properties.get("Content-Type"),
        version_id=version_id,
        storage_class=None if inferred or tier is None else tier.upper(),
    )
    directory = properties.get("ResourceType") == "directory"
    if metadata and info.size == 0:
        directory = directory or metadata.get("hdi_isfolder", "").lower() == "true"
    current = other.get("IsCurrentVersion") == "true"
    return Listed(info, other.get("Snapshot"), version_id, current, metadata, directory)


def _size(key: str, text: str | None) -> int:
    # Blobs that have uncommitted blocks alone have no size.
    if not text:
        return 0
    if not _SIZE.fullmatch(text):
        raise BackendError(f"the answer to a listing gives {key[:80]!r} the size {text[:40]!r}")
    return int(text)


def _pairs(element: Element) -> Iterator[tuple[str, str]]:
    for item in element:
        yield item.tag.lower(), item.text or ""
