"""Process many items with bounded concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import Final, TypeVar

__all__ = ["for_each"]

T = TypeVar("T")

AHEAD: Final = 10_000
"""The number of items that are read ahead of the workers, so that the total is known early."""
_IN_A_ROW: Final = 100
"""Items that are read before other tasks run, if the source has them ready."""


async def for_each(
    items: AsyncIterable[T], work: Callable[[Sequence[T]], Awaitable[None]], *, workers: int, at_once: int = 1
) -> None:
    """Process each item, with at most ``workers`` calls of ``work`` at a time.

    Memory is bounded for any number of items. When this returns or raises, nothing is still running.

    Args:
        items: the items, read in order.
        work: called with one or more items that follow each other. An exception ends all other work, so it should
            handle the errors of an item itself.
        workers: 1 or more.
        at_once: the maximum number of items of a call; they are fewer when few are left, so that no worker is idle.

    Raises:
        Exception: the exception of ``items``, after the items before it are done; or the exception of ``work``.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(AHEAD)
    end = _End()

    async def take() -> None:
        try:
            number = 0
            async for item in items:
                await queue.put(item)
                number += 1
                if number % _IN_A_ROW == 0:
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - raised below, after the items before it are done
            end.error = error
        await queue.put(end)

    async def consume() -> None:
        while True:
            share: list[T] = []
            while not share or len(share) < min(at_once, queue.qsize() // workers):
                item = await queue.get()
                if isinstance(item, _End):
                    queue.put_nowait(item)  # for the other workers
                    break
                share.append(item)
            if not share:
                return
            await work(share)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            for _ in range(workers):
                group.create_task(consume())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__
    if end.error is not None:
        raise end.error


class _End:
    """Stands behind the last item."""

    error: Exception | None = None
