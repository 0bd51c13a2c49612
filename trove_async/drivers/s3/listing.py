"""Listings with ListObjectsV2; answers of servers that support only ListObjects are accepted too."""

from __future__ import annotations

from typing import Final

from trove_async.driver import ListOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.pages import AFTER, parse_page
from trove_async.listing import ListPage
from trove_async.wire.sigv4 import encode_query

__all__ = ["Listing"]

_PAGE: Final = 1000


class Listing:
    """Lists the objects of one store.

    Args:
        client: sends the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of a listing."""
        params = [("list-type", "2"), ("encoding-type", "url"), ("max-keys", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            params.append(("prefix", options.prefix))
        if options.delimiter is not None:
            params.append(("delimiter", options.delimiter))
        cursor, after = options.cursor, options.start_after
        if cursor is not None and cursor.startswith(AFTER):
            after = cursor.removeprefix(AFTER)
            params.append(("marker", after))  # for a server that supports only ListObjects
        elif cursor is not None:
            params.append(("continuation-token", cursor))
        if after is not None:
            params.append(("start-after", after))
        _, content = await self._client.document("GET", bucket, query=encode_query(params))
        return await parse_page(content)
