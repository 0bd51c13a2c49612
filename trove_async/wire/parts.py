"""Bodies that go in parts: cut without a copy, and sent some at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Final, TypeVar

import anyio

from trove_async.body import Body, Chunk, Piece, loaded
from trove_async.driver.pace import Pace
from trove_async.wire.protocol import ON_SENT

__all__ = ["PART_CONCURRENCY", "PartSource", "in_parallel"]

PART_CONCURRENCY: Final = 32
"""How many parts of one upload are under way at once at most, by default: many services and links limit each
connection."""

T = TypeVar("T")


class PartSource:
    """A body, taken in parts; it is read one chunk ahead, to know whether there is more.

    Args:
        body: one that is in memory has been finished (`Body.finish_buffer`), and is not read again.

    Attributes:
        ended: whether all of it has been taken.
    """

    def __init__(self, body: Body) -> None:
        self._body = body if body.buffer is None else None
        self._chunks: deque[Chunk] = deque([body.buffer] if body.buffer else ())
        self._available = sum(map(len, self._chunks))
        self._taken = 0
        self.ended = False

    @property
    def holds(self) -> bool:
        """Whether what is taken needs memory: it is neither in memory already nor left in a file."""
        return self._body is not None and not self._body.sliceable

    async def take_pieces(self, size: int) -> list[Piece]:
        """Return the next bytes as `take` does; those of a file are not read yet, if they are many."""
        body = self._body
        if body is None or not body.sliceable:
            return [*await self.take(size)]
        assert body.size is not None
        self._chunks.clear()  # what was read ahead is read again
        self._available = 0
        start, stop = self._taken, min(self._taken + size, body.size)
        self._taken = stop
        slices = body.slices(start, stop)
        if stop == body.size:
            await body.finish_slices()
            self.ended = True
        return [*slices] if len(slices) > 1 else [*await loaded(slices)]

    async def take(self, size: int) -> list[Chunk]:
        """Return the next ``size`` bytes, fewer only at the end of the body; then `ended` is true."""
        while not self.ended and self._available <= size:
            chunk = b"" if self._body is None else await anext(self._body, b"")
            self.ended = not chunk
            if chunk:
                # What is kept while more is asked for must not change: see `Body`.
                self._chunks.append(chunk if type(chunk) is bytes else bytes(chunk))
                self._available += len(chunk)
        return self._cut(size)

    def _cut(self, size: int) -> list[Chunk]:
        taken: list[Chunk] = []
        while size and self._chunks:
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                view = memoryview(chunk)
                self._chunks.appendleft(view[size:])
                chunk = view[:size]
            taken.append(chunk)
            self._taken += len(chunk)
            size -= len(chunk)
            self._available -= len(chunk)
        return taken


async def in_parallel(jobs: AsyncGenerator[Callable[[], Awaitable[T]], None], pace: Pace) -> list[T]:
    """Do the jobs, some at a time, and return their results in the order of the jobs.

    The next job is asked for only when there is a place for it. The first failure ends the others, and is raised
    alone.

    Args:
        jobs: to do.
        pace: how many are under way at once; it takes in what they send.
    """
    results: dict[int, T] = {}
    failures: list[Exception] = []
    places = _Places(pace)

    async with aclosing(jobs), anyio.create_task_group() as group:

        async def run(number: int, job: Callable[[], Awaitable[T]]) -> None:
            ON_SENT.set(partial(places.sent, number))  # for this task alone
            try:
                results[number] = await job()
            except Exception as error:  # noqa: BLE001 - raised below, alone and not in a group
                failures.append(error)
                group.cancel_scope.cancel()
            finally:
                places.leave(number)

        try:
            number = 0
            async for job in jobs:
                places.enter(number)
                group.start_soon(run, number, job)
                number += 1
                await places.free()
        except Exception as error:  # noqa: BLE001 - as above
            failures.append(error)
            group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return [results[number] for number in sorted(results)]


class _Places:
    """Places for jobs, as many as a pace allows."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._now = asyncio.get_running_loop().time
        self._running = 0
        self._most = 0  # at once so far
        self._fresh: set[int] = set()  # jobs that make more than before at once, and fill buffers at first
        self._changed = asyncio.Event()
        self._since: float | None = None  # when `free` began to wait, or the pace last took that in

    def enter(self, number: int) -> None:
        """Begin a job."""
        self._running += 1
        if self._running > self._most:
            self._most = self._running
            self._fresh.add(number)

    def leave(self, number: int) -> None:
        """End a job."""
        self._running -= 1
        self._fresh.discard(number)
        self._changed.set()

    async def free(self) -> None:
        """Wait until there is a place for another job."""
        self._since = self._now()
        while self._running >= self._pace.width:
            self._changed.clear()
            await self._changed.wait()
        self._wait(self._since)
        self._since = None

    def sent(self, number: int, size: int, full: bool) -> None:
        """Take in that a job has sent bytes, and whether its connection has no room for more now.

        The rate counts from when the buffers of all jobs are full that make more than before: until then it is not that
        of the link.
        """
        if self._since is not None:
            self._wait(self._since)
        if self._fresh:
            if full:
                self._fresh.discard(number)
            self._pace.begin()
        else:
            self._pace.arrived(size, self._now())
            self._changed.set()

    def _wait(self, since: float) -> None:
        self._since = self._now()
        self._pace.waited(self._since - since)
