"""`statistics`: how much a space has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, cast, func, select

from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.schema import BLOBS, LINKS, State

__all__ = ["Statistics", "statistics", "total"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much a space has.

    Attributes:
        blobs: contents that are stored.
        bytes: of these, each counted once.
        references: to them.
        logical_bytes: what the references would take without deduplication.
        names: the references that have a name.
        pinned: contents that stay without references.
        pending: contents whose writers are at work, or have died.
        lost: contents whose bytes are missing or wrong.
        condemned: contents without references, and bytes without content, that wait for the sweep.
        condemned_bytes: of these.
    """

    blobs: int
    bytes: int
    references: int
    logical_bytes: int
    names: int
    pinned: int
    pending: int
    lost: int
    condemned: int
    condemned_bytes: int


async def statistics(catalogue: ResourceCatalog) -> Statistics:
    """Count what the database has of a space; the store is not asked."""
    stored = BLOBS.c.state == State.STORED
    doomed = BLOBS.c.state.in_([State.CONDEMNED, State.SWEEPING])
    blobs = select(
        func.count().filter(stored).label("blobs"),
        total(BLOBS.c.length, stored).label("bytes"),
        total(BLOBS.c.refs, stored).label("references"),
        total(cast(BLOBS.c.refs, Double) * BLOBS.c.length, stored).label("logical_bytes"),
        func.count().filter(BLOBS.c.pinned).label("pinned"),
        func.count().filter(BLOBS.c.state == State.PENDING).label("pending"),
        func.count().filter(BLOBS.c.state == State.LOST).label("lost"),
        func.count().filter(doomed).label("condemned"),
        total(BLOBS.c.length, doomed).label("condemned_bytes"),
    ).where(BLOBS.c.space == catalogue.space)
    names = select(func.count().label("names")).where(LINKS.c.space == catalogue.space)

    def unit(connection: Connection) -> Statistics:
        found = {**connection.execute(blobs).one()._mapping, **connection.execute(names).one()._mapping}
        return Statistics(**{name: int(value) for name, value in found.items()})

    return await catalogue.database.read(unit)


def total(of: ColumnElement[Any], where: ColumnElement[bool]) -> ColumnElement[float]:
    """Return the sum over the rows of a condition, exact up to 2**53.

    A sum of integers overflows, and the statement would fail: in SQLite by 2**63, and lengths are what users declare.
    """
    return func.coalesce(func.sum(cast(of, Double)).filter(where), 0.0)
