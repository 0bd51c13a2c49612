"""`Index`: which bytes of which objects a cache holds, within its bounds. No I/O; the clock is given to it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from trove_async.errors import RangeNotSatisfiableError
from trove_async.layers.cache.stats import Counters
from trove_async.ranges import ByteRange
from trove_async.types import ObjectInfo

__all__ = ["Index", "Piece", "Record"]

P = TypeVar("P")


class Piece(Generic[P]):
    """Contiguous bytes of an object.

    Attributes:
        record: of the object that they are part of.
        start, stop: the offsets in the object of the first byte and after the last.
        payload: the bytes, or where they are stored.
        cost: what they count against the bound.
        stored: when they were stored, by the clock of the index.
    """

    __slots__ = ("cost", "payload", "record", "start", "stop", "stored")

    def __init__(self, record: Record[P], start: int, stop: int, payload: P, cost: int, stored: float) -> None:
        self.record = record
        self.start = start
        self.stop = stop
        self.payload = payload
        self.cost = cost
        self.stored = stored


class Record(Generic[P]):
    """What is held of one object, or of one of its versions: bytes of one ETag.

    Attributes:
        place, version: by which the index finds it.
        etag: of all pieces.
        info: the newest description that has this ETag; None before the backend has been asked.
        checked: when the backend was asked for it, by the clock of the index.
        pieces: in the order of their offsets; none lies within another.
    """

    __slots__ = ("checked", "etag", "info", "pieces", "place", "version")

    def __init__(self, place: Hashable, version: Hashable, etag: str) -> None:
        self.place = place
        self.version = version
        self.etag = etag
        self.info: ObjectInfo | None = None
        self.checked = -math.inf
        self.pieces: list[Piece[P]] = []

    def may_cover(self, wanted: ByteRange | None) -> bool:
        """Whether the record has the bytes of a range, or says that the object has none there, if it is current."""
        info = self.info
        if info is None:
            return True
        if wanted is None:
            return self.covering(0, info.size) is not None
        try:
            start, stop = wanted.resolve(info.size)
        except RangeNotSatisfiableError:
            return True
        return self.covering(start, stop) is not None

    def covering(self, start: int, stop: int) -> list[Piece[P]] | None:
        """Return the pieces that have all bytes of a range; None if one is missing."""
        pieces = self.pieces
        at = bisect_right(pieces, start, key=_start) - 1
        # The piece that begins last, of those that begin in time, also ends last: none lies within another.
        if at < 0:
            return None
        found: list[Piece[P]] = []
        while at < len(pieces) and (not found or pieces[at].start <= found[-1].stop):
            found.append(pieces[at])
            if pieces[at].stop >= stop:
                return found
            at += 1
        return None


def _start(piece: Piece[P]) -> int:
    return piece.start


class Index(Generic[P]):
    """Finds records by place and version, and keeps their pieces within a number of bytes and an age.

    Args:
        limit: bytes; what counts is the cost of each piece, and what is reserved.
        max_age: seconds after which a piece is removed; None for no such limit.
        counters: of the cache.
        removed: called with the payload of each piece that is no longer held.
        clock: seconds of a monotonic clock.

    Attributes:
        used: bytes of all pieces.
        trusted_since: what was checked before must be checked again.
    """

    def __init__(
        self,
        limit: int,
        max_age: float | None,
        counters: Counters,
        removed: Callable[[P], object],
        clock: Callable[[], float],
    ) -> None:
        self._limit = limit
        self._max_age = max_age
        self._counters = counters
        self._removed = removed
        self._clock = clock
        self._records: dict[Hashable, dict[Hashable, Record[P]]] = {}
        self._by_use: OrderedDict[Piece[P], None] = OrderedDict()
        self._by_age: dict[Piece[P], None] = {}
        self._reserved = 0
        self.used = 0
        self.trusted_since = -math.inf

    def find(self, place: Hashable, version: Hashable) -> Record[P] | None:
        """Return the record of an object or version."""
        if self._max_age is not None:
            self._expire(self._clock() - self._max_age)
        records = self._records.get(place)
        return None if records is None else records.get(version)

    def touch(self, pieces: Iterable[Piece[P]]) -> None:
        """Take in that pieces were read: the others are removed first."""
        for piece in pieces:
            if piece in self._by_use:
                self._by_use.move_to_end(piece)

    def reserve(self, size: int) -> bool:
        """Make room for bytes that will arrive; False if too many are on their way."""
        if self._reserved + size > self._limit:
            return False
        self._reserved += size
        self.make_room()
        return True

    def release(self, size: int) -> None:
        """Undo a `reserve`."""
        self._reserved -= size

    def make_room(self, size: int = 0) -> None:
        """Remove the pieces that were not read for longest, until there is room for a number of bytes."""
        while self._by_use and self.used + self._reserved + size > self._limit:
            self._evict_one()

    def evict(self, size: int) -> None:
        """Remove the pieces that were not read for longest, until so many bytes or all are removed."""
        kept = self.used - size
        while self._by_use and self.used > kept:
            self._evict_one()

    def _evict_one(self) -> None:
        self._counters.evictions += 1
        self.remove(next(iter(self._by_use)))

    def saw(self, place: Hashable, version: Hashable, etag: str, info: ObjectInfo, asked: float) -> None:
        """Take in the description of an object that the backend was asked for at a time."""
        record = self.find(place, version)
        if record is None or asked < record.checked:
            return
        if record.etag == etag:
            record.info, record.checked = info, asked
        else:
            self._drop(record)

    def add(
        self,
        place: Hashable,
        version: Hashable,
        etag: str,
        start: int,
        stop: int,
        payload: P,
        cost: int,
        *,
        info: ObjectInfo | None = None,
        checked: float = -math.inf,
        age: float = 0.0,
    ) -> Piece[P] | None:
        """Hold bytes; those of another ETag of the object are no longer held.

        Args:
            place, version, etag: of the object.
            start, stop, payload, cost: of the piece.
            info, checked: the description, and when the backend was asked for it; none if it was not.
            age: seconds since the bytes were stored; `sort_by_age` must follow if it is not 0.

        Returns:
            The piece that has exactly these bytes. None if they do not fit, are part of a piece that is held, or if
            the backend was asked later and has answered with another ETag.
        """
        if cost > self._limit:
            return None
        record = self.find(place, version)
        if record is not None and record.etag != etag:
            if checked < record.checked:
                return None
            self._drop(record)
            record = None
        if record is None:
            record = self._records.setdefault(place, {})[version] = Record(place, version, etag)
        if info is not None and checked >= record.checked:
            record.info, record.checked = info, checked
        return self._insert(record, Piece(record, start, stop, payload, cost, self._clock() - age))

    def _insert(self, record: Record[P], piece: Piece[P]) -> Piece[P] | None:
        pieces = record.pieces
        at = bisect_right(pieces, piece.start, key=_start)
        if at and (before := pieces[at - 1]).stop >= piece.stop:
            return before if (before.start, before.stop) == (piece.start, piece.stop) else None
        first = at - 1 if at and pieces[at - 1].start == piece.start else at
        last = at
        while last < len(pieces) and pieces[last].stop <= piece.stop:
            last += 1
        covered = pieces[first:last]
        pieces[first:last] = [piece]
        for other in covered:
            self._forget(other)
        self._by_use[piece] = self._by_age[piece] = None
        self.used += piece.cost
        self._counters.entries += 1
        self._counters.bytes += piece.cost
        self.make_room()
        return piece if piece in self._by_use else None

    def remove(self, piece: Piece[P]) -> None:
        """Hold a piece no longer; nothing if it is not held."""
        if piece not in self._by_use:
            return
        record = piece.record
        record.pieces.remove(piece)
        if not record.pieces:
            records = self._records[record.place]
            del records[record.version]
            if not records:
                del self._records[record.place]
        self._forget(piece)

    def _forget(self, piece: Piece[P]) -> None:
        del self._by_use[piece], self._by_age[piece]
        self.used -= piece.cost
        self._counters.entries -= 1
        self._counters.bytes -= piece.cost
        self._removed(piece.payload)

    def drop_older(self, place: Hashable, version: Hashable, etag: str, age: float) -> None:
        """Hold nothing of an object that has another ETag and was stored more than a number of seconds ago."""
        record = self.find(place, version)
        if record is None or record.etag == etag:
            return
        if all(piece.stored < self._clock() - age for piece in record.pieces):
            self._drop(record)

    def drop(self, place: Hashable, version: Hashable) -> None:
        """Hold nothing of an object or version."""
        record = self._records.get(place, {}).get(version)
        if record is not None:
            self._drop(record)

    def drop_all_of(self, place: Hashable) -> None:
        """Hold nothing of an object and its versions."""
        for record in [*self._records.get(place, {}).values()]:
            self._drop(record)

    def _drop(self, record: Record[P]) -> None:
        for piece in [*record.pieces]:
            self.remove(piece)

    def pieces(self) -> list[Piece[P]]:
        """Return all pieces, the one that was not read for longest first."""
        return [*self._by_use]

    def sort_by_age(self) -> None:
        """Bring in order what was added with an age."""
        self._by_age = dict.fromkeys(sorted(self._by_age, key=lambda piece: piece.stored))

    def close(self) -> None:
        """Hold nothing from now on; the pieces are not reported as removed."""
        self._limit = 0
        self._counters.entries -= len(self._by_use)
        self._counters.bytes -= self.used
        self._records.clear()
        self._by_use.clear()
        self._by_age.clear()
        self.used = 0

    def _expire(self, before: float) -> None:
        while self._by_age and (oldest := next(iter(self._by_age))).stored <= before:
            self._counters.expirations += 1
            self.remove(oldest)
