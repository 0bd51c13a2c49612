"""Send a body to a client that may disconnect at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final

__all__ = ["CHUNK_SIZE", "transmit"]

CHUNK_SIZE: Final = 256 * 1024
"""Bytes of an object that are read at a time for a client, which may be slow."""

_WRITE_SIZE: Final = 128 * 1024
"""Bytes that are given to the server at a time: it buffers them in addition to the 64 KiB at which it waits."""


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
        for start in range(0, len(chunk), _WRITE_SIZE):
            try:
                await write(chunk if len(chunk) <= _WRITE_SIZE else chunk[start : start + _WRITE_SIZE])
            except OSError:
                return False
    return True
