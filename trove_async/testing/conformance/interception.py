"""Layers for checks: one calls a function before operations, one while an object is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from trove_async.driver import Driver, GetOptions
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper

__all__ = ["COPYING", "Intercept", "Read", "Streams", "read_on"]

R = TypeVar("R")

Read = Callable[[ByteStream, int], Awaitable[bytes]]
"""Reads up to a number of bytes from a stream, or fails like a network."""

COPYING: Final = frozenset({"copy", "put"})
"""The operations by which a store writes a small copy: ``copy``, or ``put`` where copies are read and written."""

_CHUNK: Final = 16 * 1024


class Intercept:
    """A layer that calls a function before every operation; an exception of the function is raised.

    The function is awaited, so it can also delay an operation.
    """

    def __init__(self, before: Callable[[Operation], Awaitable[None]]) -> None:
        self._before = before

    def __call__(self, driver: Driver) -> Driver:
        """Wrap a driver."""
        return _InterceptedDriver(driver, self._before)


class _InterceptedDriver(LayerDriver):
    def __init__(self, inner: Driver, before: Callable[[Operation], Awaitable[None]]) -> None:
        super().__init__(inner)
        self._before = before

    async def around(self, operation: Operation, call: Call[R]) -> R:
        await self._before(operation)
        return await call()


async def read_on(stream: ByteStream, size: int) -> bytes:
    """Read without failing."""
    return await stream.read(size)


class Streams:
    """A layer that answers every get with a stream, also for small objects, and reads it through a function.

    Attributes:
        open: the number of open streams: opened, and neither closed nor aborted.
        opened: the number of streams that were opened, by a get or again by a seek.
    """

    def __init__(self, read: Read = read_on) -> None:
        self.open = 0
        self.opened = 0
        self.read = read

    def __call__(self, driver: Driver) -> Driver:
        """Wrap a driver."""
        return _StreamsDriver(driver, self)


class _StreamsDriver(LayerDriver):
    def __init__(self, inner: Driver, streams: Streams) -> None:
        super().__init__(inner)
        self._streams = streams

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        reader = await super().get(bucket, key, options)
        if reader.buffered:
            source = _BufferStream(await reader.read(), reader.start)
            reader = ObjectReader(reader.info, source, start=reader.start, stop=reader.stop)
        reader.wrap(lambda stream: _CountedStream(stream, self._streams))
        return reader


class _BufferStream(ByteStream):
    """The bytes of an object as a stream that returns them in small pieces."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start
        self._position = 0

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        chunk = self._data[self._position : self._position + min(size, _CHUNK)]
        self._position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        await asyncio.sleep(0)
        self._position = offset - self._start

    def abort(self) -> None:
        """Do nothing: it holds no resources."""


class _CountedStream(StreamWrapper):
    def __init__(self, inner: ByteStream, streams: Streams) -> None:
        super().__init__(inner)
        self._streams = streams
        self._open = False
        self._count_open()

    def _count_open(self) -> None:
        if not self._open:
            self._open = True
            self._streams.open += 1
            self._streams.opened += 1

    def _count_closed(self) -> None:
        if self._open:
            self._open = False
            self._streams.open -= 1

    async def read(self, size: int) -> bytes:
        return await self._streams.read(self.inner, size)

    async def seek(self, offset: int) -> None:
        self._count_open()
        await self.inner.seek(offset)

    def abort(self) -> None:
        self.inner.abort()
        self._count_closed()

    async def aclose(self) -> None:
        await self.inner.aclose()
        self._count_closed()
