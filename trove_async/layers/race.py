"""`Race`: an attempt, and a second one beside it if the first is late; the first answer wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Generic, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.events import Attempt, attempts
from trove_async.errors import PreconditionFailedError
from trove_async.layers.verdict import verdict_on
from trove_async.layers.waiting import Waiting
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["Race"]

R = TypeVar("R")


class Race(Generic[R]):
    """Carries out one operation by up to two attempts.

    The first runs in the task of the caller, so that an operation that is not late costs no task; the second in a task
    of its own. When an attempt wins, the other is cancelled, and has ended before the operation does. If it returned
    an object nevertheless, the objects are compared: of two, the one that was stored last is the answer.

    Args:
        call: makes an attempt.
        pay: called when the first attempt is late; False if there is to be no second one.
        loop: that runs now.
        began: now, by its clock.
    """

    __slots__ = (
        "_call", "_cancelling", "_context", "_first", "_hedge", "_overtaken", "_pay", "_racing", "_second", "_series",
        "_task", "began",
    )  # fmt: skip

    def __init__(
        self,
        call: Callable[[], Awaitable[R]],
        pay: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
        began: float,
    ) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self.began = began
        self._call = call
        self._pay = pay
        self._task = task
        self._cancelling = task.cancelling()
        self._context = copy_context()
        self._series = attempts("hedge")
        self._first: Attempt = self._series.begin()
        self._second: Attempt | None = None
        self._hedge: asyncio.Task[R] | None = None
        self._racing = True
        self._overtaken = False

    async def run(self, waiting: Waiting, delay: float) -> R:
        """Return the first answer, which may be an error such as that of a missing object.

        Args:
            waiting: tells when the first attempt is late.
            delay: the seconds after which it is.

        Raises:
            Exception: the error of the first attempt, if the second one has failed too, or was not begun.
        """
        waiting.add(self, delay)
        try:
            with self._first:
                result = await self._call()
        except BaseException as error:
            hedge = self._first_has_ended(waiting)
            if hedge is None:
                raise
            if not self._goes_on_after(error):
                _discard(await _end(hedge))
                raise
            failure = error
        else:
            hedge = self._first_has_ended(waiting)
            return result if hedge is None else await self._settle(result, hedge)
        try:
            return await self._follow(hedge, failure)
        finally:
            del failure, hedge  # their tracebacks refer to this frame

    def _first_has_ended(self, waiting: Waiting) -> asyncio.Task[R] | None:
        """Take in that the first attempt has ended, and return the second one, which this object no longer keeps."""
        self._racing = False
        waiting.remove(self)
        if self._overtaken:
            self._task.uncancel()
        hedge, self._hedge = self._hedge, None  # its error's traceback refers to this object
        return hedge

    def _goes_on_after(self, error: BaseException) -> bool:
        """Tell whether the second attempt decides after an error of the first one."""
        if isinstance(error, asyncio.CancelledError):
            return self._overtaken and self._task.cancelling() <= self._cancelling
        if not isinstance(error, Exception):
            return False
        return self._overtaken or verdict_on(error) == "failed" or not _decides(error)

    async def _settle(self, result: R, hedge: asyncio.Task[R]) -> R:
        """End the second attempt, since the first one has returned."""
        if self._overtaken:  # it has returned in spite of the cancellation
            try:
                return _newest(hedge.result(), result)
            except Exception:
                _discard(result)
                raise
        assert self._second is not None
        self._second.lost_to(self._first)
        try:
            other = await _end(hedge)
        except BaseException:
            _discard(result)
            raise
        return result if other is None else _newest(result, other)

    async def _follow(self, hedge: asyncio.Task[R], failure: BaseException) -> R:
        """Return the answer of the second attempt, or raise the error of the first one."""
        try:
            await asyncio.wait({hedge})
        except BaseException:
            _discard(await _end(hedge))
            raise
        try:
            if _has_answered(hedge):
                return hedge.result()
            raise failure
        finally:
            del failure, hedge  # a traceback refers to this frame

    def be_late(self) -> None:
        """Begin the second attempt, if there is to be one."""
        # A task that was asked to end before is cleaning up.
        if self._racing and self._task.cancelling() == self._cancelling and self._pay():
            self._context.run(self._begin_second)  # whoever calls this is in another context than the operation

    def _begin_second(self) -> None:
        self._second = self._series.begin()
        self._hedge = asyncio.get_running_loop().create_task(self._again(self._second), name="trove-hedge")
        self._hedge.add_done_callback(self._has_ended)

    async def _again(self, attempt: Attempt) -> R:
        with attempt:
            return await self._call()

    def _has_ended(self, hedge: asyncio.Task[R]) -> None:
        if not self._racing or self._task.cancelling() != self._cancelling or not _has_answered(hedge):
            return
        if (error := hedge.exception()) is None or _decides(error):
            self._overtaken = True
            assert self._second is not None
            self._first.lost_to(self._second)
            self._task.cancel()


def _has_answered(attempt: asyncio.Task[R]) -> bool:
    if attempt.cancelled():
        return False
    error = attempt.exception()
    return error is None or verdict_on(error) == "works"


def _decides(error: BaseException) -> bool:
    """Tell whether an answer ends the race. That the backend has another object than the read asks for does not.

    A replica that is behind says so too, and the other attempt may find the object.
    """
    return not isinstance(error, PreconditionFailedError)


def _newest(answer: R, other: R) -> R:
    """Return the answer whose object was stored last, the first one if that is unknown; release the other."""
    if _is_newer(_info_of(other), _info_of(answer)):
        answer, other = other, answer
    _discard(other)
    return answer


def _is_newer(other: ObjectInfo | None, info: ObjectInfo | None) -> bool:
    if other is None or info is None or other.etag == info.etag:
        return False
    before, after = info.last_modified, other.last_modified
    return before is not None and after is not None and after > before


def _info_of(answer: object) -> ObjectInfo | None:
    if isinstance(answer, ObjectReader):
        return answer.info
    return answer if isinstance(answer, ObjectInfo) else None


async def _end(attempt: asyncio.Task[R]) -> R | None:
    """Cancel an attempt, wait until it has ended, and return what it returned nevertheless."""
    attempt.cancel()
    try:
        if not attempt.done():
            await finish(_over(attempt), timeout=CLEANUP_TIMEOUT, leftover="the slower one of two attempts at a read")
    except BaseException:
        _release(attempt)
        raise
    if attempt.done():
        return _result_of(attempt)
    _release(attempt)
    return None


async def _over(attempt: asyncio.Task[R]) -> None:
    await asyncio.wait({attempt})


def _release(attempt: asyncio.Task[R]) -> None:
    """Release what an attempt returns, or has returned, that nobody waits for."""
    if attempt.done():
        _discard(_result_of(attempt))
    else:
        attempt.add_done_callback(_release)


def _result_of(attempt: asyncio.Task[R]) -> R | None:
    return None if attempt.cancelled() or attempt.exception() is not None else attempt.result()


def _discard(result: object) -> None:
    if isinstance(result, ObjectReader):
        result.abort()
