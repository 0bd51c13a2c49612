"""Working on many things, a bounded number at a time."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

__all__ = ["for_each"]

T = TypeVar("T")

AHEAD: Final = 10_000
"""How many items are taken before there is someone to work on them, so that what is left to do is known early."""


async def for_each(items: AsyncIterable[T], work: Callable[[T], Awaitable[None]], *, workers: int) -> None:
    """Work on each item, on at most ``workers`` of them at once.

    Memory is bounded however many items there are. When this returns or raises, nothing of it is under way.

    Args:
        items: what is worked on, taken in its order.
        work: called with each item. What it raises ends all the others, so let it deal with the errors of an item.
        workers: 1 or more.

    Raises:
        Exception: what ``items`` raises, once the items that came before it are done; or what ``work`` raises.
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
