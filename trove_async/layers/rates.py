"""`TokenBucket`: an amount a second, without I/O; the clock is given to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

__all__ = ["TokenBucket"]

_SAVING: Final = 0.1
_FUZZ: Final = 1e-9


class TokenBucket:
    """Tokens that come at a constant rate.

    What is idle saves tokens up to a burst. More than that can be taken at once if the bucket is full, so that nothing
    waits for ever; it is then in debt, and all others wait until that is paid. So in any time of ``t`` seconds at most
    ``burst + rate * t`` is taken, and what was taken last.

    Args:
        rate: tokens a second, more than 0.
        saving: seconds whose tokens are saved, at least one token.
        clock: seconds of a monotonic clock.

    Attributes:
        burst: the most that is saved.
    """

    __slots__ = ("_at", "_clock", "_rate", "_tokens", "burst")

    def __init__(self, rate: float, *, saving: float = _SAVING, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._at = clock()
        self._tokens = self.burst = max(1.0, rate * saving)

    def take(self, amount: float, /) -> bool:
        """Take tokens; False, and none is taken, if there are not enough now."""
        if self._missing(amount) > 0:
            return False
        self._tokens -= amount
        return True

    def give(self, amount: float, /) -> None:
        """Give tokens back; a number below 0 is taken in any case."""
        self._refill()
        self._tokens = min(self.burst, self._tokens + amount)

    def wait(self, amount: float, /) -> float:
        """Return the seconds until there are enough tokens."""
        return max(0.0, self._missing(amount) / self._rate)

    def _missing(self, amount: float) -> float:
        self._refill()
        missing = min(amount, self.burst) - self._tokens
        # Sums of times are not exact: a wait may end with a hair too few.
        return missing if missing > self.burst * _FUZZ else 0.0

    def _refill(self) -> None:
        now = self._clock()
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
