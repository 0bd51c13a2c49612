"""Who refers to blobs: the names, the objects of a `Dedup`, and those that only a count stands for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, func, inspect, select, update

from trove_async.database.schema import among
from trove_async.managed.dedup.schema import BUCKETS, SEGMENTS
from trove_async.managed.schema import BLOBS, LINKS

__all__ = ["References", "move_references", "referenced", "references_of"]


class References(NamedTuple):
    """The references to a blob.

    Attributes:
        named: names of managed storage.
        held: others. Those of a `Dedup` are counted; those of `ResourceCatalog.put` and of the content-addressed store
            have nothing but the count in the blob.
    """

    named: int
    held: int

    @property
    def all(self) -> int:
        """How many there are."""
        return self.named + self.held


def references_of(
    connection: Connection, space: str, blobs: Sequence[Row[*tuple[Any, ...]]]
) -> Mapping[str, References]:
    """Count the references to blobs of a space, by id; the rows have ``id`` and ``held``."""
    ids = [blob.id for blob in blobs]
    named = _count(connection, LINKS.c.blob, ids)
    segments = _count(connection, SEGMENTS.c.blob, ids) if _is_dedup(connection, space) else None
    return {
        blob.id: References(named.get(blob.id, 0), max(blob.held, 0) if segments is None else segments.get(blob.id, 0))
        for blob in blobs
    }


def referenced(connection: Connection, space: str, ids: Sequence[str]) -> set[str]:
    """Return those of condemned blobs that are referred to against all rules, which the sweep must not delete."""
    found = {*_count(connection, LINKS.c.blob, ids)}
    return found | {*_count(connection, SEGMENTS.c.blob, ids)} if _is_dedup(connection, space) else found


def move_references(connection: Connection, space: str, source: str, target: str) -> None:
    """Let what refers to a blob refer to another one with the same content, whose counts are then to be corrected."""
    connection.execute(update(LINKS).where(LINKS.c.blob == source).values(blob=target))
    if _is_dedup(connection, space):
        connection.execute(update(SEGMENTS).where(SEGMENTS.c.blob == source).values(blob=target))
    else:
        held = select(BLOBS.c.held).where(BLOBS.c.id == source).scalar_subquery()
        connection.execute(update(BLOBS).where(BLOBS.c.id == target).values(held=BLOBS.c.held + held))


def _is_dedup(connection: Connection, space: str) -> bool:
    """Tell whether a `Dedup` has the space."""
    if not inspect(connection).has_table(BUCKETS.name):
        return False
    return connection.execute(select(BUCKETS.c.id).where(BUCKETS.c.space == space).limit(1)).first() is not None


def _count(connection: Connection, column: ColumnElement[str], ids: Iterable[str]) -> dict[str, int]:
    counted = select(column, func.count()).where(among(column, ids)).group_by(column)
    return {row[0]: row[1] for row in connection.execute(counted).all()}
