"""Writing a body of any kind: in blocks of a few megabytes, or as its chunks arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from trove_async.body import Body, Chunk

__all__ = ["write_at_once", "write_body"]

_BLOCK: Final = 4 * 1024 * 1024
"""Bytes of a streamed body that are written at once."""
_JOINED: Final = 64 * 1024
"""Chunks below this size are joined with their neighbours."""


async def write_body(body: Body, write: Callable[[Sequence[Chunk]], Awaitable[None]]) -> None:
    """Read a body and write it in blocks of about 4 MiB, however small its chunks are."""
    pending: list[bytes | bytearray] = []
    size = 0
    async for chunk in body:
        size += len(chunk)
        if len(chunk) < _JOINED:
            if not pending or type(pending[-1]) is bytes:
                pending.append(bytearray())
            pending[-1] += chunk
        elif type(chunk) is bytes:
            pending.append(chunk)
        else:
            # The source may reuse this buffer for its next chunk, so it is written now instead of being copied.
            await write((*pending, chunk))
            pending, size = [], 0
        if size >= _BLOCK:
            await write(pending)
            pending, size = [], 0
    if pending:
        await write(pending)


class WriteAtOnce(Protocol):
    """Writes chunks of a body for `write_at_once`."""

    async def __call__(self, chunks: Sequence[Chunk], *, last: bool) -> None:
        """Write chunks; there may be none if they are the ``last``, after which it is not called again."""


async def write_at_once(body: Body, write: WriteAtOnce, *, ahead: int) -> None:
    """Read a body and write its chunks as they arrive; small ones that arrive during a write are written together.

    What has arrived is written even if the body fails then. If a write fails, nothing more is written.

    Args:
        body: is read once.
        write: is called again after it has ended; the last time when the body is complete.
        ahead: bytes. During a write, the next chunk is requested only while fewer are in memory.
    """
    writing: asyncio.Future[None] | None = None
    size = 0  # of what is being written
    waiting = bytearray()
    complete = written = False

    async def write_waiting() -> None:
        # It begins when the body has no more chunks at once, and may know by then that there will be none.
        nonlocal size, waiting, written
        batch, waiting = waiting, bytearray()
        size, written = len(batch), complete
        await write((batch,) if batch else (), last=complete)

    try:
        while True:
            try:
                chunk = await anext(body, None)
            except Exception:
                if writing is not None:
                    ended, writing = writing, None
                    await ended
                if waiting:
                    await write_waiting()
                raise
            complete = chunk is None
            length = 0 if chunk is None else len(chunk)
            if writing is not None and (complete or writing.done() or size + len(waiting) + length > ahead):
                ended, writing = writing, None
                await ended
            if chunk is None:
                break
            if writing is None and len(waiting) + length >= ahead:
                # The source may reuse this buffer for its next chunk, so it is written before that is requested.
                batch, waiting = waiting, bytearray()
                await write((batch, chunk) if batch else (chunk,), last=False)
                continue
            waiting += chunk
            if writing is None:
                size = 0
                writing = asyncio.ensure_future(write_waiting())
        if not written:
            await write_waiting()
    except asyncio.CancelledError:
        if writing is not None:
            writing.cancel()
            while not writing.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({writing})
            if not writing.cancelled():
                writing.exception()  # marks it as retrieved; the caller gets the cancellation
        raise
