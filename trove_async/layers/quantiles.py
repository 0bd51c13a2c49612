"""`Latencies`: how long answers take, online: when one is late, and whether all of them have become slower."""

from __future__ import annotations

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

    @property
    def full(self) -> bool:
        """Whether it has as many values as it keeps."""
        return len(self._order) == self._size

    def __len__(self) -> int:
        return len(self._order)


class Latencies:
    """The times to the last 512 answers, in seconds.

    Attributes:
        KEPT: how many they are.
    """

    __slots__ = ("_all", "_recent")

    KEPT: ClassVar[int] = 512  # of which 25 are later than the 95th percentile

    def __init__(self) -> None:
        self._all = Window(self.KEPT)
        self._recent = Window(_RECENT)

    def add(self, seconds: float) -> None:
        """Take in the time to an answer."""
        self._all.add(seconds)
        self._recent.add(seconds)

    def late_after(self, quantile: float) -> float:
        """Return the seconds after which an answer is late: the quantile, but not more than 5 medians."""
        return min(self._all.quantile(quantile), _LATEST * self._all.quantile(0.5))

    @property
    def risen(self) -> bool:
        """Whether the median of the last 32 answers is above twice the median of all 512."""
        return self._recent.full and self._recent.quantile(0.5) > _RISEN * self._all.quantile(0.5)

    def __len__(self) -> int:
        return len(self._all)
