"""Notifications that arrive: a bounded inbox, and the iterator that users hold."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from trove_async.errors import TroveError, WatchOverflowError

__all__ = ["Inbox", "Listener"]

_CAPACITY: Final = 1000


class Inbox:
    """Notifications that were not taken yet; used on the loop alone."""

    def __init__(self) -> None:
        self._payloads: deque[str] = deque()
        self._failure: TroveError | None = None
        self._changed = asyncio.Event()

    def deliver(self, payload: str) -> None:
        """Add a notification; too many become a `WatchOverflowError`."""
        if len(self._payloads) >= _CAPACITY:
            self._payloads.clear()
            self.fail(WatchOverflowError("notifications came faster than they were taken; look at the database"))
        elif self._failure is None:
            self._payloads.append(payload)
            self._changed.set()

    def fail(self, error: TroveError) -> None:
        """Let the reader have an error after what has arrived; the first one counts."""
        self._failure = self._failure or error
        self._changed.set()

    async def take(self) -> str:
        """Wait for a notification and remove it.

        Raises:
            TroveError: no more will arrive.
        """
        while not self._payloads:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        return self._payloads.popleft()


class Listener:
    """The notifications of one channel: ``async with db.listen("jobs") as events`` and ``async for payload in events``.

    It is subscribed once ``async with`` has been entered. A notification is a hint that can be lost with the
    connection: look at the database after entering, and after each one.
    """

    def __init__(self, inbox: Inbox, subscription: AbstractAsyncContextManager[None]) -> None:
        self._inbox = inbox
        self._subscription = subscription

    async def __aenter__(self) -> Listener:
        await self._subscription.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._subscription.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> str:
        """Wait for the next notification and return its payload.

        Raises:
            UnavailableError: the connection broke; listen again, and look at the database.
            WatchOverflowError: 1,000 notifications were waiting, and some are lost.
            ClosedError: the database was closed.
        """
        return await self._inbox.take()
