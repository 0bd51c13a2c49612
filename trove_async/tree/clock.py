"""A clock that never returns the same time twice."""

from __future__ import annotations

import threading
import time

__all__ = ["WriteClock"]


class WriteClock:
    """Gives every write its own time, which its ETag is made from; safe to use from several threads."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the present time in nanoseconds since the epoch, later than any time returned before."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns())
            return self._last
