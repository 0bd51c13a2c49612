"""Listings: pages of the service, without the blobs that are no objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from trove_async.driver import ListOptions
from trove_async.drivers.azure.client import Client
from trove_async.drivers.azure.headers import DELETED
from trove_async.drivers.azure.names import OWN
from trove_async.drivers.azure.pages import Listed, Page, parse_page
from trove_async.errors import BackendError
from trove_async.listing import ListPage
from trove_async.types import Prefix
from trove_async.wire.paging import pages

__all__ = ["Listing"]

_PAGE: Final = 1000


class Listing:
    """Lists containers.

    Args:
        client: sends the requests.
        delete_markers: whether the library keeps versions, so that delete markers may be among the blobs.
    """

    def __init__(self, client: Client, *, delete_markers: bool) -> None:
        self._client = client
        self._delete_markers = delete_markers

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return a page of objects and groups; it may be shorter than asked for, and not be the last."""
        page = await self._page(
            bucket,
            prefix=options.prefix,
            delimiter=options.delimiter,
            marker=options.cursor,
            include="metadata",  # which tells directories and delete markers from objects
            size=options.page_size,
        )
        if page.marker is not None and page.marker == options.cursor:
            raise BackendError("the listing does not end: the service repeats its page")
        after = options.start_after
        blobs = [found for found in page.blobs if _is_object(found)]
        groups = [prefix for prefix in page.prefixes if prefix[0] != OWN]
        if after is not None:
            blobs = [found for found in blobs if found.info.key > after]
            groups = [group for group in groups if group > after or await self._goes_on(bucket, group, after)]
        elif self._delete_markers:
            groups = [group for group in groups if await self._goes_on(bucket, group, "")]
        return ListPage([found.info for found in blobs], [Prefix(group) for group in groups], page.marker)

    async def _goes_on(self, bucket: str, group: str, after: str) -> bool:
        """Tell whether a group has objects after a key; the service says only that the group has blobs."""
        if after and not after.startswith(group):
            return False

        async def fetch(marker: str | None) -> ListPage:
            return await self.list_page(bucket, ListOptions(prefix=group, start_after=after or None, cursor=marker))

        async with aclosing(pages(fetch, lambda page: page.cursor, repr(group))) as found:
            async for page in found:
                if page.objects:
                    return True
        return False

    async def is_empty(self, bucket: str, include: str | None) -> bool:
        """Tell whether a container holds no blobs but the library's own and directories.

        Args:
            bucket: the container.
            include: what counts beside blobs, such as ``versions``; None for nothing.
        """
        include = "metadata" if include is None else f"{include},metadata"
        async with aclosing(self._pages(bucket, "", include)) as found:
            async for page in found:
                if any(blob.info.key[0] != OWN and not blob.directory for blob in page.blobs):
                    return False
        return True

    async def all(self, bucket: str, *, prefix: str = "", include: str | None = None) -> list[Listed]:
        """Return all blobs below a prefix, as the service has them.

        Args:
            bucket, prefix: of the listing.
            include: what the service adds, such as ``snapshots,metadata``.
        """
        found: list[Listed] = []
        async with aclosing(self._pages(bucket, prefix, include)) as listing:
            async for page in listing:
                found += page.blobs
        return found

    async def of_key(self, bucket: str, key: str, *, include: str | None) -> list[Listed]:
        """Return the blobs of one key, such as its snapshots; see `all`."""
        found: list[Listed] = []
        async with aclosing(self._pages(bucket, key, include)) as listing:
            async for page in listing:
                found += [blob for blob in page.blobs if blob.info.key == key]
                # Longer keys that begin with this one come after it.
                if page.blobs and page.blobs[-1].info.key != key:
                    break
        return found

    async def blobs(self, bucket: str, *, prefix: str, include: str | None, marker: str | None, size: int) -> Page:
        """Return one page of the blobs below a prefix, as the service has them.

        Args:
            bucket, prefix, include: as for `all`.
            marker: of the page; None for the first.
            size: the maximum number of blobs.
        """
        return await self._page(bucket, prefix=prefix, marker=marker, include=include, size=size)

    def _pages(self, bucket: str, prefix: str, include: str | None) -> AsyncGenerator[Page, None]:
        async def fetch(marker: str | None) -> Page:
            return await self._page(bucket, prefix=prefix, marker=marker, include=include)

        return pages(fetch, lambda page: page.marker, f"the container {bucket!r}")

    async def _page(
        self,
        bucket: str,
        *,
        prefix: str,
        marker: str | None,
        include: str | None,
        delimiter: str | None = None,
        size: int = _PAGE,
    ) -> Page:
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


def _is_object(found: Listed) -> bool:
    return found.info.key[0] != OWN and DELETED not in found.metadata and not found.directory
