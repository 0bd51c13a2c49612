"""Listing a mirror: one member's listing, with what that member has missed taken into account."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Final, TypeVar

from trove_async.concurrency import several
from trove_async.driver.options import HeadOptions, ListOptions
from trove_async.errors import NotFoundError
from trove_async.iteration import decode_cursor, encode_cursor
from trove_async.layers.mirror.fleet import Fleet, Replica
from trove_async.layers.mirror.generations import public
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.reads import Reads
from trove_async.listing import ListPage, group_of
from trove_async.types import BucketInfo, ObjectInfo, Prefix

__all__ = ["Listing"]

R = TypeVar("R")

_CURSOR: Final = 20
_CONCURRENCY: Final = 16
_LAST: Final = chr(0x10FFFF)
_HEAD: Final = HeadOptions()


class Listing:
    """The listings of a mirror.

    A member that has no repairs for the prefix lists exactly what the mirror has. If each member that can be reached
    has some, the first one is listed flat, and each key that it has repairs for is looked up among the good copies.

    Args:
        fleet: the members.
        queue: knows which members have repairs.
        reads: looks up keys.
        etags: whether to find out the ETag of each object, which no listing of a member has.
    """

    def __init__(self, fleet: Fleet, queue: RepairQueue, reads: Reads, *, etags: bool) -> None:
        self._fleet = fleet
        self._queue = queue
        self._reads = reads
        self._etags = etags

    async def buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets of the first member that can be reached."""

        async def call(replica: Replica) -> Sequence[BucketInfo]:
            return await replica.driver.list_buckets()

        behind = await self._queue.without_buckets()
        return await self._first(sorted(self._fleet.healthy, key=lambda replica: replica.name in behind), call)

    async def page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return one page; its cursor continues at any member."""
        behind = await self._queue.behind(bucket, options.prefix)
        healthy = self._fleet.healthy
        whole = [replica for replica in healthy if replica.name not in behind]
        if whole:
            return await self._first(whole, lambda replica: self._plain(replica, bucket, options))
        return await self._first(healthy, lambda replica: self._merged(replica, bucket, options))

    async def _first(self, replicas: Sequence[Replica], call: Callable[[Replica], Awaitable[R]]) -> R:
        return await self._fleet.first(replicas, call, why="no member can be listed")

    async def _plain(self, replica: Replica, bucket: str, options: ListOptions) -> ListPage:
        at = _Position.of(options)
        if at.member == replica.name:
            asked = replace(options, cursor=at.inner)
        else:
            asked = replace(options, cursor=None, start_after=at.after(options))
        page = await replica.driver.list_page(bucket, asked)
        objects: Sequence[ObjectInfo] = page.objects
        prefixes: Sequence[Prefix] = page.prefixes
        names = [*(info.key for info in objects), *(group.prefix for group in prefixes)]
        newest = max([at.group or at.last or "", *names])
        if at.last is not None and at.member != replica.name:
            objects = [info for info in objects if info.key > at.last]
            prefixes = [group for group in prefixes if group.prefix != at.group and at.is_ahead(group.prefix)]
        described = await self._described(replica, bucket, objects)
        cursor = None if page.cursor is None else encode_cursor(_CURSOR, (replica.name, page.cursor, newest))
        return ListPage(described, prefixes, cursor)

    async def _merged(self, replica: Replica, bucket: str, options: ListOptions) -> ListPage:
        """List a member that has missed something: flat, so that each key can be judged by itself."""
        at = _Position.of(options)
        after = at.after(options)
        asked = ListOptions(prefix=options.prefix, start_after=after, page_size=options.page_size)
        page = await replica.driver.list_page(bucket, asked)
        repairs = await self._queue.in_bucket(
            bucket, options.prefix, members=[replica.name], after=after or "", limit=options.page_size
        )
        # Beyond the last name that either of them has returned, the other one may have more.
        ends = [page.objects[-1].key] if page.cursor is not None and page.objects else []
        ends += [repairs[-1].key] if len(repairs) == options.page_size else []
        missed = {repair.key for repair in repairs if repair.key}
        listed = {info.key: info for info in page.objects if info.key not in missed}
        names = sorted(name for name in missed | listed.keys() if not ends or name <= min(ends))
        cut = len(names) > options.page_size
        names = names[: options.page_size]
        good = await several(
            [partial(self._looked_up, bucket, name) for name in names if name in missed], limit=_CONCURRENCY
        )
        found = [*await self._described(replica, bucket, [listed[name] for name in names if name in listed])]
        found += [info for info in good if info is not None]
        found.sort(key=attrgetter("key"))
        objects, groups = _grouped(found, options, at.group)
        cursor = None
        if cut or (ends and names):
            group = group_of(names[-1], options.prefix, options.delimiter)
            # A group that only objects that are gone would have been in is shown when another one is found.
            shown = group if group == at.group or group in groups else None
            cursor = encode_cursor(_CURSOR, (None, shown, names[-1]))
        return ListPage(objects, [*map(Prefix, groups)], cursor)

    async def _looked_up(self, bucket: str, key: str) -> ObjectInfo | None:
        try:
            return _listed(await self._reads.head(bucket, key))
        except NotFoundError:
            return None

    async def _described(self, replica: Replica, bucket: str, objects: Sequence[ObjectInfo]) -> Sequence[ObjectInfo]:
        if not self._etags:
            return [replace(info, etag=f"{replica.name}:listed:{info.etag}") for info in objects]
        found = await several(
            [partial(self._described_one, replica, bucket, info) for info in objects], limit=_CONCURRENCY
        )
        return [info for info in found if info is not None]

    async def _described_one(self, replica: Replica, bucket: str, info: ObjectInfo) -> ObjectInfo | None:
        try:
            return _listed(public(await replica.driver.head(bucket, info.key, _HEAD), replica.name))
        except NotFoundError:
            return None  # deleted since it was listed


def _listed(info: ObjectInfo) -> ObjectInfo:
    """Return what a listing has of a description."""
    return ObjectInfo(
        info.key, info.size, info.etag, info.last_modified, info.content_type, storage_class=info.storage_class
    )


@dataclass(frozen=True, slots=True)
class _Position:
    """What a listing has come to.

    Attributes:
        member: that has listed the last page; None if it was merged.
        inner: the cursor of the member.
        last: the last key or group that was seen.
        group: that was shown and to which ``last`` belongs; None if there is none.
    """

    member: str | None = None
    inner: str | None = None
    last: str | None = None
    group: str | None = None

    @classmethod
    def of(cls, options: ListOptions) -> _Position:
        if options.cursor is None:
            return cls()
        member, inner, last = decode_cursor(_CURSOR, 3, options.cursor)
        if member is None:
            return cls(last=last, group=inner)
        is_group = last is not None and group_of(last, options.prefix, options.delimiter) == last
        return cls(member, inner, last, last if is_group else None)

    def after(self, options: ListOptions) -> str | None:
        """Return the key after which the listing continues: behind the keys of a group that was shown."""
        if self.last is None:
            return options.start_after
        after = self.last if self.group is None else max(self.last, self.group + _LAST)
        return max(after, options.start_after or "") or None

    def is_ahead(self, group: str) -> bool:
        """Whether a group was not passed yet."""
        assert self.last is not None
        return group > self.last or self.last.startswith(group)


def _grouped(
    found: Iterable[ObjectInfo], options: ListOptions, shown: str | None
) -> tuple[list[ObjectInfo], dict[str, None]]:
    """Return the objects that are in no group, and the groups of the others but the one that was shown."""
    objects: list[ObjectInfo] = []
    groups: dict[str, None] = {}
    for info in found:
        group = group_of(info.key, options.prefix, options.delimiter)
        if group is None:
            objects.append(info)
        elif group != shown:
            groups[group] = None
    return objects, groups
