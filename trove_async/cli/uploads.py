"""``uploads``."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import click

from trove_async.cli.command import Name, command, database_option
from trove_async.cli.commands import Group
from trove_async.cli.errors import UsageError
from trove_async.cli.output import time_text
from trove_async.cli.parameters import argument, option
from trove_async.cli.session import Session
from trove_async.cli.streams import ask, is_terminal
from trove_async.cli.values import parse_duration
from trove_async.errors import TroveError

if TYPE_CHECKING:
    from trove_async.uploads import FileInfo, Locker, SweepReport, TroveDataStore

__all__ = ["ls", "register", "rm", "sweep"]

State = Annotated[
    str | None,
    option(metavar="BUCKET/PREFIX", help="Where the state is; default .trove-uploads/ in the bucket."),
]
IDs = Annotated[tuple[str, ...], argument("ID", help="The ids of the uploads.")]
LockDatabase = Annotated[str | None, database_option("the servers' locks", "TROVE_UPLOADS_DATABASE")]
LockFolder = Annotated[str | None, option(metavar="FOLDER", help="The folder of the servers' locks.")]
Yes = Annotated[bool, option("--yes", "-y", help="Do not ask; without locks and a terminal, rm needs it.")]
DryRun = Annotated[bool, option("--dry-run", "-n", help="Print what would be removed, and remove nothing.")]
Orphans = Annotated[str, option(metavar="TIME", help="The age of multipart uploads that belong to no upload.")]
KeepOrphans = Annotated[bool, option("--keep-orphans", help="Remove only uploads that have expired.")]


def register(app: click.Group) -> None:
    """Add the commands."""
    group = Group("uploads", help="Resumable uploads that a server keeps in a bucket.")
    command(group, "ls")(ls)
    command(group, "rm")(rm)
    command(group, "sweep")(sweep)
    app.add_command(group)


async def ls(session: Session, name: Name, state: State = None) -> None:
    """Print the uploads of a bucket, finished ones too until their state expires.

    The columns are: time of creation, bytes received and expected, status, time of expiry, id, object, name of the
    file.
    """
    bucket, uploads = await _uploads(session, name, state)
    async for info in uploads.list_uploads():
        session.output.record(_fields(info, bucket), _line(info, bucket))


async def rm(
    session: Session,
    name: Name,
    ids: IDs,
    state: State = None,
    database: LockDatabase = None,
    lock_folder: LockFolder = None,
    yes: Yes = False,
) -> None:
    """Remove uploads and what was received of them; the objects of finished uploads stay.

    With the locks of the servers (--database or --lock-folder), a request that writes to an upload is stopped first.
    Without them, rm asks: such a request would fail.
    """
    _, uploads = await _uploads(session, name, state)
    async with _locks(database, lock_folder) as locker:
        if locker is None and not yes and not await _confirmed(len(ids)):
            session.output.note("nothing was removed")
            return
        for upload_id in ids:
            try:
                await _terminate(uploads, locker, upload_id)
            except TroveError as error:
                session.fail(error, upload_id)
            else:
                session.output.record({"type": "removal", "id": upload_id, "outcome": "removed"})


async def sweep(
    session: Session,
    name: Name,
    state: State = None,
    dry_run: DryRun = False,
    orphans: Orphans = "7d",
    keep_orphans: KeepOrphans = False,
) -> None:
    """Remove uploads that have expired, and old multipart uploads of the bucket that belong to none.

    Multipart uploads that other programs have begun in the bucket are removed too if they are that old:
    --keep-orphans leaves them.
    """
    age = None if keep_orphans else timedelta(seconds=parse_duration(orphans))
    _, uploads = await _uploads(session, name, state)
    report = await uploads.sweep(orphans=age, dry_run=dry_run)
    outcome = "would remove" if dry_run else "removed"
    for kind, what, found in _removals(report):
        session.output.record(
            {"type": "removal", "kind": kind, "name": found, "outcome": outcome}, f"{outcome}: {what} {found}"
        )
    for what, error in report.failed:
        session.fail(error, what)


async def _uploads(session: Session, name: str, state: str | None) -> tuple[str, TroveDataStore]:
    from trove_async.uploads import TroveDataStore

    store, bucket = await session.bucket(name)
    return bucket, TroveDataStore(store, bucket, state=state)


@asynccontextmanager
async def _locks(database: str | None, folder: str | None) -> AsyncIterator[Locker | None]:
    """Give the locker of the servers; None if the command line names none."""
    from trove_async.uploads import FileLocker

    if folder is not None:
        _check_folder(folder)
        locker: Locker = FileLocker(folder)
    elif database is not None:
        from trove_async.uploads import PostgresLocker

        locker = PostgresLocker(database)
    else:
        yield None
        return
    try:
        yield locker
    finally:
        await locker.aclose()


def _check_folder(folder: str) -> None:
    if not os.path.isdir(folder):  # the locker would create it
        raise UsageError(f"there is no folder of locks {folder!r}; it is the one that the servers' FileLocker has")


async def _terminate(uploads: TroveDataStore, locker: Locker | None, upload_id: str) -> None:
    if locker is None:
        await uploads.terminate(upload_id)
        return
    lock = await locker.acquire(upload_id, lambda: None)  # a removal takes less time than anybody waits for
    try:
        await uploads.terminate(upload_id)
    finally:
        await lock.release()


async def _confirmed(count: int) -> bool:
    if not is_terminal():
        raise UsageError(
            "a server may be writing to the uploads: give its locks by --database or --lock-folder, or add --yes"
        )
    return await ask(f"remove {count} uploads, though a server may be writing to them?")


def _fields(info: FileInfo, bucket: str) -> dict[str, Any]:
    to = info.destination
    return {
        "type": "upload",
        "id": info.id,
        "status": _status(info),
        "offset": info.offset,
        "size": info.size,
        "is_partial": info.is_partial,
        "is_final": info.is_final,
        "partial_ids": info.partial_ids,
        "bucket": None if info.is_partial else bucket if to is None else to.bucket,
        "key": None if info.is_partial else info.id if to is None else to.key,
        "owner": info.owner,
        "filename": info.metadata.text("filename"),
        "metadata": info.metadata.header,
        "created_at": info.created_at,
        "expires_at": info.expires_at,
    }


def _line(info: FileInfo, bucket: str) -> str:
    found = _fields(info, bucket)
    kind = "partial " if info.is_partial else "final " if info.is_final else ""
    received = f"{info.offset}/{'?' if info.size is None else info.size}"
    place = "-" if found["key"] is None else f"{found['bucket']}/{found['key']}"
    columns = (
        f"{time_text(info.created_at):20}",
        f"{received:>21}",
        f"{kind + found['status']:16}",
        f"{time_text(info.expires_at):20}",
        info.id,
        place,
        found["filename"] or "",
    )
    return "  ".join(columns).rstrip()


def _status(info: FileInfo) -> str:
    if info.is_finished:
        return "finished"
    if info.expires_at is not None and info.expires_at <= datetime.now(UTC):
        return "expired"
    return "complete" if info.is_complete else "open"


def _removals(report: SweepReport) -> list[tuple[str, str, str]]:
    """Return what was removed: its kind, in words, and its id or key."""
    groups = (
        ("expired", "the expired upload", report.expired),
        ("forgotten", "the state of the finished upload", report.forgotten),
        ("aborted", "the orphaned multipart upload of", report.aborted),
        ("deleted", "the orphaned object", report.deleted),
    )
    return [(kind, what, found) for kind, what, group in groups for found in group]
