"""Cancellation: what must still be done when a task is cancelled, and for how long at most."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["CLEANUP_TIMEOUT", "CleanupWarning", "finish", "to_the_end"]

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
