"""Writing a body of any kind in blocks of a few megabytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from trove_async.body import Body, Chunk

__all__ = ["write_body"]

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
