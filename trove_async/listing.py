"""Listings: the pages that drivers return, and the iterator that users read."""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Generic, Self, TypeVar, final

from trove_async.errors import BackendError, InvalidCursorError
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Item", "ListPage", "ObjectIterator", "PageChecker"]

Item = ObjectInfo | Prefix
T = TypeVar("T", ObjectInfo, Item)

_MAX_EMPTY_PAGES: Final = 1000


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, as a driver returns it.

    Attributes:
        objects: in the order of their keys' UTF-8 bytes.
        prefixes: in the same order; each once in the whole listing.
        cursor: continues the listing after this page, with the same options; None at the end.
            A page with a cursor may be empty.
    """

    objects: Sequence[ObjectInfo] = ()
    prefixes: Sequence[Prefix] = ()
    cursor: str | None = None


class PageChecker:
    """Checks the pages of one listing, in their order.

    Whatever a service answers, a listing either returns every key once and in order and then ends, or it raises.
    """

    def __init__(self, prefix: str = "", cursor: str | None = None) -> None:
        """Make a checker.

        Args:
            prefix: of the listing.
            cursor: the driver's cursor of the first page; None at the start of the listing.
        """
        self._prefix = prefix
        self._last = ""
        self._cursors = {cursor}  # since the last page with items

    def accept(self, page: ListPage) -> Sequence[Item]:
        """Return the items of the next page, objects and prefixes in one order.

        Raises:
            BackendError: names are out of order, duplicated or outside of the prefix; a size is negative; a
                cursor is repeated; or 1,000 empty pages follow each other.
        """
        names = [info.key for info in page.objects]
        _require_ascending(names)
        if [info for info in page.objects if info.size < 0]:
            raise BackendError("the backend listed an object with a negative size")
        items: Sequence[Item] = page.objects
        if page.prefixes:
            groups = [group.prefix for group in page.prefixes]
            _require_ascending(groups)
            items, names = _merged([*page.objects, *page.prefixes], names + groups)
        if names:
            self._check_names(names)
            self._cursors.clear()
        self._check_cursor(page.cursor)
        return items

    def _check_names(self, names: Sequence[str]) -> None:
        first, last = names[0], names[-1]
        if first <= self._last:
            raise BackendError(f"the listing is out of order: the backend listed {first!r} after {self._last!r}")
        # In this order all names between two names with a prefix have the prefix too.
        for name in (first, last):
            if not name.startswith(self._prefix):
                raise BackendError(f"the backend listed {name!r}, which does not begin with {self._prefix!r}")
        self._last = last

    def _check_cursor(self, cursor: str | None) -> None:
        if cursor is None:
            return
        if cursor in self._cursors:
            raise BackendError("the listing does not end: the backend repeats its cursor")
        if len(self._cursors) >= _MAX_EMPTY_PAGES:
            raise BackendError(f"the backend sent {_MAX_EMPTY_PAGES} empty pages of a listing in a row")
        self._cursors.add(cursor)


def _require_ascending(names: list[str]) -> None:
    # Python compares text by code point, which is the order of its UTF-8 bytes.
    if sorted(names) != names or len(set(names)) != len(names):
        before, after = next(pair for pair in pairwise(names) if pair[0] >= pair[1])
        raise BackendError(f"the listing is out of order: the backend listed {after!r} after {before!r}")


def _merged(items: Sequence[Item], names: Sequence[str]) -> tuple[list[Item], list[str]]:
    """Return items and their names, sorted by name; all names differ."""
    order = sorted(range(len(names)), key=names.__getitem__)
    ordered = [names[at] for at in order]
    _require_ascending(ordered)
    return [items[at] for at in order], ordered


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of an iterator: the page, and the last name that was yielded from it."""

    bucket: str
    prefix: str
    delimiter: str | None
    start_after: str | None
    page: str | None
    after: str | None

    def encode(self) -> str:
        fields = [1, self.bucket, self.prefix, self.delimiter, self.start_after, self.page, self.after]
        text = json.dumps(fields, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, cursor: str) -> _Position:
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            version, *fields = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            position = cls(*fields)
            texts = (position.bucket, position.prefix)
            optional = (position.delimiter, position.start_after, position.page, position.after)
            if version != 1 or not all(isinstance(x, str) for x in texts):
                raise ValueError
            if not all(x is None or isinstance(x, str) for x in optional):
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
            raise InvalidCursorError("this is not the cursor of a listing; use ObjectIterator.cursor") from None
        return position


