"""`Observe`: tell a function about every operation; `log_operations` writes them to a log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.options import WatchOptions
from trove_async.layers.base import LayerDriver, Operation
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectEvent

__all__ = ["Observation", "Observe", "log_operations"]

R = TypeVar("R")
Outcome = Literal["ok", "error", "cancelled"]

_log = logging.getLogger("trove_async.operations")


@dataclass(frozen=True, slots=True)
class Observation:
    """One operation that is over.

    Attributes:
        driver: the innermost driver's name.
        operation: the driver's method, such as ``put``. A get is over when its reader is closed.
        bucket, key: what it was about, None where it was about none.
        bytes: of the body that was taken or handed out; 0 where there is none.
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

    async def around(self, operation: Operation, call: Callable[[], Awaitable[R]]) -> R:
        began = perf_counter()
        try:
            result = await call()
        except BaseException as error:
            self._report(operation, began, _taken(operation), error)
            raise
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

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Pass events on; the observation comes when the watch ends."""
        operation = Operation("watch", self.name, bucket)
        began = perf_counter()
        inner: Any = self.inner
        try:
            async with aclosing(inner.watch(bucket, options)) as events:
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

    def abort(self) -> None:
        self._inner.abort()
        self._finish()

    async def aclose(self) -> None:
        await self._inner.aclose()
        self._finish()
