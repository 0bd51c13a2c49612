"""`Limit`: bound the number of operations that run at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Literal, Self, TypeVar

from trove_async.body import Body, Chunk
from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.deadlines import mark_unsent
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.values import is_whole

__all__ = ["Limit"]

R = TypeVar("R")


@dataclass(frozen=True)
class Limit:
    """Run at most ``concurrency`` operations in the backend at once; the others wait in order.

    A reader counts while it fetches data, not while its user holds it. A put counts while the backend works,
    not while it waits for a body that is produced during the put. So a task can write what it reads through
    the same limit without waiting for itself. A watch counts while it is opened, not while it waits for events.
    """

    concurrency: int

    def __post_init__(self) -> None:
        if not is_whole(self.concurrency) or self.concurrency < 1:
            raise InvalidArgumentError(
                f"concurrency is a whole number of 1 or more, as in Limit(8), not {self.concurrency!r}"
            )

    def __call__(self, driver: Driver) -> Driver:
        """Put the limit around a driver; each driver has its own."""
        return _LimitDriver(driver, self.concurrency)


class _LimitDriver(LayerDriver):
    layer_name: ClassVar[str | None] = "Limit"
    never_around: ClassVar[Mapping[str, str]] = {"Retry": "its attempts would pass Limit only once"}

    def __init__(self, inner: Driver, concurrency: int) -> None:
        super().__init__(inner)
        self._slots = _Slots(concurrency)

    async def around(self, operation: Operation, call: Call[R]) -> R:
        # A replayable body is in memory or in a file: there is nothing to wait for.
        if operation.body is not None and not operation.body.replayable:
            async with _Slot(self._slots) as slot:
                return await call(body=slot.released_by(operation.body))
        await self._slots.acquire()
        try:
            result = await call()
        finally:
            self._slots.release()
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _LimitedStream(stream, self._slots))
        return result


class _Slots(asyncio.Semaphore):
    async def acquire(self) -> Literal[True]:
        try:
            return await super().acquire()
        except asyncio.CancelledError as error:
            mark_unsent(error)
            raise


class _Slot:
    """One of the operations that run; it is free while the operation waits for its body."""

    def __init__(self, slots: _Slots) -> None:
        self._slots = slots
        self._held = False

    async def acquire(self) -> None:
        await self._slots.acquire()
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def released_by(self, body: Body) -> Body:
        """Return the body; the slot is free while it produces its next chunk."""
        return Body(_ReleasingChunks(body, self), size=body.size, checksum=body.checksum)


class _ReleasingChunks:
    """The chunks of a body; the slot is free while the next one is awaited."""

    def __init__(self, body: Body, slot: _Slot) -> None:
        self._body = body
        self._slot = slot

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        self._slot.release()
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            await self._slot.acquire()  # for the commit
            raise
        # After any other error only clean-up follows, which must not wait in a queue.
        await self._slot.acquire()
        return chunk


class _LimitedStream(StreamWrapper):
    def __init__(self, inner: ByteStream, slots: _Slots) -> None:
        super().__init__(inner)
        self._slots = slots

    async def read(self, size: int) -> bytes:
        async with self._slots:
            return await self.inner.read(size)

    async def seek(self, offset: int) -> None:
        async with self._slots:
            await self.inner.seek(offset)
