"""How many threads a pool of workers has.

One thread is right where the kernel is quick: several wait for each other at the lock of the interpreter. Several are
right where the kernel is slow, such as in a file system that searches, waits for a device or asks a server. No figure
of the system tells which it is, so the number follows the rate of completed operations: now and then there is a trial
with twice as many threads, or half as many. Steps of one thread could not be told from noise.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

__all__ = ["PoolSize"]

_MOST: Final = 8

_SECONDS: Final = 0.005
_OPERATIONS: Final = 16
"""What a sample of the rate lasts at least, and how many operations it counts at least."""

_TRIAL: Final = 4
"""How many samples a trial has."""
_GAIN: Final = 1.15
"""The share of the rate before that each sample of more threads must reach; the first that does not ends the trial."""
_KEPT: Final = 0.95
_FLOOR: Final = 0.8
"""The shares that the median of fewer threads must keep, and each sample. Equal rates end with few threads."""
_MEMORY: Final = 9
"""A trial is compared with the median of so many samples."""

_FIRST_REST: Final = 4
_REST_GROWTH: Final = 4
_LONGEST_REST: Final = 128
"""How many samples are between two trials: few at first, and more after each that changed nothing for good."""
_CHANGED: Final = 2.0
"""The rate has changed by so much that trials may have other results than before."""


class PoolSize:
    """The number of threads of a pool.

    Args:
        initial: how many there are before anything is measured.

    Attributes:
        threads: how many there should be now.
    """

    def __init__(self, initial: int) -> None:
        self.threads = initial
        self._seconds = 0.0
        self._completed = 0
        self._rates: deque[float] = deque(maxlen=_MEMORY)
        self._up = True
        self._trial: list[float] | None = None
        self._before = initial
        self._start_anew()

    def _start_anew(self) -> None:
        self._rest = self._next_rest = _FIRST_REST
        self._settled_at: float | None = None  # the rate when rests became longer
        self._went_up: bool | None = None  # in the last trial that succeeded

    def observe(self, seconds: float, completed: int, *, waiting: bool) -> None:
        """Take note of a period, and change the number of threads if that pays.

        Args:
            seconds: how long it was.
            completed: how many operations ended.
            waiting: whether operations wait for a thread.
        """
        self._seconds += seconds
        self._completed += completed
        if self._seconds < _SECONDS or self._completed < _OPERATIONS:
            return
        rate = self._completed / self._seconds
        self._seconds, self._completed = 0.0, 0
        if self._trial is None:
            self._watch(rate, waiting)
        else:
            self._judge(self._trial, rate)

    def _watch(self, rate: float, waiting: bool) -> None:
        self._rates.append(rate)
        if self._settled_at is not None and len(self._rates) == _MEMORY:
            change = median(self._rates) / self._settled_at
            if not 1 / _CHANGED < change < _CHANGED:
                self._start_anew()
        self._rest -= 1
        if self._rest <= 0:
            self._begin_trial(waiting)

    def _begin_trial(self, waiting: bool) -> None:
        more, fewer = waiting and self.threads < _MOST, self.threads > 1
        if more or fewer:
            self._up = more and (self._up or not fewer)
            self._before = self.threads
            self.threads = min(2 * self.threads, _MOST) if self._up else self.threads // 2
            self._trial = []

    def _judge(self, trial: list[float], rate: float) -> None:
        before = median(self._rates)
        trial.append(rate)
        ended = len(trial) == _TRIAL
        if self._up:
            failed = rate < _GAIN * before
        else:
            failed = rate < _FLOOR * before or (ended and median(trial) < _KEPT * before)
        if failed:
            self.threads = self._before
            self._up = not self._up
            self._settle(before)
        elif ended:
            self._rates.clear()  # the rate of another number of threads
            undoes, self._went_up = self._went_up is (not self._up), self._up
            if undoes:
                self._settle(median(trial))
            else:
                self._rest = self._next_rest = _FIRST_REST
        else:
            return
        self._trial = None

    def _settle(self, rate: float) -> None:
        self._settled_at = rate
        self._rest = self._next_rest
        self._next_rest = min(_REST_GROWTH * self._next_rest, _LONGEST_REST)
