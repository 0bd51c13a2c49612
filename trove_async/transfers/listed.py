"""What is stored where a transfer writes: asked by listings, a thousand keys at a time, and not key by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from trove_async.errors import TroveError
from trove_async.store import Trove
from trove_async.transfers.ends import StoredObject
from trove_async.types import ObjectInfo

__all__ = ["Listed", "Listings"]

_PAGE: Final = 1000
_PAGES: Final = 2
"""Pages that are read for one key: more is stored around it than is copied, and its own request is cheaper."""


class Listed(NamedTuple):
    """What a listing says of a key.

    Attributes:
        info: of the object, without its metadata; None if there is none.
    """

    info: ObjectInfo | None


class Listings:
    """Looks keys up in listings. It is made for keys that come in order, as the members of a tree do."""

    def __init__(self) -> None:
        self._wanted: StoredObject | None = None
        self._page: Sequence[ObjectInfo] = ()
        self._at = 0
        self._complete = False
        self._refused: set[tuple[Trove, str]] = set()

    async def find(self, target: StoredObject) -> Listed | None:
        """Return what is stored at a key; None if that takes a request of its own, or the listing is refused."""
        place = target.store, target.bucket
        if place in self._refused:
            return None
        before, self._wanted = self._wanted, target
        if before is None or (before.store, before.bucket) != place or before.key >= target.key:
            self._page, self._at, self._complete = (), 0, False
            before = None
        try:
            return await self._find(target, "" if before is None else before.key)
        except TroveError:  # what is copied there will tell why, if it matters
            self._refused.add(place)
            return None

    async def _find(self, target: StoredObject, before: str) -> Listed | None:
        for pages in range(_PAGES + 1):
            while self._at < len(self._page) and self._page[self._at].key < target.key:
                self._at += 1
            if self._at < len(self._page) or self._complete:
                found = self._page[self._at] if self._at < len(self._page) else None
                return Listed(found if found is not None and found.key == target.key else None)
            if pages < _PAGES:
                last = self._page[-1].key if self._page else ""
                await self._read(target, max(before, last, target.key[:-1]))
        return None

    async def _read(self, target: StoredObject, start_after: str) -> None:
        listing = target.store.list(target.bucket, start_after=start_after or None, max_keys=_PAGE, page_size=_PAGE)
        self._page = await listing.all()
        self._at, self._complete = 0, len(self._page) < _PAGE
