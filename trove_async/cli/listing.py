"""``ls``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import click

from trove_async.cli.command import Literally, Names, command
from trove_async.cli.output import Output, object_fields, time_text
from trove_async.cli.parameters import option
from trove_async.cli.patterns import expand, is_pattern
from trove_async.cli.session import Session, StorePath
from trove_async.errors import AccessDeniedError, ObjectNotFoundError, TroveError
from trove_async.listing import Item
from trove_async.types import BucketInfo, ObjectInfo

__all__ = ["ls", "register"]

Recursive = Annotated[bool, option("--recursive", "-r", help="List everything below a name.")]
Long = Annotated[bool, option("--long", "-l", help="Show time and size before each name.")]


def register(app: click.Group) -> None:
    """Add the command."""
    command(app, "ls")(ls)


async def ls(
    session: Session,
    names: Names = (),
    recursive: Recursive = False,
    long: Long = False,
    literal: Literally = False,
) -> None:
    """List buckets, objects and folders.

    Without a name, the buckets. * and ? stand for text within a level, ** for any; in the name of a bucket too.
    """
    printer = _Printer(session.output, long)
    if not names:
        await _list_buckets(session, session.store_dsn(None), printer)
    for name in names:
        try:
            places = await session.resolve_all(name, literal=literal)
        except (TroveError, OSError) as error:
            session.fail(error)
            continue
        for place in places:
            try:
                await _list(place, recursive, literal, printer)
            except (TroveError, OSError) as error:
                session.fail(error)


async def _list(place: StorePath, recursive: bool, literal: bool, printer: _Printer) -> None:
    if not place.bucket:
        printer.buckets(await place.store.list_buckets())
    elif not literal and is_pattern(place.key):
        await _list_pattern(place, recursive, printer)
    else:
        await _list_place(place, recursive, printer)


async def _list_buckets(session: Session, dsn: str, printer: _Printer) -> None:
    store = await session.open(dsn)
    printer.buckets(await store.list_buckets())


async def _list_pattern(place: StorePath, recursive: bool, printer: _Printer) -> None:
    found = False
    async for item in expand(place.store, place.bucket, place.key, prefixes=True):
        found = True
        if recursive and not isinstance(item, ObjectInfo):
            async for info in place.store.list(place.bucket, item.key):
                printer.item(place.bucket, info)
        else:
            printer.item(place.bucket, item)
    if not found:
        raise ObjectNotFoundError("nothing matches", operation="ls", bucket=place.bucket, key=place.key)


async def _list_place(place: StorePath, recursive: bool, printer: _Printer) -> None:
    """Print the object with this name, and everything below it as a folder."""
    bucket, key = place.bucket, place.key
    folder = key if not key or key.endswith("/") else key + "/"
    found = not key  # an empty bucket exists
    if key and not key.endswith("/") and (info := await _object(place)) is not None:
        printer.item(bucket, info)
        found = True
    try:
        async for item in _below(place, folder, recursive):
            printer.item(bucket, item)
            found = True
    except AccessDeniedError:
        if not found or not key:
            raise
    if not found:
        raise ObjectNotFoundError("no object, and nothing below it", operation="ls", bucket=bucket, key=key)


async def _object(place: StorePath) -> ObjectInfo | None:
    """Return the object with this name, with the right to list it or the right to read it."""
    store, bucket, key = place
    try:
        async for info in store.list(bucket, key, max_keys=1):  # a key sorts before all keys that it is a prefix of
            if info.key == key:
                return info
    except AccessDeniedError:
        with suppress(AccessDeniedError, ObjectNotFoundError):
            return await store.head(bucket, key)
    return None


async def _below(place: StorePath, folder: str, recursive: bool) -> AsyncIterator[Item]:
    if recursive:
        async for info in place.store.list(place.bucket, folder):
            yield info
    else:
        async for item in place.store.list(place.bucket, folder, delimiter="/"):
            yield item


class _Printer:
    def __init__(self, output: Output, long: bool) -> None:
        self._output = output
        self._long = long

    def buckets(self, buckets: Iterable[BucketInfo]) -> None:
        for bucket in buckets:
            values = {"type": "bucket", "name": bucket.name, "created_at": bucket.created_at}
            self._output.record(values, self._line(bucket.created_at, None, bucket.name))

    def item(self, bucket: str, item: Item) -> None:
        name = f"{bucket}/{item.key}"
        if isinstance(item, ObjectInfo):
            self._output.record(object_fields(bucket, item), self._line(item.last_modified, item.size, name))
        else:
            values = {"type": "prefix", "bucket": bucket, "prefix": item.prefix}
            self._output.record(values, self._line(None, None, name))

    def _line(self, time: datetime | None, size: int | None, name: str) -> str:
        if not self._long:
            return name
        return f"{time_text(time):20}  {'-' if size is None else size:>14}  {name}"
