"""`Waiting`: operations that wait for an answer, and one timer for all of them, which tells each that it is late."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import Protocol

__all__ = ["Waiting", "Waits"]


class Waits(Protocol):
    """An operation that waits for an answer."""

    @property
    def began(self) -> float:
        """When it began, by the clock of the loop."""

    def be_late(self) -> None:
        """Take in that the answer is late."""


class Waiting:
    """The operations that wait; `asyncio.loop.call_later` for each of them would cost several times as much.

    All are late after the same time, so that they become late in the order in which they begin. The time may be another
    one whenever an operation is added; it is then that of all.
    """

    __slots__ = ("_operations", "_seconds", "_timer")

    def __init__(self) -> None:
        self._operations: dict[Waits, None] = {}
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, operation: Waits, seconds: float) -> None:
        """Add an operation that begins now, and take in that all are late after ``seconds``."""
        self._operations[operation] = None
        sooner = seconds < self._seconds
        self._seconds = seconds
        if self._timer is None or sooner:
            self._set_timer()

    def remove(self, operation: Waits) -> None:
        """Remove an operation that has ended, which may have become late before."""
        self._operations.pop(operation, None)

    def close(self) -> None:
        """Stop the timer, unless operations still wait."""
        if self._timer is not None and not self._operations:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = next(iter(self._operations)).began + self._seconds
        # In a context of its own: it is not about the operation that happens to set it.
        self._timer = asyncio.get_running_loop().call_at(due, self._tell, due, context=Context())

    def _tell(self, due: float) -> None:
        self._timer = None
        now = max(due, asyncio.get_running_loop().time())  # a loop calls its timers up to a tick of its clock too early
        while self._operations:
            operation = next(iter(self._operations))
            if operation.began + self._seconds > now:
                self._set_timer()
                return
            del self._operations[operation]
            operation.be_late()
