"""`Pace`: how many ranges of an object are read, or parts of one are sent, at once."""

from __future__ import annotations

from typing import Final

__all__ = ["Pace"]

_STEP: Final = 4
"""By what the width is multiplied while that pays: from 1 to 16 in two steps."""

_GAIN: Final = 1.25
"""The rate must rise by this factor, or the width was enough before."""

_FAST: Final = 400e6
"""Bytes a second of the whole at which no larger width is tried: connections that are limited bring less."""

_UNLIMITED: Final = 200e6
"""Bytes a second of one connection alone at which it is not taken for limited: others would only share what it has."""

_SAMPLE: Final = 2 * 1024 * 1024
_PERIOD: Final = 0.1
"""A rate is measured over at least so many bytes, and over at least so many seconds."""

_PATIENCE: Final = 32
"""Measurements before a larger width is tried again, after it did not pay; twice as many each time."""


class Pace:
    """Begins with few ranges or parts at once, and has more while the rate of the whole rises.

    The rate is measured anew when bytes of each of them have begun to move. More of them do not help the other side, a
    consumer or a source, if that is slower.

    Args:
        limit: the largest width.
        width: to begin with, if the limit allows it.

    Attributes:
        width: how many ranges or parts are to be under way at once.
    """

    def __init__(self, limit: int, width: int = 1) -> None:
        self.width = min(width, limit)
        self._limit = limit
        self._before: int | None = None  # the width to which it goes back, while more is tried
        self._rate = 0.0  # of the last measurement
        self._patience = 0
        self._measured = 0  # since more was tried
        self._since: float | None = None
        self._bytes = 0
        self._waited = 0.0

    def begin(self) -> None:
        """Measure anew, from the next bytes on."""
        self._since = None

    def arrived(self, size: int, now: float) -> None:
        """Take in that bytes have arrived or were sent, at a time in seconds."""
        if self._since is None:
            self._since, self._bytes, self._waited = now, 0, 0.0
            return
        self._bytes += size
        if self._bytes >= _SAMPLE and now - self._since >= _PERIOD:
            self._judge(now - self._since)

    def waited(self, seconds: float) -> None:
        """Take in for how long the other side has waited: a consumer for bytes, a source for a place."""
        self._waited += seconds

    def _judge(self, seconds: float) -> None:
        rate, waited = self._bytes / seconds, self._waited
        self.begin()
        if waited < seconds / 2:
            return
        self._measured += 1
        if self._before is not None:
            if rate < self._rate * _GAIN:
                self.width = self._before
                self._patience = 2 * self._patience or _PATIENCE
            else:
                self._patience = 0
            self._before = None
        self._rate = rate
        if self._measured > self._patience and self.width < self._limit and rate < min(_FAST, self.width * _UNLIMITED):
            self._before, self.width, self._measured = self.width, min(self._limit, self.width * _STEP), 0
