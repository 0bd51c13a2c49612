"""`Aimd`: a limit that finds out how much a backend takes, without I/O; the clock is given to it.

Additive increase, multiplicative decrease, as TCP avoids congestion (RFC 5681, section 3.1): each answer adds
``1 / limit``, which makes about one more each round trip; throttling takes 40 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from trove_async.driver.events import Event

__all__ = ["Aimd", "LimitChanged", "LimitClass"]

LimitClass = Literal["all", "read", "write", "list", "delete"]
"""What a limit is about: all operations, or those of a kind."""

_START: Final = 10
_DECREASE: Final = 0.6
_INTERVAL: Final = 0.1
_HEADROOM: Final = 5


@dataclass(frozen=True, slots=True)
class LimitChanged(Event):
    """An adaptive limit has changed.

    Attributes:
        operations: which ones it is about.
        before, after: how many may run at once.
    """

    operations: LimitClass
    before: int
    after: int


class Aimd:
    """How many operations may run at once.

    Each operation gets a ticket when it begins, and reports with it once.

    - Throttling lowers the limit once each round trip: an operation that began before the limit was last lowered tells
      nothing new. Two decreases are at least 0.1 s apart.
    - An answer raises it only while it is used: at most 5 times as many are allowed as are under way. Idle time, and
      work that needs less, do not inflate it.

    Args:
        maximum: the most; the least is 1.
        on_change: called after each change of `limit` with the numbers before and after.
        clock: seconds of a monotonic clock.

    Attributes:
        running: how many are under way.
    """

    __slots__ = ("_clock", "_exact", "_lowered", "_lowered_at", "_maximum", "_on_change", "running")

    def __init__(
        self,
        maximum: int,
        on_change: Callable[[int, int], object],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maximum = maximum
        self._on_change = on_change
        self._clock = clock
        self._exact = float(min(_START, maximum))
        self._lowered = 0  # how often
        self._lowered_at = clock() - _INTERVAL
        self.running = 0

    @property
    def limit(self) -> int:
        """How many may run at once."""
        return int(self._exact)

    def begin(self) -> int:
        """Take in that an operation begins; return its ticket."""
        self.running += 1
        return self._lowered

    def succeeded(self, ticket: int) -> None:
        """Take in that the backend has answered."""
        if ticket == self._lowered and self._exact <= _HEADROOM * self.running:
            self._set(min(self._maximum, self._exact + 1 / self._exact))
        self.running -= 1

    def throttled(self, ticket: int) -> None:
        """Take in that the backend asks for less."""
        self.running -= 1
        now = self._clock()
        if ticket == self._lowered and now - self._lowered_at >= _INTERVAL:
            self._lowered += 1
            self._lowered_at = now
            self._set(max(1.0, self._exact * _DECREASE))

    def dropped(self) -> None:
        """Take in that an operation has ended and tells nothing."""
        self.running -= 1

    def _set(self, exact: float) -> None:
        before, self._exact = self.limit, exact
        if self.limit != before:
            self._on_change(before, self.limit)
