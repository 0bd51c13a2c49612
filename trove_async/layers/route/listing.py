"""The listings of a `Route`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final, TypeVar

import anyio

from trove_async.driver.options import ListOptions, VersionListOptions
from trove_async.layers.base import Operation
from trove_async.layers.route.merging import Entry, Fetch, Merge
from trove_async.layers.route.routed import Routed
from trove_async.listing import Item, ListPage
from trove_async.types import ObjectInfo, Prefix, UploadInfo, VersionInfo
from trove_async.version_listing import VersionPage

__all__ = ["list_page", "list_uploads", "list_versions_page"]

T = TypeVar("T")

_OBJECTS: Final = 40
_VERSIONS: Final = 41
"""The kinds of the cursors."""

_LOOKS: Final = 16
"""How many groups are looked into at once."""

_LOOK: Final = 100
"""How many keys of a group are asked for at once: the first one usually decides."""


async def list_page(route: Routed, operation: Operation) -> ListPage:
    """Return one page of objects and groups."""
    bucket, options = operation["bucket"], operation["options"]
    members = route.rules.members_below(bucket, options.prefix)
    if len(members) == 1:
        page: ListPage = await route.ask(members[0], operation)
        return page
    return await _ObjectListing(route, bucket, options, members).page()


class _ObjectListing:
    def __init__(self, route: Routed, bucket: str, options: ListOptions, members: Sequence[str]) -> None:
        self._route = route
        self._bucket = bucket
        self._options = options
        self._merge: Merge[Item] = Merge(_OBJECTS, members, options.cursor)

    async def page(self) -> ListPage:
        size, rounds = self._options.page_size, 0
        while True:
            await _load(self._route, self._merge, Merge.size_of_round(size, rounds), self._fetch)
            taken = self._merge.take(size, self._is_shown)
            objects = [entry for found in taken.values() for _, entry in found if isinstance(entry, ObjectInfo)]
            prefixes = await self._groups(taken)
            cursor = self._merge.cursor
            if objects or prefixes or cursor is None:
                return ListPage(objects, prefixes, cursor)
            rounds += 1

    async def _fetch(self, member: str, cursor: str | None, size: int) -> tuple[Sequence[Entry[Item]], str | None]:
        options = replace(self._options, cursor=cursor, page_size=size)
        page = await self._route.members[member].list_page(self._bucket, options)
        entries: list[Entry[Item]] = [(info.key, info) for info in page.objects]
        if page.prefixes:
            entries += [(group.prefix, group) for group in page.prefixes]
            entries.sort(key=itemgetter(0))
        return entries, page.cursor

    def _is_shown(self, member: str, name: str, entry: Item) -> bool:
        if isinstance(entry, ObjectInfo):
            return self._route.rules.member_of(self._bucket, name) == member
        return member in self._route.rules.members_below(self._bucket, name)

    async def _groups(self, taken: dict[str, list[tuple[str, Item]]]) -> list[Prefix]:
        """Return the groups in which there is a key that its member has by the rules."""
        shown: dict[str, bool] = {}
        unknown: dict[str, list[str]] = {}
        for name, found in taken.items():
            if isinstance(found[0][1], Prefix):
                certain = len(self._route.rules.members_below(self._bucket, name)) == 1
                shown[name] = certain
                if not certain:
                    unknown[name] = [member for member, _ in found]
        if unknown:
            limiter = anyio.CapacityLimiter(_LOOKS)

            async def look(name: str) -> None:
                async with limiter:
                    shown[name] = await self._has_routed_key(name, unknown[name])

            await self._route.of_each([*unknown], look)
        return [Prefix(name) for name, found in shown.items() if found]

    async def _has_routed_key(self, group: str, members: Sequence[str]) -> bool:
        """Tell whether a group of the listing has such a key in one of the members."""
        for member in members:
            options = ListOptions(prefix=group, start_after=self._options.start_after, page_size=_LOOK)
            while True:
                with self._route.naming(member):
                    page = await self._route.members[member].list_page(self._bucket, options)
                if any(self._is_shown(member, info.key, info) for info in page.objects):
                    return True
                if page.cursor is None:
                    break
                options = replace(options, cursor=page.cursor)
        return False


async def list_versions_page(route: Routed, operation: Operation) -> VersionPage:
    """Return one page of the versions of a bucket."""
    bucket = operation["bucket"]
    options: VersionListOptions = operation["options"]
    members = route.rules.members_below(bucket, options.prefix)
    if len(members) == 1:
        whole: VersionPage = await route.ask(members[0], operation)
        return whole

    async def fetch(member: str, cursor: str | None, size: int) -> tuple[Sequence[Entry[VersionInfo]], str | None]:
        driver: Any = route.members[member]
        page = await driver.list_versions_page(bucket, replace(options, cursor=cursor, page_size=size))
        return [(version.key, version) for version in page.versions], page.cursor

    def is_shown(member: str, key: str, _: VersionInfo) -> bool:
        return route.rules.member_of(bucket, key) == member

    merge: Merge[VersionInfo] = Merge(_VERSIONS, members, options.cursor)
    rounds = 0
    while True:
        await _load(route, merge, Merge.size_of_round(options.page_size, rounds), fetch)
        versions = [version for found in merge.take(options.page_size, is_shown).values() for _, version in found]
        if versions or merge.cursor is None:
            return VersionPage(versions, merge.cursor)
        rounds += 1


async def _load(route: Routed, merge: Merge[T], size: int, fetch: Fetch[T]) -> None:
    """Fetch the missing pages of the members at once."""

    async def load(member: str) -> None:
        with route.naming(member):
            await merge.load(member, size, fetch)

    await route.of_each(merge.missing(), load)


async def list_uploads(route: Routed, operation: Operation) -> Sequence[UploadInfo]:
    """Return the open uploads in the order of their keys, then of their start times."""
    bucket = operation["bucket"]
    members = route.rules.members_below(bucket, operation["prefix"])
    found = await route.ask_each(members, operation)
    uploads: list[UploadInfo] = [
        upload
        for member, listed in found.items()
        for upload in listed
        if route.rules.member_of(bucket, upload.key) == member
    ]
    # The uploads of one key are all of one member, which has them in the order of their times.
    return sorted(uploads, key=lambda upload: upload.key)
