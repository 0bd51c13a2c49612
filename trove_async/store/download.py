"""Saving an object as a file."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from contextlib import suppress
from secrets import token_hex
from typing import Any

import aiofiles
import aiofiles.threadpool.binary
import anyio.to_thread

from trove_async.body import Progress
from trove_async.cancellation import finish, to_the_end
from trove_async.reader import ObjectReader

__all__ = ["save"]


async def save(reader: ObjectReader, path: str, cleanup_timeout: float, on_progress: Progress | None = None) -> None:
    """Write all that a reader reads to a file of its own, and rename it to ``path`` at the end."""
    draft = _Draft(f"{path}.{token_hex(4)}.part", cleanup_timeout)
    try:
        await draft.step(draft.open())
        async for chunk in reader:
            await draft.step(draft.write(chunk))
            if on_progress is not None:
                on_progress(reader.tell(), reader.size)
        await draft.step(draft.publish(path))
    finally:
        await finish(draft.discard(), timeout=cleanup_timeout, leftover=f"the file {draft.path!r}")


class _Draft:
    """A file that is being written, by steps in a thread that a cancellation waits for."""

    def __init__(self, path: str, cleanup_timeout: float) -> None:
        self.path = path
        self._cleanup_timeout = cleanup_timeout
        self._file: aiofiles.threadpool.binary.AsyncFileIO | None = None

    async def step(self, work: Coroutine[Any, Any, None]) -> None:
        await to_the_end(work, timeout=self._cleanup_timeout, leftover=f"a thread that writes {self.path!r}")

    async def open(self) -> None:
        self._file = await aiofiles.open(self.path, "xb", buffering=0)

    async def write(self, chunk: bytes) -> None:
        assert self._file is not None
        left = memoryview(chunk)
        while left:
            left = left[await self._file.write(left) :]

    async def publish(self, path: str) -> None:
        assert self._file is not None
        await self._file.close()
        await anyio.to_thread.run_sync(os.replace, self.path, path)

    async def discard(self) -> None:
        """Close the file and remove it, if it was not published."""
        if self._file is not None:
            await self._file.close()
            with suppress(FileNotFoundError):
                await anyio.to_thread.run_sync(os.unlink, self.path)
