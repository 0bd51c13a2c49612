"""The books of a quota in a database, which processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, and_, delete, insert, select, update

from trove_async.database import Database, Lease, connect, now
from trove_async.database.schema import among
from trove_async.errors import ClosedError, InvalidArgumentError, LeaseLostError
from trove_async.layers.quota.accounts import Reservation, usage_of
from trove_async.layers.quota.books import Settle, Work
from trove_async.layers.quota.database.books import Fenced, SQLBooks, total_of
from trove_async.layers.quota.database.grouping import Group, Piece
from trove_async.layers.quota.database.tables import ACCOUNTS, LIMITS, STATE
from trove_async.layers.quota.limits import Coverage, QuotaLimit, QuotaUsage, Scope, check_known

__all__ = ["DatabaseLedger", "read_usage"]

R = TypeVar("R")

_MIGRATIONS: Final = "trove_async.layers.quota.database.migrations"
_NO_LIMITS: Final = (
    "the database has no limits of a quota: give them to Quota({…}, database=…), or correct the URL of the database"
)
_REVISION: Final = select(STATE.c.revision)
_KEPT: Final = 3600.0
"""Seconds for which an account without anything is kept. A page of a listing must not be older when it is compared."""


class DatabaseLedger:
    """Counts in a database.

    Args:
        database: its URL, or one that is connected.
        lease: seconds after which what a process has reserved is free for others to settle, unless it is heard of.
    """

    immediate = False

    def __init__(self, database: str | Database, lease: float) -> None:
        self._given = database
        self._opened: Database | None = None
        self._seconds = lease
        self.interval: float | None = lease / 3
        self._held: tuple[int, Lease] | None = None
        self._joining = asyncio.Lock()
        self._group = Group(self._transaction)
        self._revision = -1
        self.coverage = Coverage(())

    async def open(self, limits: Mapping[Scope, QuotaLimit] | None) -> None:
        """Connect, and take the limits in.

        Raises:
            InvalidArgumentError: there are none, given or kept.
        """
        self._opened = self._given if isinstance(self._given, Database) else await connect(self._given)
        await self._database.migrate("quota", _MIGRATIONS)
        await self._join()
        await self._database.write(lambda connection: self._take_in(connection, limits))

    async def uncounted(self) -> Collection[Scope]:
        """Return the limits that are new."""
        rows = await self._database.read(_limits)
        return [Scope.parse(row.name) for row in rows if not row.counted]

    def _take_in(self, connection: Connection, limits: Mapping[Scope, QuotaLimit] | None) -> None:
        kept = {row.name: total_of(row).limit for row in _limits(connection)}
        given = kept if limits is None else {scope.name: limit for scope, limit in limits.items()}
        if not given:
            raise InvalidArgumentError(_NO_LIMITS)
        if given != kept:
            connection.execute(delete(LIMITS).where(among(LIMITS.c.name, kept.keys() - given.keys())))
            for name, limit in given.items():
                values = {"max_bytes": limit.bytes, "max_objects": limit.objects}
                if name in kept:
                    connection.execute(update(LIMITS).where(LIMITS.c.name == name).values(**values))
                else:
                    new = {"name": name, "used_bytes": 0, "used_objects": 0, "counted": False}
                    connection.execute(insert(LIMITS).values(**new, **values))
            connection.execute(update(STATE).values(revision=STATE.c.revision + 1))
        self._refresh(connection)

    @property
    def _database(self) -> Database:
        if self._opened is None:
            raise ClosedError("the store was closed", driver="quota")
        return self._opened

    async def write(self, work: Work[R]) -> R:
        """Do work in a transaction, which may do that of others too."""
        return await self._group.do(work)

    async def _transaction(self, pieces: Sequence[Piece]) -> None:
        try:
            await self._database.write(lambda connection: self._do(pieces, connection))
        except Fenced:
            # The process stood still for longer than its lease. What it had reserved may be settled by now.
            await self._join_again(self._held)
            await self._database.write(lambda connection: self._do(pieces, connection))

    def _do(self, pieces: Sequence[Piece], connection: Connection) -> None:
        self._refresh(connection)
        books = self._books(connection)
        for piece in pieces:
            piece.do(books)
        books.flush()

    async def read(self, work: Work[R]) -> R:
        """Do work in a transaction that only reads."""

        def unit(connection: Connection) -> R:
            self._refresh(connection)
            return work(self._books(connection))

        return await self._database.read(unit)

    @property
    def _lease(self) -> tuple[int, Lease]:
        """The number and the lease of this process."""
        if self._held is None:
            raise ClosedError("the store was closed", driver="quota")
        return self._held

    def _books(self, connection: Connection) -> SQLBooks:
        number, lease = self._lease
        return SQLBooks(connection, f"{number}:{lease.generation}", lease, self.coverage)

    def _refresh(self, connection: Connection) -> None:
        """Read the limits again if another process has changed them."""
        revision: int = connection.execute(_REVISION).scalar_one()
        if revision != self._revision:
            self.coverage = Coverage(Scope.parse(row.name) for row in _limits(connection))
            self._revision = revision

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Wait until no other process counts."""
        async with self._database.lock("trove-quota-count"):
            yield

    async def _join(self) -> None:
        """Take the first free lease, so that there are not more of them than processes."""
        number = 0
        while (lease := await self._acquire(number)) is None:
            number += 1
        self._held = number, lease

    async def _join_again(self, lost: tuple[int, Lease] | None) -> None:
        async with self._joining:
            if self._held is lost:
                await self._join()

    async def _acquire(self, number: int) -> Lease | None:
        return await self._database.leases.acquire(f"trove-quota-{number}", owner="quota", seconds=self._seconds)

    async def keep(self) -> None:
        """Make the lease last longer, and forget accounts that have had nothing for a long time."""
        held = self._lease
        try:
            await self._database.leases.renew(held[1], seconds=self._seconds)
        except LeaseLostError:
            await self._join_again(held)
        await self._database.write(_tidy)

    async def recover(self, settle: Settle) -> None:
        """Settle the reservations of owners whose leases have ended."""
        owners: dict[int, list[Reservation]] = {}
        for reservation in await self._database.read(lambda connection: self._books(connection).of_others()):
            owners.setdefault(_number_of(reservation), []).append(reservation)
        for number, reservations in owners.items():
            await self._recover(number, reservations, settle)

    async def _recover(self, number: int, reservations: Sequence[Reservation], settle: Settle) -> None:
        own, mine = self._lease
        if number == own:
            # The lease is held by this process: whoever had it before has died.
            await settle([one for one in reservations if _generation_of(one) < mine.generation])
            return
        lease = await self._acquire(number)
        if lease is None:
            return
        try:
            await settle([one for one in reservations if _generation_of(one) < lease.generation])
        finally:
            await self._database.leases.release(lease)

    async def close(self) -> None:
        """Let others have the lease, and close the connection that was made."""
        database, self._opened = self._opened, None
        if database is None:
            return
        held, self._held = self._held, None
        try:
            if held is not None:
                await database.leases.release(held[1])
        finally:
            if database is not self._given:
                await database.aclose()


