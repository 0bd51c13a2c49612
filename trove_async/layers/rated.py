"""The parts of `Limit` that bound operations and bytes a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from trove_async.body import Body
from trove_async.driver.base import Driver
from trove_async.driver.methods import SIGNING
from trove_async.layers.base import Call, Operation
from trove_async.layers.limit_part import READERS, LimitPart
from trove_async.layers.queueing import Line
from trove_async.layers.rates import TokenBucket
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.sources import Chunk, Source

__all__ = ["BytesDriver", "OperationsDriver"]

R = TypeVar("R")

_LEAST_READ: Final = 4096
_FIRST_READ: Final = 65536


class OperationsDriver(LimitPart):
    """Bounds operations a second, and requests that continue a body.

    Args:
        inner: the driver.
        rate: operations a second.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, inner: Driver, rate: float, clock: Callable[[], float]) -> None:
        super().__init__(inner)
        self._line = Line(TokenBucket(rate, clock=clock))

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Wait for the operation's turn."""
        if operation.name in SIGNING:
            return await call()
        await self._line.take()
        result = await call()
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _CountedStream(stream, self._line))
        return result


class _CountedStream(StreamWrapper):
    def __init__(self, inner: ByteStream, line: Line) -> None:
        super().__init__(inner)
        self._line = line

    async def seek(self, offset: int) -> None:
        await self._line.take()
        await self.inner.seek(offset)


class BytesDriver(LimitPart):
    """Bounds the bytes a second of the bodies that are read and written.

    How much a read will return is not known before, so that it takes the tokens that the last one needed, and settles
    the difference.

    Args:
        inner: the driver.
        rate: bytes a second.
        clock: seconds of a monotonic clock.
    """

    def __init__(self, inner: Driver, rate: float, clock: Callable[[], float]) -> None:
        super().__init__(inner)
        self._line = Line(TokenBucket(rate, clock=clock))
        self._most = max(_LEAST_READ, int(rate / 10))  # so that a body flows instead of coming in gushes
        self._last = 0  # the size of the last body that came whole

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Wait until the body may pass, or let it wait on its way."""
        if operation.body is not None:
            return await self._write(operation.body, call)
        return await (self._read(call) if operation.name in READERS else call())

    async def _write(self, body: Body, call: Call[R]) -> R:
        if body.buffer is not None:
            await self._line.take(len(body.buffer))
            return await call()
        metered: list[_MeteredSource] = []

        def meter(source: Source) -> Source:
            metered.append(_MeteredSource(source, self._line))
            return metered[0]

        body.wrap(meter)
        try:
            return await call()
        finally:  # another attempt passes here again
            body.wrap(lambda source: metered[0].inner if source is metered[0] else source)

    async def _read(self, call: Call[R]) -> R:
        taken, used = self._last, 0
        await self._line.take(taken)
        try:
            result = await call()
            if isinstance(result, ObjectReader):
                size = result.stop - result.start
                if result.buffered:
                    self._last = used = size
                else:
                    result.wrap(lambda stream: _MeteredStream(stream, self._line, self._most, size))
        finally:
            self._line.give(taken - used)
        return result


class _MeteredStream(StreamWrapper):
    def __init__(self, inner: ByteStream, line: Line, most: int, size: int) -> None:
        super().__init__(inner)
        self._line = line
        self._most = most
        self._last = min(_FIRST_READ, size)

    async def read(self, size: int) -> bytes:
        size = min(size, self._most)
        taken, used = min(size, self._last), 0
        await self._line.take(taken)
        try:
            chunk = await self.inner.read(size)
            used = len(chunk)
        finally:
            self._line.give(taken - used)
        self._last = used
        return chunk


class _MeteredSource(Source):
    """A source whose chunks wait until they may pass."""

    def __init__(self, inner: Source, line: Line) -> None:
        self.inner = inner
        self._line = line
        self.size, self.replayable, self.cleanup_timeout = inner.size, inner.replayable, inner.cleanup_timeout

    async def read(self) -> Chunk:
        chunk = await self.inner.read()
        # At the end everything may have been sent: to wait there would say that it was not.
        if chunk:
            await self._line.take(len(chunk))
        return chunk

    async def rewind(self) -> None:
        await self.inner.rewind()

    async def aclose(self) -> None:
        await self.inner.aclose()
