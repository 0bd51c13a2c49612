"""``quota``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import click

import trove_async
from trove_async.cli.command import command, database_option
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.names import is_dsn
from trove_async.cli.parameters import argument
from trove_async.cli.session import Session
from trove_async.layers import QuotaUsage

__all__ = ["recount", "register", "show"]

DatabaseURL = Annotated[str, database_option("the quota", "TROVE_QUOTA_DATABASE")]
Limits = Annotated[
    tuple[str, ...],
    argument("DSN|NAME:|BUCKET[/PREFIX]", help="The store, and then its limits; default all limits."),
]
ShownLimits = Annotated[
    tuple[str, ...],
    argument("BUCKET[/PREFIX]", help="Limits; default all limits."),
]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("quota", help="How much the buckets and prefixes with a quota hold.")
    command(group, "show", store=False)(show)
    command(group, "recount")(recount)
    app.add_command(group)


async def show(session: Session, database: DatabaseURL, limits: ShownLimits = ()) -> None:
    """Print the limits and what they count; the store is not asked."""
    from trove_async.layers.quota.database.ledger import read_usage

    for usage in await read_usage(database, limits):
        session.output.record(_fields(usage), _line(usage))


async def recount(session: Session, database: DatabaseURL, limits: Limits = ()) -> None:
    """List what is under the limits that the database has, and correct what they count; others may write meanwhile."""
    names = [*limits]
    dsn = names.pop(0) if names and (is_dsn(names[0]) or session.names_store(names[0])) else None
    if dsn is None and session.options.store is None and names and session.names_store(f"{names[0]}:"):
        raise UsageError(f"{names[0]!r} is taken for a limit; write '{names[0]}:' for the store of trove.toml")
    store = await session.open(session.store_dsn(dsn), trove_async.Quota(database=database))
    driver = trove_async.unwrap(store.driver, trove_async.QuotaDriver)
    before = {usage.quota: usage for usage in await driver.usage()}
    for usage in await driver.recount(*names):
        was = before[usage.quota]
        values = _fields(usage) | {"bytes_before": was.bytes, "objects_before": was.objects}
        session.output.record(values, f"{_line(usage)}{_change(was, usage)}")


def _fields(usage: QuotaUsage) -> dict[str, Any]:
    return {
        "type": "quota",
        "quota": usage.quota,
        "bytes": usage.bytes,
        "max_bytes": usage.limit.bytes,
        "objects": usage.objects,
        "max_objects": usage.limit.objects,
    }


def _line(usage: QuotaUsage) -> str:
    counts: Sequence[tuple[int, int | None, str]] = (
        (usage.bytes, usage.limit.bytes, "bytes"),
        (usage.objects, usage.limit.objects, "objects"),
    )
    texts = [f"{used} {what}" if most is None else f"{used} of {most} {what}" for used, most, what in counts]
    return f"{usage.quota or 'the whole store'}: {', '.join(texts)}"


def _change(was: QuotaUsage, now: QuotaUsage) -> str:
    if (was.bytes, was.objects) == (now.bytes, now.objects):
        return ""
    return f" (before: {was.bytes} bytes, {was.objects} objects)"
