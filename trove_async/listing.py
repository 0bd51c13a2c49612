"""Listings: the pages that drivers return, and the iterator that users read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar, final

from trove_async.errors import BackendError, InvalidCursorError
from trove_async.iteration import CursorChecker, PageIterator, decode_cursor, encode_cursor
from trove_async.types import ObjectInfo, Prefix

__all__ = ["Item", "ListPage", "ObjectIterator", "PageChecker", "group_of"]

Item = ObjectInfo | Prefix
T = TypeVar("T", ObjectInfo, Item)

_CURSOR: Final = 1
"""The kind of the cursors."""


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


def group_of(key: str, prefix: str, delimiter: str | None) -> str | None:
    """Return the group that a listing with a delimiter shows for a key; None if it shows the key itself."""
    if delimiter is None:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


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
        self._cursors = CursorChecker(cursor)

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
        self._cursors.accept(page.cursor, empty=not names)
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
        fields = (self.bucket, self.prefix, self.delimiter, self.start_after, self.page, self.after)
        return encode_cursor(_CURSOR, fields)

    @classmethod
    def decode(cls, cursor: str) -> _Position:
        bucket, prefix, *others = decode_cursor(_CURSOR, 6, cursor)
        if bucket is None or prefix is None:
            raise InvalidCursorError("this is not the cursor of a listing")
        return cls(bucket, prefix, *others)


FetchPage = Callable[[str | None], Awaitable[ListPage]]


@final
class ObjectIterator(PageIterator[T], Generic[T]):
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
        start = _Position(bucket, prefix, delimiter, start_after, None, None)
        if cursor is not None:
            found = _Position.decode(cursor)
            for name in ("bucket", "prefix", "delimiter"):
                theirs, ours = getattr(found, name), getattr(start, name)
                if theirs != ours:
                    raise InvalidCursorError(f"the cursor belongs to a listing with {name} {theirs!r}, not {ours!r}")
            if start_after is not None and start_after != found.start_after:
                raise InvalidCursorError("give start_after or a cursor, not both")
            start = found
        super().__init__(page=start.page, resuming=start.after is not None, max_items=max_keys)
        self._fetch = fetch
        self._start = start
        self._checker = PageChecker(prefix, start.page)

    @property
    def start_after(self) -> str | None:
        """The key after which the whole listing starts; a cursor contains it."""
        return self._start.start_after

    def _position(self) -> str:
        start = self._start
        after = start.after if self._last is None else self._last.key
        return _Position(start.bucket, start.prefix, start.delimiter, start.start_after, self._page, after).encode()

    async def _load(self, cursor: str | None) -> tuple[Sequence[T], str | None]:
        page = await self._fetch(cursor)
        items: Any = self._checker.accept(page)
        return items, page.cursor

    def _remaining(self, items: Sequence[T]) -> Sequence[T] | None:
        # Items that were yielded may fill several pages, because the pages are smaller now, or there are more items.
        after = self._start.after or ""
        return [item for item in items if item.key > after] or None
