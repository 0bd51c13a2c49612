"""Clean-up that completes although the task is cancelled, within a time limit."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

__all__ = ["CLEANUP_TIMEOUT", "SHIELD", "CleanupWarning", "Shield", "finish", "shielded", "to_the_end"]

CLEANUP_TIMEOUT: Final = 10.0
"""The default time limit in seconds of clean-up after a failure or cancellation."""

R = TypeVar("R")

_log = logging.getLogger("trove_async")


class CleanupWarning(RuntimeWarning):
    """Clean-up did not end in time; the message says what is left behind."""


async def finish(work: Coroutine[Any, Any, object], *, timeout: float, leftover: str) -> None:
    """Run clean-up to its end, however often the calling task is cancelled meanwhile.

    A cancel scope or `asyncio.shield` is not enough: a scope protects only from other scopes, and with a shield the
    caller continues while the work still runs. An error of the work is logged, since the caller is about to
    raise the error that made the clean-up necessary.

    Args:
        work: the clean-up; it runs as a separate task, which has ended when this returns.
        timeout: seconds after which the task is cancelled.
        leftover: a description of what is left behind in that case, with ids, for the warning.

    Raises:
        asyncio.CancelledError: the calling task was cancelled meanwhile; the clean-up was done nevertheless.
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
    """Await work that runs in a thread; when cancelled, wait until it has ended before raising the cancellation.

    A thread cannot be stopped, and a cancelled call must not change anything after it has raised.

    Args:
        work: the work to await; it runs as a separate task.
        timeout: seconds to wait for it after a cancellation; after them a warning is issued and the work continues.
        leftover: a description of the work, for the warning.
        on_cancel: called at the cancellation, to make the thread end soon.
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
            task.exception()  # marks it as retrieved; the caller gets the cancellation
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
