"""`Latencies`: how long answers take, online: when one is late, and whether all of them have become slower."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import ClassVar, Final

__all__ = ["Latencies", "Window"]

_RECENT: Final = 32
"""Answers whose median says whether the backend is slower than it was."""

_RISEN: Final = 2.0
"""How many times the usual median the recent one is when the backend counts as slower."""

_LATEST: Final = 5.0
"""How many medians after which an answer is late in any case. Where about as many answers are slow as are above the
quantile, the quantile itself jumps between the quick ones and the slow ones."""

_EVERY: Final = 16
"""Answers after which the quantiles are read again, which takes longer than to take in an answer."""


class Window:
    """The last values of a series, and their quantiles. Each value costs the same, however many there were.

    Args:
        size: how many values are kept.
    """

    __slots__ = ("_order", "_size", "_sorted")

    def __init__(self, size: int) -> None:
        self._size = size
        self._order: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, value: float) -> None:
        """Take in a value, and forget the oldest if there are too many."""
        if len(self._order) == self._size:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        self._order.append(value)
        insort(self._sorted, value)

    def quantile(self, share: float) -> float:
        """Return the value below which a share of the values is, 0 to 1; there must be one.

        Raises:
            IndexError: there is no value.
        """
        return self._sorted[min(int(share * len(self._sorted)), len(self._sorted) - 1)]

    def __len__(self) -> int:
        return len(self._order)


class Latencies:
    """The times to the last 512 answers, in seconds, and what follows from them, computed anew every 16 answers.

    Args:
        quantile: the share of answers that are not late.

    Attributes:
        KEPT: how many times are kept.
        late_after: the seconds after which an answer is late: the quantile, but not more than 5 medians. Infinite
            before the first answer.
    """

    __slots__ = ("_all", "_high", "_highs", "_quantile", "_recent", "_until_derived", "late_after")

    KEPT: ClassVar[int] = 512  # of which 25 are later than the 95th percentile

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._all = Window(self.KEPT)
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._high = self.late_after = math.inf
        self._highs = 0  # of the recent ones
        self._until_derived = 1

    def add(self, seconds: float) -> None:
        """Take in the time to an answer."""
        self._all.add(seconds)
        recent = self._recent
        if self._highs and len(recent) == _RECENT and recent[0] > self._high:
            self._highs -= 1
        recent.append(seconds)
        if seconds > self._high:
            self._highs += 1
        self._until_derived -= 1
        if not self._until_derived:
            self._derive()

    def _derive(self) -> None:
        median = self._all.quantile(0.5)
        self.late_after = min(self._all.quantile(self._quantile), _LATEST * median)
        self._high = _RISEN * median
        self._highs = sum(map(self._high.__lt__, self._recent))
        self._until_derived = min(len(self._all), _EVERY)

    @property
    def risen(self) -> bool:
        """Whether the median of the last 32 answers is above twice the median of all 512."""
        return self._highs >= _RECENT // 2 and len(self._recent) == _RECENT

    def __len__(self) -> int:
        return len(self._all)
