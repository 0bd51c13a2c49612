"""`Limit`: so many operations at once, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from trove_async.body import Body, Chunk
from trove_async.driver.base import Driver
from trove_async.driver.options import PutOptions
from trove_async.errors import InvalidArgumentError
from trove_async.layers.base import LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo, PartInfo

__all__ = ["Limit"]

R = TypeVar("R")


@dataclass(frozen=True)
class Limit:
    """Let at most ``concurrency`` operations be at work in the backend at once; the others wait in order.

    A reader counts while it fetches, not while its user holds it. A put counts while the backend works, not
    while it waits for a body that is made as it goes. So a task may write what it reads through the same
    limit and never wait for itself.
    """

    concurrency: int

    def __post_init__(self) -> None:
        if not isinstance(self.concurrency, int) or self.concurrency < 1:
            raise InvalidArgumentError(f"concurrency must be 1 or more, not {self.concurrency!r}")

    def __call__(self, driver: Driver) -> Driver:
        """Put the limit around a driver; each driver has its own."""
        return _LimitDriver(driver, self.concurrency)


class _LimitDriver(LayerDriver):
    def __init__(self, inner: Driver, concurrency: int) -> None:
        super().__init__(inner)
        self._slots = asyncio.Semaphore(concurrency)

    async def around(self, operation: Operation, call: Callable[[], Awaitable[R]]) -> R:
        async with self._slots:
            result = await call()
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _LimitedStream(stream, self._slots))
        return result

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        async with _Slot(self._slots) as slot:
            return await self.inner.put(bucket, key, slot.lend_to(body), options)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        inner: Any = self.inner  # the class has this method only where the inner driver has it
        async with _Slot(self._slots) as slot:
            part: PartInfo = await inner.upload_part(bucket, key, upload_id, number, slot.lend_to(body))
        return part


class _Slot:
    """One of the operations at work; it steps back while it waits for its body."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._held = False

    async def take(self) -> None:
        await self._slots.acquire()
        self._held = True

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()

    def lend_to(self, body: Body) -> Body:
        """Return a body during whose making the slot is free."""
        # What can be replayed is there already: it is in memory or in a file.
        if body.replayable:
            return body
        return Body(_Lent(body, self), size=body.size, checksum=body.checksum)


class _Lent:
    """The chunks of a body, each of which is waited for without a slot."""

    def __init__(self, body: Body, slot: _Slot) -> None:
        self._body = body
        self._slot = slot

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        self._slot.give_back()
        try:
            chunk = await anext(self._body)
        except StopAsyncIteration:
            await self._slot.take()  # now the driver commits
            raise
        # After any other error nothing is done but clean-up, which must not wait in a queue.
        await self._slot.take()
        return chunk


class _LimitedStream(ByteStream):
    def __init__(self, inner: ByteStream, slots: asyncio.Semaphore) -> None:
        self._inner = inner
        self._slots = slots

    async def read(self, size: int) -> bytes:
        async with self._slots:
            return await self._inner.read(size)

    async def seek(self, offset: int) -> None:
        async with self._slots:
            await self._inner.seek(offset)

    def abort(self) -> None:
        self._inner.abort()

    async def aclose(self) -> None:
        await self._inner.aclose()
