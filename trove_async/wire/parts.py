"""Bodies that go in parts: cut without a copy, and sent some at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

import anyio

from trove_async.body import Body, Chunk

__all__ = ["PART_CONCURRENCY", "PartSource", "in_parallel"]

PART_CONCURRENCY: Final = 12
"""How many parts of one upload are under way at once by default: many services and links limit each connection."""

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
        self.ended = False

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
            size -= len(chunk)
            self._available -= len(chunk)
        return taken


async def in_parallel(jobs: AsyncGenerator[Callable[[], Awaitable[T]], None], concurrency: int) -> list[T]:
    """Do the jobs, some at a time, and return their results in the order of the jobs.

    The next job is asked for only when there is a place for it. The first failure ends the others, and is raised
    alone.
    """
    results: dict[int, T] = {}
    failures: list[Exception] = []
    free = asyncio.Semaphore(concurrency)

    async with aclosing(jobs), anyio.create_task_group() as group:

        async def run(number: int, job: Callable[[], Awaitable[T]]) -> None:
            try:
                results[number] = await job()
            except Exception as error:  # noqa: BLE001 - raised below, alone and not in a group
                failures.append(error)
                group.cancel_scope.cancel()
            finally:
                free.release()

        try:
            await free.acquire()
            number = 0
            async for job in jobs:
                group.start_soon(run, number, job)
                number += 1
                await free.acquire()
        except Exception as error:  # noqa: BLE001 - as above
            failures.append(error)
            group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return [results[number] for number in sorted(results)]
