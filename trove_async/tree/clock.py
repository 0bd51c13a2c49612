"""A clock that never returns the same time twice."""

from __future__ import annotations

import threading
import time

__all__ = ["WriteClock"]


class WriteClock:
    """Gives every write its own time, which its ETag is made from; safe to use from several threads.

    Attributes:
        step: every time is a multiple of it, in nanoseconds, so that a file system with this grain stores it exactly.
    """

    def __init__(self) -> None:
        self.step = 1
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self, after: int = 0) -> int:
        """Return the present time in nanoseconds since the epoch, later than any time returned before.

        Where the clock went back, another process may have stored a later time for the same key: ``after`` is that
        time, and the result is later.
        """
        with self._lock:
            self._last = max(self._last + self.step, time.time_ns() // self.step * self.step)
            if self._last > after:
                return self._last
        return (after // self.step + 1) * self.step
