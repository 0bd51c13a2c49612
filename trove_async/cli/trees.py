"""``cp`` and ``mv``: objects and files, one or whole trees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import typer

from trove_async.cli.command import Jobs, Literally, command
from trove_async.cli.completion import complete_name
from trove_async.cli.destination import Destination
from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath
from trove_async.cli.progress import tally_bar
from trove_async.cli.session import Session
from trove_async.cli.sources import Source, skipped_directory, source_of
from trove_async.errors import TroveError
from trove_async.transfers import Job, Outcome, Result, Tally, Transfer

__all__ = ["cp", "mv", "register"]

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE", autocompletion=complete_name, show_default=False, help="Names, or files."),
]
Target = Annotated[
    str,
    typer.Argument(metavar="TARGET", autocompletion=complete_name, show_default=False, help="With a slash, a folder."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Whole trees.")]
ByChecksum = Annotated[bool, typer.Option("--checksum", help="Compare by SHA-256, not by size and time.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be done, and do nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "cp")(cp)
    command(app, "mv")(mv)


async def cp(
    session: Session,
    sources: Sources,
    target: Target,
    recursive: Recursive = False,
    checksum: ByChecksum = False,
    jobs: Jobs = 8,
    dry_run: DryRun = False,
    literal: Literally = False,
) -> None:
    """Copy objects and files, between stores too.

    With -r or a pattern, objects that were copied before and have not changed are skipped: after an interruption, run
    the command again to continue.
    """
    found = await _sources(session, sources, recursive, literal)
    transfer = _transfer(found, checksum, jobs, move=False)
    await _run(session, found, await _destination(session, target, found, recursive), transfer, dry_run)


async def mv(
    session: Session,
    sources: Sources,
    target: Target,
    recursive: Recursive = False,
    checksum: ByChecksum = False,
    jobs: Jobs = 8,
    dry_run: DryRun = False,
    literal: Literally = False,
) -> None:
    """Move objects and files, between stores too.

    Each source is copied first and then removed, unless it has changed in between.
    """
    found = await _sources(session, sources, recursive, literal)
    transfer = _transfer(found, checksum, jobs, move=True)
    await _run(session, found, await _destination(session, target, found, recursive), transfer, dry_run)
    if not dry_run:
        for source in found:
            await source.tidy()


async def _sources(session: Session, names: Sequence[str], recursive: bool, literal: bool) -> list[Source]:
    return [await source_of(session, name, recursive=recursive, literal=literal) for name in names]


async def _destination(session: Session, name: str, sources: Sequence[Source], recursive: bool) -> Destination:
    parsed = await session.parse(name)
    if isinstance(parsed, FilePath):
        if any(source.is_local for source in sources):
            raise UsageError("both ends are local files; trove copies from or to a store")
        target = Destination.of(parsed, None)
    else:
        store = await session.open(parsed.dsn)
        target = Destination.of(parsed, store)
        if any(source.is_tree for source in sources):
            # Checked once: otherwise a missing bucket would be reported for every member.
            await store.list(parsed.bucket, max_keys=1).all()
    if len(sources) > 1:
        # With trees, even a bucket needs a slash: without it their members would be mixed.
        if not (target.folder if recursive else target.container):
            raise UsageError(f"several sources go into a folder: write the target as {name.rstrip('/') + '/'!r}")
        names = [source.base_name for source in sources]
        twice = next((base for base in names if base and names.count(base) > 1), None)
        if twice is not None:
            raise UsageError(f"two sources would both become {twice!r} in the target")
    return target


def _transfer(sources: Sequence[Source], checksum: bool, jobs: int, *, move: bool) -> Transfer:
    trees = any(source.is_tree for source in sources)
    return Transfer(
        workers=jobs, skip_unchanged=trees, skip_directories=trees, by_checksum=checksum, record=trees, move=move
    )


async def _run(
    session: Session, sources: Sequence[Source], target: Destination, transfer: Transfer, dry_run: bool
) -> None:
    jobs = _jobs(session, sources, target)
    if dry_run:
        await _show(session, jobs, transfer)
        return
    async with tally_bar(session.output, transfer.tally):
        await transfer.run(jobs, lambda result: _report(session, result))
    if transfer.skip_unchanged and transfer.tally.jobs:
        session.output.note(_summary(transfer.tally, "moved" if transfer.move else "copied"))


async def _jobs(session: Session, sources: Sequence[Source], target: Destination) -> AsyncIterator[Job]:
    for source in sources:
        try:
            async for job in source.jobs(session, target):
                yield job
        except (TroveError, OSError) as error:
            session.fail(error)


def _report(session: Session, result: Result) -> None:
    if result.outcome is Outcome.DIRECTORY:
        session.output.note(skipped_directory(result.job.source))
        return
    if result.error is not None:
        session.fail(result.error, about=str(result.job.source))
    session.output.record(_values(result.job, result.outcome))


def _values(job: Job, outcome: str) -> dict[str, object]:
    return {
        "type": "copy",
        "source": str(job.source),
        "target": str(job.target),
        "size": job.size,
        "outcome": outcome,
    }


async def _show(session: Session, jobs: AsyncIterator[Job], transfer: Transfer) -> None:
    async for job in jobs:
        outcome: str = await transfer.preview(job)
        if outcome == Outcome.DIRECTORY:
            session.output.note(skipped_directory(job.source))
            continue
        if outcome == Outcome.COPIED:
            outcome = "would move" if transfer.move else "would copy"
        session.output.record(_values(job, outcome), f"{outcome}: {job.source} -> {job.target}")


def _summary(tally: Tally, verb: str) -> str:
    failed = f", {tally.failed:,} failed" if tally.failed else ""
    return f"{tally.copied:,} {verb}, {tally.unchanged:,} unchanged{failed}"
