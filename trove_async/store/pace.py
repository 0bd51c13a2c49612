"""`Pace`: how many ranges of an object are read at once."""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_STEP: Final = 4
"""By what the number of ranges is multiplied while that pays: from 1 to 16 in two steps."""

_GAIN: Final = 1.25
"""The rate must rise by this factor, or there were enough ranges before."""

_FAST: Final = 400e6
"""Bytes a second at which one connection is no limit: services and links that limit each allow less."""

_SAMPLE: Final = 2 * 1024 * 1024
_PERIOD: Final = 0.1
"""A rate is measured over at least so many bytes, and over at least so many seconds."""


class Pace:
    """Begins with one range, and reads more at once while the rate of the whole rises.

    The rate is measured anew when each of the ranges has begun to arrive. A consumer that is slower than the ranges
    is not helped by more of them.

    Args:
        limit: the largest width.

    Attributes:
        width: how many ranges are to be read at once.
    """

    def __init__(self, limit: int) -> None:
        self.width = 1
        self._limit = limit
        self._before = 1  # the width to which it goes back
        self._rate = 0.0  # with that width
        self._settled = limit == 1
        self._since: float | None = None
        self._bytes = 0
        self._waited = 0.0

    def begin(self) -> None:
        """Measure anew, from the next bytes on."""
        self._since = None

    def arrived(self, size: int, now: float) -> None:
        """Take in that bytes have arrived, at a time in seconds."""
        if self._settled:
            return
        if self._since is None:
            self._since, self._bytes, self._waited = now, 0, 0.0
            return
        self._bytes += size
        if self._bytes >= _SAMPLE and now - self._since >= _PERIOD:
            self._judge(now - self._since)

    def waited(self, seconds: float) -> None:
        """Take in that the consumer has waited for bytes."""
        self._waited += seconds

    def settle(self, width: int) -> None:
        """Read so many ranges at once from now on."""
        self.width, self._settled = width, True

    def _judge(self, seconds: float) -> None:
        rate, waited = self._bytes / seconds, self._waited
        self.begin()
        if waited < seconds / 2:
            return
        if rate < self._rate * _GAIN:
            self.settle(self._before)
        elif self.width == self._limit or rate >= _FAST:
            self.settle(self.width)
        else:
            self._before, self._rate = self.width, rate
            self.width = min(self._limit, self.width * _STEP)
