"""Listings: the pages that drivers return, and the iterator that users hold."""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar, final

from trove_async.errors import BackendError, InvalidCursorError
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Item", "ListPage", "ObjectIterator"]

Item = ObjectInfo | Prefix
T = TypeVar("T", ObjectInfo, Item)


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, as a driver returns it.

    Attributes:
        objects: in the order of their keys' UTF-8 bytes.
        prefixes: in the same order; each once in the whole listing.
        cursor: continues the listing behind this page, for the same options; None at the end.
            A page with a cursor may be empty.
    """

    objects: Sequence[ObjectInfo] = ()
    prefixes: Sequence[Prefix] = ()
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class _Position:
    """Where an iterator stands: the page, and the last name that was taken of it."""

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
            raise InvalidCursorError("this is no cursor of a listing; take it from ObjectIterator.cursor") from None
        return position


FetchPage = Callable[[str | None], Awaitable[ListPage]]


@final
class ObjectIterator(Generic[T]):
    """A listing that is being read: ``async for``, `next`, `all` or `pages`.

    It holds a position, never a connection, so it can be left at any time.
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
            bucket, prefix, delimiter, start_after: those of the listing; a cursor is refused with others.
            max_keys: how many items to yield at most.
            cursor: where to go on, from `cursor` of another iterator.

        Raises:
            InvalidCursorError: the cursor is malformed, or of another listing.
        """
        position = _Position(bucket, prefix, delimiter, start_after, None, None)
        if cursor is not None:
            found = _Position.decode(cursor)
            for name in ("bucket", "prefix", "delimiter"):
                theirs, ours = getattr(found, name), getattr(position, name)
                if theirs != ours:
                    raise InvalidCursorError(f"the cursor is of a listing with {name} {theirs!r}, not {ours!r}")
            if start_after is not None and start_after != found.start_after:
                raise InvalidCursorError("give start_after or a cursor, not both")
            position = found
        self._fetch = fetch
        self._position = position
        self._page: str | None = position.page  # the driver's cursor of the page that `_items` is of
        self._after = position.after
        self._next: str | None = position.page
        self._items: deque[Item] = deque()
        self._resuming = cursor is not None
        self._exhausted = False
        self._left = max_keys

    @property
    def start_after(self) -> str | None:
        """The key that the listing as a whole starts after, from its cursor if it came with one."""
        return self._position.start_after

    @property
    def cursor(self) -> str | None:
        """A text from which ``list(cursor=…)`` goes on after the last item taken; None at the end.

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
            StopAsyncIteration: there is none.
        """
        return await self.__anext__()

    async def all(self) -> list[T]:
        """Return all items that are left; mind the memory."""
        return [item async for item in self]

    async def pages(self) -> AsyncIterator[list[T]]:
        """Yield the items that are left in lists, each as large as a page of the backend."""
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
        """Fetch pages until there is an item; tell whether there is one."""
        while not self._items:
            if self._exhausted:
                return False
            page = await self._fetch(self._next)
            if page.cursor is not None and page.cursor == self._next:
                raise BackendError("the listing does not move on: the backend repeats its cursor")
            self._page, self._next = self._next, page.cursor
            self._exhausted = page.cursor is None
            items = _merged(page)
            if self._resuming and self._after is not None:
                # The cursor stands in the middle of a page. What was taken of it is not taken again, and may
                # fill several pages by now: they are smaller this time, or there are more items.
                after = self._after
                items = [item for item in items if item.key > after]
            self._resuming = self._resuming and not items
            self._items.extend(items)
        return True


def _name(item: Item) -> str:
    return item.key


def _merged(page: ListPage) -> Sequence[Any]:
    if not page.prefixes:
        return page.objects
    if not page.objects:
        return page.prefixes
    # Text compares by code point, which is the order of its UTF-8 bytes.
    return sorted([*page.objects, *page.prefixes], key=_name)
