"""``managed``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import click

from trove_async.cli.command import command, database_option
from trove_async.cli.commands import Group
from trove_async.cli.completion import complete
from trove_async.cli.errors import UsageError
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.cli.values import parse_duration
from trove_async.errors import ChecksumError, NotFoundError, TroveError

if TYPE_CHECKING:
    from trove_async.managed import CollectionReport, ResourceCatalog, Statistics, StoreResourceStorage

__all__ = ["fsck", "gc", "migrate", "register", "stats"]

DatabaseURL = Annotated[str, database_option("the catalogue", "TROVE_MANAGED_DATABASE")]
Bucket = Annotated[str, argument("NAME", shell_complete=complete, help="The bucket that holds the content.")]
Namespace = Annotated[str, option(metavar="TEXT", help="The keys of the content begin with this and a slash.")]
Space = Annotated[
    str,
    option(
        metavar="TEXT",
        help="Which space of the database: for managed.cas it is cas/BUCKET/NAMESPACE, for a Dedup it is dedup.",
    ),
]
Grace = Annotated[str, option(metavar="TIME", help="For how long what nobody refers to is kept.")]
Delete = Annotated[bool, option("--delete", help="Delete; without it, only print what would be deleted.")]
Force = Annotated[bool, option("--force", help="Delete also if that is more than a tenth of all.")]
MaxDeletes = Annotated[
    int | None, option(metavar="N", type=click.IntRange(0), help="Delete at most N; the next run goes on.")
]
TrustClock = Annotated[
    bool, option("--trust-clock", help="Go on although the database's clock was ahead, once it is right.")
]
FsckGrace = Annotated[
    str, option(metavar="TIME", help="The age from which orphans and unfinished uploads are problems.")
]
DepthName = Annotated[str, option(metavar="rows|heads|bytes", help="Compare tables; list the store; read all.")]
ForceRepair = Annotated[bool, option("--force", help="Repair also if more than a tenth would be lost.")]
Repair = Annotated[bool, option("--repair", help="Correct what can be corrected.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group(
        "managed", help="Content of managed storage and content-addressed stores, in a bucket and a database."
    )
    command(group, "migrate", store=False)(migrate)
    command(group, "stats", store=False)(stats)
    command(group, "gc")(gc)
    command(group, "fsck")(fsck)
    app.add_command(group)


async def migrate(session: Session, database: DatabaseURL) -> None:
    """Create the tables, or bring them up to date, as every program that opens them does too."""
    from trove_async.database import connect
    from trove_async.managed.dedup import schema as dedup
    from trove_async.managed.schema import COMPONENT, MIGRATIONS

    async with connect(database) as opened:
        await opened.migrate(COMPONENT, MIGRATIONS)
        await opened.migrate(dedup.COMPONENT, dedup.MIGRATIONS)
    session.output.record({"type": "migration", "component": COMPONENT}, "the tables are up to date")


async def stats(session: Session, database: DatabaseURL, space: Space = "managed") -> None:
    """Print how much there is, as the database has it; the store is not asked."""
    from trove_async.managed import statistics

    async with _catalogue(database, space) as catalogue:
        found = await statistics(catalogue)
    lines = (
        f"{found.blobs} contents of {found.bytes} bytes",
        f"{found.references} references to {found.logical_bytes} bytes, {found.names} of them names",
        f"{found.pinned} pinned, {found.pending} pending, {found.lost} lost",
        f"{found.condemned} without references, of {found.condemned_bytes} bytes, wait for gc",
    )
    session.output.record({"type": "stats", "space": space} | asdict(found), *lines)
    _check_space(session, space, found)


async def gc(
    session: Session,
    name: Bucket,
    database: DatabaseURL,
    namespace: Namespace = "",
    space: Space = "managed",
    grace: Grace = "1d",
    delete: Delete = False,
    force: Force = False,
    max_deletes: MaxDeletes = None,
    trust_clock: TrustClock = False,
) -> None:
    """Delete what nobody refers to, once it was so for longer than the grace; without --delete, print how much.

    If more than a tenth of all would go, nothing is deleted unless there is --force.
    """
    from trove_async.managed import collect

    seconds = parse_duration(grace)
    async with _opened(session, name, database, namespace, space) as (catalogue, storage):
        report = await collect(
            catalogue,
            storage,
            grace=seconds,
            dry_run=not delete,
            force=force,
            max_deletes=max_deletes,
            trust_clock=trust_clock,
        )
    values = asdict(report) | {"failed": [path for path, _ in report.failed]}
    session.output.record({"type": "collection", "space": space} | values, _collected(report))
    for path, error in report.failed:
        session.fail(error, path)


async def fsck(
    session: Session,
    name: Bucket,
    database: DatabaseURL,
    namespace: Namespace = "",
    space: Space = "managed",
    depth: DepthName = "rows",
    repair: Repair = False,
    force: ForceRepair = False,
    grace: FsckGrace = "1d",
) -> None:
    """Print what is wrong; with --repair, correct what can be corrected.

    If more than a tenth of all would be marked as lost, that is refused unless there is --force. The exit code is 1 if
    something is wrong still.
    """
    from trove_async.managed import Depth
    from trove_async.managed import fsck as check

    if depth not in [*Depth]:
        raise UsageError(f"the depth is one of {', '.join(Depth)}, not {depth!r}")
    seconds = parse_duration(grace)
    async with _opened(session, name, database, namespace, space) as (catalogue, storage):
        report = await check(catalogue, storage, depth=depth, repair=repair, grace=seconds, force=force)
    for problem in report.problems:
        outcome = f"{_REPAIRED.get(problem.kind, 'repaired')}: " if problem.repaired else ""
        line = f"{outcome}{problem.kind}: {problem.subject}: {problem.detail}"
        session.output.record({"type": "problem"} | asdict(problem), line)
    values = {"depth": depth, "contents": report.blobs, "bytes": report.bytes, "problems": len(report.problems)}
    read = f", {report.bytes} bytes read" if depth == Depth.BYTES else ""
    session.output.record(
        {"type": "fsck", "space": space} | values,
        f"{report.blobs} contents{read}, {len(report.problems)} problems",
    )
    if not report.clean:
        left = sum(1 for problem in report.problems if not problem.repaired)
        session.fail(
            TroveError(f"{left} problems are left; --repair corrects what can be corrected")
            if left
            else ChecksumError("content is lost; store it again")
        )


_REPAIRED: Final = {
    "missing": "marked as lost",
    "length": "marked as lost",
    "bytes": "marked as lost",
    "orphan": "condemned",
    "unfinished": "aborted",
}


@asynccontextmanager
async def _opened(
    session: Session, name: str, database: str, namespace: str, space: str
) -> AsyncIterator[tuple[ResourceCatalog, StoreResourceStorage]]:
    from trove_async.managed import StoreResourceStorage, statistics

    storage = StoreResourceStorage(*await session.bucket(name), namespace)
    await storage.check()
    async with _catalogue(database, space) as catalogue:
        _check_space(session, space, await statistics(catalogue))
        yield catalogue, storage


@asynccontextmanager
async def _catalogue(database: str, space: str) -> AsyncIterator[ResourceCatalog]:
    """Open a catalogue; a file that does not exist is not created, since its name must be wrong."""
    from trove_async.database.url import SQLiteSettings, parse_url
    from trove_async.managed import ResourceCatalog

    settings = parse_url(database)
    if isinstance(settings, SQLiteSettings) and not await asyncio.to_thread(os.path.lexists, settings.path):
        raise NotFoundError(f"the database {str(settings.path)!r} does not exist; trove managed migrate creates one")
    catalogue = await ResourceCatalog.open(database, space)
    try:
        yield catalogue
    finally:
        await catalogue.aclose()


def _check_space(session: Session, space: str, found: Statistics) -> None:
    if not any(asdict(found).values()):
        session.output.note(f"the database has no content of the space {space!r}")


def _collected(report: CollectionReport) -> str:
    deleted = f"{'would delete' if report.dry_run else 'deleted'} {report.deleted} blob{'s'[report.deleted == 1 :]}"
    details = [f"{deleted} of {report.bytes} bytes"]
    if report.orphans:
        details.append(f"{report.orphans} without content found")
    if report.unfinished:
        details.append(f"{report.unfinished} unfinished uploads")
    if report.expired:
        details.append(f"{report.expired} announcements of dead writers")
    return "; ".join([*details, f"{report.waiting} wait{'s' if report.waiting == 1 else ''}"])
