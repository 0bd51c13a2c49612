"""Sending a body to a client that may go away at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

__all__ = ["transmit"]


async def transmit(
    chunks: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[object]], gone: Coroutine[Any, Any, object]
) -> bool:
    """Hand over chunk by chunk, until there are no more or the client is gone.

    When it returns or raises, cancelled or not, nothing of it runs any more.

    Args:
        chunks: what is sent. They are asked for no faster than they are taken; whoever opened them closes them.
        write: sends one. An OSError that it raises is a client that is gone.
        gone: returns when the client is gone.

    Returns:
        whether all of it was sent.
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
    return ended.result() is True  # or raises what broke the body, so that the server cuts the answer off


async def _send(chunks: AsyncIterator[bytes], write: Callable[[bytes], Awaitable[object]]) -> bool:
    async for chunk in chunks:
        try:
            await write(chunk)
        except OSError:
            return False
    return True
