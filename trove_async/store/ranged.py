"""`RangedStream`: a large object, read by several requests at once where that is faster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.memory import MemoryBudget
from trove_async.driver.pace import Pace
from trove_async.driver.pinning import OpenRange
from trove_async.reader import ByteStream, StreamWrapper

__all__ = ["RANGE_SIZE", "RangedStream"]

RANGE_SIZE: Final = 8 * 1024 * 1024
"""Bytes of a range that is read beside others."""

_LEAST: Final = 2 * 1024 * 1024
"""Bytes of the smallest range, towards the end of the object or in little memory."""

_LARGE_CHUNK: Final = 256 * 1024
_FAILURES: Final = 3


class _Range:
    """A range that is read ahead.

    Attributes:
        start, stop: offsets in the object.
        held: bytes of the budget that are held for it.
        place: where its bytes belong; None to keep them in ``chunks``.
        arrived, taken: how many bytes.
        position: in the first chunk.
        over: whether nothing more arrives.
        widens: whether more ranges are read at once than before.
    """

    __slots__ = ("arrived", "chunks", "held", "over", "place", "position", "start", "stop", "taken", "widens")

    def __init__(self, start: int, stop: int, place: memoryview | None, widens: bool) -> None:
        self.start = start
        self.stop = stop
        self.held = stop - start
        self.place = place
        self.widens = widens
        self.chunks: deque[bytes] = deque()
        self.arrived = 0
        self.taken = 0
        self.position = 0
        self.over = False

    @property
    def is_fresh(self) -> bool:
        """Whether it makes more ranges than before, and nothing of it has arrived yet."""
        return self.widens and not self.arrived

    def add(self, chunk: bytes) -> None:
        if self.place is None:
            self.chunks.append(chunk)
        else:
            self.place[self.arrived : self.arrived + len(chunk)] = chunk
        self.arrived += len(chunk)

    def take(self, size: int) -> bytes:
        """Take the next 1 to ``size`` bytes of those that have arrived; small chunks are joined."""
        first, at = self.chunks[0], self.position
        if len(first) - at > size:
            chunk = first[at : at + size]
            self.position += size
        else:
            self.position = 0
            chunk = self.chunks.popleft()[at:]
            if self.chunks and len(chunk) < _LARGE_CHUNK:
                pieces = [chunk]
                left = size - len(chunk)
                while self.chunks and len(self.chunks[0]) <= left:
                    left -= len(self.chunks[0])
                    pieces.append(self.chunks.popleft())
                chunk = b"".join(pieces)
        self.taken += len(chunk)
        return chunk


class RangedStream(StreamWrapper):
    """Reads the answer to the first request, and ranges that follow it by requests beside it.

    It begins with the first answer alone. While its reader waits for bytes, `Pace` decides how many ranges are read at
    once. They arrive in any order and are returned in the order of the object. Each range holds its size of the budget
    until its bytes are returned, or have arrived where `readinto` has a place for them. So the budget also bounds how
    many ranges are read at once for all readers. ``inner`` needs none, so that no reader waits for another.

    A range that fails is given up: its bytes are then read by ``inner``, as if there were no ranges, and so is
    everything from there on if nothing is gained by them.

    Args:
        inner: the first answer; its `seek` continues it.
        open_range: opens a range.
        start, stop: the offsets in the object of what ``inner`` reads.
        limit: how many ranges may be read at once.
        budget: for what is read ahead.
    """

    def __init__(
        self, inner: ByteStream, open_range: OpenRange, start: int, stop: int, limit: int, budget: MemoryBudget
    ) -> None:
        super().__init__(inner)
        self._open_range = open_range
        self._position = start
        self._stop = stop
        self._limit = limit
        self._budget = budget
        self._pace = Pace(limit)
        self._context = inner.context()  # of the call that opened the object: it may be read in that of another
        self._loop = asyncio.get_running_loop()
        self._direct = True  # whether `inner` stands at the position
        self._ranges: deque[_Range] = deque()
        self._running = 0
        self._most = 1  # ranges at once so far
        self._fresh = 0
        self._failures = 0
        self._place: memoryview | None = None  # of the bytes from _place_at on
        self._place_at = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._arrival: asyncio.Future[None] | None = None
        self._reading = False
        self._used = True  # since the budget has asked last

    # Reading in order

    async def read(self, size: int) -> bytes:
        """Return the next 1 to ``size`` bytes."""
        self._place = None
        self._reading = True
        ahead = await self._next()
        chunk = await self._read_inner(size) if ahead is None else ahead.take(size)
        self._advance(len(chunk), ahead)
        return chunk

    async def readinto(self, buffer: memoryview) -> int:
        """Put the next 1 to ``len(buffer)`` bytes into a buffer, and ranges that follow into what follows of it."""
        self._place, self._place_at = buffer, self._position
        self._reading = True
        ahead = await self._next()
        if ahead is not None and ahead.place is not None:
            size = min(ahead.arrived - ahead.taken, len(buffer))
            ahead.taken += size
        else:
            chunk = await self._read_inner(len(buffer)) if ahead is None else ahead.take(len(buffer))
            size = len(chunk)
            buffer[:size] = chunk
        self._advance(size, ahead)
        if size == len(buffer):  # it is the caller's again
            self._place = None
            if ahead is not None:
                ahead.place = None
        return size

    async def seek(self, offset: int) -> None:
        """Continue at an offset, by ``inner`` alone at first."""
        await self._drop()
        self._position = offset
        self._pace = Pace(self._limit)
        await self._seek_inner()

    async def _next(self) -> _Range | None:
        """Wait for the next bytes; return the range that has them, None if ``inner`` is to be read."""
        began = self._loop.time()
        while self._ranges and self._ranges[0].start + self._ranges[0].taken == self._position:
            ahead = self._ranges[0]
            if ahead.arrived > ahead.taken:
                self._pace.waited(self._loop.time() - began)
                return ahead
            if ahead.over:
                self._ranges.popleft()
                self._release(ahead)
                continue
            self._arrival = self._loop.create_future()
            try:
                await self._arrival
            except BaseException:
                await self._drop()
                raise
            finally:
                self._arrival = None
        if not self._direct:
            await self._seek_inner()
        return None

    async def _seek_inner(self) -> None:
        try:
            await self.inner.seek(self._position)
        except BaseException:
            await self._drop()
            raise
        self._direct = True

    async def _read_inner(self, size: int) -> bytes:
        began = self._loop.time()
        end = self._ranges[0].start if self._ranges else self._stop
        try:
            # A range that begins meanwhile begins behind this.
            chunk = await self.inner.read(min(size, RANGE_SIZE, end - self._position))
        except BaseException:
            await self._drop()
            raise
        self._pace.waited(self._loop.time() - began)
        self._measure(len(chunk))
        return chunk

    def _advance(self, size: int, ahead: _Range | None) -> None:
        """Take in that bytes are returned, from a range or from ``inner``."""
        self._position += size
        self._reading, self._used = False, True
        if ahead is not None:
            if ahead.place is None:
                self._give(ahead, size)
        elif self._ranges and self._position == self._ranges[0].start:
            self.inner.suspend()
            self._direct = False
        self._widen()

    # Reading ahead

    def _widen(self) -> None:
        """Have more ranges read, if fewer are read than should be."""
        if self._is_wide():
            return
        if self._feeder is None:
            self._feeder = self._start(self._feed())
        self._room.set()

    def _is_wide(self) -> bool:
        """Tell whether as many ranges are read as should be; one alone is read by ``inner``."""
        return self._pace.width == 1 or self._running + self._direct >= self._pace.width

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _feed(self) -> None:
        """Begin ranges, as long as more should be read and there is memory for them."""
        while True:
            await self._room.wait()
            if self._is_wide():
                self._room.clear()
                continue
            # A fifth of the memory is for ranges that have arrived, and wait for those before them.
            share = max(_LEAST, self._budget.size * 4 // (5 * self._pace.width))
            size = min(share, self._following()[1])
            if size == 0 or size > self._budget.size:
                return  # at the end, or without enough memory
            if size + sum(ahead.held for ahead in self._ranges) > self._budget.size:
                self._room.clear()  # it would wait for itself
                continue
            await self._budget.take(size)
            self._begin(size)

    def _following(self) -> tuple[int, int]:
        """Return where the next range begins, and its size: the ranges get smaller, so that they end together."""
        start = self._ranges[-1].stop if self._ranges else self._position + RANGE_SIZE
        left = max(0, self._stop - start)
        return start, min(left, RANGE_SIZE, max(_LEAST, left // self._pace.width))

    def _place_of(self, start: int, size: int) -> memoryview | None:
        """Return where the bytes of a range belong, if there is a place for all of them."""
        at = start - self._place_at
        return None if self._place is None or at + size > len(self._place) else self._place[at : at + size]

    def _begin(self, memory: int) -> None:
        """Begin a range in memory that was taken for it, if it is still wanted."""
        start, left = self._following()
        size = 0 if self._is_wide() else min(memory, left)
        self._budget.give(memory - size)
        if size == 0:
            return
        self._budget.borrowers.add(self)
        self._running += 1
        active = self._running + self._direct
        ahead = _Range(start, start + size, self._place_of(start, size), widens=active > self._most)
        self._fresh += ahead.widens
        self._most = max(self._most, active)
        self._ranges.append(ahead)
        self._start(self._fetch(ahead)).add_done_callback(partial(self._ended, ahead))

    async def _fetch(self, ahead: _Range) -> None:
        try:
            reader = await self._open_range(ahead.start, ahead.stop)
            async with reader:
                if not (reader.buffered or reader.parallel > 1):
                    self._failures = _FAILURES  # the server answers with the whole object
                    self._failed()
                    return
                async for chunk in reader:
                    self._arrived(ahead, chunk)
        except Exception:  # noqa: BLE001 - what is wrong is found out by `inner`, which continues where the range ends
            self._failed()

    def _ended(self, ahead: _Range, _: asyncio.Task[None]) -> None:
        ahead.over = True
        self._running -= 1
        self._fresh -= ahead.is_fresh
        self._wake(ahead)
        if ahead in self._ranges:  # it was not given up
            self._widen()

    def _arrived(self, ahead: _Range, chunk: bytes) -> None:
        self._fresh -= ahead.is_fresh
        ahead.add(chunk)
        if ahead.place is not None:
            self._give(ahead, len(chunk))
        self._measure(len(chunk))
        self._wake(ahead)

    def _measure(self, size: int) -> None:
        """Take in that bytes have arrived; the rate counts from when all ranges arrive that make more than before."""
        if self._fresh:
            self._pace.begin()
        else:
            self._pace.arrived(size, self._loop.time())

    def _wake(self, ahead: _Range) -> None:
        if self._arrival is not None and not self._arrival.done() and self._ranges and self._ranges[0] is ahead:
            self._arrival.set_result(None)

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._limit = 1
        self._pace, self._most = Pace(self._limit), 1

    # Letting go

    def limit_memory(self, size: int) -> None:
        """Read nothing ahead from now on."""
        self._limit = 1
        self._pace = Pace(1)
        self.inner.limit_memory(size)

    def reclaim(self) -> None:
        """Give up what was read ahead, unless something was read since the last call."""
        if not (self._used or self._reading):
            self._cancel()
            self._pace = Pace(self._limit)
        self._used = False

    def _give(self, ahead: _Range, size: int) -> None:
        ahead.held -= size
        self._budget.give(size)

    def _release(self, ahead: _Range) -> None:
        """Hold nothing more for a range: an error, which may live longer, can refer to it."""
        self._give(ahead, ahead.held)
        ahead.place = None

    def _cancel(self) -> None:
        """Give up all ranges; their tasks end soon."""
        for task in self._tasks:
            task.cancel()
        for ahead in self._ranges:
            self._release(ahead)
        self._ranges.clear()
        self._budget.borrowers.discard(self)
        self._feeder = None
        self._place = None
        self._room.clear()
        self._most = 1

    async def wait_closed(self) -> None:
        """Wait until the tasks of ranges that were given up have ended."""
        if self._tasks:
            await finish(_over(set(self._tasks)), timeout=CLEANUP_TIMEOUT, leftover="ranges that were read ahead")

    async def _drop(self) -> None:
        self._cancel()
        await self.wait_closed()

    def abort(self) -> None:
        """Give up all ranges, and abort ``inner``."""
        self._cancel()
        self.inner.abort()

    async def aclose(self) -> None:
        """Give up all ranges, and close ``inner``."""
        await self._drop()
        await self.inner.aclose()


async def _over(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
