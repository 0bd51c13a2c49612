"""Send a body to a client that may disconnect at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

__all__ = ["transmit"]


async def transmit(
    chunks: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[object]], gone: Coroutine[Any, Any, object]
) -> bool:
    """Send chunks until there are no more or the client disconnects.

    When this returns or raises, cancelled or not, none of its tasks is running.

    Args:
        chunks: the body; read no faster than it is sent. The caller closes it.
        write: sends one chunk. An OSError means that the client has disconnected.
        gone: returns when the client has disconnected.

    Returns:
        Whether the whole body was sent.
    """
    sending = asyncio.ensure_future(_send(chunks, write))
    leaving = asyncio.ensure_future(gone)
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = sending if sending.done() else leaving
        sending.cancel()
        leaving.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)
    return ended.result() is True  # or raises the body's error, so that the server closes the connection


async def _send(chunks: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[object]]) -> bool:
    async for chunk in chunks:
        try:
            await write(chunk)
        except OSError:
            return False
    return True
