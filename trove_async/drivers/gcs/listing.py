"""Listings."""

from __future__ import annotations

from typing import Final

from trove_async.driver import ListOptions
from trove_async.drivers.gcs.addressing import bucket_path
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.documents import items, listing_page, resource, text, text_if_any
from trove_async.drivers.gcs.resources import LISTED, info_of_resource
from trove_async.errors import BackendError
from trove_async.listing import ListPage
from trove_async.types import Prefix

__all__ = ["Listing", "next_key"]

_PAGE: Final = 1000
_LONGEST_KEY: Final = 1024
_FIELDS: Final = ("fields", f"kind,nextPageToken,prefixes,items({LISTED})")


class Listing:
    """Lists the objects of one store.

    Args:
        client: sends the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        query: Query = [_FIELDS, ("maxResults", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            query.append(("prefix", options.prefix))
        if options.delimiter is not None:
            query.append(("delimiter", options.delimiter))
        if options.cursor is not None:
            query.append(("pageToken", options.cursor))
        if options.start_after is not None:
            query.append(("startOffset", next_key(options.start_after)))
        found = listing_page(await self._client.json("GET", f"{bucket_path(bucket)}/o", bucket, query=query))
        objects = [info_of_resource(text(item, "name"), item) for item in map(resource, items(found, "items"))]
        prefixes = items(found, "prefixes")
        if not all(isinstance(prefix, str) for prefix in prefixes):
            raise BackendError("the answer to a listing has a prefix that is not text")
        cursor = text_if_any(found, "nextPageToken")
        if cursor is not None and cursor == options.cursor:
            raise BackendError("the listing does not end: the service repeats its pages")
        return ListPage(objects, list(map(Prefix, prefixes)), cursor)


def next_key(key: str) -> str:
    """Return the least key that sorts after a key; keys hold no NUL."""
    if len(key.encode()) < _LONGEST_KEY:
        return f"{key}\x01"
    # No key is longer, so that none that sorts after it begins with it.
    last = ord(key[-1])
    if last == 0x10FFFF:
        return f"{key}\x01"
    return key[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
