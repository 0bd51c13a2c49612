"""`Observe`: report every operation to a function; `log_operations`: write them to a log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Literal, TypeVar, cast

from trove_async.driver.base import Driver
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectEvent

__all__ = ["Observation", "Observe", "log_operations"]

R = TypeVar("R")
Outcome = Literal["ok", "error", "cancelled"]

_log = logging.getLogger("trove_async.operations")


@dataclass(frozen=True, slots=True)
class Observation:
    """An operation that has ended.

    Attributes:
        driver: the innermost driver's name.
        operation: the driver's method, such as ``put``. A get ends when its reader is closed, a watch when it is.
        bucket, key: what it was about; None if it was about none.
        bytes: of the body that were sent or read; 0 if there is none.
        duration: seconds.
        outcome: ``ok``, ``error`` or ``cancelled``.
        error: what was raised, unless the outcome is ``ok``.
    """

    driver: str
    operation: str
    bucket: str | None
    key: str | None
    bytes: int
    duration: float
    outcome: Outcome
    error: BaseException | None = None


@dataclass(frozen=True)
class Observe:
    """Call ``hook`` with an `Observation` of every operation.

    It is called on the event loop and must not block; what it raises is logged and goes no further.
    """

    hook: Callable[[Observation], object]

    def __call__(self, driver: Driver) -> Driver:
        """Put the observer around a driver."""
        return _ObserveDriver(driver, self.hook)


def log_operations(logger: logging.Logger = _log, level: int = logging.DEBUG) -> Observe:
    """Return an observer that logs: failures as warnings, all else at ``level``.

    The fields are in the record's ``trove`` attribute, for structured logs.
    """

    def log(seen: Observation) -> None:
        at = logging.WARNING if seen.outcome == "error" else level
        if not logger.isEnabledFor(at):
            return
        target = "/".join(part for part in (seen.bucket, seen.key) if part is not None)
        suffix = f": {seen.error}" if seen.outcome == "error" else ""
        logger.log(
            at,
            "%s %s %r %s, %d bytes in %.1f ms%s",
            seen.driver,
            seen.operation,
            target,
            seen.outcome,
            seen.bytes,
            seen.duration * 1000,
            suffix,
            extra={"trove": seen},
        )

    return Observe(log)


class _ObserveDriver(LayerDriver):
    def __init__(self, inner: Driver, hook: Callable[[Observation], object]) -> None:
        super().__init__(inner)
        self._hook = hook

    async def around(self, operation: Operation, call: Call[R]) -> R:
        began = perf_counter()
        try:
            result = await call()
        except BaseException as error:
            self._report(operation, began, _taken(operation), error)
            raise
        if operation.name == "watch":
            events = cast(AsyncGenerator[ObjectEvent, None], result)
            return cast(R, self._follow_events(operation, began, events))
        if isinstance(result, ObjectReader) and not result.buffered:
            self._follow(operation, began, result)
        else:
            count = result.size if isinstance(result, ObjectReader) else _taken(operation)
            self._report(operation, began, count, None)
        return result

    def _follow(self, operation: Operation, began: float, reader: ObjectReader) -> None:
        stream: _ObservedStream | None = None

        def wrap(inner: ByteStream) -> ByteStream:
            nonlocal stream
            stream = _ObservedStream(inner, lambda count, error: self._report(operation, began, count, error))
            return stream

        reader.wrap(wrap)

    async def _follow_events(
        self, operation: Operation, began: float, events: AsyncGenerator[ObjectEvent, None]
    ) -> AsyncGenerator[ObjectEvent, None]:
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except GeneratorExit:
            self._report(operation, began, 0, None)
            raise
        except BaseException as error:
            self._report(operation, began, 0, error)
            raise
        self._report(operation, began, 0, None)

    def _report(self, operation: Operation, began: float, count: int, error: BaseException | None) -> None:
        outcome: Outcome = "ok" if error is None else "error" if isinstance(error, Exception) else "cancelled"
        seen = Observation(
            driver=operation.driver,
            operation=operation.name,
            bucket=operation.bucket,
            key=operation.key,
            bytes=count,
            duration=perf_counter() - began,
            outcome=outcome,
            error=error,
        )
        try:
            self._hook(seen)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            _log.exception("the hook of Observe failed on %s", operation.name)


def _taken(operation: Operation) -> int:
    return operation.body.taken if operation.body is not None else 0


class _ObservedStream(ByteStream):
    """Counts what is read, and reports once, when the reader lets go of it."""

    def __init__(self, inner: ByteStream, report: Callable[[int, BaseException | None], None]) -> None:
        self._inner = inner
        self._report = report
        self._count = 0
        self._error: BaseException | None = None
        self._reported = False

    async def read(self, size: int) -> bytes:
        try:
            chunk = await self._inner.read(size)
        except BaseException as error:
            self._error = error
            raise
        self._error = None
        self._count += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        try:
            await self._inner.seek(offset)
        except BaseException as error:
            self._error = error
            raise

    def _finish(self) -> None:
        if not self._reported:
            self._reported = True
            self._report(self._count, self._error)

    def limit_memory(self, size: int) -> None:
        self._inner.limit_memory(size)

    def abort(self) -> None:
        self._inner.abort()
        self._finish()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._finish()
