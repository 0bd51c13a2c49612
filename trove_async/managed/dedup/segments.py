"""The bytes of objects and parts, as changes within a transaction: each segment is a reference to a blob."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Text, bindparam, delete, func, insert, select

from trove_async.database.schema import among
from trove_async.errors import ConflictError
from trove_async.managed.dedup.schema import SEGMENTS
from trove_async.managed.schema import BLOBS, READABLE
from trove_async.managed.transitions import COLUMNS, Blobs

__all__ = ["Piece", "References", "Segment", "pieces_of", "pieces_of_many"]


class Segment(NamedTuple):
    """A range of a blob.

    Attributes:
        blob: its id.
        start: the first byte.
        size: bytes.
    """

    blob: str
    start: int
    size: int


class Piece(NamedTuple):
    """A segment, and where the bytes of its blob are.

    Attributes:
        segment: of an object.
        key: of the blob's bytes in the inner store; empty if they were lost.
        whole: whether the segment is the whole blob.
    """

    segment: Segment
    key: str
    whole: bool


_COLUMNS: Final = [SEGMENTS.c[name] for name in ("owner", "blob", "start", "size", "position")]
_PIECES: Final = (
    select(*_COLUMNS, READABLE, BLOBS.c.length).join(BLOBS, BLOBS.c.id == SEGMENTS.c.blob).order_by(SEGMENTS.c.position)
)
_OF_ONE: Final = SEGMENTS.c.owner == bindparam("owner")
_FIRST: Final = select(func.max(SEGMENTS.c.position)).where(_OF_ONE, SEGMENTS.c.position <= bindparam("first"))
_OF_RANGE: Final = _PIECES.where(
    _OF_ONE, SEGMENTS.c.position >= _FIRST.scalar_subquery(), SEGMENTS.c.position < bindparam("stop")
)
_OF_MANY: Final = _PIECES.where(among(SEGMENTS.c.owner, bindparam("owners")))
_HELD: Final = (
    select(SEGMENTS.c.owner, SEGMENTS.c.blob, SEGMENTS.c.start, SEGMENTS.c.size, *COLUMNS)
    .join(BLOBS, BLOBS.c.id == SEGMENTS.c.blob)
    .where(among(SEGMENTS.c.owner, bindparam("owners")))
    .order_by(SEGMENTS.c.owner, SEGMENTS.c.number)
)
_INSERT: Final = insert(SEGMENTS)
_COPY: Final = _INSERT.from_select(
    ["owner", "number", "blob", "start", "size", "position"],
    select(
        bindparam("copy", type_=Text()), *(SEGMENTS.c[name] for name in ("number", "blob", "start", "size", "position"))
    ).where(_OF_ONE),
)
_DROP: Final = delete(SEGMENTS).where(among(SEGMENTS.c.owner, bindparam("owners")))


def pieces_of(connection: Connection, owner: str, start: int, stop: int) -> list[Piece]:
    """Return the bytes of an object or part from one position to another."""
    rows = connection.execute(_OF_RANGE, {"owner": owner, "first": start, "stop": stop})
    return [piece for row in rows if (piece := _piece(row, start, stop)).segment.size]


def pieces_of_many(connection: Connection, owners: Sequence[str]) -> list[Piece]:
    """Return the bytes of parts, one after another, by one statement."""
    found: dict[str, list[Piece]] = {owner: [] for owner in owners}
    for row in connection.execute(_OF_MANY, {"owners": [*found]}).all():
        found[row.owner].append(_piece(row, 0, row.position + row.size))
    return [piece for owner in owners for piece in found[owner]]


def _piece(row: Row[*tuple[Any, ...]], start: int, stop: int) -> Piece:
    """Return what a segment has of the bytes from one position to another."""
    _, blob, begin, size, position, key, length = row
    first, last = max(0, start - position), min(size, stop - position)
    return Piece(Segment(blob, begin + first, last - first), key, begin + first == 0 and last - first == length)


class References:
    """The segments that a transaction adds and removes, with the counts of their blobs; `flush` writes them.

    Args:
        connection: of the transaction.
        space: of the blobs.

    Attributes:
        blobs: of the transaction; `flush` writes them.
    """

    def __init__(self, connection: Connection, space: str) -> None:
        self._connection = connection
        self._added: dict[str, list[dict[str, Any]]] = {}
        self._removed: list[str] = []
        self.blobs: Final = Blobs(connection, space)

    def add(self, owner: str, segments: Sequence[Segment]) -> None:
        """Give segments to an object or part that has none; their blobs are stored.

        Raises:
            ConflictError: a blob is not there any more.
        """
        if not segments:
            return
        wanted = [segment.blob for segment in segments]
        blobs = {blob.id: blob for blob in self.blobs.named([*dict.fromkeys(wanted)])}
        if len(blobs) != len(set(wanted)):
            raise ConflictError("the bytes were deleted meanwhile; try again")
        for one in wanted:
            self.blobs.retain(blobs[one], held=True)
        positions = accumulate((segment.size for segment in segments), initial=0)
        self._added[owner] = [
            {"owner": owner, "number": number, "position": position, **segment._asdict()}
            for number, (segment, position) in enumerate(zip(segments, positions, strict=False))
        ]

    def copy(self, source: str, owner: str) -> None:
        """Give an object the segments of another one, by as many statements however many segments these are."""
        self._connection.execute(_COPY, {"owner": source, "copy": owner})
        counts = select(SEGMENTS.c.blob, func.count().label("count")).where(SEGMENTS.c.owner == owner)
        self.blobs.retain_all(counts.group_by(SEGMENTS.c.blob).subquery())

    def remove(self, owners: Sequence[str]) -> None:
        """Take their segments from objects and parts. Blobs that nobody refers to are then condemned."""
        for owner in owners:
            if owner not in self._added:
                self._removed.append(owner)
            for blob in self.blobs.named([row["blob"] for row in self._added.pop(owner, ())]):
                self.blobs.release(blob, held=True)

    def flush(self) -> None:
        """Write the changes."""
        if self._removed:
            for row in self._connection.execute(_HELD, {"owners": self._removed}).all():
                self.blobs.release(self.blobs.adopt(row), held=True)
            self._connection.execute(_DROP, {"owners": self._removed})
        self.blobs.flush()  # the rows refer to them
        if self._added:
            self._connection.execute(_INSERT, [row for rows in self._added.values() for row in rows])
        self._removed, self._added = [], {}
