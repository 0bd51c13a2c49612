"""Merge the listings of several members into one, in the order of the names, with one cursor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from trove_async.errors import InvalidCursorError
from trove_async.iteration import decode_cursor, encode_cursor

__all__ = ["Entry", "Fetch", "Merge"]

T = TypeVar("T")
Entry = tuple[str, T]
"""A name, by which a listing is ordered, and what is listed under it."""

Fetch = Callable[[str, str | None, int], Awaitable[tuple[Sequence[Entry[T]], str | None]]]
"""Returns a page of a member: its entries in the order of their names, and the cursor of the next page.

It gets the name of the member, the cursor of the page, and the number of entries to ask for."""

_PAGE: Final = 1000
_ENDED: Final = ""
"""Stands in a cursor for the position of a member that has nothing more to list: no name is empty."""


@dataclass(slots=True)
class _Lane(Generic[T]):
    """Where the listing of one member stands.

    Attributes:
        cursor: of the page that has the next entry.
        after: of that page, the last name that was returned; None if it was not begun.
        ended: whether there is nothing more to list.
        entries: those of the page that were not returned yet; None if it has to be fetched.
        last: the last name of the page, returned or not.
        next: the cursor of the page behind it.
    """

    cursor: str | None = None
    after: str | None = None
    ended: bool = False
    entries: Sequence[Entry[T]] | None = field(default=None, repr=False)
    last: str = ""
    next: str | None = None

    def loaded(self, entries: Sequence[Entry[T]], cursor: str | None) -> None:
        """Take in the page."""
        after = self.after or ""
        self.last = entries[-1][0] if entries else after
        self.next = cursor
        self.entries = [entry for entry in entries if entry[0] > after]

    def consume(self, bound: str | None) -> None:
        """Take in that all names up to a bound were returned; None for all names."""
        assert self.entries is not None
        left = [] if bound is None else [entry for entry in self.entries if entry[0] > bound]
        if left:
            self.after = max(bound or "", self.after or "") or None
            self.entries = left
            return
        # A page without a new entry is one that was returned before, in smaller pages now: others may follow it.
        self.after = None if self.entries else self.after
        self.cursor, self.entries, self.ended = self.next, None, self.next is None


class Merge(Generic[T]):
    """A merged listing, from a position on.

    A cursor has the position in each member's own pages, so that members need not seek. A page of a member of which
    only the beginning was returned is fetched again for the next page.

    Args:
        kind: of the cursors, for `encode_cursor`.
        members: the names of the members.
        cursor: of the page before; None at the start.

    Raises:
        InvalidCursorError: the cursor is malformed, or the rules sent its listing to other members.
    """

    def __init__(self, kind: int, members: Sequence[str], cursor: str | None) -> None:
        self._kind = kind
        self._lanes: Mapping[str, _Lane[T]] = {name: _Lane() for name in members}
        if cursor is not None:
            self._resume(cursor)

    def _resume(self, cursor: str) -> None:
        fields = decode_cursor(self._kind, 3 * len(self._lanes), cursor)
        if fields[::3] != [*self._lanes]:
            raise InvalidCursorError("the cursor is that of a Route with other rules; begin the listing anew")
        for lane, position, after in zip(self._lanes.values(), fields[1::3], fields[2::3], strict=True):
            lane.cursor, lane.after, lane.ended = position, after, after == _ENDED

    @property
    def cursor(self) -> str | None:
        """The position behind what was returned; None at the end."""
        if all(lane.ended for lane in self._lanes.values()):
            return None
        fields: list[str | None] = []
        for name, lane in self._lanes.items():
            fields += [name, None, _ENDED] if lane.ended else [name, lane.cursor, lane.after]
        return encode_cursor(self._kind, fields)

    def missing(self) -> Sequence[str]:
        """Return the names of the members of which a page is needed for the next entries."""
        return [name for name, lane in self._lanes.items() if not lane.ended and lane.entries is None]

    async def load(self, name: str, size: int, fetch: Fetch[T]) -> None:
        """Fetch the page of a member."""
        lane = self._lanes[name]
        lane.loaded(*await fetch(name, lane.cursor, size))

    def take(self, size: int, is_shown: Callable[[str, str, T], bool]) -> dict[str, list[tuple[str, T]]]:
        """Return the next entries, and move behind them; perhaps none.

        Args:
            size: how many at most, except that all entries of one name are returned together.
            is_shown: tells whether the entry of a member is part of the listing, by the member's name, the entry's, and
                the entry; asked in no order.

        Returns:
            By name, in order: the members that have it, each with its entry.
        """
        lanes = {name: lane for name, lane in self._lanes.items() if not lane.ended}
        # A member with more pages may have any name behind its last one.
        bound = min((lane.last for lane in lanes.values() if lane.next is not None), default=None)
        found: dict[str, list[tuple[str, T]]] = {}
        for member, lane in lanes.items():
            for name, entry in lane.entries or ():
                if bound is not None and name > bound:
                    break
                if is_shown(member, name, entry):
                    found.setdefault(name, []).append((member, entry))
        taken: dict[str, list[tuple[str, T]]] = {}
        count = 0
        for name in sorted(found):
            if count >= size:
                bound = next(reversed(taken))
                break
            taken[name] = found[name]
            count += len(found[name])
        for lane in lanes.values():
            lane.consume(bound)
        return taken

    @staticmethod
    def size_of_round(size: int, rounds: int) -> int:
        """Return the number of entries to ask for: after a round without any result there is much to pass over."""
        return size if rounds == 0 else max(size, _PAGE)
