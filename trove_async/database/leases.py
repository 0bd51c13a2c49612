"""Leases: who may do something for a limited time, with a generation that fences off who was too slow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, and_, select, update

from trove_async.database.schema import Timestamp, insert_into, now
from trove_async.errors import InvalidArgumentError, LeaseLostError
from trove_async.values import check_text, is_number

__all__ = ["Lease", "Leases"]

R = TypeVar("R")

_leases: Final = Table(
    "trove_leases",
    MetaData(),
    Column("name", Text, primary_key=True),
    # NULL: it was released. The row stays, since the generation must never fall.
    Column("owner", Text, nullable=True),
    Column("generation", BigInteger, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)


_LONGEST_NAME: Final = 2048
"""Bytes; PostgreSQL limits an entry of an index to 2,704."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do something until a time.

    Attributes:
        name: what it is for.
        owner: who has it, for people who look.
        generation: 1 for the first holder of this name, and one more for each later one.
        expires_at: when others may take it, by the database's clock.
    """

    name: str
    owner: str
    generation: int
    expires_at: datetime

    def check(self, connection: Connection) -> None:
        """Check within a unit of work that nobody has taken the lease over, and let nobody do so before the commit.

        What a holder writes is safe only after this: it may have been asleep for longer than the lease lasted.

        Raises:
            LeaseLostError: another holder has taken it over, or it was released.
        """
        held = select(_leases.c.name).where(_is_held_as(self)).with_for_update()
        if connection.execute(held).first() is None:
            raise _lost(self)


class Leases:
    """The leases in a database.

    Args:
        write: runs a unit of work, once the table is there.
    """

    def __init__(self, write: Callable[[Callable[[Connection], Any]], Awaitable[Any]]) -> None:
        self._write = write

    async def acquire(self, name: str, *, owner: str, seconds: float) -> Lease | None:
        """Take a lease that is free, released or expired.

        Args:
            name: what it is for.
            owner: a text that tells people who has it. It proves nothing: the same owner does not get it twice.
            seconds: how long it lasts unless it is renewed.

        Returns:
            The lease, with a new generation; None if another holder has it.

        Raises:
            InvalidArgumentError: the name or the owner is empty, or the time is not more than 0.
        """
        _check(name, owner, seconds)

        def unit(connection: Connection) -> Lease | None:
            values = {"owner": owner, "expires_at": now(seconds=seconds)}
            taken = (
                insert_into(connection, _leases)
                .values(name=name, generation=1, **values)
                .on_conflict_do_update(
                    index_elements=[_leases.c.name],
                    set_={**values, "generation": _leases.c.generation + 1},
                    where=_leases.c.expires_at <= now(),
                )
                .returning(_leases.c.generation, _leases.c.expires_at)
            )
            row = connection.execute(taken).first()
            return None if row is None else Lease(name, owner, row.generation, row.expires_at)

        lease: Lease | None = await self._write(unit)
        return lease

    async def renew(self, lease: Lease, *, seconds: float) -> Lease:
        """Make a lease last longer, counted from now; also one that has expired and that nobody has taken since.

        Raises:
            LeaseLostError: another holder has taken it over, or it was released.
        """
        _check(lease.name, lease.owner, seconds)

        def unit(connection: Connection) -> Lease:
            renewed = update(_leases).where(_is_held_as(lease)).values(expires_at=now(seconds=seconds))
            row = connection.execute(renewed.returning(_leases.c.expires_at)).first()
            if row is None:
                raise _lost(lease)
            return Lease(lease.name, lease.owner, lease.generation, row.expires_at)

        renewed: Lease = await self._write(unit)
        return renewed

    async def release(self, lease: Lease) -> None:
        """Let others take a lease at once. If it was lost, nothing happens."""
        free = update(_leases).where(_is_held_as(lease)).values(owner=None, expires_at=now())
        await self._write(lambda connection: connection.execute(free))


def _is_held_as(lease: Lease) -> Any:
    return and_(_leases.c.name == lease.name, _leases.c.generation == lease.generation, _leases.c.owner.is_not(None))


def _lost(lease: Lease) -> LeaseLostError:
    return LeaseLostError(f"the lease {lease.name!r} of generation {lease.generation} was taken over or released")


def _check(name: str, owner: str, seconds: float) -> None:
    check_text("the name of a lease", name, longest=_LONGEST_NAME)
    check_text("the owner of a lease", owner)
    if not (is_number(seconds) and 0 < seconds < 1e9):
        raise InvalidArgumentError(f"a lease lasts for a number of seconds, above 0 and below 1e9, not {seconds!r}")
