"""``cat``, ``put`` and ``stat``: one object at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click

from trove_async.body import BodyLike
from trove_async.cli.command import Name, Names, VersionID, command
from trove_async.cli.errors import UsageError
from trove_async.cli.output import object_fields, plain
from trove_async.cli.parameters import argument, option
from trove_async.cli.progress import bytes_bar
from trove_async.cli.session import Session
from trove_async.cli.streams import StandardInput, write_bytes
from trove_async.cli.values import parse_pairs, parse_range
from trove_async.errors import TroveError
from trove_async.reader import ObjectReader

__all__ = ["cat", "put", "register", "stat", "write_object"]

Range = Annotated[str | None, option(metavar="A-B", help="Only these bytes: 0-99, 100- or -50 (the last 50).")]
Source = Annotated[str, argument("FILE", help="A local file; - is standard input.")]
Pairs = Annotated[tuple[str, ...], option(metavar="NAME=VALUE", help="May be repeated.")]
Text = Annotated[str | None, option()]
ContentType = Annotated[str | None, option(help="The media type; default: the one of the key's extension.")]
ChecksumOption = Annotated[
    str | None,
    option(metavar="sha256[:HEX]", help="Store a checksum; with HEX, verify it too."),
]
IfMatch = Annotated[str | None, option(metavar="ETAG", help="Replace the object only if it has this ETag.")]
NoClobber = Annotated[bool, option("--no-clobber", help="Never replace an object; exit code 4 if there is one.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    command(app, "cat")(cat)
    command(app, "put")(put)
    command(app, "stat")(stat)


async def cat(session: Session, names: Names, range: Range = None, version_id: VersionID = None) -> None:
    """Write objects to standard output."""
    part = None if range is None else parse_range(range)
    for name in names:
        try:
            store, bucket, key = await session.object(name)
            async with store.get(bucket, key, range=part, version_id=version_id) as reader:
                await write_object(reader)
        except TroveError as error:
            session.fail(error)


async def write_object(reader: ObjectReader) -> None:
    """Write the bytes of a reader to standard output."""
    async for chunk in reader:
        await write_bytes(chunk)


async def put(
    session: Session,
    file: Source,
    name: Name,
    content_type: ContentType = None,
    metadata: Pairs = (),
    tag: Pairs = (),
    storage_class: Text = None,
    cache_control: Text = None,
    content_disposition: Text = None,
    content_encoding: Text = None,
    content_language: Text = None,
    checksum: ChecksumOption = None,
    if_match: IfMatch = None,
    no_clobber: NoClobber = False,
) -> None:
    """Store a file, or standard input, as an object.

    If NAME ends in a slash or is a bucket, the file's name is appended.
    """
    if if_match is not None and no_clobber:
        raise UsageError("--if-match replaces an object, and --no-clobber never does; give one of them")
    store, bucket, key = await session.resolve(name)
    if not key or key.endswith("/"):
        key += _base_name(file, name)
    async with bytes_bar(session.output, os.path.basename(key)) as on_progress:
        info = await store.put(
            bucket,
            key,
            _body(file),
            content_type=content_type,
            metadata=parse_pairs(metadata, "metadata"),
            tags=parse_pairs(tag, "the tag"),
            storage_class=storage_class,
            cache_control=cache_control,
            content_disposition=content_disposition,
            content_encoding=content_encoding,
            content_language=content_language,
            checksum=checksum,
            if_match=if_match,
            if_none_match="*" if no_clobber else None,
            on_progress=on_progress,
        )
    session.output.record(object_fields(bucket, info))


def _body(file: str) -> BodyLike:
    return StandardInput() if file == "-" else Path(os.path.expanduser(file))


def _base_name(file: str, name: str) -> str:
    base = os.path.basename(file)
    if file == "-" or not base:
        raise UsageError(f"{name!r} does not name an object, and {file!r} has no file name; write bucket/key")
    return base


async def stat(session: Session, names: Names, version_id: VersionID = None) -> None:
    """Show the description of objects."""
    for name in names:
        try:
            store, bucket, key = await session.object(name)
            values = object_fields(bucket, await store.head(bucket, key, version_id=version_id))
            session.output.record(values, *_lines(values))
        except TroveError as error:
            session.fail(error)


def _lines(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{name}.{part}: {text}" for part, text in sorted(value.items())]
        elif value is not None and name != "type":
            lines.append(f"{name}: {plain(value)}")
    return lines
