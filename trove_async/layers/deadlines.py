"""`Deadlines`: end operations that take too long; the layers inside can tell that from a caller's cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from trove_async.errors import OperationTimeoutError

__all__ = ["Deadlines", "mark_unsent", "timeout_behind"]

R = TypeVar("R")

MakeError = Callable[[bool], OperationTimeoutError]
"""Makes the error of an operation that takes too long; its argument says whether something may have been sent."""


def timeout_behind(error: BaseException) -> OperationTimeoutError | None:
    """Return the error that a `Deadlines` outside makes of a cancellation, if that is because of the backend.

    Layers that judge how an operation ended use it: a backend that does not answer in time has failed, and a caller who
    cancels tells nothing about it.

    Returns:
        None for any other error, for the cancellation of a caller, and after `mark_unsent`.
    """
    reason = _reason_of(error)
    return reason.make_error(True) if reason is not None and reason.sent else None


def mark_unsent(error: asyncio.CancelledError) -> None:
    """Take in that a layer had not yet called the driver when it was cancelled, such as in a queue of its own."""
    if (reason := _reason_of(error)) is not None:
        reason.sent = False


def _reason_of(error: BaseException) -> _TimedOut | None:
    if isinstance(error, asyncio.CancelledError) and error.args and isinstance(error.args[0], _TimedOut):
        return error.args[0]
    return None


class _TimedOut:
    """The message of a cancellation at a deadline.

    It holds no task and no error that was raised: the cancellation becomes the cause of the error, and both would
    keep each other, and what their tracebacks hold, until a garbage collection.
    """

    __slots__ = ("make_error", "sent")

    def __init__(self, make_error: MakeError) -> None:
        self.make_error = make_error
        self.sent = True

    def __repr__(self) -> str:
        return "at its deadline"


class _Bound:
    """An operation under way.

    Attributes:
        task: carries it out.
        cancelling: how often the task had been asked to end before.
        deadline: by the clock of the loop.
        expired: why it was cancelled; None before its deadline.
    """

    __slots__ = ("_late", "cancelling", "deadline", "expired", "task")

    def __init__(self, task: asyncio.Task[Any], deadline: float, late: MakeError) -> None:
        self.task = task
        self._late = late
        self.cancelling = task.cancelling()
        self.deadline = deadline
        self.expired: _TimedOut | None = None

    def expire(self) -> None:
        self.expired = _TimedOut(self._late)
        # A task that was asked to end before is cleaning up, and its operation ends for that reason.
        is_first = self.task.cancelling() == self.cancelling
        self.task.cancel(self.expired if is_first else None)


class Deadlines:
    """Cancels operations that take too long, with one timer for all: `asyncio.timeout` costs several times as much.

    All have the same time, so that their deadlines come in the order in which they begin.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[_Bound, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, work: Awaitable[R], late: MakeError) -> R:
        """Await work; at its deadline cancel it, and raise what ``late`` returns once it has ended.

        A caller's cancellation stays one, also if it comes at the same time.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        bound = _Bound(task, loop.time() + self._seconds, late)
        self._running[bound] = None
        if self._timer is None:
            self._timer = loop.call_at(bound.deadline, self._expire, loop)
        try:
            return await work
        except asyncio.CancelledError as error:
            if (reason := bound.expired) is not None and task.cancelling() - 1 <= bound.cancelling:
                raise late(reason.sent) from error
            raise
        finally:
            if bound.expired is not None:
                task.uncancel()
            else:
                del self._running[bound]

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        while self._running:
            bound = next(iter(self._running))
            if bound.deadline > now:
                self._timer = loop.call_at(bound.deadline, self._expire, loop)
                return
            del self._running[bound]
            bound.expire()

    def close(self) -> None:
        """Stop the timer, unless operations are still under way, which it ends in their time."""
        if self._timer is not None and not self._running:
            self._timer.cancel()
            self._timer = None
