"""`Observe`: report every operation to a function; `log_operations`: write them to a log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError
from trove_async.layers.base import Operation
from trove_async.layers.instrumentation import Instrumentation, InstrumentedDriver, Ongoing, Outcome, error_type
from trove_async.types import maker_of
from trove_async.values import check_function, is_whole

__all__ = ["Observation", "Observe", "log_operations"]

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
        time_to_first_byte: seconds that the driver took until the first byte of a get's body was there, without the
            time in which nobody asked for it; None if no byte was read, and for other operations.
        attempts: how often the layers beneath carried the operation out, the first time included.
        hedges: those of the attempts that began beside a slow one.
        resent: requests that the driver sent again by itself.
        events: that a watch yielded.
        part_of: the method of the store, as ``download``, for which this get reads one of the ranges of a large object,
            beside the get that opened it; else None.
    """

    driver: str
    operation: str
    bucket: str | None
    key: str | None
    bytes: int
    duration: float
    outcome: Outcome
    error: BaseException | None = None
    time_to_first_byte: float | None = None
    attempts: int = 1
    hedges: int = 0
    resent: int = 0
    events: int = 0
    part_of: str | None = None

    def fields(self) -> dict[str, str | int | float]:
        """Return what is known, as plain values by the names of docs/observability.md, for structured logs.

        There is no message of the error among them, and of its class only the name.
        """
        known = {
            "trove.driver": self.driver,
            "trove.operation.name": self.operation,
            "trove.bucket": self.bucket,
            "trove.key": self.key,
            "trove.bytes": self.bytes,
            "trove.duration": self.duration,
            "trove.outcome": self.outcome,
            "error.type": error_type(self.error) if self.error is not None and self.outcome == "error" else None,
            "trove.time_to_first_byte": self.time_to_first_byte,
            "trove.attempts": self.attempts,
            "trove.requests.resent": self.resent or None,
            "trove.watch.events": self.events or None,
            "trove.part_of": self.part_of,
        }
        return {name: value for name, value in known.items() if value is not None}


_make_observation = maker_of(Observation)

Hook = Callable[[Observation], object]


@dataclass(frozen=True)
class Observe:
    """Call ``hook`` with an `Observation` of every operation.

    It is called on the event loop and must not block; what it raises is logged and goes no further.

    Raises:
        InvalidArgumentError: it cannot be called, or is defined by ``async def``.
    """

    hook: Hook

    def __post_init__(self) -> None:
        check_function("hook", "an Observation", self.hook)

    def __call__(self, driver: Driver) -> Driver:
        """Put the observer around a driver."""
        return InstrumentedDriver(driver, _Hooked(self.hook))


class _Hooked(Instrumentation):
    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def begin(self, operation: Operation) -> Ongoing:
        return _HookedOperation(operation, self._hook)


class _HookedOperation(Ongoing):
    def __init__(self, operation: Operation, hook: Hook) -> None:
        super().__init__(operation)
        self._hook = hook

    def on_end(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        operation = self.operation
        seen = _make_observation(
            operation.driver,
            operation.name,
            operation.bucket,
            operation.key,
            self.bytes,
            duration,
            outcome,
            error,
            self.time_to_first_byte,
            1 + self.retries + self.hedges,
            self.hedges,
            self.resent,
            self.events,
            operation.part_of,
        )
        self._hook(seen)


def log_operations(logger: logging.Logger = _log, level: int = logging.DEBUG) -> Observe:
    """Return an observer that logs: failures as warnings, all else at ``level``.

    For structured logs the record has the `Observation` in its ``trove`` attribute, and beside it each of
    `Observation.fields` as an attribute of its own.

    Raises:
        InvalidArgumentError: it is no logger, or no level.
    """
    if not callable(getattr(logger, "isEnabledFor", None)):
        raise InvalidArgumentError(f"logger is a logging.Logger, as in getLogger('my.store'), not {logger!r}")
    if not is_whole(level):
        raise InvalidArgumentError(f"level is a number such as logging.INFO, not {level!r}")

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
            extra={"trove": seen, **seen.fields()},
        )

    return Observe(log)
