"""Saving an object as a file."""

from __future__ import annotations

import os
from contextlib import suppress
from secrets import token_hex

import aiofiles
import anyio.to_thread

from trove_async.cancellation import finish
from trove_async.reader import ObjectReader

__all__ = ["save"]


async def save(reader: ObjectReader, path: str, cleanup_timeout: float) -> None:
    """Write all that a reader reads to a file of its own, and rename it to ``path`` at the end."""
    draft = f"{path}.{token_hex(4)}.part"
    try:
        async with aiofiles.open(draft, "xb", buffering=0) as file:
            async for chunk in reader:
                await file.write(chunk)
        await anyio.to_thread.run_sync(os.replace, draft, path)
    except BaseException:
        await finish(_remove(draft), timeout=cleanup_timeout, leftover=f"the file {draft!r}")
        raise


async def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        await anyio.to_thread.run_sync(os.unlink, path)
