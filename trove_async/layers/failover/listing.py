"""The listings of a `Failover`, which continue at another member."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from trove_async.driver.base import Driver
from trove_async.driver.options import ListOptions, VersionListOptions
from trove_async.errors import InvalidCursorError
from trove_async.iteration import decode_cursor, encode_cursor
from trove_async.layers.base import Operation
from trove_async.layers.failover.replicas import Replica, Replicas
from trove_async.listing import ListPage
from trove_async.version_listing import VersionPage

__all__ = ["list_page", "list_versions_page"]

_OBJECTS: Final = 42
_VERSIONS: Final = 43
"""The kinds of the cursors."""


@dataclass(frozen=True, slots=True)
class _Position:
    """Where a listing stands.

    Attributes:
        member: that has listed the page before; None at the start.
        cursor: of the member.
        since: the ``start_after`` with which the member has begun.
        last: the last name so far.
    """

    member: str | None = None
    cursor: str | None = None
    since: str | None = None
    last: str | None = None

    @classmethod
    def decode(cls, cursor: str) -> Self:
        return cls(*decode_cursor(_OBJECTS, 4, cursor))

    def encode(self) -> str:
        return encode_cursor(_OBJECTS, (self.member, self.cursor, self.since, self.last))


async def list_page(replicas: Replicas, operation: Operation) -> ListPage:
    """Return a page of the member that has listed the one before, or of another one from the last name on."""
    options: ListOptions = operation["options"]
    before = _Position(since=options.start_after) if options.cursor is None else _Position.decode(options.cursor)

    async def ask(replica: Replica, driver: Driver) -> ListPage:
        position = before
        if before.member not in (None, replica.name):
            position = _Position(since=before.since if before.last is None else before.last, last=before.last)
        asked = replace(options, cursor=position.cursor, start_after=position.since)
        page: ListPage = await operation.on(driver, options=asked)
        return _continued(page, replace(position, member=replica.name))

    return await replicas.first(ask, replicas.in_order(replicas.named(before.member)))


def _continued(page: ListPage, position: _Position) -> ListPage:
    """Return a page without what was listed before, with a cursor of this store."""
    last = position.last or ""
    # Where another member continues behind a key of a group, it has the group again.
    objects = [info for info in page.objects if info.key > last]
    prefixes = [group for group in page.prefixes if group.prefix > last]
    if page.cursor is None:
        return ListPage(objects, prefixes)
    names = [last, *(info.key for info in objects[-1:]), *(group.prefix for group in prefixes[-1:])]
    return ListPage(objects, prefixes, replace(position, cursor=page.cursor, last=max(names) or None).encode())


def list_versions_page(replicas: Replicas, operation: Operation) -> Awaitable[VersionPage]:
    """Return a page of the versions of one member: another one may have other version ids."""
    options: VersionListOptions = operation["options"]
    if options.cursor is None:
        return replicas.first(lambda replica, driver: _page_of_versions(replica, driver, operation, None))
    name, cursor = decode_cursor(_VERSIONS, 2, options.cursor)
    replica = replicas.named(name)
    if replica is None:
        raise InvalidCursorError(f"the cursor belongs to the member {name!r}, which is no longer configured")
    only = iter([(replica, replica.driver)])
    return replicas.first(lambda replica, driver: _page_of_versions(replica, driver, operation, cursor), only)


async def _page_of_versions(replica: Replica, driver: Driver, operation: Operation, cursor: str | None) -> VersionPage:
    options: Any = replace(operation["options"], cursor=cursor)
    page: VersionPage = await operation.on(driver, options=options)
    following = None if page.cursor is None else encode_cursor(_VERSIONS, (replica.name, page.cursor))
    return replace(page, cursor=following)
