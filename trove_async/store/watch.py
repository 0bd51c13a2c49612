"""Watch a bucket."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from trove_async.cancellation import finish
from trove_async.errors import ClosedError, TroveError
from trove_async.types import ObjectEvent

__all__ = ["Watch"]

Subscribe = Callable[[Callable[[], object]], AsyncGenerator[ObjectEvent, None]]


class Watch:
    """The result of ``watch``: an async context manager and an async iterator of events.

    Entering it subscribes: every later change is seen. Without ``async with``, the first step of ``async for``
    subscribes, and `aclose` unsubscribes. A step that is cancelled, for example by a timeout, loses no event: the
    next step gets it.
    """

    def __init__(self, subscribe: Subscribe, *, locate: Callable[[TroveError], None], cleanup_timeout: float) -> None:
        self._subscribe = subscribe
        self._locate = locate
        self._cleanup_timeout = cleanup_timeout
        self._events: AsyncGenerator[ObjectEvent, None] | None = None
        self._step: asyncio.Task[ObjectEvent] | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def _start(self) -> None:
        if self._closed or self._events is not None:
            raise ClosedError("a watch can be entered once; make another", operation="watch")
        ready = asyncio.Event()
        self._events = self._subscribe(ready.set)
        self._step = asyncio.ensure_future(_next(self._events))
        waiting = asyncio.ensure_future(ready.wait())
        try:
            await asyncio.wait({waiting, self._step}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not ready.is_set() and (self._step.cancelled() or self._step.exception() is not None):
            await self._take()  # raises the error of the subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectEvent:
        if self._closed:
            raise StopAsyncIteration
        if self._events is None:
            await self._start()
        assert self._events is not None
        if self._step is None:
            # A separate task: a cancelled step must not end the driver's generator.
            self._step = asyncio.ensure_future(_next(self._events))
        return await self._take()

    async def _take(self) -> ObjectEvent:
        step = self._step
        assert step is not None
        try:
            event = await asyncio.shield(step)
        except asyncio.CancelledError:
            if not step.cancelled():
                raise  # the step continues, or has ended, and the next call gets its event
            self._step = None
            if self._closed and not _cancelling():
                raise StopAsyncIteration from None  # `aclose`, in another task, has ended the step
            raise
        except BaseException as error:
            # The driver's generator has ended with the error; there is nothing to close.
            self._closed = True
            self._step = self._events = None
            if isinstance(error, TroveError):
                self._locate(error)
            raise
        self._step = None
        return event

    async def aclose(self) -> None:
        """Unsubscribe, and end the work of the subscription; idempotent."""
        self._closed = True
        events, self._events = self._events, None
        step, self._step = self._step, None
        if events is not None:
            await finish(_close(events, step), timeout=self._cleanup_timeout, leftover="a watch")

    def __del__(self) -> None:
        if getattr(self, "_events", None) is not None:
            text = "unclosed Watch; use it in a with block, or close it"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
            if self._step is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._step.cancel)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _next(events: AsyncGenerator[ObjectEvent, None]) -> ObjectEvent:
    try:
        return await anext(events)
    except StopAsyncIteration:
        raise ClosedError("the watch has ended", operation="watch") from None


async def _close(events: AsyncGenerator[ObjectEvent, None], step: asyncio.Task[ObjectEvent] | None) -> None:
    if step is not None:
        step.cancel()
        await asyncio.wait({step})
        if not step.cancelled():
            step.exception()
    await events.aclose()
