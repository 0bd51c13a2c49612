"""What the iterators over listings share: pages are fetched one by one, and a cursor continues after the last item."""

from __future__ import annotations

import base64
import binascii
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final, Generic, Self, TypeVar

from trove_async.errors import BackendError, InvalidCursorError

__all__ = ["CursorChecker", "PageIterator", "decode_cursor", "encode_cursor"]

T = TypeVar("T")

_MAX_EMPTY_PAGES: Final = 1000


def encode_cursor(kind: int, fields: Sequence[str | None]) -> str:
    """Return a position as a text without special characters; ``kind`` says which kind of listing it belongs to."""
    text = json.dumps([kind, *fields], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(kind: int, count: int, cursor: str) -> list[str | None]:
    """Return the fields of a position.

    Raises:
        InvalidCursorError: the text is no cursor of this kind with this number of fields.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        fields: list[str | None]
        found, *fields = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if found != kind or len(fields) != count or not all(x is None or isinstance(x, str) for x in fields):
            raise ValueError
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise InvalidCursorError("this is not the cursor of such a listing; use the cursor of its iterator") from None
    return fields


class CursorChecker:
    """Checks that the cursors of a listing's pages lead to its end.

    Args:
        cursor: the driver's cursor of the first page; None at the start of the listing.
    """

    def __init__(self, cursor: str | None) -> None:
        self._cursors = {cursor}  # since the last page with items

    def accept(self, cursor: str | None, *, empty: bool) -> None:
        """Check the cursor of the next page; ``empty`` says whether this page has no items.

        Raises:
            BackendError: it repeats, or 1,000 empty pages follow each other.
        """
        if not empty:
            self._cursors.clear()
        if cursor is None:
            return
        if cursor in self._cursors:
            raise BackendError("the listing does not end: the backend repeats its cursor")
        if len(self._cursors) >= _MAX_EMPTY_PAGES:
            raise BackendError(f"the backend sent {_MAX_EMPTY_PAGES} empty pages of a listing in a row")
        self._cursors.add(cursor)


class PageIterator(ABC, Generic[T]):
    """A listing; read it with ``async for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """

    def __init__(self, *, page: str | None, resuming: bool, max_items: int | None = None) -> None:
        """Make an iterator.

        Args:
            page: the driver's cursor of the first page to fetch.
            resuming: whether items of that page may have been yielded before; see `_remaining`.
            max_items: the maximum number of items to yield.
        """
        self._page = page  # the driver's cursor of the page that `_items` come from
        self._next = page
        self._items: deque[T] = deque()
        self._last: T | None = None
        self._resuming = resuming
        self._exhausted = False
        self._left = max_items  # the maximum number of items to fetch

    @abstractmethod
    async def _load(self, cursor: str | None) -> tuple[Sequence[T], str | None]:
        """Return the checked items of the page of a driver's cursor, and the cursor of the next page."""

    @abstractmethod
    def _remaining(self, items: Sequence[T]) -> Sequence[T] | None:
        """Return the items of a page that come after the position that the iterator continues from.

        It is called with one page after the other while it returns None: the position comes later.
        """

    @abstractmethod
    def _position(self) -> str:
        """Return the position after the last item that was yielded."""

    @property
    def cursor(self) -> str | None:
        """A text with which the same listing with ``cursor=…`` continues after the last item yielded; None at the end.

        It works in another process, for the same bucket and the same arguments.
        """
        if self._exhausted and not self._items:
            return None
        return self._position()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        items = self._items
        if not items and not await self._fill():
            raise StopAsyncIteration
        item = self._last = items.popleft()
        return item

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
        while self._items or await self._fill():
            yield self._take_page()

    def _take_page(self) -> list[T]:
        """Return all items that were fetched; at least one was."""
        page = [*self._items]
        self._items.clear()
        self._last = page[-1]
        return page

    async def _fill(self) -> bool:
        """Fetch pages until one has an item that may be yielded; return False if there is none."""
        while not self._items:
            if self._exhausted or self._left == 0:
                return False
            items, cursor = await self._load(self._next)
            self._page, self._next = self._next, cursor
            self._exhausted = cursor is None
            if self._resuming:
                remaining = self._remaining(items)
                self._resuming = remaining is None
                items = remaining or ()
            if self._left is not None:
                self._exhausted &= len(items) <= self._left
                items = items[: self._left]
                self._left -= len(items)
            self._items.extend(items)
        return True
