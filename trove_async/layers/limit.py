"""`Limit`: bound what runs in the backend at once, and what it is asked for each second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from types import TracebackType
from typing import ClassVar, Final, Self, TypeVar

from trove_async.body import Body, Chunk
from trove_async.driver.base import Driver
from trove_async.driver.order import Placed
from trove_async.errors import InvalidArgumentError
from trove_async.layers.adaptive import AdaptiveDriver
from trove_async.layers.aimd import LimitClass
from trove_async.layers.base import Call, Operation
from trove_async.layers.limit_part import LIMIT_CLASSES, LimitPart
from trove_async.layers.queueing import Line, Places
from trove_async.layers.rated import BytesDriver, OperationsDriver
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.values import is_number, is_whole

__all__ = ["Limit", "LimitDriver"]

R = TypeVar("R")

_MAXIMUM: Final = 100
_CLASSES: Final[tuple[LimitClass, ...]] = ("read", "write", "list", "delete")


@dataclass(frozen=True)
class Limit(Placed):
    """Bound what a backend is asked for; operations above the limit wait in order. Each driver has its own limits.

    Attributes:
        concurrency: how many operations run in the backend at once; None for no such limit. A reader counts while it
            fetches data, not while its user holds it. A put counts while the backend works, not while it waits for a
            body that is produced during the put. So a task can write what it reads through the same limit without
            waiting for itself. A watch counts while it is opened, not while it waits for events.
        operations: how many may begin in a second; signed URLs do not count.
        bytes: how many of the bodies that are read and written may pass in a second.
        adaptive: True to lower the number that run at once when the backend throttles, and to raise it while it does
            not, from 10, to ``concurrency`` at most, or 100 if that is None.
        per_class: True for limits of the concurrency of their own for reading, writing, listing and deleting.
        clock: seconds of a monotonic clock; for tests.

    Raises:
        InvalidArgumentError: a value is out of range, nothing is limited, or ``per_class`` has nothing to divide.
    """

    layer_name: ClassVar[str | None] = LimitPart.layer_name
    never_around: ClassVar[Mapping[str, str]] = LimitPart.never_around

    concurrency: int | None = None
    _: KW_ONLY
    operations: float | None = None
    bytes: float | None = None
    adaptive: bool = False
    per_class: bool = False
    clock: Callable[[], float] = field(default=time.monotonic, repr=False, compare=False)

    def __post_init__(self) -> None:
        number = self.concurrency
        if number is not None and (not is_whole(number) or number < 1):
            raise InvalidArgumentError(f"concurrency is a whole number of 1 or more, as in Limit(8), not {number!r}")
        for name, rate in (("operations", self.operations), ("bytes", self.bytes)):
            if rate is not None and not (is_number(rate) and 0 < rate < math.inf):
                raise InvalidArgumentError(f"{name} is a number a second, more than 0, not {rate!r}")
        for name, flag in (("adaptive", self.adaptive), ("per_class", self.per_class)):
            if not isinstance(flag, bool):
                raise InvalidArgumentError(f"{name} is True or False, not {flag!r}")
        bounded = number is not None or self.adaptive
        if self.per_class and not bounded:
            raise InvalidArgumentError("per_class divides the concurrency: give that too, or adaptive=True")
        if not bounded and self.operations is None and self.bytes is None:
            raise InvalidArgumentError(
                "Limit needs a limit: a concurrency as in Limit(8), operations=, bytes= or adaptive=True"
            )
        if self.adaptive and number == 1:
            raise InvalidArgumentError("adaptive finds a number from 1 to the concurrency, which is 1; give more")

    def __call__(self, driver: Driver) -> Driver:
        """Put the limits around a driver."""
        kinds: tuple[LimitClass, ...] = _CLASSES if self.per_class else ("all",)
        lanes = {kind: _Lane(self.concurrency or _MAXIMUM) for kind in kinds}
        # The rates are inside of the places, so that nobody saves tokens while waiting for a place.
        if self.adaptive:
            driver = AdaptiveDriver(
                driver, kinds, self.concurrency or _MAXIMUM, lambda kind, limit: lanes[kind].resize(limit), self.clock
            )
        if self.operations is not None:
            driver = OperationsDriver(driver, self.operations, self.clock)
        if self.bytes is not None:
            driver = BytesDriver(driver, self.bytes, self.clock)
        return LimitDriver(driver, lanes) if self.concurrency is not None or self.adaptive else driver


class _Lane(Line):
    """The operations that share a limit."""

    __slots__ = ("places",)

    def __init__(self, limit: int) -> None:
        self.places = Places(limit)
        super().__init__(self.places)

    def resize(self, limit: int) -> None:
        self.places.limit = limit
        self.serve()


class LimitDriver(LimitPart):
    """A driver with a limit of the concurrency around it.

    Args:
        inner: the driver.
        lanes: by their classes, the four or ``all``.
    """

    def __init__(self, inner: Driver, lanes: Mapping[LimitClass, _Lane]) -> None:
        super().__init__(inner)
        self._lanes = lanes
        self._lane_of = {name: lanes.get("all") or lanes[kind] for name, kind in LIMIT_CLASSES.items()}

    @property
    def limits(self) -> Mapping[LimitClass, int]:
        """How many operations may run at once now, by their class, or for ``all``."""
        return {kind: lane.places.limit for kind, lane in self._lanes.items()}

    @property
    def running(self) -> Mapping[LimitClass, int]:
        """How many operations have a place now, by their class, or for ``all``."""
        return {kind: int(lane.places.taken) for kind, lane in self._lanes.items()}

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Wait for a place, and carry the operation out."""
        lane = self._lane_of[operation.name]
        # A replayable body is in memory or in a file: there is nothing to wait for.
        if operation.body is not None and not operation.body.replayable:
            async with _Slot(lane) as slot:
                return await call(body=slot.released_by(operation.body))
        await lane.take()
        try:
            result = await call()
        finally:
            lane.give()
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _LimitedStream(stream, lane))
        return result


class _Slot:
    """One of the operations that run; it is free while the operation waits for its body."""

    def __init__(self, lane: Line) -> None:
        self._lane = lane
        self._held = False

    async def acquire(self) -> None:
        await self._lane.take()
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._lane.give()

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
    def __init__(self, inner: ByteStream, lane: Line) -> None:
        super().__init__(inner)
        self._lane = lane

    async def read(self, size: int) -> bytes:
        async with self._lane:
            return await self.inner.read(size)

    async def seek(self, offset: int) -> None:
        async with self._lane:
            await self.inner.seek(offset)
