"""The subscriptions to a bucket's events."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from trove_async.driver.options import WatchOptions
from trove_async.errors import TroveError, WatchOverflowError
from trove_async.types import ObjectEvent

__all__ = ["Subscription"]


class Subscription:
    """The buffered events for one consumer, which may run on another event loop than the writers."""

    def __init__(self, options: WatchOptions) -> None:
        self._prefix = options.prefix
        self._types = options.events
        self._capacity = options.buffer_size
        self._events: deque[ObjectEvent] = deque()
        self._failure: TroveError | None = None
        self._loop = asyncio.get_running_loop()
        self._wanted = asyncio.Event()
        self._waiting = False

    def publish(self, event: ObjectEvent) -> None:
        """Buffer an event if it is wanted; a full buffer ends the subscription."""
        if self._failure is not None or event.type not in self._types or not event.key.startswith(self._prefix):
            return
        if len(self._events) >= self._capacity:
            self.fail(WatchOverflowError(f"more than {self._capacity} events waited and some are lost; list again"))
            return
        self._events.append(event)
        self._wake()

    def fail(self, error: TroveError) -> None:
        """End the subscription: the consumer gets the error, and no buffered event.

        The consumer has to list again in any case, and that shows the buffered changes too.
        """
        self._failure = error
        self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            # RuntimeError: the consumer's loop is closed, so nothing waits there.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wanted.set)

    async def next(self) -> ObjectEvent:
        """Wait for the next event and return it.

        Raises:
            WatchOverflowError: the consumer was too slow.
            ClosedError: the driver was closed.
            BucketNotFoundError: the bucket was deleted.
        """
        while self._failure is None:
            if self._events:
                return self._events.popleft()
            self._wanted.clear()
            self._waiting = True
            # Checked again after the flag is cleared: another thread may have published in between.
            if not self._events and self._failure is None:
                await self._wanted.wait()
        raise self._failure
