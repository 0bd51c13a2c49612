"""`collect`: delete the bytes that nobody refers to, in two phases.

The last reference that ends condemns a blob (`trove_async.managed.transitions`). The sweep here deletes it after a
grace: first it makes the row *sweeping*, which nothing takes back, if the row is still condemned; then it deletes the
bytes, and then the row. Content that is stored again has another row and another key, so that a late deletion never
hits it. An interrupted run leaves rows that the next one finishes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Select, delete, func, literal, select, tuple_

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.database import Lease, Timestamp, now
from trove_async.errors import ConflictError, InvalidArgumentError, TroveError
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.clock import Clock
from trove_async.managed.orphans import claim_orphans, orphans_of
from trove_async.managed.references import referenced
from trove_async.managed.refusals import MAX_SHARE, check_layers, check_share
from trove_async.managed.schema import BLOBS, State
from trove_async.managed.statistics import total
from trove_async.managed.storage import ListableStorage, StoredBytes, Unfinished, pages
from trove_async.managed.transitions import Doomed, doom, drop_expired, erase, expired
from trove_async.values import is_number, is_whole

__all__ = ["GRACE", "CollectionReport", "check_grace", "collect"]

GRACE: Final = 86_400.0
"""Seconds, a day: for how long a blob without references, or bytes that no blob has, are kept."""

_BATCH: Final = 500
_LEASE: Final = 120.0
_MEMORY: Final = 30 * 86_400.0
"""Seconds for which swept orphans are remembered, so that no writer who has slept for as long refers to them."""

R = TypeVar("R")

_Place = tuple[datetime, str] | None
"""Behind a blob, by the time at which it was condemned and its id; None for the beginning or the end."""


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What a collection has done; if it was a dry run, what another would do now.

    Attributes:
        dry_run: nothing was changed.
        expired: announcements of content whose writers have died.
        orphans: bytes that no blob has, older than the grace.
        unfinished: multipart uploads that were begun before the grace and not completed; they are aborted.
        deleted: blobs, and orphans, whose bytes were deleted.
        bytes: of these.
        waiting: blobs that were condemned and are within the grace.
        failed: paths whose bytes could not be deleted, or whose uploads could not be aborted, with the error. The next
            collection tries again.
    """

    dry_run: bool
    expired: int = 0
    orphans: int = 0
    unfinished: int = 0
    deleted: int = 0
    bytes: int = 0
    waiting: int = 0
    failed: tuple[tuple[str, TroveError], ...] = ()


async def collect(
    catalogue: ResourceCatalog,
    storage: ListableStorage,
    *,
    grace: float = GRACE,
    dry_run: bool = True,
    force: bool = False,
    max_share: float = MAX_SHARE,
    max_deletes: int | None = None,
    trust_clock: bool = False,
) -> CollectionReport:
    """Delete what nobody has referred to for longer than the grace.

    Any number of processes may store, read and remove content meanwhile; only one collects.

    Args:
        catalogue: says what is referred to. Only bytes in its folder are touched, so others may use the bucket too.
        storage: has the bytes.
        grace: seconds, by the database's clock.
        dry_run: only count.
        force: delete also if that is more than ``max_share``.
        max_share: the largest fraction of all blobs that is deleted, 0 to 1.
        max_deletes: the maximum number of deletions; None for all. The next collection continues.
        trust_clock: go on although the database's clock is earlier than at the last collection, once it is right.

    Raises:
        CollectionRefusedError: too much would be deleted, the clock went backwards, or this process was suspended for
            longer than the grace.
        ConflictError: another process collects.
        InvalidArgumentError: an argument is out of range, or the storage is over a store with the `Dedup` whose blobs
            these are; it must be over the store beneath.
    """
    _check(grace, max_share, max_deletes)
    check_layers(storage, catalogue.space)
    collection = _Collection(catalogue, storage, grace, trust_clock)
    limit = _Limit(1.0 if force else max_share, max_deletes)
    if dry_run:
        return await collection.preview(limit)
    return await collection.run(limit)


def check_grace(grace: object) -> None:
    """Check a grace.

    Raises:
        InvalidArgumentError: it is not a number of seconds from 0 to 1e9, which are 31 years.
    """
    if not is_number(grace) or not 0 <= grace <= 1e9:
        raise InvalidArgumentError(f"the grace is a number of seconds from 0 to 1e9, not {grace!r}")


def _check(grace: object, max_share: object, max_deletes: object) -> None:
    check_grace(grace)
    if not is_number(max_share) or not 0 <= max_share <= 1:
        raise InvalidArgumentError(f"max_share is a number from 0 to 1, not {max_share!r}")
    if max_deletes is not None and (not is_whole(max_deletes) or max_deletes < 0):
        raise InvalidArgumentError(f"max_deletes is a whole number from 0, or None, not {max_deletes!r}")


