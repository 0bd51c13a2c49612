"""`SharedBody`: one body that several readers read, each at its own pace.

No task reads it. Whichever reader wants bytes that have not arrived fetches them, and the others that want them wait.
So a slow reader holds back nobody, and nothing runs when all readers are gone.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from trove_async.errors import TransientError
from trove_async.layers.cache.flights import GIVE_UP
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["BodyEvents", "Reopen", "SharedBody", "tried_again"]

Reopen = Callable[[int], Awaitable[ObjectReader]]
"""Opens the same object again, from an offset to the end of the range."""

_STEP: Final = 256 * 1024
"""Bytes that a reader that has left the others asks for at once."""


@contextmanager
def tried_again() -> Iterator[None]:
    """Mark errors of requests that were tried again beneath: the reader raises them, and resumes after others only."""
    try:
        yield
    except TransientError as error:
        error.exhausted = True
        raise


class BodyEvents(Protocol):
    """Who is interested in a shared body."""

    async def complete(self, data: bytes) -> None:
        """Take in that all bytes have arrived; the reader that fetched the last ones waits for this."""

    def abandoned(self) -> None:
        """Take in that no reader is left, before all bytes have arrived."""


class SharedBody:
    """The bytes of one range of one object, while they arrive.

    Args:
        source: the reader of the request; it belongs to the body from now on.
        reopen: continues when the reader that fetched has failed or was cancelled, which closes the source.
        events: are called once, one or the other.
    """

    def __init__(self, source: ObjectReader, reopen: Reopen, events: BodyEvents) -> None:
        self.info: Final[ObjectInfo] = source.info
        self.start: Final = source.start
        self.stop: Final = source.stop
        self.reopen: Final = reopen
        self._source: ObjectReader | None = source
        self._events = events
        self._chunks: list[bytes] = []
        self._offsets: list[int] = []
        self._readers = 0
        self._fetching = False
        self._abandoned = False
        self._waiters: list[asyncio.Future[bool]] = []
        self.arrived = source.start

    @property
    def is_abandoned(self) -> bool:
        """Whether no reader was left before all bytes had arrived, so that nobody can join."""
        return self._abandoned

    def hold(self) -> None:
        """Count one more reader, before it is made."""
        self._readers += 1

    def reader(self, *, held: bool = False) -> ObjectReader:
        """Return a new reader; with ``held`` it was counted already."""
        if not held:
            self.hold()
        return ObjectReader(self.info, _SharedStream(self), start=self.start, stop=self.stop)

    def let_go(self) -> None:
        """Count one reader less, and abort the source if it was the last."""
        source = self._leave()
        if source is not None:
            source.abort()

    async def close(self) -> None:
        """Count one reader less, and close the source if it was the last."""
        source = self._leave()
        if source is not None:
            await source.aclose()

    def _leave(self) -> ObjectReader | None:
        self._readers -= 1
        if self._readers or self._abandoned or self.arrived == self.stop:
            return None
        self._abandoned = True
        self._chunks.clear()
        self._offsets.clear()
        self.arrived = self.start
        source, self._source = self._source, None
        self._events.abandoned()
        return source

    async def read(self, position: int, size: int) -> bytes:
        """Return 1 to ``size`` bytes at a position that is before the end.

        Raises:
            _OtherFailed: another reader's attempt failed, so that this one may try.
        """
        while position >= self.arrived:
            if not self._fetching:
                await self._fetch()
            elif not await self._wait():
                raise _OtherFailed
        at = bisect_right(self._offsets, position) - 1
        chunk, first = self._chunks[at], position - self._offsets[at]
        return chunk if not first and len(chunk) <= size else chunk[first : first + size]

    async def _wait(self) -> bool:
        """Wait for the reader that fetches; tell whether it did not fail."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return await waiter

    def _wake(self, succeeded: bool) -> None:
        self._fetching = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(succeeded)

    async def _fetch(self) -> None:
        """Fetch the next bytes; if that fails, the source is closed and another reader opens a new one."""
        self._fetching = True
        try:
            if self._source is None:
                self._source = await self.reopen(self.arrived)
            chunk = await anext(self._source)
        except BaseException as error:
            source, self._source = self._source, None
            if source is not None:
                source.abort()
            self._wake(not isinstance(error, Exception))
            raise
        self._offsets.append(self.arrived)
        self._chunks.append(chunk)
        self.arrived += len(chunk)
        self._wake(True)
        if self.arrived == self.stop:
            await self._finish()

    async def _finish(self) -> None:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks[:], self._offsets[:] = [data], [self.start]
        await self._events.complete(data)


class _OtherFailed(Exception):  # noqa: N818 - it is a signal between readers, and no error of a user
    """The reader that fetched has failed."""


class _SharedStream(ByteStream):
    """One reader of a shared body.

    It leaves the others, and has a request of its own, when it moves ahead of what has arrived, or when requests of
    others have failed several times.
    """

    def __init__(self, body: SharedBody) -> None:
        self._body = body
        self._position = body.start
        self._joined = True
        self._failures = 0
        self._own: ObjectReader | None = None

    async def read(self, size: int) -> bytes:
        with tried_again():
            chunk = await self._read(size)
        self._position += len(chunk)
        return chunk

    async def _read(self, size: int) -> bytes:
        while self._joined and self._failures < GIVE_UP:
            try:
                return await self._body.read(self._position, size)
            except _OtherFailed:
                self._failures += 1
        if self._position < self._body.arrived:
            return await self._body.read(self._position, size)
        self._leave()
        if self._own is None:
            self._own = await self._body.reopen(self._position)
        return await self._own.read(min(size, _STEP))

    async def seek(self, offset: int) -> None:
        if self._own is not None:
            self._own.abort()
            self._own = None
        self._position = offset
        if offset > self._body.arrived:
            self._leave()

    def abort(self) -> None:
        self._leave()
        if self._own is not None:
            self._own.abort()
            self._own = None

    async def aclose(self) -> None:
        own, self._own = self._own, None
        if self._joined:
            self._joined = False
            await self._body.close()
        if own is not None:
            await own.aclose()

    def _leave(self) -> None:
        if self._joined:
            self._joined = False
            self._body.let_go()
