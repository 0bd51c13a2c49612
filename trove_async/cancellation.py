"""Cancellation: what must still be done when a task is cancelled, and for how long at most."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

__all__ = ["CLEANUP_TIMEOUT", "SHIELD", "CleanupWarning", "Shield", "finish", "shielded", "to_the_end"]

CLEANUP_TIMEOUT: Final = 10.0
"""Seconds that clean-up after a failure or cancellation may take, unless the store was opened with another."""

R = TypeVar("R")

_log = logging.getLogger("trove_async")


class CleanupWarning(RuntimeWarning):
    """Clean-up was given up; the message says what is left behind."""


async def finish(work: Coroutine[Any, Any, object], *, timeout: float, leftover: str) -> None:
    """Carry out clean-up to its end, however often the calling task is cancelled meanwhile.

    A scope or `asyncio.shield` does not do: the first protects from scopes alone, the second lets
    the caller go on while the work still runs. An error of the work is logged, since the
    caller is about to raise what made the clean-up necessary.

    Args:
        work: the clean-up; it runs as a task of its own and is over when this returns.
        timeout: seconds after which it is cancelled and given up.
        leftover: what is then left behind, for the warning; ids and all.

    Raises:
        asyncio.CancelledError: the calling task was cancelled meanwhile; the clean-up is done nevertheless.
    """
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            done, _ = await asyncio.wait({task}, timeout=max(0.0, deadline - loop.time()))
        except asyncio.CancelledError as error:
            cancelled = error
            continue
        if not done:
            task.cancel()
            warnings.warn(f"clean-up gave up after {timeout:g} s: {leftover}", CleanupWarning, stacklevel=2)
            break
    if task.done() and not task.cancelled() and (failure := task.exception()) is not None:
        _log.warning("clean-up failed: %s", leftover, exc_info=failure)
    if cancelled is not None:
        raise cancelled


async def to_the_end(
    work: Coroutine[Any, Any, R],
    *,
    timeout: float,
    leftover: str,
    on_cancel: Callable[[], object] | None = None,
) -> R:
    """Await what runs in a thread, and when cancelled wait for it to be over before raising that.

    A thread cannot be stopped, and whoever cancelled a call expects that it leaves things alone afterwards.

    Args:
        work: what is awaited, as a task of its own.
        timeout: seconds to wait for it after a cancellation, before it is left to itself with a warning.
        leftover: what then goes on, for the warning.
        on_cancel: called at the cancellation, to have the thread come back soon.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        if not task.done():
            await finish(_over(task), timeout=timeout, leftover=leftover)
        if task.done() and not task.cancelled():
            task.exception()  # it is retrieved: the cancellation is what the caller is told
        raise


async def _over(task: asyncio.Future[Any]) -> None:
    await asyncio.wait({task})


class Shield:
    """The requests of one call of `shielded`: whether one is under way, and whether another attempt may begin."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._sent = False
        self._failed = False
        self._cancelled = False

    async def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Carry out the work in the task that calls this."""
        self._task = asyncio.current_task()
        if self._cancelled:
            work.close()
            raise asyncio.CancelledError
        return await work

    def cancel(self) -> None:
        """Take in that the caller was cancelled: end the work, unless a request is under way."""
        self._cancelled = True
        if self._task is not None and not self._sent:
            self._task.cancel()

    def end(self) -> None:
        """End work that goes on after its time."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def may_send(self) -> bool:
        """Tell whether a request can be sent now; it cannot if it would be another attempt after a cancellation."""
        self._sent = not (self._cancelled and self._failed)
        return self._sent

    def failed(self, error: Exception) -> None:
        """Take in that a request failed, before the wait for the next attempt.

        Raises:
            Exception: the error, since the caller was cancelled.
        """
        if self._cancelled:
            raise error
        self._sent = False
        self._failed = True


SHIELD: Final[ContextVar[Shield | None]] = ContextVar("SHIELD", default=None)
"""The shield of the work that runs in this context: who sends a request or tries one again tells it."""


async def shielded(work: Coroutine[Any, Any, R], *, timeout: float, leftover: str) -> R:
    """Await requests of which one must not be torn apart; when cancelled, begin no further attempt.

    A request that is under way at the cancellation is awaited, with what its answer leads to. Work that waits for a
    connection, or for the next attempt, ends at once.

    Args:
        work: sends the requests; it runs as a task of its own.
        timeout: seconds to wait for it after a cancellation, before it is cancelled with a warning.
        leftover: what is then left behind, for the warning.

    Raises:
        asyncio.CancelledError: the calling task was cancelled, whether the work was done or not.
    """
    shield = Shield()
    token = SHIELD.set(shield)
    try:
        return await to_the_end(shield.run(work), timeout=timeout, leftover=leftover, on_cancel=shield.cancel)
    finally:
        SHIELD.reset(token)
        shield.end()
