"""The bytes of objects and parts, as changes within a transaction: each segment is a reference to a blob."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select

from trove_async.database.schema import among
from trove_async.errors import ConflictError
from trove_async.managed.dedup.schema import SEGMENTS
from trove_async.managed.schema import BLOBS, READABLE
from trove_async.managed.transitions import COLUMNS, Blobs

__all__ = ["Piece", "References", "Segment", "cut", "pieces_of", "pieces_of_many"]


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


_PIECES: Final = (
    select(SEGMENTS.c.owner, SEGMENTS.c.blob, SEGMENTS.c.start, SEGMENTS.c.size, READABLE, BLOBS.c.length)
    .join(BLOBS, BLOBS.c.id == SEGMENTS.c.blob)
    .order_by(SEGMENTS.c.number)
)
_OF_ONE: Final = _PIECES.where(SEGMENTS.c.owner == bindparam("owner"))
_OF_MANY: Final = _PIECES.where(among(SEGMENTS.c.owner, bindparam("owners")))
_HELD: Final = (
    select(SEGMENTS.c.owner, SEGMENTS.c.blob, SEGMENTS.c.start, SEGMENTS.c.size, *COLUMNS)
    .join(BLOBS, BLOBS.c.id == SEGMENTS.c.blob)
    .where(among(SEGMENTS.c.owner, bindparam("owners")))
    .order_by(SEGMENTS.c.owner, SEGMENTS.c.number)
)
_INSERT: Final = insert(SEGMENTS)
_DROP: Final = delete(SEGMENTS).where(among(SEGMENTS.c.owner, bindparam("owners")))


def pieces_of(connection: Connection, owner: str) -> list[Piece]:
    """Return the bytes of an object or part."""
    return [_piece(row) for row in connection.execute(_OF_ONE, {"owner": owner}).all()]


def pieces_of_many(connection: Connection, owners: Sequence[str]) -> list[Piece]:
    """Return the bytes of parts, one after another, by one statement."""
    found: dict[str, list[Piece]] = {owner: [] for owner in owners}
    for row in connection.execute(_OF_MANY, {"owners": [*found]}).all():
        found[row.owner].append(_piece(row))
    return [piece for owner in owners for piece in found[owner]]


def _piece(row: Row[*tuple[Any, ...]]) -> Piece:
    return Piece(Segment(row.blob, row.start, row.size), row.readable, row.start == 0 and row.size == row.length)


def cut(segments: Sequence[Segment], offset: int, length: int) -> list[Segment]:
    """Return the segments of a range of what these segments are."""
    found, stop = [], offset + length
    for blob, start, size in segments:
        first, last = max(0, offset), min(size, stop)
        if first < last:
            found.append(Segment(blob, start + first, last - first))
        offset, stop = offset - size, stop - size
    return found


class References:
    """The segments that a transaction adds and removes, with the counts of their blobs.

    Args:
        connection: of the transaction.
        space: of the blobs.
        late: `flush` waits for `finish`, so that many changes share its statements.

    Attributes:
        connection, space: as given.
        blobs: of the transaction; `finish` writes them.
        buckets: that the transaction has read, by their names.
    """

    def __init__(self, connection: Connection, space: str, *, late: bool = False) -> None:
        self.connection = connection
        self.space = space
        self._late = late
        self._rows: list[dict[str, Any]] = []
        self.blobs = Blobs(connection, space)
        self.buckets: dict[str, object] = {}

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
        self._rows += [
            {"owner": owner, "number": number, "blob": segment.blob, "start": segment.start, "size": segment.size}
            for number, segment in enumerate(segments)
        ]

    def remove(self, owners: Sequence[str]) -> None:
        """Take their segments from objects and parts. Blobs that nobody refers to are then condemned."""
        if not owners:
            return
        self._write_rows()
        for row in self.connection.execute(_HELD, {"owners": [*owners]}).all():
            self.blobs.release(self.blobs.adopt(row), held=True)
        self.connection.execute(_DROP, {"owners": [*owners]})

    def flush(self) -> None:
        """Write segments and the counts of their blobs, unless that is for `finish`."""
        if not self._late:
            self.finish()

    def finish(self) -> None:
        """Write segments and the counts of their blobs."""
        self._write_rows()
        self.blobs.flush()

    def _write_rows(self) -> None:
        if self._rows:
            self.blobs.flush()  # the rows refer to them
            self.connection.execute(_INSERT, self._rows)
            self._rows = []
