"""Listings of several answers: to their end, and never without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Final, TypeVar

from trove_async.errors import BackendError

__all__ = ["pages"]

P = TypeVar("P")
M = TypeVar("M", bound=Hashable)

_MAX_PAGES: Final = 1_000_000
"""Answers of one listing: with a thousand items each, more than is ever listed to its end."""


async def pages(
    fetch: Callable[[M | None], Awaitable[P]], following: Callable[[P], M | None], what: str
) -> AsyncGenerator[P, None]:
    """Yield the answers of a listing.

    Args:
        fetch: asks for the page at a marker; None for the first.
        following: returns the marker of the next page; None if there is none.
        what: is listed, for errors.

    Raises:
        BackendError: a marker comes twice, so that the listing would not end.
    """
    seen: set[int] = set()
    marker: M | None = None
    while True:
        page = await fetch(marker)
        yield page
        marker = following(page)
        if marker is None:
            return
        # The hash is all that is kept of a marker: a listing may have many.
        if hash(marker) in seen or len(seen) == _MAX_PAGES:
            raise BackendError(f"the listing of {what} does not end: the service repeats its pages")
        seen.add(hash(marker))
