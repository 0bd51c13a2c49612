"""``lifecycle``."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Annotated, Any, Final

import aiofiles
import click

from trove_async.cli.command import Name, command
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import argument
from trove_async.cli.session import Session
from trove_async.cli.streams import StandardInput
from trove_async.paths import local_path
from trove_async.types import LifecycleReport, LifecycleRule

__all__ = ["apply", "get", "parse_rules", "register", "rm", "set_rules"]

_FIELDS: Final = {field.name for field in fields(LifecycleRule)}

RuleFile = Annotated[str, argument("FILE", help="JSON: a list of rules; - is standard input.")]
Target = Annotated[str | None, argument("NAME", help="A bucket; default all buckets.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("lifecycle", help="Rules that expire or move the objects of a bucket by age.")
    command(group, "get")(get)
    command(group, "set")(set_rules)
    command(group, "rm")(rm)
    command(group, "apply")(apply)
    app.add_command(group)


async def get(session: Session, name: Name) -> None:
    """Print a bucket's rules, in the format that set reads."""
    store, bucket = await session.bucket(name)
    rules = [asdict(rule) for rule in await store.get_lifecycle(bucket)]
    if session.output.json:
        for rule in rules:
            session.output.record(rule)
    else:
        session.output.record({}, *json.dumps(rules, indent=2, ensure_ascii=False).splitlines())


async def set_rules(session: Session, name: Name, file: RuleFile) -> None:
    """Replace a bucket's rules."""
    store, bucket = await session.bucket(name)
    await store.set_lifecycle(bucket, parse_rules(await _read(file)))


async def _read(file: str) -> bytes:
    if file == "-":
        return b"".join([chunk async for chunk in StandardInput()])
    async with aiofiles.open(local_path(file), "rb") as opened:
        return await opened.read()


def parse_rules(text: bytes) -> list[LifecycleRule]:
    """Parse rules from a JSON list of objects, which have the fields of `LifecycleRule`.

    Raises:
        UsageError: it is something else; says what.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the rules are not JSON: {error}") from None
    if not isinstance(found, list):
        raise UsageError("the rules must be a JSON list of objects, as 'trove lifecycle get' prints them")
    return [_rule(item, number) for number, item in enumerate(found, 1)]


def _rule(item: Any, number: int) -> LifecycleRule:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise UsageError(f"rule {number} is not an object with an id")
    if unknown := sorted(item.keys() - _FIELDS):
        raise UsageError(
            f"rule {number} has the unknown field {unknown[0]!r}; the fields are {', '.join(sorted(_FIELDS))}"
        )
    return LifecycleRule(**item)


async def rm(session: Session, name: Name) -> None:
    """Remove a bucket's rules."""
    store, bucket = await session.bucket(name)
    await store.delete_lifecycle(bucket)


async def apply(session: Session, target: Target = None) -> None:
    """Apply the rules of a bucket, or of all buckets of a store; run it about once a day."""
    if target is None:
        store, bucket = await session.open(session.store_dsn(None)), ""
    else:
        store, bucket, key = await session.resolve(target)
        if key:
            raise UsageError(f"{target!r} does not name a bucket")
    buckets = [bucket] if bucket else [found.name for found in await store.list_buckets()]
    for name in buckets:
        report = await store.apply_lifecycle(name)
        session.output.record({"type": "lifecycle", "bucket": name} | asdict(report), _line(name, report))


def _line(bucket: str, report: LifecycleReport) -> str:
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in asdict(report).items())
    return f"{bucket}: {counts}"
