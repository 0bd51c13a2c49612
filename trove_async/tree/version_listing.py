"""Listing the versions of a bucket a page at a time: those of its objects, and of keys whose objects were deleted.

The directories of versions are named by hashes, so they are not in the order of the keys: each page reads the names of
all of them, and keeps only as many keys as it needs. The key of a hash never changes and is cached.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from heapq import merge, nsmallest
from itertools import groupby

from trove_async.driver.options import ListOptions, VersionListOptions
from trove_async.tree.listing import Listing
from trove_async.tree.versioned import VersionedObjects
from trove_async.types import VersionInfo
from trove_async.version_listing import VersionMark, VersionPage

__all__ = ["VersionListing"]


class VersionListing:
    """Lists the versions of buckets.

    Args:
        objects: of the tree.
        listing: lists the objects.
    """

    def __init__(self, objects: VersionedObjects, listing: Listing) -> None:
        self._objects = objects
        self._listing = listing

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page."""
        mark = None if options.cursor is None else VersionMark.decode(options.cursor)
        keys, complete = await self._keys(bucket, options, mark)
        found: list[VersionInfo] = []
        for key in keys:
            versions = await self._objects.list_versions(bucket, key)
            found += versions if mark is None or key != mark.key else mark.after(versions)
            if len(found) > options.page_size:
                del found[options.page_size :]
                return VersionPage(found, VersionMark.of(found[-1]).encode())
        return VersionPage(found, None if complete else VersionMark(keys[-1]).encode())

    async def _keys(self, bucket: str, options: VersionListOptions, mark: VersionMark | None) -> tuple[list[str], bool]:
        """Return the next keys that have objects or stored versions, in order, and whether there are no more."""
        key = None if mark is None else mark.key
        after = key if mark is not None and mark.version_id is None else None
        start = max(options.prefix, key or "", f"{after}\0" if after else "")  # no key sorts between a key and that
        wanted = options.page_size + 1
        listed = ListOptions(prefix=options.prefix, page_size=wanted, cursor=key, start_after=after)
        # In this order a deletion between the two hides no key.
        page = await self._listing.page(bucket, listed)
        current = [info.key for info in page.objects]
        async with aclosing(self._objects.versioned_keys(bucket)) as keys:
            stored = await _smallest(wanted, keys, start, options.prefix)
        complete = page.cursor is None and len(stored) < wanted
        # A list that was cut off says nothing of the keys after its last one.
        bounds = ([current[-1]] if page.cursor is not None else []) + ([stored[-1]] if len(stored) == wanted else [])
        merged = [key for key, _ in groupby(merge(current, stored))]
        return [key for key in merged if not bounds or key <= min(bounds)], complete


async def _smallest(limit: int, keys: AsyncIterator[str], start: str, prefix: str) -> list[str]:
    """Return the first keys, in order, of those from ``start`` on that begin with the prefix."""
    found: list[str] = []
    bound: str | None = None  # keys that sort after it are not among the first
    async for key in keys:
        if key >= start and key.startswith(prefix) and (bound is None or key < bound):
            found.append(key)
            if len(found) >= 2 * limit:
                found = nsmallest(limit, found)
                bound = found[-1]
    return nsmallest(limit, found)
