"""`Limit`: so many operations at once, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.options import GetOptions
from trove_async.errors import InvalidArgumentError
from trove_async.layers.base import LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader

__all__ = ["Limit"]

R = TypeVar("R")


@dataclass(frozen=True)
class Limit:
    """Let at most ``concurrency`` operations be at work in the backend at once; the others wait in order.

    A reader counts while it fetches, not while its user holds it, so that a task may write what it
    reads through the same limit and never wait for itself.
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
            return await call()

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        reader = await super().get(bucket, key, options)
        reader.wrap(lambda stream: _LimitedStream(stream, self._slots))
        return reader


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
