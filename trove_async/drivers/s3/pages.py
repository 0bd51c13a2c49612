"""The pages of a listing, read fast: a thousand keys hold the event loop twice for some milliseconds."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from trove_async.errors import BackendError
from trove_async.listing import ListPage
from trove_async.types import ObjectInfo, Prefix
from trove_async.wire.fields import etag_of
from trove_async.wire.xml import parse

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["parse_page"]

# A sequence of private use, which no service writes.
_MARK: Final = "\U0010fffd\uf8ff"
_MARKED = re.compile(f"{_MARK}([0-9a-f]{{4}})")
_UNHOLDABLE = re.compile(rb"\xef\xbf[\xbe\xbf]|[\x00-\x08\x0b\x0c\x0e-\x1f]")


async def parse_page(content: bytes) -> ListPage:
    """Return the page that an answer to ListObjectsV2 with ``encoding-type=url`` is.

    Raises:
        BackendError: it is none.
    """
    root = _root(content)
    if root.tag != "ListBucketResult":
        raise BackendError(f"the answer to a listing is a <{root.tag}>: is the endpoint an S3 service?")
    await asyncio.sleep(0)  # half of the work is done: others may have waited
    encoded = root.findtext("EncodingType") == "url"
    entries = [{child.tag: child.text for child in found} for found in root.iterfind("Contents")]
    keys = [entry.get("Key") or "" for entry in entries]
    if encoded:
        keys = _decoded(keys)
    objects = [_object(key, entry) for key, entry in zip(keys, entries, strict=True)]
    found = [prefix.findtext("Prefix") or "" for prefix in root.iterfind("CommonPrefixes")]
    prefixes = [Prefix(name) for name in (_decoded(found) if encoded else found)]
    truncated = root.findtext("IsTruncated") == "true"
    return ListPage(objects, prefixes, _unmarked(root.findtext("NextContinuationToken")) if truncated else None)


def _root(content: bytes) -> Element:
    try:
        return parse(content)
    except BackendError:
        # Keys are encoded, yet Ceph writes prefix and token as they are, also with what XML cannot hold.
        mended = _UNHOLDABLE.sub(_mark, content)
        if mended == content:
            raise
        return parse(mended)


def _mark(found: re.Match[bytes]) -> bytes:
    return f"{_MARK}{ord(found[0].decode()):04x}".encode()


def _unmarked(token: str | None) -> str | None:
    return None if token is None else _MARKED.sub(lambda found: chr(int(found[1], 16)), token)


def _object(key: str, entry: dict[str, str | None]) -> ObjectInfo:
    size, modified, storage_class = entry.get("Size"), entry.get("LastModified"), entry.get("StorageClass")
    if not key or not size:
        raise BackendError("the answer to a listing has an object without a key or a size")
    return ObjectInfo(
        key,
        int(size),
        etag_of(entry.get("ETag") or ""),
        # To the second, which is all that the headers of a get or head tell.
        _time(modified[:19]) if modified else None,
        storage_class=None if storage_class == "STANDARD" else storage_class or None,
    )


@lru_cache(1024)  # what is listed at once was often written at once
def _time(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def _decoded(texts: list[str]) -> list[str]:
    """Undo the encoding of URLs, of all texts at once: one by one takes as long as to parse the XML."""
    joined = "\n".join(texts)
    if "%0A" in joined or "%0a" in joined:
        return [unquote_plus(text) for text in texts]
    return unquote_plus(joined).split("\n") if texts else []
