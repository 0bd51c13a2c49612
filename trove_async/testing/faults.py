"""`Faults`: a layer that makes a driver fail where a test wants it to.

::

    faults = Faults([
        Fault("put", error=UnavailableError(), times=2),  # two puts are refused
        Fault("delete", error=UnavailableError(), when="after"),  # one is carried out, its answer lost
        Fault("get", reset_after=70_000),  # the connection of one reader breaks
        Fault("*", delay=0.01, times=None),  # and everything is slow
    ])
    async with trove_async.open("memory://", layers=[faults]) as t: ...
    assert [seen.operation for seen in faults.injected] == [...]
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, Self, TypeVar, cast

from trove_async.body import Body, Chunk
from trove_async.driver import Driver
from trove_async.errors import InvalidArgumentError, TroveError, UnavailableError
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectEvent

__all__ = ["Fault", "Faults", "Injection"]

R = TypeVar("R")
When = Literal["before", "after"]

_READING: Final = ("get", "head", "list", "ping", "presign")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, where, and how often.

    A fault at an operation is a ``delay``, an ``error`` or ``cancel``, before or after the operation. A
    fault at a byte strikes in the middle of the bytes: those of a reader, or of the body of a put or part.
    Every time that its point is reached a fault comes up: ``skip`` times it lets that pass, then it strikes
    ``times`` times, then never again.

    Attributes:
        operation: name of the driver's method, or a pattern such as ``*_multipart`` or ``*``. A fault at
            ``watch`` comes up before the subscription, and before each event after the first.
        key: only operations on this key; None for all.
        when: ``after``: the operation is carried out and its answer lost. A `TroveError` raised after a
            write is ``ambiguous``.
        error: is raised; a copy of it each time.
        delay: seconds to wait first.
        cancel: the calling task is cancelled at this point.
        truncate_after: the bytes end after so many, as if that were all.
        reset_after: after so many bytes ``error`` is raised, or else an `UnavailableError`.
        corrupt_at: the byte at this position arrives changed.
        stall_after: after so many bytes nothing comes any more, until the operation is cancelled.
        skip: how many times it lets pass first.
        times: how many times it strikes; None for always.
    """

    operation: str
    key: str | None = None
    when: When = "before"
    error: BaseException | type[BaseException] | None = None
    delay: float = 0.0
    cancel: bool = False
    truncate_after: int | None = None
    reset_after: int | None = None
    corrupt_at: int | None = None
    stall_after: int | None = None
    skip: int = 0
    times: int | None = 1

    def __post_init__(self) -> None:
        positions = [at for at in self._positions if at is not None]
        if len(positions) > 1 or (positions and (self.cancel or self.delay or self.when == "after")):
            raise InvalidArgumentError("a fault at a byte is one thing; make a fault of its own for each")
        if any(at < 0 for at in positions) or self.skip < 0 or self.delay < 0 or (self.times or 0) < 0:
            raise InvalidArgumentError("positions, skip, times and delay of a fault are 0 or more")
        if not (positions or self.error or self.delay or self.cancel):
            raise InvalidArgumentError("the fault does nothing: give error, delay, cancel, or a position in the bytes")
        if self.error is not None and positions and self.reset_after is None:
            raise InvalidArgumentError("in the middle of the bytes an error is raised by reset_after")

    @property
    def _positions(self) -> tuple[int | None, ...]:
        return self.truncate_after, self.reset_after, self.corrupt_at, self.stall_after

    @property
    def position(self) -> int | None:
        """The byte at which it strikes, from the first that is read or put; None if it is at an operation."""
        return next((at for at in self._positions if at is not None), None)

    def concerns(self, operation: Operation) -> bool:
        """Tell whether the fault is about an operation of this name, on this key."""
        return fnmatchcase(operation.name, self.operation) and self.key in (None, operation.key)

    def make_error(self) -> BaseException:
        """Return what is to be raised."""
        if self.error is None:
            return UnavailableError("the connection was reset (injected)")
        # An error that is raised collects a traceback and where it happened: each time needs its own.
        return self.error() if isinstance(self.error, type) else copy.copy(self.error)


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that has struck: which, and the operation that it struck."""

    fault: Fault
    operation: str
    bucket: str | None
    key: str | None


class Faults:
    """Injects faults into every driver that it is put around.

    Readers and bodies that have a fault in the middle of their bytes are streams, also where the driver holds
    all of it in memory; such a body cannot be replayed by the driver.

    Attributes:
        injected: what has struck so far, in order.
    """

    def __init__(self, plan: Iterable[Fault] = ()) -> None:
        self.injected: list[Injection] = []
        self._plan: list[Fault] = []
        self._met: dict[int, int] = {}  # by place in the plan: how many times the fault came up
        self.add(*plan)

    def __call__(self, driver: Driver) -> Driver:
        """Put the faults around a driver."""
        return _FaultyDriver(driver, self)

    def add(self, *faults: Fault) -> None:
        """Plan more faults, from now on."""
        self._plan.extend(faults)

    def clear(self) -> None:
        """Forget all faults, from now on; `injected` stays."""
        self._plan.clear()
        self._met.clear()

    def next_position(self, operation: Operation, position: int) -> int:
        """Return the first byte behind a position at which a fault may come up; `sys.maxsize` for none."""
        ahead = (
            fault.position
            for fault in self._plan
            if fault.position is not None and fault.position > position and fault.concerns(operation)
        )
        return min(ahead, default=sys.maxsize)

    def meet(self, operation: Operation, when: When, position: int | None = None) -> list[Fault]:
        """Return the faults that strike at a point, and count that it was reached.

        Args:
            operation: that reached it.
            when: before or after the operation.
            position: of the next byte; None for the operation as a whole.
        """
        struck = []
        for place, fault in enumerate(self._plan):
            if fault.position != position or fault.when != when or not fault.concerns(operation):
                continue
            met = self._met[place] = self._met.get(place, 0) + 1
            if met > fault.skip and (fault.times is None or met <= fault.skip + fault.times):
                struck.append(fault)
                self.injected.append(Injection(fault, operation.name, operation.bucket, operation.key))
        return struck


class _FaultyDriver(LayerDriver):
    def __init__(self, inner: Driver, faults: Faults) -> None:
        super().__init__(inner)
        self._faults = faults

    async def around(self, operation: Operation, call: Call[R]) -> R:
        await self._strike(operation, "before")
        if operation.body is not None:
            result = await call(body=self._faulty_body(operation, operation.body))
        else:
            result = await call()
        if operation.name == "watch":
            events = cast(AsyncGenerator[ObjectEvent, None], result)
            return cast(R, self._faulty_events(operation, events))
        try:
            await self._strike(operation, "after")
        except BaseException:
            if isinstance(result, ObjectReader):
                result.abort("its answer was lost (injected)")
            raise
        if isinstance(result, ObjectReader) and self._strikes_bytes(operation):
            return await self._faulty_reader(operation, result)  # type: ignore[return-value]
        return result

    async def _strike(self, operation: Operation, when: When) -> None:
        for fault in self._faults.meet(operation, when):
            await asyncio.sleep(fault.delay)
            if fault.cancel:
                await _cancel_caller()
            if fault.error is not None:
                error = fault.make_error()
                if isinstance(error, TroveError) and when == "after" and not operation.name.startswith(_READING):
                    error.ambiguous = True
                raise error

    def _strikes_bytes(self, operation: Operation) -> bool:
        return self._faults.next_position(operation, -1) < sys.maxsize

    async def _faulty_reader(self, operation: Operation, reader: ObjectReader) -> ObjectReader:
        if reader.buffered:
            stream = _BufferStream(await reader.read(), reader.start)
            reader = ObjectReader(reader.info, stream, start=reader.start, stop=reader.stop)
        start = reader.start
        reader.wrap(lambda inner: _FaultyStream(inner, start, _Passage(self._faults, operation)))
        return reader

    def _faulty_body(self, operation: Operation, body: Body) -> Body:
        if not self._strikes_bytes(operation):
            return body
        return Body(_FaultyChunks(body, _Passage(self._faults, operation)), size=body.size, checksum=body.checksum)

    async def _faulty_events(
        self, operation: Operation, events: AsyncGenerator[ObjectEvent, None]
    ) -> AsyncGenerator[ObjectEvent, None]:
        async with aclosing(events):
            async for event in events:
                yield event
                await self._strike(operation, "before")


async def _cancel_caller() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()  # where the cancellation arrives


class _Passage:
    """Bytes that pass by one after the other, and what happens to them on their way."""

    def __init__(self, faults: Faults, operation: Operation) -> None:
        self.position = 0
        self._faults = faults
        self._operation = operation
        self._corrupt = False

    async def open(self) -> int:
        """Return how many bytes may pass before the next fault; 0 if there are to be no more."""
        for fault in self._faults.meet(self._operation, "before", self.position):
            if fault.reset_after is not None:
                raise fault.make_error()
            if fault.stall_after is not None:
                await asyncio.Event().wait()
            if fault.truncate_after is not None:
                return 0
            self._corrupt = True
        return self._faults.next_position(self._operation, self.position) - self.position

    def carry(self, chunk: Chunk) -> Chunk:
        """Return what arrives of a chunk."""
        self.position += len(chunk)
        if self._corrupt and chunk:
            self._corrupt = False
            return bytes([chunk[0] ^ 0xFF]) + bytes(chunk[1:])
        return chunk


class _FaultyChunks:
    """The chunks of a body, cut where a fault is."""

    def __init__(self, body: Body, passage: _Passage) -> None:
        self._body = body
        self._passage = passage
        self._rest = memoryview(b"")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        allowed = await self._passage.open()
        if not allowed:
            raise StopAsyncIteration
        if not self._rest:
            self._rest = memoryview(await anext(self._body))
        chunk, self._rest = self._rest[:allowed], self._rest[allowed:]
        return self._passage.carry(chunk)


class _FaultyStream(ByteStream):
    def __init__(self, inner: ByteStream, start: int, passage: _Passage) -> None:
        self._inner = inner
        self._start = start
        self._passage = passage

    async def read(self, size: int) -> bytes:
        allowed = await self._passage.open()
        if not allowed:
            return b""
        return bytes(self._passage.carry(await self._inner.read(min(size, allowed))))

    async def seek(self, offset: int) -> None:
        await self._inner.seek(offset)
        self._passage.position = offset - self._start

    def abort(self) -> None:
        self._inner.abort()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _BufferStream(ByteStream):
    """A range that is in memory, read as if it came from afar."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start
        self._at = 0

    async def read(self, size: int) -> bytes:
        first = self._at
        self._at = min(len(self._data), first + size)
        return self._data[first : self._at]

    async def seek(self, offset: int) -> None:
        self._at = offset - self._start

    def abort(self) -> None:
        """Do nothing: nothing is held."""
