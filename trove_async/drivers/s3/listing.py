"""Listings, with the second version of the protocol; a server that answers with the first is understood too."""

from __future__ import annotations

from typing import Final

from trove_async.driver import ListOptions
from trove_async.drivers.s3.client import Client
from trove_async.drivers.s3.pages import parse_page
from trove_async.listing import ListPage
from trove_async.wire.sigv4 import encode_query

__all__ = ["Listing"]

_PAGE: Final = 1000
_AFTER: Final = "\0"
"""What a cursor begins with that is a key and not a token of the service: no token has it, and no key."""


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
        if cursor is not None and cursor.startswith(_AFTER):
            after = cursor.removeprefix(_AFTER)
            params.append(("marker", after))  # that is what a server of the first version understands
        elif cursor is not None:
            params.append(("continuation-token", cursor))
        if after is not None:
            params.append(("start-after", after))
        _, content = await self._client.document("GET", bucket, query=encode_query(params))
        page = await parse_page(content)
        if page.goes_on_after is None:
            return page.items
        return ListPage(page.items.objects, page.items.prefixes, _AFTER + page.goes_on_after)