@dataclass(frozen=True, slots=True)
class _Limit:
    share: float
    deletes: int | None

    def check(self, due: int, total: int) -> None:
        """Refuse to delete too many of all blobs."""
        check_share(due, total, self.share, "deleted")

    def batch(self, deleted: int) -> int:
        """Return how many may be deleted next."""
        return _BATCH if self.deletes is None else min(_BATCH, self.deletes - deleted)


class _Collection:
    """One collection of a space."""

    def __init__(self, catalogue: ResourceCatalog, storage: ListableStorage, grace: float, trust_clock: bool) -> None:
        self._catalogue = catalogue
        self._database = catalogue.database
        self._space = catalogue.space
        self._storage = storage
        self._grace = grace
        self._clock = Clock(self._space, grace, trust_clock)
        self._lease: Lease | None = None

    async def preview(self, limit: _Limit) -> CollectionReport:
        """Count what `run` would do, and change nothing."""
        orphans = size = 0

        def unit(connection: Connection) -> tuple[datetime, int, _Counts]:
            time, _ = self._clock.look(connection)
            dead = connection.scalar(select(func.count()).select_from(expired(self._space).subquery())) or 0
            return time, dead, _count(connection, self._space, self._grace)

        time, dead, counts = await self._database.read(unit)
        folder = await self._catalogue.folder()
        async with aclosing(pages(self._storage, folder, "", _BATCH)) as found:
            async for page in found:
                old = await self._database.read(partial(orphans_of, space=self._space, page=self._old(page, time)))
                orphans += len(old)
                size += sum(one.length for one in old)
        due = counts.due + orphans
        limit.check(due, counts.total + orphans)
        deleted = due + counts.sweeping
        if limit.deletes is not None:
            deleted = min(deleted, limit.deletes)
        unfinished = len(await self._unfinished(folder, time))
        return CollectionReport(True, dead, orphans, unfinished, deleted, counts.bytes + size, counts.waiting)

    async def run(self, limit: _Limit) -> CollectionReport:
        """Collect."""
        owner = f"{socket.gethostname()}:{os.getpid()}"
        leases = self._database.leases
        name = f"managed collector of {self._space}"
        self._lease = await leases.acquire(name, owner=owner, seconds=_LEASE)
        if self._lease is None:
            raise ConflictError("another process collects this space")
        try:
            return await self._collect(limit)
        finally:
            await finish(
                leases.release(self._lease), timeout=CLEANUP_TIMEOUT, leftover=f"the lease of the {name}, for 2 minutes"
            )

    async def _collect(self, limit: _Limit) -> CollectionReport:
        folder = await self._catalogue.folder()
        reached = await self._write(self._clock.begin)
        report = CollectionReport(False)
        while dropped := await self._write(lambda connection: drop_expired(connection, self._space, limit=_BATCH)):
            report = replace(report, expired=report.expired + dropped)
        report = replace(report, orphans=await self._claim(folder, reached))
        unfinished, failed = await self._abort(folder)
        counts = await self._database.read(lambda connection: _count(connection, self._space, self._grace))
        limit.check(counts.due, counts.total)
        report = await self._sweep(replace(report, unfinished=unfinished, waiting=counts.waiting), limit)
        await self._write(self._forget)
        return replace(report, failed=(*failed, *report.failed))

    async def _claim(self, folder: str, reached: str) -> int:
        """Condemn the bytes that no blob has and that are older than the grace; return how many there are."""
        claimed = 0

        def unit(connection: Connection, page: Sequence[StoredBytes]) -> int:
            time = self._clock.tick(connection, reached=page[-1].path)
            return claim_orphans(connection, self._space, self._old(page, time))

        async with aclosing(pages(self._storage, folder, reached, _BATCH)) as found:
            async for page in found:
                claimed += await self._write(partial(unit, page=page))
        await self._write(lambda connection: self._clock.tick(connection, reached=""))
        return claimed

    async def _abort(self, folder: str) -> tuple[int, list[tuple[str, TroveError]]]:
        """Abort the uploads that writers have left; return how many, and the paths of those that stay, with the error.

        One that stays must not keep the sweep from its work, this time and each time.
        """
        uploads = await self._unfinished(folder, await self._write(self._clock.tick))
        failed: list[tuple[str, TroveError]] = []
        for upload in uploads:
            try:
                await self._storage.abort(upload)
            except TroveError as error:
                failed.append((upload.path, error))
        return len(uploads) - len(failed), failed

    async def _unfinished(self, folder: str, time: datetime) -> list[Unfinished]:
        before = time - timedelta(seconds=self._grace)
        return [one for one in await self._storage.unfinished(folder) if one.began <= before]

    async def _sweep(self, report: CollectionReport, limit: _Limit) -> CollectionReport:
        """Delete what is sweeping since an interrupted run, and then what has been condemned for long enough."""
        tried: set[str] = set()
        for choose in (self._sweeping, self._due):
            after: _Place = None
            while True:
                size = limit.batch(report.deleted + len(report.failed))
                doomed, after = await self._write(choose(after, size)) if size > 0 else ([], None)
                report = await self._delete([one for one in doomed if one.id not in tried], report)
                tried.update(one.id for one in doomed)
                if after is None:
                    break
        return report

    async def _delete(self, doomed: Sequence[Doomed], report: CollectionReport) -> CollectionReport:
        if not doomed:
            return report
        failed = await self._storage.remove_many([one.key for one in doomed if one.key])
        gone = [one for one in doomed if one.key not in failed]
        if gone:
            await self._write(lambda connection: erase(connection, self._space, [one.id for one in gone]))
        return replace(
            report,
            deleted=report.deleted + len(gone),
            bytes=report.bytes + sum(one.length for one in gone),
            failed=(*report.failed, *failed.items()),
        )

    def _sweeping(self, after: _Place, size: int) -> Callable[[Connection], tuple[list[Doomed], _Place]]:
        def unit(connection: Connection) -> tuple[list[Doomed], _Place]:
            self._clock.tick(connection)
            chosen = select(BLOBS.c.id, BLOBS.c.key, BLOBS.c.length).where(BLOBS.c.state == State.SWEEPING)
            place, rows = _next(connection, self._space, after, size, chosen)
            return [Doomed(row.id, row.key, row.length) for row in rows], place

        return unit

    def _due(self, after: _Place, size: int) -> Callable[[Connection], tuple[list[Doomed], _Place]]:
        def unit(connection: Connection) -> tuple[list[Doomed], _Place]:
            self._clock.tick(connection)
            overdue = (BLOBS.c.state == State.CONDEMNED) & (BLOBS.c.condemned_at <= now(seconds=-self._grace))
            place, rows = _next(connection, self._space, after, size, select(BLOBS.c.id).where(overdue))
            ids = [row.id for row in rows]
            kept = referenced(connection, self._space, ids)
            return doom(connection, self._space, [one for one in ids if one not in kept], grace=self._grace), place

        return unit

    def _forget(self, connection: Connection) -> None:
        """Remove the rows of orphans that were swept long ago."""
        long_ago = now(seconds=-max(_MEMORY, 2 * self._grace))
        swept = (BLOBS.c.state == State.SWEPT) & (BLOBS.c.condemned_at <= long_ago)
        connection.execute(delete(BLOBS).where(BLOBS.c.space == self._space, swept))

    async def _write(self, unit: Callable[[Connection], R]) -> R:
        """Run a unit as the only collector."""
        assert self._lease is not None
        self._lease = lease = await self._database.leases.renew(self._lease, seconds=_LEASE)

        def checked(connection: Connection) -> R:
            lease.check(connection)
            return unit(connection)

        return await self._database.write(checked)

    def _old(self, page: Sequence[StoredBytes], time: datetime) -> list[StoredBytes]:
        return [one for one in page if one.modified <= time - timedelta(seconds=self._grace)]


