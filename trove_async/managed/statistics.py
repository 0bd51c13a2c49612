"""`statistics`: how much a space has."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.schema import BLOBS, LINKS, State

__all__ = ["Statistics", "statistics"]


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
        func.sum(BLOBS.c.length).filter(stored).label("bytes"),
        func.sum(BLOBS.c.refs).filter(stored).label("references"),
        func.sum(BLOBS.c.refs * BLOBS.c.length).filter(stored).label("logical_bytes"),
        func.count().filter(BLOBS.c.pinned).label("pinned"),
        func.count().filter(BLOBS.c.state == State.PENDING).label("pending"),
        func.count().filter(BLOBS.c.state == State.LOST).label("lost"),
        func.count().filter(doomed).label("condemned"),
        func.sum(BLOBS.c.length).filter(doomed).label("condemned_bytes"),
    ).where(BLOBS.c.space == catalogue.space)
    names = select(func.count().label("names")).where(LINKS.c.space == catalogue.space)

    def unit(connection: Connection) -> Statistics:
        found = {**connection.execute(blobs).one()._mapping, **connection.execute(names).one()._mapping}
        return Statistics(**{name: int(value or 0) for name, value in found.items()})

    return await catalogue.database.read(unit)
