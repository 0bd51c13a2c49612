"""Generations of objects as versions, and listings of those of a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from trove_async.driver import VersionListOptions
from trove_async.drivers.gcs.addressing import bucket_path
from trove_async.drivers.gcs.client import Client, Query
from trove_async.drivers.gcs.documents import MALFORMED, items, listing_page, resource, text, text_if_any
from trove_async.drivers.gcs.listing import next_key
from trove_async.drivers.gcs.resources import is_generation, parse_time
from trove_async.errors import BackendError
from trove_async.types import VersionInfo
from trove_async.version_listing import VersionPage
from trove_async.wire.paging import pages

__all__ = ["VERSION_FIELDS", "VersionListing", "newest_first", "version_of"]

VERSION_FIELDS: Final = ("fields", "kind,nextPageToken,items(name,size,generation,timeCreated,timeDeleted)")
"""The parameter that asks for what makes a `VersionInfo`."""

_PAGE: Final = 1000


class VersionListing:
    """Lists the versions of a store's buckets.

    The service lists the generations of an object oldest first, so a page ends between two objects: the last object of
    an answer is left to the next page, unless it is the only one.

    Args:
        client: sends the requests.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return a page of the versions of a bucket; its cursor is the last key on it."""
        query: Query = [("versions", "true"), VERSION_FIELDS, ("maxResults", str(min(options.page_size, _PAGE)))]
        if options.prefix:
            query.append(("prefix", options.prefix))
        if options.cursor is not None:
            query.append(("startOffset", next_key(options.cursor)))
        path = f"{bucket_path(bucket)}/o"

        async def fetch(token: str | None) -> Mapping[str, Any]:
            paging = [] if token is None else [("pageToken", token)]
            return listing_page(await self._client.json("GET", path, bucket, query=[*query, *paging]))

        found: list[VersionInfo] = []
        async with aclosing(pages(fetch, _following, "versions")) as answers:
            async for answer in answers:
                found += [version_of(text(item, "name"), item) for item in map(resource, items(answer, "items"))]
                if _following(answer) is not None and found and found[0].key != found[-1].key:
                    last = found[-1].key
                    complete = newest_first([version for version in found if version.key != last])
                    return VersionPage(complete, complete[-1].key)
        return VersionPage(newest_first(found))


def _following(answer: Mapping[str, Any]) -> str | None:
    return text_if_any(answer, "nextPageToken")


def newest_first(versions: list[VersionInfo]) -> list[VersionInfo]:
    """Return versions with those of each key in the order of a listing; the keys stay in their order."""
    found: list[VersionInfo] = []
    for _, same in groupby(versions, key=attrgetter("key")):
        found += sorted(same, key=lambda version: int(version.version_id), reverse=True)
    return found


def version_of(key: str, item: Mapping[str, Any]) -> VersionInfo:
    """Return the version that a resource of the JSON API describes.

    Raises:
        BackendError: it describes none.
    """
    try:
        generation, size = str(item["generation"]), int(item.get("size", 0))
        if size < 0 or not is_generation(generation):
            raise ValueError(generation[:20])
        time = parse_time(item.get("timeCreated"))
    except MALFORMED as error:
        raise BackendError("the answer does not describe a version: is the endpoint Cloud Storage?") from error
    return VersionInfo(
        version_id=generation,
        key=key,
        size=size,
        last_modified=time,
        is_latest="timeDeleted" not in item,
        etag=generation,
    )
