"""A file that is open over several calls in worker threads."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from trove_async.body import Chunk
from trove_async.drivers.local.files import write_chunks
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.tree import Checkpoint, Temporary, run_sync

__all__ = ["HeldFile"]

R = TypeVar("R")


class _Run(Protocol):
    def __call__(self, work: Callable[[Checkpoint], Coroutine[Any, Any, R]]) -> Awaitable[R]:
        """Run an algorithm of the tree in one call in a worker thread."""


class HeldFile:
    """A temporary, or a part that grows, on which one operation runs at a time.

    An operation that hangs and was abandoned must not continue after its file is closed.

    Args:
        fs: of the file.
        temporary: the file, which this object closes.
        run: runs an algorithm of the tree in a worker thread.
        call: calls a function in a worker thread.
        store_closed: whether the store was closed.

    Attributes:
        closed: whether the file is closed.
    """

    def __init__(
        self,
        fs: LocalFileSystem,
        temporary: Temporary,
        *,
        run: _Run,
        call: Callable[[Callable[[], None]], Awaitable[None]],
        store_closed: Callable[[], bool],
    ) -> None:
        self._fs = fs
        self._temporary = temporary
        self._run = run
        self._call = call
        self._store_closed = store_closed
        self._busy = threading.Lock()
        self.closed = False

    async def run(self, work: Callable[[Checkpoint], Coroutine[Any, Any, R]]) -> R:
        """Run an operation on the file."""

        async def held(checkpoint: Checkpoint) -> R:
            with self._busy:
                return await work(checkpoint)

        return await self._run(held)

    async def run_last(self, work: Callable[[Checkpoint], Coroutine[Any, Any, R]]) -> R:
        """Run the last operation on the file, which is closed in the same call."""

        async def last(checkpoint: Checkpoint) -> R:
            try:
                return await work(checkpoint)
            finally:
                await self._close()

        return await self.run(last)

    async def write(self, chunks: Sequence[Chunk]) -> None:
        """Append chunks, at most a thousand, with as little work around the system call as possible."""
        await self._call(partial(self._write, chunks))

    def _write(self, chunks: Sequence[Chunk]) -> None:
        with self._busy:
            write_chunks(self._temporary.handle, chunks)

    async def _close(self) -> None:
        self.closed = True
        await self._fs.discard(self._temporary)

    async def discard(self, first: Callable[[], Coroutine[Any, Any, object]] | None = None) -> None:
        """Close the file, unless that was done; if the store was closed, only if no operation hangs.

        Args:
            first: an operation on the file, which may fail.
        """
        if self.closed:
            return
        if not self._store_closed():
            await self.run(lambda _: self._end(first))
        elif self._busy.acquire(blocking=False):
            run_sync(self._end(None))

    async def _end(self, first: Callable[[], Coroutine[Any, Any, object]] | None) -> None:
        if self.closed:
            return  # by an operation that hung, and was given up
        try:
            if first is not None:
                await first()
        finally:
            await self._close()
