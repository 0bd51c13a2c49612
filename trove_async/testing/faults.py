"""`Faults`: a layer that injects failures into a driver.

::

    faults = Faults([
        Fault("put", error=UnavailableError(), times=2),  # two puts fail
        Fault("delete", error=UnavailableError(), when="after"),  # one is carried out, but its answer is lost
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
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Final, Literal, Self, TypeVar, cast, get_args

from trove_async.body import Body, Chunk
from trove_async.driver import METHODS, Driver
from trove_async.errors import InvalidArgumentError, TroveError, UnavailableError
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.types import ObjectEvent

__all__ = ["Fault", "Faults", "Injection", "When"]

R = TypeVar("R")
When = Literal["before", "after"]
"""Whether a fault strikes before an operation, or after it was carried out."""

_READING: Final = ("get", "head", "list", "ping", "presign")


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure: its kind, its place and its number.

    A fault of an operation is a ``delay``, an ``error`` or ``cancel``, before or after the operation. A fault at a byte
    strikes in the middle of the bytes of a reader, or of the body of a put or part.
    Each time the operation or the byte is reached, the fault is counted: the first ``skip`` times it does nothing, the
    next ``times`` times it strikes, and then never again.

    Attributes:
        operation: name of the driver's method, or a pattern such as ``*_multipart`` or ``*``. A fault of
            ``watch`` is counted before the subscription, and before each event after the first.
        key: only operations on this key; None for all.
        when: ``after``: the operation is carried out, but its answer is lost. A `TroveError` raised after a
            write is ``ambiguous``.
        error: the exception to raise; each time a copy of it is raised.
        delay: seconds to wait first.
        cancel: cancel the calling task at this point.
        truncate_after: end the bytes after this number, without an error.
        reset_after: raise ``error``, by default an `UnavailableError`, after this number of bytes.
        corrupt_at: change the byte at this position.
        stall_after: deliver nothing after this number of bytes, until the operation is cancelled.
        skip: the number of times to do nothing first.
        times: the number of times to strike; None for always.
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
        if not any(fnmatchcase(name, self.operation) for name in METHODS):
            close = get_close_matches(self.operation, METHODS, n=3) or ["list_page (of list)", "get", "put"]
            raise InvalidArgumentError(
                f"{self.operation!r} is no method of a driver, and matches none; is it {' or '.join(close)}?"
            )
        if self.when not in get_args(When):
            raise InvalidArgumentError(f"when is {' or '.join(map(repr, get_args(When)))}, not {self.when!r}")
        positions = [at for at in self._positions if at is not None]
        if len(positions) > 1 or (positions and (self.cancel or self.delay or self.when == "after")):
            raise InvalidArgumentError("a fault can have one position in the bytes; make several faults")
        if any(at < 0 for at in positions) or self.skip < 0 or self.delay < 0 or (self.times or 0) < 0:
            raise InvalidArgumentError("positions, skip, times and delay of a fault are 0 or more")
        if not (positions or self.error or self.delay or self.cancel):
            raise InvalidArgumentError("the fault does nothing: give error, delay, cancel, or a position in the bytes")
        if self.error is not None and positions and self.reset_after is None:
            raise InvalidArgumentError("an error in the middle of the bytes needs reset_after")

    @property
    def _positions(self) -> tuple[int | None, ...]:
        return self.truncate_after, self.reset_after, self.corrupt_at, self.stall_after

    @property
    def position(self) -> int | None:
        """The byte at which the fault strikes, counted from the first byte read or put; None for an operation."""
        return next((at for at in self._positions if at is not None), None)

    def concerns(self, operation: Operation) -> bool:
        """Whether the fault applies to an operation with this name and key."""
        return fnmatchcase(operation.name, self.operation) and self.key in (None, operation.key)

    def make_error(self) -> BaseException:
        """Return the exception to raise."""
        if self.error is None:
            return UnavailableError("the connection was reset (injected)")
        # Raising an error adds a traceback and its context to it, so each time needs a copy.
        return self.error() if isinstance(self.error, type) else copy.copy(self.error)


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that has struck, and the operation that it struck."""

    fault: Fault
    operation: str
    bucket: str | None
    key: str | None


class Faults:
    """A layer that injects faults into the drivers that it wraps.

    Readers and bodies with a fault in the middle of their bytes become streams, even if all bytes are in memory; the
    driver cannot replay such a body.

    Attributes:
        injected: the faults that have struck so far, in order.
    """

    def __init__(self, plan: Iterable[Fault] = ()) -> None:
        self.injected: list[Injection] = []
        self._plan: list[Fault] = []
        self._met: dict[int, int] = {}  # the count of each fault, by its index in the plan
        self.add(*plan)

    def __call__(self, driver: Driver) -> Driver:
        """Wrap a driver."""
        return _FaultyDriver(driver, self)

    def add(self, *faults: Fault) -> None:
        """Add faults."""
        self._plan.extend(faults)

    def clear(self) -> None:
        """Remove all faults; `injected` stays."""
        self._plan.clear()
        self._met.clear()

    def next_position(self, operation: Operation, position: int) -> int:
        """Return the first byte after a position at which a fault may strike; `sys.maxsize` if there is none."""
        ahead = (
            fault.position
            for fault in self._plan
            if fault.position is not None and fault.position > position and fault.concerns(operation)
        )
        return min(ahead, default=sys.maxsize)

    def meet(self, operation: Operation, when: When, position: int | None = None) -> list[Fault]:
        """Return the faults that strike at a point, and count them.

        Args:
            operation: the operation.
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
                raise _error_of(fault, operation, when)

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


def _error_of(fault: Fault, operation: Operation, when: When) -> BaseException:
    error = fault.make_error()
    if isinstance(error, TroveError) and when == "after" and not operation.name.startswith(_READING):
        error.ambiguous = True
    return error


async def _cancel_caller() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()  # the cancellation arrives here


class _Passage:
    """A sequence of bytes to which faults are applied."""

    def __init__(self, faults: Faults, operation: Operation) -> None:
        self.position = 0
        self._faults = faults
        self._operation = operation
        self._corrupt = False

    async def open(self) -> int:
        """Return the number of bytes before the next fault; 0 at the end."""
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
        """Return a chunk after its faults were applied."""
        self.position += len(chunk)
        if self._corrupt and chunk:
            self._corrupt = False
            return bytes([chunk[0] ^ 0xFF]) + bytes(chunk[1:])
        return chunk


class _FaultyChunks:
    """The chunks of a body, split at faults."""

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


class _FaultyStream(StreamWrapper):
    def __init__(self, inner: ByteStream, start: int, passage: _Passage) -> None:
        super().__init__(inner)
        self._start = start
        self._passage = passage

    async def read(self, size: int) -> bytes:
        allowed = await self._passage.open()
        if not allowed:
            return b""
        return bytes(self._passage.carry(await self.inner.read(min(size, allowed))))

    async def seek(self, offset: int) -> None:
        await self.inner.seek(offset)
        self._passage.position = offset - self._start


class _BufferStream(ByteStream):
    """A range in memory as a stream."""

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
        """Do nothing: it holds no resources."""
