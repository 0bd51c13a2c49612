"""``mirror``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import click

import trove_async
from trove_async.cli.command import command
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.names import is_dsn, named_of
from trove_async.cli.parameters import argument, option
from trove_async.cli.progress import count_bar
from trove_async.cli.session import Session
from trove_async.dsn import parse_dsn
from trove_async.errors import ChecksumError, TroveError, UnsupportedError

if TYPE_CHECKING:
    from trove_async.layers.mirror.driver import MirrorDriver
    from trove_async.layers.mirror.records import Pending
    from trove_async.layers.mirror.scrub import ScrubReport

__all__ = ["backfill", "register", "repair", "scrub", "status"]

Store = Annotated[str, argument("STORE", help="The name of a store of trove.toml.")]
Places = Annotated[
    tuple[str, ...],
    argument("BUCKET[/PREFIX]", help="Which objects; default all buckets."),
]
Rate = Annotated[
    float | None,
    option(
        metavar="BYTES",
        type=click.FloatRange(1),
        help="Bytes that are read in a second, from all members together, such as 50e6; default no limit.",
    ),
]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("mirror", help="The copies of a mirror, and of a Failover with a queue.")
    command(group, "status")(status)
    command(group, "repair")(repair)
    command(group, "backfill")(backfill)
    command(group, "scrub")(scrub)
    app.add_command(group)


async def status(session: Session, mirror: Store) -> None:
    """Print how many copies wait for repair at each member."""
    driver = await _mirror(session, mirror)
    waiting = await driver.status()
    for member in (*driver.members, *sorted(waiting.keys() - driver.members.keys())):
        pending = waiting.get(member)
        session.output.record(_fields(member, pending), f"{member}: {_line(pending)}")


async def repair(session: Session, mirror: Store) -> None:
    """Repair what waits and can be repaired now; exit code 1 if a copy still waits."""
    driver = await _mirror(session, mirror)
    repaired = await driver.repair()
    waiting = await driver.status()
    left = sum(pending.copies for pending in waiting.values())
    session.output.record({"type": "repair", "repaired": repaired, "waiting": left}, f"{repaired} copies repaired")
    for member, pending in waiting.items():
        session.fail(TroveError(f"{member}: {_line(pending)}"))


async def backfill(session: Session, mirror: Store, places: Places = ()) -> None:
    """Queue a repair for each copy that a member lacks, such as a new member."""
    named = _parsed(places)
    driver = await _mirror(session, mirror)
    for bucket, prefix in named or await _buckets(session, driver):
        try:
            queued = await driver.backfill(bucket, prefix)
        except TroveError as error:
            session.fail(error, _place(bucket, prefix))
            continue
        values = {"type": "backfill", "bucket": bucket, "prefix": prefix, "queued": queued}
        session.output.record(values, f"{_place(bucket, prefix)}: {queued} copies queued for repair")


async def scrub(session: Session, mirror: Store, places: Places = (), rate: Rate = None) -> None:
    """Read all copies, and queue a repair for each that is missing, differs from the others, or has gone bad.

    The exit code is 1 if an object has no copy that matches its checksum; nothing is changed then.
    """
    named = _parsed(places)
    driver = await _mirror(session, mirror)
    for bucket, prefix in named or await _buckets(session, driver):
        try:
            async with count_bar(session.output, f"{_place(bucket, prefix)}: compared") as compared:
                report = await driver.scrub(bucket, prefix, rate=rate, on_progress=lambda _: compared())
        except TroveError as error:
            session.fail(error, _place(bucket, prefix))
            continue
        values = {"type": "scrub", "bucket": bucket, "prefix": prefix} | asdict(report)
        session.output.record(values, f"{_place(bucket, prefix)}: {_found(report)}")
        for key in report.lost:
            session.fail(ChecksumError("no copy matches its checksum; nothing was changed", bucket=bucket, key=key))


async def _mirror(session: Session, store: str) -> MirrorDriver:
    from trove_async.layers.mirror.driver import MirrorDriver  # it needs packages of its own

    named = named_of(store)
    if named is not None and named.path:
        raise UsageError(f"{store!r} names more than a store; write {named.store!r}, and the bucket behind it")
    opened = await session.open(session.store_dsn(store))
    try:
        return trove_async.unwrap(opened.driver, MirrorDriver)
    except UnsupportedError:
        shown = str(parse_dsn(store)) if is_dsn(store) else store
        raise UsageError(f"the store {shown!r} is neither a mirror nor a Failover with a queue") from None


def _parsed(places: Sequence[str]) -> list[tuple[str, str]]:
    """Return buckets and prefixes."""
    parsed = []
    for place in places:
        bucket, _, prefix = place.partition("/")
        if not bucket:
            raise UsageError(f"{place!r} does not name a bucket; write BUCKET or BUCKET/PREFIX")
        parsed.append((bucket, prefix))
    return parsed


async def _buckets(session: Session, driver: MirrorDriver) -> list[tuple[str, str]]:
    """Return all buckets, with empty prefixes."""
    found = [(bucket.name, "") for bucket in await driver.list_buckets()]
    if not found:
        session.output.note("the mirror lists no bucket; name those that only a later member has")
    return found


def _place(bucket: str, prefix: str) -> str:
    return f"{bucket}/{prefix}" if prefix else bucket


def _fields(member: str, pending: Pending | None) -> dict[str, Any]:
    found = {"copies": 0, "oldest": None, "failing": 0, "error": ""} if pending is None else asdict(pending)
    return {"type": "member", "member": member} | found


def _line(pending: Pending | None) -> str:
    if pending is None:
        return "nothing waits for repair"
    failing = f"; {pending.failing} of them failed, for example: {pending.error}" if pending.failing else ""
    since = pending.oldest.isoformat(timespec="seconds")
    return f"{pending.copies} copies wait for repair, the oldest since {since}{failing}"


def _found(report: ScrubReport) -> str:
    return (
        f"{report.objects} objects compared, {report.bytes} bytes read, {report.queued} copies queued for repair, "
        f"{report.skipped} objects skipped, {len(report.lost)} lost"
    )
