"""`ObjectWriter`: write an object piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self, final

from trove_async.body import Chunk, as_chunk
from trove_async.cancellation import finish
from trove_async.errors import ClosedError
from trove_async.types import ObjectInfo

__all__ = ["ObjectWriter"]

_GATHER: Final = 256 * 1024


@final
class ObjectWriter:
    """An object that is being written; a clean exit of ``async with`` commits it, any other exit aborts it.

    Until the commit, readers see the old object, or none. Memory is bounded: `write` waits until
    the backend has taken earlier chunks.

    Attributes:
        info: the stored object after a clean exit of the block; None before.
    """

    def __init__(
        self, put: Callable[[AsyncIterator[Chunk]], Awaitable[ObjectInfo]], *, cleanup_timeout: float, what: str
    ) -> None:
        self.info: ObjectInfo | None = None
        self._put = put
        self._cleanup_timeout = cleanup_timeout
        self._what = what
        self._task: asyncio.Task[ObjectInfo] | None = None
        self._ready = asyncio.Event()  # there is a chunk, or the end
        self._taken = asyncio.Event()  # the chunk was taken
        self._chunk: bytes | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._ended = False
        self._closed = False
        self._position = 0

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise ClosedError("a writer can be used once; make another")
        self._task = asyncio.ensure_future(self._run())
        return self

    async def _run(self) -> ObjectInfo:
        try:
            return await self._put(self._chunks())
        finally:
            self._taken.set()  # wakes up a waiting `write`, which then sees that the task has ended

    async def _chunks(self) -> AsyncIterator[Chunk]:
        while True:
            await self._ready.wait()
            self._ready.clear()
            chunk, self._chunk = self._chunk, None
            if chunk is None:
                return
            self._taken.set()
            yield chunk

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._position

    async def write(self, data: Chunk) -> int:
        """Write bytes; return their number. The buffer may be reused when this returns.

        Raises:
            ClosedError: the writer is closed or was never entered.
            TroveError: the backend refused the object; leaving the block raises it too.
        """
        if self._task is None or self._closed:
            raise ClosedError("the writer is closed, or was not entered with 'async with'")
        chunk = as_chunk(data)
        size = len(chunk)
        if size:
            self._pending.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
            self._pending_size += size
            self._position += size
        if self._pending_size >= _GATHER:
            await self._flush()
        return size

    async def _flush(self) -> None:
        assert self._task is not None
        if self._pending:
            chunk = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending, self._pending_size = [], 0
            self._chunk = chunk
            self._taken.clear()
            self._ready.set()
            if not self._task.done():
                await self._taken.wait()
        if self._task.done():
            self._closed = True
            self._task.result()  # raises the backend's error

    async def abort(self) -> None:
        """Abort the write: nothing is stored and nothing is left behind; idempotent."""
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        assert self._task is not None
        await finish(_ended(self._task), timeout=self._cleanup_timeout + 1, leftover=self._what)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._task is not None
        if error is not None:
            await self.abort()
            if self._task.done() and not self._task.cancelled():
                self._task.exception()  # it is retrieved, so that asyncio does not report it again
            return
        if self._closed:
            if self._task.done() and not self._task.cancelled():
                self._task.result()  # raises an error of the put even if the user has caught it from `write`
            return
        try:
            await self._flush()
            self._closed = True
            self._ready.set()
            # Shielded, so that cancelling this wait does not look like a failure of the put itself.
            self.info = await asyncio.shield(self._task)
        except BaseException:
            await self.abort()
            raise


async def _ended(task: asyncio.Task[ObjectInfo]) -> None:
    await asyncio.wait({task})
