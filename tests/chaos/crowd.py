"""Tasks that use a store while its server fails, and know what may be in it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Self

import trove_async as trove
from tests.payload import pattern

__all__ = ["Crowd"]

_PAUSE: Final = 0.05
"""Seconds that a task waits after a failure that does not say how long to wait."""


class _Member:
    """One task, which replaces and reads an object of its own.

    Attributes:
        key: of the object.
        possible: what may be stored now: what was acknowledged last, and what was written since then with unknown
            outcome; None for no object.
        acknowledged: how many of its writes were.
        done: how many of its calls have ended, by success or failure.
    """

    def __init__(self, number: int, size: int) -> None:
        self.key = f"member-{number:03}"
        self.possible: set[bytes | None] = {None}
        self.acknowledged = 0
        self.done = 0
        self._content = pattern(size)
        self._writes = 0

    async def write(self, store: trove.Trove, bucket: str) -> None:
        self._writes += 1
        body = b"%s %d " % (self.key.encode(), self._writes) + self._content
        try:
            await store.put(bucket, self.key, body)
        except trove.TroveError as error:
            if error.ambiguous:
                self.possible.add(body)
            raise
        self.possible = {body}
        self.acknowledged += 1

    async def read(self, store: trove.Trove, bucket: str) -> None:
        found: bytes | None
        try:
            found = await store.read(bucket, self.key)
        except trove.ObjectNotFoundError:
            found = None
        assert found in self.possible, f"{self.key} is {found and found[:20]!r} of {found and len(found)} bytes"


class Crowd:
    """Tasks that replace and read objects until the end of their ``async with``; each has one.

    Args:
        store, bucket: where.
        bound: seconds after which a call hangs.
        sizes: bytes of the objects; the tasks take turns.
        count: the number of tasks.

    Attributes:
        members: the tasks.
        failures: the numbers of calls that failed, by the class of their errors. What is no `TroveError` fails the
            test.
    """

    def __init__(
        self, store: trove.Trove, bucket: str, *, bound: float, sizes: tuple[int, ...] = (4096,), count: int = 100
    ) -> None:
        self.members = [_Member(number, sizes[number % len(sizes)]) for number in range(count)]
        self.failures: Counter[type[trove.TroveError]] = Counter()
        self._store = store
        self._bucket = bucket
        self._bound = bound
        self._stopped = False
        self._change = asyncio.Event()

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged."""
        return sum(member.acknowledged for member in self.members)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Self]:
        """Let the tasks work inside the block; at its end each finishes its call."""
        async with asyncio.TaskGroup() as group:
            for member in self.members:
                group.create_task(self._work(member))
            yield self
            self._stopped = True

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is evaluated again after each call."""
        while not holds():
            await self._change.wait()

    async def until_everyone_ended_a_call(self) -> None:
        """Wait until each task has ended a call that it began from now on, by success or failure."""
        before = [member.done for member in self.members]
        await self.until(lambda: all(now.done > was + 1 for now, was in zip(self.members, before, strict=True)))

    async def until_everyone_writes(self) -> None:
        """Wait until a write of each task was acknowledged from now on."""
        before = [member.acknowledged for member in self.members]
        await self.until(lambda: all(now.acknowledged > was for now, was in zip(self.members, before, strict=True)))

    async def check(self, store: trove.Trove) -> None:
        """Assert that each object is what its task may expect, read from a store that works."""
        for member in self.members:
            await member.read(store, self._bucket)

    async def _work(self, member: _Member) -> None:
        while not self._stopped:
            for call in (member.write, member.read):
                try:
                    async with asyncio.timeout(self._bound):
                        await call(self._store, self._bucket)
                except trove.TroveError as error:
                    self.failures[type(error)] += 1
                    await asyncio.sleep(error.retry_after or _PAUSE)
                member.done += 1
                self._change.set()
                self._change = asyncio.Event()
