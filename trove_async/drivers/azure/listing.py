"""Listings: pages of the service, without what is the library's own."""

from __future__ import annotations

from trove_async.driver import ListOptions
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.headers import DELETED
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.pages import Listed, Page, parse_page
from trove_async.errors import BackendError
from trove_async.listing import ListPage
from trove_async.types import Prefix

__all__ = ["Lister"]

_PAGE = 1000


class Lister:
    """Lists containers.

    Args:
        client: sends the requests.
        metadata: whether delete markers may be among the blobs, which their metadata tells.
    """

    def __init__(self, client: Client, *, metadata: bool) -> None:
        self._client = client
        self._metadata = metadata

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of objects and groups; it may have fewer than there are up to the next."""
        include = "metadata" if self._metadata else None
        page = await self.page(
            bucket,
            prefix=options.prefix,
            delimiter=options.delimiter,
            marker=options.cursor,
            include=include,
            size=options.page_size,
        )
        if page.marker is not None and page.marker == options.cursor:
            raise BackendError("the service answers with the same page again and again")
        after = options.start_after
        blobs = [found for found in page.blobs if found.info.key[0] != OWN and DELETED not in found.metadata]
        groups = [prefix for prefix in page.prefixes if prefix[0] != OWN]
        if after is not None:
            blobs = [found for found in blobs if found.info.key > after]
            groups = [group for group in groups if group > after or await self._goes_on(bucket, group, after)]
        elif self._metadata:
            groups = [group for group in groups if await self._goes_on(bucket, group, "")]
        return ListPage([found.info for found in blobs], [Prefix(group) for group in groups], page.marker)

    async def _goes_on(self, bucket: str, group: str, after: str) -> bool:
        """Tell whether a group has objects behind a key, which the service does not say of groups."""
        if after and not after.startswith(group):
            return False
        cursor: str | None = None
        while True:
            page = await self.list_page(bucket, ListOptions(prefix=group, start_after=after or None, cursor=cursor))
            if page.objects or page.cursor is None:
                return bool(page.objects)
            cursor = page.cursor

    async def page(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        marker: str | None = None,
        include: str | None = None,
        size: int = _PAGE,
    ) -> Page:
        """Return a page as the service has it.

        Args:
            bucket, prefix, delimiter: of the listing.
            marker: of the page; None for the first.
            include: such as ``snapshots,metadata``.
            size: blobs and groups at most.
        """
        params = [("restype", "container"), ("comp", "list"), ("maxresults", str(min(size, _PAGE)))]
        if prefix:
            params.append(("prefix", prefix))
        if delimiter is not None:
            params.append(("delimiter", delimiter))
        if marker is not None:
            params.append(("marker", marker))
        if include is not None:
            params.append(("include", include))
        _, content = await self._client.document("GET", bucket, params=params)
        return await parse_page(content)

    async def all(self, bucket: str, *, prefix: str = "", include: str | None = None) -> list[Listed]:
        """Return all blobs below a prefix, as the service has them."""
        found: list[Listed] = []
        marker: str | None = None
        while True:
            page = await self.page(bucket, prefix=prefix, include=include, marker=marker)
            found += page.blobs
            marker = page.marker
            if marker is None:
                return found
