"""Clean-up that completes although the task is cancelled, within a time limit."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

__all__ = ["CLEANUP_TIMEOUT", "CleanupWarning", "finish", "to_the_end"]

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
