"""Pages of listings, in SQL."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, select

from trove_async.database.schema import begins_with
from trove_async.driver.options import ListOptions, VersionListOptions
from trove_async.errors import InvalidCursorError
from trove_async.keys import successor
from trove_async.listing import ListPage, group_of
from trove_async.managed.dedup.objects import listed, version_of
from trove_async.managed.dedup.schema import OBJECTS
from trove_async.types import ObjectInfo, Prefix, VersionInfo
from trove_async.values import can_be_kept
from trove_async.version_listing import VersionMark, VersionPage

__all__ = ["list_page", "list_versions_page"]

_COLUMNS: Final = [column for column in OBJECTS.c if column.name not in ("metadata", "tags")]

# A cursor is a letter for the kind of the last name on its page, followed by this name.
_KEY: Final = "k"
_PREFIX: Final = "p"


def list_page(connection: Connection, bucket: str, options: ListOptions) -> ListPage:
    """Return the page that begins where the options say.

    A group costs one statement at most, however many keys it has.
    """
    begin = _begin(options)
    objects: list[ObjectInfo] = []
    groups: list[Prefix] = []
    cursor = ""
    while begin is not None:
        left = options.page_size - len(objects) - len(groups)
        rows = _current(connection, bucket, options.prefix, begin, left + 1)
        group: str | None = None
        for row in rows:
            if group is not None and row.key.startswith(group):
                continue
            if len(objects) + len(groups) == options.page_size:
                return ListPage(objects, groups, cursor)
            group = group_of(row.key, options.prefix, options.delimiter)
            if group is None:
                objects.append(listed(row))
                cursor = _KEY + row.key
            else:
                groups.append(Prefix(group))
                cursor = _PREFIX + group
        if len(rows) <= left:
            break
        begin = _after(rows[-1].key, group)
    return ListPage(objects, groups)


def _after(key: str, group: str | None) -> ColumnElement[bool] | None:
    """Return the condition on the keys behind a key, and behind its group; None if no key can be there."""
    if group is None:
        return OBJECTS.c.key > key
    following = successor(group)
    return None if following is None else OBJECTS.c.key >= following


def _current(
    connection: Connection, bucket: str, prefix: str, begin: ColumnElement[bool], limit: int
) -> list[Row[Any]]:
    wanted = select(*_COLUMNS).where(
        OBJECTS.c.bucket == bucket, OBJECTS.c.current.is_(True), begins_with(OBJECTS.c.key, prefix), begin
    )
    return [*connection.execute(wanted.order_by(OBJECTS.c.key).limit(limit)).all()]


def _begin(options: ListOptions) -> ColumnElement[bool] | None:
    """Return the condition on the keys where the page begins; None at the end of the listing."""
    begin: ColumnElement[bool] = OBJECTS.c.key > (options.start_after or "")
    if options.cursor is None:
        return begin
    kind, name = options.cursor[:1], options.cursor[1:]
    if kind not in (_KEY, _PREFIX) or not can_be_kept(name):
        raise InvalidCursorError("the cursor is not from a listing of Dedup")
    after = _after(name, name if kind == _PREFIX else None)
    return None if after is None else and_(begin, after)


def list_versions_page(connection: Connection, bucket: str, options: VersionListOptions) -> VersionPage:
    """Return one page of the versions and delete markers of all keys."""
    mark = None if options.cursor is None else VersionMark.decode(options.cursor)
    found: list[VersionInfo] = []
    begin = OBJECTS.c.key >= ("" if mark is None else mark.key)
    if mark is not None:
        found = mark.after(_versions(connection, bucket, OBJECTS.c.key == mark.key))
        begin = OBJECTS.c.key > mark.key
    missing = options.page_size + 1 - len(found)
    if missing > 0:
        found += _versions(connection, bucket, and_(begin, begins_with(OBJECTS.c.key, options.prefix)), missing)
    if len(found) > options.page_size:
        del found[options.page_size :]
        return VersionPage(found, VersionMark.of(found[-1]).encode())
    return VersionPage(found)


def _versions(
    connection: Connection, bucket: str, where: ColumnElement[bool], limit: int | None = None
) -> list[VersionInfo]:
    wanted = select(*_COLUMNS).where(OBJECTS.c.bucket == bucket, where)
    rows = connection.execute(wanted.order_by(OBJECTS.c.key, OBJECTS.c.number.desc()).limit(limit)).all()
    keys = [None, *(row.key for row in rows)]
    return [version_of(row, is_latest=row.key != before) for before, row in zip(keys, rows, strict=False)]
