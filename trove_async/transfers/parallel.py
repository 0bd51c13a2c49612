"""Process many items with bounded concurrency."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

__all__ = ["for_each"]

T = TypeVar("T")

AHEAD: Final = 10_000
"""The number of items that are read ahead of the workers, so that the total is known early."""


async def for_each(items: AsyncIterable[T], work: Callable[[T], Awaitable[None]], *, workers: int) -> None:
    """Process each item, at most ``workers`` at a time.

    Memory is bounded for any number of items. When this returns or raises, nothing is still running.

    Args:
        items: the items, read in order.
        work: called with each item. An exception ends all other work, so it should handle the errors of an item itself.
        workers: 1 or more.

    Raises:
        Exception: the exception of ``items``, after the items before it are done; or the exception of ``work``.
    """
    failures: list[Exception] = []
    send, receive = anyio.create_memory_object_stream[T](AHEAD)

    async with anyio.create_task_group() as group:

        async def take() -> None:
            async with send:
                try:
                    async for item in items:
                        await send.send(item)
                except Exception as error:  # noqa: BLE001 - raised below, alone and not in a group
                    failures.append(error)

        async def consume(inlet: MemoryObjectReceiveStream[T]) -> None:
            async with inlet:
                async for item in inlet:
                    try:
                        await work(item)
                    except Exception as error:  # noqa: BLE001 - as above
                        failures.append(error)
                        group.cancel_scope.cancel()

        with receive:
            group.start_soon(take)
            for _ in range(workers):
                group.start_soon(consume, receive.clone())
    if failures:
        raise failures[0]
