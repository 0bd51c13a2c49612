"""``cp`` and ``mv``: objects and files, one or whole trees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import click

from trove_async.cli.command import Jobs, Literally, command
from trove_async.cli.completion import complete
from trove_async.cli.destination import Destination
from trove_async.cli.errors import UsageError
from trove_async.cli.names import FilePath, local_hint, target_hint
from trove_async.cli.objects import cat, put
from trove_async.cli.parameters import argument, option
from trove_async.cli.progress import tally_bar
from trove_async.cli.session import Session
from trove_async.cli.sources import Source, skipped_directory, source_of
from trove_async.errors import BucketNotFoundError, NotFoundError, TroveError
from trove_async.transfers import Job, Outcome, Result, Tally, Transfer

__all__ = ["cp", "mv", "register"]

Sources = Annotated[
    tuple[str, ...],
    argument("SOURCE", shell_complete=complete, help="Objects or local files."),
]
Target = Annotated[
    str,
    argument("TARGET", shell_complete=complete, help="An object or local file; with a slash at its end, a folder."),
]
Recursive = Annotated[bool, option("--recursive", "-r", help="Include everything below a directory or a name.")]
ByChecksum = Annotated[bool, option("--checksum", help="Compare by SHA-256, not by size and time.")]
Preserve = Annotated[bool, option("--preserve", help="Keep the modes and owners of files.")]
DryRun = Annotated[bool, option("--dry-run", "-n", help="Print what would be done, and do nothing.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    command(app, "cp")(cp)
    command(app, "mv")(mv)


async def cp(
    session: Session,
    sources: Sources,
    target: Target,
    recursive: Recursive = False,
    checksum: ByChecksum = False,
    preserve: Preserve = False,
    jobs: Jobs = 8,
    dry_run: DryRun = False,
    literal: Literally = False,
) -> None:
    """Copy objects and files, between stores too; - is standard input or output.

    With -r or a pattern, objects that were copied before and have not changed are skipped: after an interruption, run
    the command again to continue.
    """
    if "-" in (*sources, target):
        if recursive or checksum or preserve or dry_run:
            raise UsageError("- copies one stream; it does not go with -r, --checksum, --preserve or --dry-run")
        await _stream(session, sources, target)
        return
    found = await _sources(session, sources, recursive, literal)
    transfer = _transfer(found, checksum, jobs, preserve, move=False)
    destination = await _destination(session, target, found, recursive)
    await _run(
        session, found, destination, transfer, dry_run, "" if session.names_store(target) else target_hint(target)
    )


async def mv(
    session: Session,
    sources: Sources,
    target: Target,
    recursive: Recursive = False,
    checksum: ByChecksum = False,
    preserve: Preserve = False,
    jobs: Jobs = 8,
    dry_run: DryRun = False,
    literal: Literally = False,
) -> None:
    """Move objects and files, between stores too.

    Each source is copied first and then removed, unless it has changed in between.
    """
    if "-" in (*sources, target):
        raise UsageError("a stream cannot be moved; cp copies from - and to -")
    found = await _sources(session, sources, recursive, literal)
    transfer = _transfer(found, checksum, jobs, preserve, move=True)
    destination = await _destination(session, target, found, recursive)
    await _run(
        session, found, destination, transfer, dry_run, "" if session.names_store(target) else target_hint(target)
    )
    if not dry_run:
        for source in found:
            await source.tidy()


async def _stream(session: Session, sources: Sequence[str], target: str) -> None:
    """Copy standard input to an object, or objects to standard output."""
    if target != "-":
        if len(sources) > 1:
            raise UsageError("- is standard input, which is copied alone")
        await put(session, "-", target)
        return
    local = [source for source in sources if source == "-" or isinstance(await session.parse(source), FilePath)]
    if local:
        raise UsageError(f"{local[0]!r} and '-' are both on this machine; one end of a copy must be in a store")
    await cat(session, tuple(sources))


async def _sources(session: Session, names: Sequence[str], recursive: bool, literal: bool) -> list[Source]:
    return [await source_of(session, name, recursive=recursive, literal=literal) for name in names]


async def _destination(session: Session, name: str, sources: Sequence[Source], recursive: bool) -> Destination:
    parsed = await session.parse(name)
    if isinstance(parsed, FilePath):
        if any(source.is_local for source in sources):
            raise UsageError("both ends are local files; one end of a copy must be in a store")
        target = Destination.of(parsed, None)
    else:
        target = Destination.of(parsed, await session.open(parsed.dsn))
    if len(sources) > 1:
        # With trees, even a bucket needs a slash: without it their members would be mixed.
        if not (target.folder if recursive else target.container):
            raise UsageError(f"several sources go into a folder: write the target as {name.rstrip('/') + '/'!r}")
        names = [source.base_name for source in sources]
        twice = next((base for base in names if base and names.count(base) > 1), None)
        if twice is not None:
            raise UsageError(f"two sources would both become {twice!r} in the target")
    return target


def _transfer(sources: Sequence[Source], checksum: bool, jobs: int, preserve: bool, *, move: bool) -> Transfer:
    trees = any(source.is_tree for source in sources)
    return Transfer(
        workers=jobs,
        skip_unchanged=trees,
        skip_directories=trees,
        by_checksum=checksum,
        record=trees,
        move=move,
        preserve=preserve,
    )


async def _run(
    session: Session,
    sources: Sequence[Source],
    target: Destination,
    transfer: Transfer,
    dry_run: bool,
    hint: str,
) -> None:
    report = _Report(session, target, hint)
    jobs = _jobs(session, sources, target, report, "mv" if transfer.move else "cp")
    if dry_run:
        await _show(session, jobs, transfer, report)
        return
    async with tally_bar(session.output, transfer.tally):
        await transfer.run(jobs, report.result)
    if transfer.skip_unchanged and transfer.tally.jobs and not report.ended:
        session.output.note(_summary(transfer.tally, "moved" if transfer.move else "copied"))


class _Report:
    """Reports results; the missing bucket of the target once, with a hint, after which no further copy is begun."""

    def __init__(self, session: Session, target: Destination, hint: str) -> None:
        self._session = session
        self._target = target
        self._hint = hint
        self.ended = False

    def result(self, result: Result) -> None:
        """Report a finished copy."""
        if result.outcome is Outcome.DIRECTORY:
            self._session.output.note(skipped_directory(result.job.source))
            return
        if result.error is not None and not self.failed(result.job, result.error):
            return
        if self._session.output.json:
            self._session.output.record(_values(result.job, result.outcome))

    def failed(self, job: Job, error: TroveError | OSError) -> bool:
        """Report a failure; return False if it was reported before."""
        if isinstance(error, BucketNotFoundError) and error.bucket == self._target.bucket:
            if self.ended:
                return False
            self.ended = True
            self._session.fail(error, about=str(job.source), hint=self._hint)
            return True
        self._session.fail(error, about=str(job.source))
        return True


async def _jobs(
    session: Session, sources: Sequence[Source], target: Destination, report: _Report, command: str
) -> AsyncIterator[Job]:
    for source in sources:
        try:
            async for job in source.jobs(session, target):
                if report.ended:
                    return
                yield job
        except (TroveError, OSError) as error:
            if isinstance(error, TroveError):
                error.operation = error.operation or command
            hint = local_hint(source.name) if isinstance(error, NotFoundError) else ""
            session.fail(error, hint=hint)


def _values(job: Job, outcome: str) -> dict[str, object]:
    return {
        "type": "copy",
        "source": str(job.source),
        "target": str(job.target),
        "size": job.size,
        "outcome": outcome,
    }


async def _show(session: Session, jobs: AsyncIterator[Job], transfer: Transfer, report: _Report) -> None:
    async for job in jobs:
        try:
            outcome: str = await transfer.preview(job)
        except (TroveError, OSError) as error:
            report.failed(job, error)
            continue
        if outcome == Outcome.DIRECTORY:
            session.output.note(skipped_directory(job.source))
            continue
        if outcome == Outcome.COPIED:
            outcome = "would move" if transfer.move else "would copy"
        session.output.record(_values(job, outcome), f"{outcome}: {job.source} -> {job.target}")


def _summary(tally: Tally, verb: str) -> str:
    failed = f", {tally.failed:,} failed" if tally.failed else ""
    return f"{tally.copied:,} {verb}, {tally.unchanged:,} unchanged{failed}"
