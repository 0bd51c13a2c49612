"""What the tests of `Cache` share: a backend that counts, streams and waits, and a clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trove_async as trove
from trove_async import Cache, Trove
from trove_async.driver import Driver, Features
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader

__all__ = ["Backend", "Clock", "opened"]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Stream(ByteStream):
    """A body that arrives in steps.

    Before each read it takes a turn of the loop, waits for ``gate`` and raises the next of ``errors``, if any.
    """

    def __init__(self, backend: Backend, data: bytes, start: int) -> None:
        self.backend = backend
        self.start = start
        self.data = data
        self.position = 0
        self.open = True

    async def read(self, size: int) -> bytes:
        assert self.open
        backend = self.backend
        await asyncio.sleep(0)
        if backend.gate is not None:
            backend.waiting += 1
            try:
                await backend.gate.wait()
            finally:
                backend.waiting -= 1
        if backend.errors:
            raise backend.errors.pop(0)
        chunk = self.data[self.position : self.position + min(size, backend.step)]
        self.position += len(chunk)
        backend.bytes += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self.position = offset - self.start

    def abort(self) -> None:
        self.open = False

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.open = False


async def settle() -> None:
    """Let the other tasks go on until each of them waits for an event: the stores of these tests take no time."""
    for _ in range(100):
        await asyncio.sleep(0)


class Backend:
    """A layer beneath a cache.

    Attributes:
        calls: how often each method was called.
        options: of the gets, in order.
        bytes: that were read from bodies.
        step: bytes of a body that arrive at once; 0 for bodies that are in memory.
        turns: of the loop until an answer to a get arrives.
        gate: what bodies wait for.
        errors: that reads of bodies raise.
        answers: what gets wait for before the driver is asked, and after; for tests of races.
    """

    def __init__(self, *, step: int = 0, conditions: bool = True, turns: int = 0) -> None:
        self.calls: Counter[str] = Counter()
        self.options: list[Any] = []
        self.bytes = 0
        self.step = step
        self.conditions = conditions
        self.turns = turns
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.errors: list[Exception] = []
        self.failures: list[Exception] = []
        self.before: asyncio.Event | None = None
        self.after: asyncio.Event | None = None
        self.streams: list[Stream] = []

    @property
    def open_streams(self) -> int:
        return sum(stream.open for stream in self.streams)

    def took(self) -> dict[str, int]:
        """Return the calls since the last time."""
        taken = dict(self.calls)
        self.calls.clear()
        return taken

    def __call__(self, driver: Driver) -> Driver:
        backend = self

        class Beneath(LayerDriver):
            @property
            def features(self) -> Features:
                found = super().features
                return found if backend.conditions else found.without({"get": "the test does without"})

            async def around(self, operation: Operation, call: Call[Any]) -> Any:
                backend.calls[operation.name] += 1
                if operation.name != "get":
                    return await call()
                backend.options.append(operation["options"])
                if backend.before is not None:
                    await backend.before.wait()
                await asyncio.sleep(0)
                if backend.failures:
                    raise backend.failures.pop(0)
                reader = await call()
                if backend.after is not None:
                    await backend.after.wait()
                for _ in range(backend.turns):
                    await asyncio.sleep(0)
                return await backend.streamed(reader) if backend.step else reader

        return Beneath(driver)

    async def streamed(self, reader: ObjectReader) -> ObjectReader:
        stream = Stream(self, await reader.read(), reader.start)
        self.streams.append(stream)
        return ObjectReader(reader.info, stream, start=reader.start, stop=reader.stop)


@asynccontextmanager
async def opened(cache: Cache, backend: Backend, store: str | Driver = "memory://", *more: Any) -> AsyncIterator[Trove]:
    """Open a store with a bucket ``b``, and check that nothing is left of its bodies."""
    async with trove.open(store, layers=[backend, cache, *more]) as t:
        await t.create_bucket("b", exist_ok=True)
        backend.took()
        yield t
    assert backend.open_streams == 0
    assert backend.waiting == 0