class _Counts(NamedTuple):
    """Of blobs: all that are not pending; those that are due, sweeping, and within the grace; the bytes to delete."""

    total: int
    due: int
    sweeping: int
    waiting: int
    bytes: int


def _count(connection: Connection, space: str, grace: float) -> _Counts:
    is_condemned = BLOBS.c.state == State.CONDEMNED
    is_due = is_condemned & (BLOBS.c.condemned_at <= now(seconds=-grace))
    is_sweeping = BLOBS.c.state == State.SWEEPING
    counted = select(
        func.count().label("total"),
        func.count().filter(is_due).label("due"),
        func.count().filter(is_sweeping).label("sweeping"),
        func.count().filter(is_condemned).label("condemned"),
        total(BLOBS.c.length, is_due | is_sweeping).label("size"),
    ).where(BLOBS.c.space == space, BLOBS.c.state.not_in([State.PENDING, State.SWEPT]))
    row = connection.execute(counted).one()
    return _Counts(row.total, row.due, row.sweeping, row.condemned - row.due, int(row.size))


def _next(
    connection: Connection, space: str, after: _Place, size: int, chosen: Select[Any]
) -> tuple[_Place, Sequence[Row[Any]]]:
    """Return the next blobs of a choice, in the order in which they were condemned, and the place behind them."""
    order = (BLOBS.c.condemned_at, BLOBS.c.id)
    wanted = chosen.add_columns(BLOBS.c.condemned_at.label("since")).where(BLOBS.c.space == space)
    if after is not None:
        wanted = wanted.where(tuple_(*order) > tuple_(literal(after[0], Timestamp()), literal(after[1])))
    rows = connection.execute(wanted.order_by(*order).limit(size)).all()
    return ((rows[-1].since, rows[-1].id) if len(rows) == size else None), rows
