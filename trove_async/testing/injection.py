"""Cancel an operation at each of its await points, in one run for each.

An await point is a step at which a task of the operation returns control to the event loop; tasks that
the operation starts count too. The cancellation is a real one, of the task or of an anyio scope, so that
`asyncio.timeout`, task groups and shields behave as in production::

    points = await cancel_everywhere(lambda: t.put("b", "k", data), Delivery.PENDING, prepare=..., check=...)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar, final

import anyio

__all__ = ["Delivery", "Outcome", "cancel_at", "cancel_everywhere"]

R = TypeVar("R")

MAX_POINTS: Final = 2000
"""An operation with more await points is assumed never to end."""

PATIENCE: Final = 30.0
"""Seconds after which a cancelled operation is assumed to hang."""

_REPEATS: Final = 3


class Delivery(Enum):
    """When the cancellation is delivered."""

    PENDING = "while what the task awaits is pending"
    DONE = "after the awaited future is done, before the task has resumed"
    REPEATED = "at the point and at the next two, which belong to the clean-up"
    SCOPE = "by an anyio scope, which cancels again at every point until it is left"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """The outcome of one run.

    Attributes:
        point: the number of the await point, from 1.
        reached: False if the operation ended before that point.
        where: ``file:line`` of that point, empty if it was not reached.
        cancelled: the call raised `asyncio.CancelledError`.
        result: what the call returned; None if it raised.
        error: the exception of the call if it is not `asyncio.CancelledError`.
        left_running: the tasks that were started during the call and had not ended when it ended.
    """

    point: int
    reached: bool
    where: str
    cancelled: bool
    result: R | None
    error: BaseException | None
    left_running: frozenset[asyncio.Task[Any]]


class _Injector:
    """Counts the await points of an operation and cancels it at one of them."""

    def __init__(self, point: int, delivery: Delivery) -> None:
        self._point = point
        self._delivery = delivery
        self._count = 0
        self.task: asyncio.Task[Any] | None = None
        self.scope: anyio.CancelScope | None = None
        self.where = ""

    @property
    def reached(self) -> bool:
        return self._count >= self._point

    def suspended(self, coroutine: object, awaited: object) -> None:
        """Record that a task returns control, to wait for a future or, with None, for its next turn."""
        if self.task is None or self.task.done():
            return
        self._count += 1
        if self._count == self._point:
            self.where = _innermost_line(coroutine)
            if self._delivery is Delivery.DONE and isinstance(awaited, asyncio.Future):
                # It is added before the task's own callback, and runs before it in the same turn of the loop.
                awaited.add_done_callback(lambda _: self._cancel())
                return
            self._cancel()
        elif self._delivery is Delivery.REPEATED and self._point < self._count < self._point + _REPEATS:
            self._cancel()

    def _cancel(self) -> None:
        assert self.task is not None
        if self.scope is not None:
            self.scope.cancel()
        else:
            self.task.cancel()


_injector: ContextVar[_Injector | None] = ContextVar("injector", default=None)


class _Watched(Coroutine[Any, Any, R]):
    """A coroutine that reports each of its await points to an injector."""

    def __init__(self, inner: Coroutine[Any, Any, R], injector: _Injector) -> None:
        self._inner = inner
        self._injector = injector

    def send(self, value: Any) -> Any:
        awaited = self._inner.send(value)
        self._injector.suspended(self._inner, awaited)
        return awaited

    def throw(self, *error: Any) -> Any:
        awaited = self._inner.throw(*error)
        self._injector.suspended(self._inner, awaited)
        return awaited

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, R]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:
        # anyio and asyncio's debugger use cr_running, cr_frame and similar attributes.
        return getattr(self._inner, name)


def _watch_tasks(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Make a task: a task factory that also wraps the tasks that an operation starts."""
    injector = _injector.get()
    return asyncio.Task(coroutine if injector is None else _Watched(coroutine, injector), loop=loop, **options)


def _innermost_line(at: object) -> str:
    """Return where a coroutine waits: the innermost line outside asyncio and anyio."""
    line = ""
    while at is not None:
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        ours = frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] not in ("asyncio", "anyio")
        if frame is not None and (ours or not line):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
    return line


@final
class _Cancelled:
    """The result of a run in which the scope caught the cancellation."""


async def cancel_at(operation: Callable[[], Awaitable[R]], point: int, delivery: Delivery) -> Outcome[R]:
    """Run an operation once and cancel it at an await point.

    Raises:
        AssertionError: it did not end within `PATIENCE` seconds.
    """
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    injector = _Injector(point, delivery)

    left: set[asyncio.Task[Any]] = set()

    async def call() -> R:
        try:
            return await operation()
        finally:
            # Checked before the next turn of the loop, in which a leftover task could end.
            left.update(asyncio.all_tasks() - before - {injector.task})

    async def run() -> R | _Cancelled:
        if delivery is not Delivery.SCOPE:
            return await call()
        with anyio.CancelScope() as injector.scope:
            return await call()
        return _Cancelled()

    factory = loop.get_task_factory()
    loop.set_task_factory(_watch_tasks)
    token = _injector.set(injector)
    try:
        injector.task = task = loop.create_task(run())
        _injector.reset(token)
        await asyncio.wait({task}, timeout=PATIENCE)
    finally:
        loop.set_task_factory(factory)
    assert task.done(), f"the call still runs {PATIENCE:g} s after it was cancelled at {injector.where}: {task!r}"
    error = None if task.cancelled() else task.exception()
    result = None if task.cancelled() or error is not None else task.result()
    cancelled = task.cancelled() or isinstance(result, _Cancelled)
    return Outcome(
        point=point,
        reached=injector.reached,
        where=injector.where,
        cancelled=cancelled,
        result=None if isinstance(result, _Cancelled) else result,
        error=error,
        left_running=frozenset(left),
    )


async def cancel_everywhere(
    operation: Callable[[], Awaitable[R]],
    delivery: Delivery,
    *,
    prepare: Callable[[], Awaitable[object]],
    check: Callable[[Outcome[R]], Awaitable[None]],
    step: int = 1,
) -> int:
    """Run an operation again and again, each time cancelled at a later await point.

    Args:
        operation: the operation to cancel.
        delivery: when the cancellation is delivered.
        prepare: creates the initial state of each run.
        check: checks the outcome and the state after each run; the last run is not cancelled.
        step: 5 tries every fifth await point. Each delivery starts at another one, so that together they try most.

    Returns:
        The number of await points; an upper bound if not all were tried.

    Raises:
        AssertionError: a check failed, with a note that names the await point; or there are too many await points.
    """
    first = 1 + [*Delivery].index(delivery) % step
    for point in range(first, MAX_POINTS + 1, step):
        await prepare()
        outcome = await cancel_at(operation, point, delivery)
        try:
            await check(outcome)
        except BaseException as error:
            if outcome.reached:
                error.add_note(f"after a cancellation at await point {point}, {outcome.where}, {delivery.value}")
            raise
        if not outcome.reached:
            return point - 1
    raise AssertionError(f"the operation has more than {MAX_POINTS} await points")
