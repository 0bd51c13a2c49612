"""The part of `Limit` that learns from the backend how many operations may run at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.events import Listener
from trove_async.driver.methods import SIGNING
from trove_async.driver.retry import reason_of
from trove_async.errors import TransientError
from trove_async.layers.aimd import Aimd, LimitChanged, LimitClass
from trove_async.layers.base import Call, Operation
from trove_async.layers.limit_part import LIMIT_CLASSES, LimitPart
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper

__all__ = ["AdaptiveDriver"]

R = TypeVar("R")


class AdaptiveDriver(LimitPart):
    """Reports how operations end to the `Aimd` of their class.

    What a reader fetches teaches only where it is throttled: its bytes come without another answer.

    Args:
        inner: the driver.
        kinds: of the limits: the four classes, or ``all``.
        maximum: of each limit.
        resize: called with the class and the number, at once and after each change.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        inner: Driver,
        kinds: tuple[LimitClass, ...],
        maximum: int,
        resize: Callable[[LimitClass, int], object],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(inner)
        self._resize = resize
        self._listeners: list[Listener] = []
        self._limits: Mapping[LimitClass, Aimd] = {kind: self._limit(kind, maximum, clock) for kind in kinds}

    def _limit(self, kind: LimitClass, maximum: int, clock: Callable[[], float]) -> Aimd:
        def changed(before: int, after: int) -> None:
            self._resize(kind, after)
            if self._listeners:
                event = LimitChanged(kind, before, after)
                for listener in tuple(self._listeners):
                    listener(event)

        limit = Aimd(maximum, changed, clock=clock)
        self._resize(kind, limit.limit)
        return limit

    def add_listener(self, listener: Listener) -> None:
        """Call a function with each `LimitChanged`, and pass it on to the inner driver."""
        self._listeners.append(listener)
        super().add_listener(listener)

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Carry the operation out, and report how it ended."""
        if operation.name in SIGNING or operation.name == "watch":
            return await call()
        limit = self._limits.get(LIMIT_CLASSES[operation.name]) or self._limits["all"]
        ticket = limit.begin()
        try:
            result = await call()
        except BaseException as error:
            _raised(limit, ticket, error)
            raise
        if operation.name == "delete_many" and _was_throttled(result):
            limit.throttled(ticket)
        else:
            limit.succeeded(ticket)
        if isinstance(result, ObjectReader):
            result.wrap(lambda stream: _TeachingStream(stream, limit))
        return result


def _raised(limit: Aimd, ticket: int, error: BaseException) -> None:
    if _is_throttling(error):
        limit.throttled(ticket)
    elif verdict_on(error) == "works":
        limit.succeeded(ticket)
    else:
        limit.dropped()


def _is_throttling(error: object) -> bool:
    return isinstance(error, TransientError) and reason_of(error) == "throttled"


def _was_throttled(results: Any) -> bool:
    """Look at the keys: a driver whose service has no bulk delete deletes them one by one."""
    return any(_is_throttling(result.error) for result in results)


class _TeachingStream(StreamWrapper):
    def __init__(self, inner: ByteStream, limit: Aimd) -> None:
        super().__init__(inner)
        self._limit = limit

    async def read(self, size: int) -> bytes:
        ticket = self._limit.begin()
        try:
            chunk = await self.inner.read(size)
        except BaseException as error:
            _raised(self._limit, ticket, error)
            raise
        self._limit.dropped()
        return chunk

    async def seek(self, offset: int) -> None:
        ticket = self._limit.begin()
        try:
            await self.inner.seek(offset)
        except BaseException as error:
            _raised(self._limit, ticket, error)
            raise
        self._limit.succeeded(ticket)
