"""`Race`: an attempt, and a second one beside it if the first is late; the first answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.events import Attempt, attempts
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ObjectReader

__all__ = ["Race"]

R = TypeVar("R")


class Race(Generic[R]):
    """Carries out one operation by up to two attempts.

    The first runs in the task of the caller, so that an operation that is not late costs no task; the second in a task
    of its own. When an attempt wins, the other is cancelled, and has ended before the operation does. What it returns
    nevertheless is released.

    Args:
        call: makes an attempt.
        pay: called when the first attempt is late; False if there is to be no second one.
    """

    def __init__(self, call: Callable[[], Awaitable[R]], pay: Callable[[], bool]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._call = call
        self._pay = pay
        self._task = task
        self._cancelling = task.cancelling()
        self._series = attempts("hedge")
        self._first: Attempt = self._series.begin()
        self._second: Attempt | None = None
        self._hedge: asyncio.Task[R] | None = None
        self._racing = True
        self._overtaken = False

    async def run(self, delay: float) -> R:
        """Return the first answer, which may be an error such as that of a missing object.

        Args:
            delay: seconds after which the first attempt is late.

        Raises:
            Exception: the error of the first attempt, if the second one has failed too, or was not begun.
        """
        try:
            result = await self._first_answer(delay)
        except BaseException as error:
            if self._hedge is None:
                raise
            if not self._goes_on_after(error):
                await _end(self._hedge)
                raise
            failure = error
        else:
            return result if self._hedge is None else await self._settle(result, self._hedge)
        finally:
            hedge, self._hedge = self._hedge, None  # its error's traceback refers to this object
        try:
            return await self._follow(hedge, failure)
        finally:
            del failure, hedge

    async def _first_answer(self, delay: float) -> R:
        timer = asyncio.get_running_loop().call_later(delay, self._is_late)
        try:
            with self._first:
                return await self._call()
        finally:
            self._racing = False
            timer.cancel()
            if self._overtaken:
                self._task.uncancel()

    def _goes_on_after(self, error: BaseException) -> bool:
        """Tell whether the second attempt decides after an error of the first one."""
        if isinstance(error, asyncio.CancelledError):
            return self._overtaken and self._task.cancelling() <= self._cancelling
        return isinstance(error, Exception) and (self._overtaken or verdict_on(error) == "failed")

    async def _settle(self, result: R, hedge: asyncio.Task[R]) -> R:
        """End the second attempt, since the first one has returned."""
        if self._overtaken:
            _discard(result)  # it was returned in spite of the cancellation
            return hedge.result()
        assert self._second is not None
        self._second.lost_to(self._first)
        try:
            await _end(hedge)
        except BaseException:
            _discard(result)
            raise
        return result

    async def _follow(self, hedge: asyncio.Task[R] | None, failure: BaseException) -> R:
        """Return the answer of the second attempt, or raise the error of the first one."""
        assert hedge is not None
        try:
            await asyncio.wait({hedge})
        except BaseException:
            await _end(hedge)
            raise
        try:
            if _has_answered(hedge):
                return hedge.result()
            raise failure
        finally:
            del failure, hedge  # a traceback refers to this frame

    def _is_late(self) -> None:
        # A task that was asked to end before is cleaning up.
        if self._racing and self._task.cancelling() == self._cancelling and self._pay():
            self._second = self._series.begin()
            self._hedge = asyncio.get_running_loop().create_task(self._again(self._second), name="trove-hedge")
            self._hedge.add_done_callback(self._has_ended)

    async def _again(self, attempt: Attempt) -> R:
        with attempt:
            return await self._call()

    def _has_ended(self, hedge: asyncio.Task[R]) -> None:
        if self._racing and self._task.cancelling() == self._cancelling and _has_answered(hedge):
            self._overtaken = True
            assert self._second is not None
            self._first.lost_to(self._second)
            self._task.cancel()


def _has_answered(attempt: asyncio.Task[R]) -> bool:
    if attempt.cancelled():
        return False
    error = attempt.exception()
    return error is None or verdict_on(error) == "works"


async def _end(attempt: asyncio.Task[R]) -> None:
    """Cancel an attempt that nobody waits for, and wait until it has ended."""
    attempt.cancel()
    try:
        if not attempt.done():
            await finish(_over(attempt), timeout=CLEANUP_TIMEOUT, leftover="the slower one of two attempts at a read")
    finally:
        if attempt.done():
            _release(attempt)
        else:
            attempt.add_done_callback(_release)


async def _over(attempt: asyncio.Task[R]) -> None:
    await asyncio.wait({attempt})


def _release(attempt: asyncio.Task[R]) -> None:
    """Release what an attempt returned that nobody waits for."""
    if not attempt.cancelled() and attempt.exception() is None:
        _discard(attempt.result())


def _discard(result: object) -> None:
    if isinstance(result, ObjectReader):
        result.abort()
