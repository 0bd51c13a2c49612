"""Deleting many objects or versions, without asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from itertools import islice, takewhile
from threading import Event
from typing import Final, Self, TypeVar

from anyio import to_thread

from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.portal import Portal
from trove_async.store import bulk
from trove_async.types import DeleteResult

__all__ = ["BulkDelete", "off_loop"]

T = TypeVar("T")

_AT_ONCE: Final = 1000


class BulkDelete:
    """What ``delete_many`` and ``empty_bucket`` return with ``raise_errors=False``: an iterator over the results.

    Every key is tried, in chunks, whatever becomes of the others. Nothing happens before it is iterated over.
    """

    def __init__(self, portal: Portal, deletion: bulk.BulkDelete) -> None:
        self._portal = portal
        self._async = deletion
        self._chunks: AsyncIterator[Sequence[DeleteResult]] | None = None
        self._results: deque[DeleteResult] = deque()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> DeleteResult:
        if self._chunks is None:
            self._chunks = self._async._results()
        while not self._results:
            try:
                self._results.extend(self._portal.call(self._chunks.__anext__))
            except StopAsyncIteration:
                raise StopIteration from None
        return self._results.popleft()


def off_loop(items: Iterable[T] | AsyncIterable[T]) -> Iterable[T] | AsyncIterable[T]:
    """Return an iterable that may block, or call the sync API, as one that is iterated over in another thread."""
    return items if isinstance(items, str | list | tuple | set | frozenset | AsyncIterable) else _in_thread(items)


async def _in_thread(items: Iterable[T]) -> AsyncIterator[T]:
    iterator = iter(items)
    stopped = Event()

    def take() -> list[T]:
        return [*takewhile(lambda _: not stopped.is_set(), islice(iterator, _AT_ONCE))]

    leftover = "a thread that iterates over keys"
    while several := await to_the_end(
        to_thread.run_sync(take), timeout=CLEANUP_TIMEOUT, leftover=leftover, on_cancel=stopped.set
    ):
        for item in several:
            yield item
