"""Listings without asyncio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Self, TypeVar, final

from trove_async import iteration, listing
from trove_async.listing import Item
from trove_async.portal import Portal
from trove_async.types import ObjectInfo, VersionInfo

__all__ = ["ObjectIterator", "VersionIterator"]

T = TypeVar("T")
L = TypeVar("L", ObjectInfo, Item)


class _PageIterator(Generic[T]):
    """A listing; read it with ``for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """

    def __init__(self, portal: Portal, listing: iteration.PageIterator[T]) -> None:
        self._portal = portal
        self._async = listing

    @property
    def cursor(self) -> str | None:
        """A text with which the same listing with ``cursor=…`` continues after the last item yielded; None at the end.

        It works in another process, for the same bucket and the same arguments.
        """
        return self._async.cursor

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if not self._has_more():
            raise StopIteration
        item = self._async._last = self._async._items.popleft()
        return item

    def _has_more(self) -> bool:
        return len(self._async._items) > 0 or self._portal.call(self._async._fill)

    def next(self) -> T:
        """Return the next item.

        Raises:
            StopIteration: there are no more items.
        """
        return self.__next__()

    def all(self) -> list[T]:
        """Return all remaining items as one list."""
        return self._portal.call(self._async.all)

    def pages(self) -> Iterator[list[T]]:
        """Yield the remaining items in lists, each as large as a page of the backend."""
        while self._has_more():
            yield self._async._take_page()


@final
class ObjectIterator(_PageIterator[L], Generic[L]):
    """A listing; read it with ``for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """

    _async: listing.ObjectIterator[L]

    @property
    def start_after(self) -> str | None:
        """The key after which the whole listing starts; a cursor contains it."""
        return self._async.start_after


@final
class VersionIterator(_PageIterator[VersionInfo]):
    """A listing of versions; read it with ``for``, `next`, `all` or `pages`.

    It has a position but no connection, so it need not be closed.
    """
