"""The pages of a listing, read fast: a thousand keys hold the event loop for a few milliseconds."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
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


def parse_page(content: bytes) -> ListPage:
    """Return the page that an answer to ListObjectsV2 with ``encoding-type=url`` is.

    Raises:
        BackendError: it is none.
    """
    root = _root(content)
    if root.tag != "ListBucketResult":
        raise BackendError(f"the answer to a listing is a <{root.tag}>: is the endpoint an S3 service?")
    decode = _decoded if root.findtext("EncodingType") == "url" else str
    objects = [_object(found, decode) for found in root.iterfind("Contents")]
    prefixes = [Prefix(decode(found.findtext("Prefix") or "")) for found in root.iterfind("CommonPrefixes")]
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


def _object(element: Element, decode: Callable[[str], str]) -> ObjectInfo:
    find = element.findtext
    key, size, modified = find("Key"), find("Size"), find("LastModified")
    if not key or not size:
        raise BackendError("the answer to a listing has an object without a key or a size")
    # To the second, which is all that the headers of a get or head tell.
    time = datetime.fromisoformat(f"{modified[:19]}+00:00") if modified else None
    storage_class = find("StorageClass")
    return ObjectInfo(
        decode(key),
        int(size),
        etag_of(find("ETag") or ""),
        time,
        storage_class=None if storage_class == "STANDARD" else storage_class or None,
    )


def _decoded(text: str) -> str:
    return unquote_plus(text) if "%" in text or "+" in text else text
