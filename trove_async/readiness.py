"""Wait until a pipe or terminal can be read or written; without a thread, so that a cancellation ends it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["readable", "writable"]


async def readable(descriptor: int) -> None:
    """Return when a read would return bytes or the end; a FIFO that nobody has opened for writing yet has neither."""
    loop = asyncio.get_running_loop()
    await _ready(descriptor, loop.add_reader, loop.remove_reader)


async def writable(descriptor: int) -> None:
    """Return when a write would accept bytes or fail."""
    loop = asyncio.get_running_loop()
    await _ready(descriptor, loop.add_writer, loop.remove_writer)


async def _ready(descriptor: int, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle() -> None:
        if not future.done():
            future.set_result(None)

    add(descriptor, settle)
    try:
        await future
    finally:
        remove(descriptor)
