"""`ObjectWriter`: write an object piece by piece."""

from __future__ import annotations

import asyncio
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, final

from trove_async.cancellation import finish
from trove_async.errors import ClosedError
from trove_async.reader import caller_location
from trove_async.sources import Chunk, as_chunk
from trove_async.types import ObjectInfo

__all__ = ["ObjectWriter", "OpenWriters"]

_GATHER: Final = 256 * 1024

Put = Callable[[AsyncIterator[Chunk]], Awaitable[ObjectInfo]]

_running: Final[set[asyncio.Task[ObjectInfo]]] = set()
"""The puts that run: asyncio forgets tasks to which nobody else refers."""


class _Handover:
    """Chunks on their way from a writer to its put. It does not refer to the writer, which can be garbage-collected."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()  # there is a chunk, or the end
        self.taken = asyncio.Event()  # there is no chunk that was not taken
        self.taken.set()
        self.chunk: bytes | None = None

    async def run(self, put: Put) -> ObjectInfo:
        try:
            return await put(self._chunks())
        finally:
            self.taken.set()  # wakes up a waiting `write`, which then sees that the task has ended

    async def _chunks(self) -> AsyncIterator[Chunk]:
        while True:
            await self.ready.wait()
            self.ready.clear()
            chunk, self.chunk = self.chunk, None
            if chunk is None:
                return
            self.taken.set()
            yield chunk


@final
class ObjectWriter:
    """An object that is being written; a clean exit of ``async with`` commits it, any other exit aborts it.

    Until the commit, readers see the old object, or none. Memory is bounded: `write` waits until
    the backend has taken earlier chunks. A writer whose block is not left before its store is closed, or that is
    garbage-collected, is aborted with a `ResourceWarning`.

    Attributes:
        info: the stored object after a clean exit of the block; None before.
    """

    def __init__(self, put: Put, *, cleanup_timeout: float, what: str) -> None:
        self.info: ObjectInfo | None = None
        self._put = put
        self._cleanup_timeout = cleanup_timeout
        self._what = what
        self._task: asyncio.Task[ObjectInfo] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handover = _Handover()
        self._opened_at = caller_location()
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._ended = False
        self._closed = False
        self._left = False
        self._abandoned = False
        self._position = 0

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise ClosedError("a writer can be used once; make another")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._handover.run(self._put))
        _running.add(self._task)
        self._task.add_done_callback(_forget)
        return self

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._position

    async def write(self, data: Chunk) -> int:
        """Write bytes; return their number. The buffer may be reused when this returns.

        Raises:
            ClosedError: the writer is closed or was never entered.
            TroveError: the backend refused the object; leaving the block raises it too.
        """
        size = self._gather(data)
        if self._full:
            await self._flush()
        return size

    def _gather(self, data: Chunk) -> int:
        """Take bytes and return their number, as `write`, but hand nothing over: `_flush` does, once it is `_full`."""
        if self._task is None or self._closed:
            raise ClosedError("the writer is closed, or was not entered by a with block")
        chunk = as_chunk(data)
        size = len(chunk)
        if size:
            self._pending.append(chunk if isinstance(chunk, bytes) else bytes(chunk))
            self._pending_size += size
            self._position += size
        return size

    @property
    def _full(self) -> bool:
        """Whether so much was gathered that `_flush` is due."""
        return self._pending_size >= _GATHER

    async def _flush(self) -> None:
        """Hand what was gathered over to the backend."""
        assert self._task is not None
        await self._taken()  # a write that was cancelled, or runs in another task, may have handed one over
        if self._pending:
            chunk = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
            self._pending, self._pending_size = [], 0
            self._handover.chunk = chunk
            self._handover.taken.clear()
            self._handover.ready.set()
            await self._taken()
        if self._task.done():
            self._closed = True
            if self._abandoned:
                raise self._closed_error()
            self._task.result()  # raises the backend's error

    async def _taken(self) -> None:
        """Wait until the backend has taken the chunk that was handed over, or has ended."""
        assert self._task is not None
        while not (self._handover.taken.is_set() or self._task.done()):
            await self._handover.taken.wait()

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
        self._left = True
        if error is not None:
            await self.abort()
            return
        if self._abandoned:
            raise self._closed_error()
        if self._closed:
            if self._task.done() and not self._task.cancelled():
                self._task.result()  # raises an error of the put even if the user has caught it from `write`
            return
        try:
            await self._flush()
            self._closed = True
            self._handover.ready.set()
            # Shielded, so that cancelling this wait does not look like a failure of the put itself.
            self.info = await asyncio.shield(self._task)
        except BaseException:
            await self.abort()
            raise

    @property
    def _is_open(self) -> bool:
        return self._task is not None and not self._left

    def _warn(self) -> None:
        warnings.warn(
            f"unclosed {self!r}, opened at {self._opened_at}; use it in a with block, inside that of its store",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    def _closed_error(self) -> ClosedError:
        return ClosedError("the store was closed before the writer was left; nothing was stored")

    def __del__(self) -> None:
        if getattr(self, "_left", True) or self._abandoned or self._task is None or self._loop is None:
            return
        self._left = True  # a recorded warning refers to the writer, which then lives on
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._task.cancel)  # the collector runs in any thread
        self._warn()

    def __repr__(self) -> str:
        return f"<ObjectWriter, {self._what}, at {self._position}>"


class OpenWriters:
    """The writers of a store, for when it is closed."""

    def __init__(self) -> None:
        self._writers: weakref.WeakSet[ObjectWriter] = weakref.WeakSet()
        self._aborted: list[ObjectWriter] = []

    def add(self, writer: ObjectWriter) -> None:
        """Remember a writer for as long as it lives."""
        self._writers.add(writer)

    async def abort(self) -> None:
        """Abort those that were entered and not left."""
        self._aborted = [writer for writer in self._writers if writer._is_open]
        for writer in self._aborted:
            writer._abandoned = True
        await asyncio.gather(*(writer.abort() for writer in self._aborted))

    def warn(self) -> None:
        """Issue a `ResourceWarning` for each that was aborted."""
        while self._aborted:
            self._aborted.pop()._warn()


def _forget(task: asyncio.Task[ObjectInfo]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # it is retrieved, so that asyncio does not report it: leaving the block raises it


async def _ended(task: asyncio.Task[ObjectInfo]) -> None:
    await asyncio.wait({task})
