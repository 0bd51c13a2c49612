"""``tag``."""

from __future__ import annotations

from typing import Annotated

import click

from trove_async.cli.command import Name, command
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.cli.values import parse_pairs

__all__ = ["ls", "register", "rm", "set_tags"]

Pairs = Annotated[tuple[str, ...], argument("TAG=VALUE", help="The tags to set.")]
Tags = Annotated[tuple[str, ...], argument("TAG", help="The tags to remove.")]
Replace = Annotated[bool, option("--replace", help="Remove all other tags.")]
All = Annotated[bool, option("--all", help="Remove every tag.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("tag", help="Tags of an object.")
    command(group, "ls")(ls)
    command(group, "set")(set_tags)
    command(group, "rm")(rm)
    app.add_command(group)


async def ls(session: Session, name: Name) -> None:
    """List an object's tags."""
    store, bucket, key = await session.object(name)
    for tag, value in sorted((await store.get_tags(bucket, key)).items()):
        session.output.record({"type": "tag", "name": tag, "value": value}, f"{tag}={value}")


async def set_tags(session: Session, name: Name, pairs: Pairs, replace: Replace = False) -> None:
    """Set tags; the object's other tags stay."""
    store, bucket, key = await session.object(name)
    tags = parse_pairs(pairs, "the tag")
    if not replace:
        tags = {**await store.get_tags(bucket, key), **tags}
    await store.set_tags(bucket, key, tags)


async def rm(session: Session, name: Name, tags: Tags = (), all: All = False) -> None:
    """Remove tags; missing ones are ignored."""
    if bool(tags) == all:
        raise UsageError("name the tags to remove, or give --all")
    store, bucket, key = await session.object(name)
    if all:
        await store.delete_tags(bucket, key)
        return
    left = {tag: value for tag, value in (await store.get_tags(bucket, key)).items() if tag not in tags}
    await store.set_tags(bucket, key, left)