FetchPage = Callable[[str | None], Awaitable[ListPage]]


@final
class ObjectIterator(Generic[T]):
    """A listing; read it with ``async for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """

    def __init__(
        self,
        fetch: FetchPage,
        *,
        bucket: str,
        prefix: str = "",
        delimiter: str | None = None,
        max_keys: int | None = None,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> None:
        """Make an iterator.

        Args:
            fetch: returns the page for a driver's cursor, None for the first.
            bucket, prefix, delimiter, start_after: of the listing; a cursor of another listing is an error.
            max_keys: the maximum number of items to yield.
            cursor: where to continue: the `cursor` of another iterator.

        Raises:
            InvalidCursorError: the cursor is malformed, or belongs to another listing.
        """
        position = _Position(bucket, prefix, delimiter, start_after, None, None)
        if cursor is not None:
            found = _Position.decode(cursor)
            for name in ("bucket", "prefix", "delimiter"):
                theirs, ours = getattr(found, name), getattr(position, name)
                if theirs != ours:
                    raise InvalidCursorError(f"the cursor belongs to a listing with {name} {theirs!r}, not {ours!r}")
            if start_after is not None and start_after != found.start_after:
                raise InvalidCursorError("give start_after or a cursor, not both")
            position = found
        self._fetch = fetch
        self._position = position
        self._page: str | None = position.page  # the driver's cursor of the page that `_items` come from
        self._after = position.after
        self._next: str | None = position.page
        self._items: deque[Item] = deque()
        self._checker = PageChecker(prefix, position.page)
        self._resuming = cursor is not None
        self._exhausted = False
        self._left = max_keys

    @property
    def start_after(self) -> str | None:
        """The key after which the whole listing starts; a cursor contains it."""
        return self._position.start_after

    @property
    def cursor(self) -> str | None:
        """A text with which ``list(cursor=…)`` continues after the last item yielded; None at the end.

        It works in another process, for the same bucket, prefix and delimiter.
        """
        if self._exhausted and not self._items:
            return None
        p = self._position
        return _Position(p.bucket, p.prefix, p.delimiter, p.start_after, self._page, self._after).encode()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        items = self._items
        if self._left is not None:
            if self._left <= 0:
                raise StopAsyncIteration
            if not items and not await self._fill():
                raise StopAsyncIteration
            self._left -= 1
        elif not items and not await self._fill():
            raise StopAsyncIteration
        item = items.popleft()
        self._after = item.key
        return item  # type: ignore[return-value]

    async def next(self) -> T:
        """Return the next item.

        Raises:
            StopAsyncIteration: there are no more items.
        """
        return await self.__anext__()

    async def all(self) -> list[T]:
        """Return all remaining items as one list."""
        return [item async for item in self]

    async def pages(self) -> AsyncIterator[list[T]]:
        """Yield the remaining items in lists, each as large as a page of the backend."""
        while True:
            if self._left is not None and self._left <= 0:
                return
            if not self._items and not await self._fill():
                return
            count = len(self._items) if self._left is None else min(self._left, len(self._items))
            page = [self._items.popleft() for _ in range(count)]
            self._after = page[-1].key
            if self._left is not None:
                self._left -= count
            yield page  # type: ignore[misc]

    async def _fill(self) -> bool:
        """Fetch pages until one has an item; return False at the end of the listing."""
        while not self._items:
            if self._exhausted:
                return False
            page = await self._fetch(self._next)
            items = self._checker.accept(page)
            self._page, self._next = self._next, page.cursor
            self._exhausted = page.cursor is None
            if self._resuming and self._after is not None:
                # The cursor is in the middle of a page. Items that were yielded are skipped; they may fill several
                # pages, because the pages are smaller now, or because there are more items.
                after = self._after
                items = [item for item in items if item.key > after]
            self._resuming = self._resuming and not items
            self._items.extend(items)
        return True
