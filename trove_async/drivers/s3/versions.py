"""Listings of versions with ListObjectVersions, and what their answers consist of."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Final
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element

from trove_async.driver import VersionListOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.pages import is_truncated, unmarked_end
from trove_async.drivers.s3.profiles import Profile
from trove_async.errors import BackendError, InvalidCursorError
from trove_async.iteration import decode_cursor, encode_cursor
from trove_async.types import VersionInfo
from trove_async.version_listing import VersionPage
from trove_async.wire.fields import etag_of
from trove_async.wire.sigv4 import encode_query
from trove_async.wire.xml import parse, parse_time, required, text

__all__ = ["VersionListing", "decoder", "key_marker", "newest_first", "version_elements", "version_of"]

_PAGE: Final = 1000
_SIZE: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_CURSOR: Final = 10
"""The kind of the cursors: the markers of the next page."""


class VersionListing:
    """Lists the versions of a store's buckets.

    Args:
        client: sends the requests.
        profile: the properties of the service.
    """

    def __init__(self, client: Client, profile: Profile) -> None:
        self._client = client
        self._profile = profile

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a bucket."""
        params = [("versions", ""), ("encoding-type", "url"), ("max-keys", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            params.append(("prefix", options.prefix))
        if options.cursor is not None:
            key, version_id = decode_cursor(_CURSOR, 2, options.cursor)
            if key is None:
                raise InvalidCursorError("this is not the cursor of a listing of versions")
            params.append(("key-marker", key))
            if version_id is not None:
                params.append(("version-id-marker", version_id))
        _, content = await self._client.document("GET", bucket, query=encode_query(sorted(params)))
        root = parse(content)
        if not root.tag.startswith("ListVersions"):
            raise BackendError(f"the answer to a listing is a <{root.tag[:40]}>: is the endpoint an S3 service?")
        await asyncio.sleep(0)  # half of the work is done: let other tasks run
        decode = decoder(root)
        versions = [version_of(element, decode(required(element, "Key"))) for element in version_elements(root)]
        if not self._profile.ordered_versions:
            versions = newest_first(versions)
        return VersionPage(versions, _following(root))


def _following(root: Element) -> str | None:
    """Return the cursor of the next page."""
    truncated, marker = is_truncated(root), text(root, "NextKeyMarker")
    if truncated and not marker:
        raise unmarked_end()
    if truncated is False or not marker:
        return None
    return encode_cursor(_CURSOR, (key_marker(root, marker), text(root, "NextVersionIdMarker") or None))


def version_elements(root: Element) -> list[Element]:
    """Return the versions and delete markers of an answer, in its order."""
    return [element for element in root if element.tag in ("Version", "DeleteMarker")]


def newest_first(versions: list[VersionInfo]) -> list[VersionInfo]:
    """Return versions in the order of a listing, as far as their times tell it.

    For services that list all delete markers behind all versions.
    """
    found: list[VersionInfo] = []
    for _, same in groupby(sorted(versions, key=attrgetter("key")), key=attrgetter("key")):
        found += sorted(same, key=lambda version: (version.is_latest, str(version.last_modified)), reverse=True)
    return found


def decoder(page: Element) -> Callable[[str], str]:
    """Return what decodes the keys of an answer."""
    return unquote_plus if text(page, "EncodingType") == "url" else str


def key_marker(page: Element, value: str) -> str:
    """Return the key in ``NextKeyMarker``, decoded."""
    decode = decoder(page)
    # Ceph encodes the keys, but not the marker, which is the last of them.
    keys = [decode(key.text or "") for key in page.iterfind("*/Key")]
    return value if keys and keys[-1] == value else decode(value)


def version_of(element: Element, key: str) -> VersionInfo:
    """Return the version or delete marker that an element describes.

    Raises:
        BackendError: it describes none.
    """
    marker = element.tag == "DeleteMarker"
    texts = {child.tag: child.text or "" for child in element}  # one pass: a page has 1,000 elements
    modified = texts.get("LastModified")
    try:
        return VersionInfo(
            version_id=texts["VersionId"],
            key=key,
            size=0 if marker else _size(texts["Size"]),
            last_modified=_second(modified) if modified else None,
            is_latest=texts.get("IsLatest") == "true",
            is_delete_marker=marker,
            etag=None if marker else etag_of(texts["ETag"]),
        )
    except KeyError as error:
        raise BackendError(f"the answer has a <{element.tag}> without a <{error.args[0]}>") from None


def _size(value: str) -> int:
    if not _SIZE.fullmatch(value):
        raise BackendError("the answer has a <Size> that is not a number of bytes")
    return int(value)


@lru_cache(1024)  # versions that are listed together often have the same time
def _second(modified: str) -> datetime:
    return parse_time(modified).replace(microsecond=0)