async def read_usage(database: str, names: Sequence[str] = ()) -> list[QuotaUsage]:
    """Return the limits that a database has and what they count, without a look at the store.

    Raises:
        InvalidArgumentError: there is no limit of one of the names, or none at all.
    """
    wanted = [Scope.parse(name) for name in names]
    async with connect(database) as opened:
        await opened.migrate("quota", _MIGRATIONS)
        totals = [total_of(row) for row in await opened.read(_limits)]
    if not totals:
        raise InvalidArgumentError(_NO_LIMITS)
    check_known(wanted, [total.scope for total in totals])
    return [usage_of(total) for total in totals if not wanted or total.scope in wanted]


def _limits(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(select(LIMITS).order_by(LIMITS.c.name)).all()


def _number_of(reservation: Reservation) -> int:
    return int(reservation.owner.partition(":")[0])


def _generation_of(reservation: Reservation) -> int:
    return int(reservation.owner.partition(":")[2])


def _tidy(connection: Connection) -> None:
    empty = and_(
        ACCOUNTS.c.touched < now(seconds=-_KEPT),
        ACCOUNTS.c.charged_bytes == 0,
        ACCOUNTS.c.charged_objects == 0,
        ACCOUNTS.c.running == 0,
        ACCOUNTS.c.unsure.is_(False),
    )
    connection.execute(delete(ACCOUNTS).where(empty))
