"""`Circuit`: the state machine of a circuit breaker, without I/O; clock and randomness are given to it.

::

    closed ── threshold failures in a row, or the failure ratio ──> open
    open ── the open time has passed, and a probe begins ──> half_open
    half_open ── the probe succeeds ──> closed
    half_open ── the probe fails ──> open
    any ── isolate() ──> isolated          any ── reset() ──> closed

A call gets a ticket when it begins, and reports with it once. A ticket tells in which generation, that is between which
two transitions, its call began: results of an earlier generation change nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from trove_async.driver.events import Event
from trove_async.errors import InvalidArgumentError
from trove_async.jitter import jitter
from trove_async.values import is_number, is_whole

__all__ = ["CIRCUIT_STATES", "Circuit", "CircuitEvent", "CircuitRules", "CircuitState"]

CircuitState = Literal["closed", "open", "half_open", "isolated"]
"""``closed``: calls pass. ``open``: calls are refused. ``half_open``: one call tests the backend, all others are
refused. ``isolated``: calls are refused until somebody resets the circuit."""

CIRCUIT_STATES: Final[tuple[CircuitState, ...]] = get_args(CircuitState)
"""All states."""

_WINDOW: Final = 60.0
_MINIMUM: Final = 20
_SLICES: Final = 10


@dataclass(frozen=True, slots=True)
class CircuitEvent(Event):
    """A change of a circuit's state.

    Attributes:
        name: of the circuit breaker.
        before, after: the states.
        error: what opened the circuit; None for the other changes.
    """

    name: str
    before: CircuitState
    after: CircuitState
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens, and for how long. Times are in seconds.

    Attributes:
        threshold: opens after this number of failures in a row; None for no such limit.
        open_for: the least time that it stays open.
        jitter: how much longer it may stay open, as a share of ``open_for``; drawn for each opening, so that
            clients that failed together do not return together.
        ratio: opens if this share of the calls of the window failed, more than 0 and at most 1; None for no such limit.
        window: the time that ``ratio`` is about; 60 if it is None.
        minimum: the number of calls in the window below which ``ratio`` does not apply; 20 if it is None.
        probe_timeout: the time after which a probe that has not ended no longer keeps another from beginning.

    Raises:
        InvalidArgumentError: a value is out of range, there is no limit at all, or there is a window without a ratio.
    """

    threshold: int | None = 5
    open_for: float = 30.0
    jitter: float = 0.25
    ratio: float | None = None
    window: float | None = None
    minimum: int | None = None
    probe_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("threshold", "minimum"):
            _check_count(name, getattr(self, name))
        for name in ("open_for", "window", "probe_timeout"):
            value = getattr(self, name)
            if not (name == "window" and value is None):
                _check(name, value, is_number(value) and 0 < value < math.inf, "a number of seconds above 0")
        _check("jitter", self.jitter, is_number(self.jitter) and 0 <= self.jitter <= 1, "a number from 0 to 1")
        if self.ratio is not None:
            _check("ratio", self.ratio, is_number(self.ratio) and 0 < self.ratio <= 1, "above 0 and at most 1, or None")
        elif self.threshold is None:
            raise InvalidArgumentError("with neither threshold nor ratio the circuit breaker never opens; give one")
        elif self.window is not None or self.minimum is not None:
            raise InvalidArgumentError("window and minimum say when ratio applies; give ratio too, as in ratio=0.5")


def _check_count(name: str, value: object) -> None:
    valid = value is None or (is_whole(value) and value >= 1)
    _check(name, value, valid, "a whole number of 1 or more, or None")


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise InvalidArgumentError(f"{name} of a circuit breaker is {expected}, not {value!r}")


class _Window:
    """The numbers of calls and failures in the last seconds, counted in slices of a tenth of that time."""

    __slots__ = ("_calls", "_failures", "_slice", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / _SLICES
        self.clear()

    def clear(self) -> None:
        self._slice: float = 0
        self._calls = [0] * _SLICES
        self._failures = [0] * _SLICES

    def add(self, now: float, *, failed: bool) -> None:
        current = now // self._width
        steps = min(current - self._slice, _SLICES)
        if steps > 0:  # a clock that goes back adds to the latest slice
            for step in range(int(steps)):
                at = int(current - step) % _SLICES
                self._calls[at] = self._failures[at] = 0
            self._slice = current
        at = int(self._slice) % _SLICES
        self._calls[at] += 1
        self._failures[at] += failed

    @property
    def calls(self) -> int:
        return sum(self._calls)

    @property
    def failures(self) -> int:
        return sum(self._failures)


class Circuit:
    """The state of a circuit, and when it changes.

    Args:
        rules: when it opens, and for how long.
        on_change: called after each change with the state before, the state after, and the error that opened it.
        clock: seconds of a monotonic clock.
        random: a number from 0 to 1; it is multiplied with the jitter.

    Attributes:
        state: the present one. An open circuit whose open time has passed stays ``open`` until a probe begins.
        error: what opened it last; None while it is closed or isolated.
        transitions: the number of changes so far.
        probers: the number of tasks that probe out of band; while there are any, calls never probe.
    """

    __slots__ = (
        "_clock", "_failures", "_left_at", "_on_change", "_random", "_rules", "_since", "_ticket", "_until", "_window",
        "error", "probers", "state", "transitions",
    )  # fmt: skip

    def __init__(
        self,
        rules: CircuitRules,
        on_change: Callable[[CircuitState, CircuitState, Exception | None], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = jitter.random,
    ) -> None:
        self._rules = rules
        self._on_change = on_change
        self._clock = clock
        self._random = random
        self.state: CircuitState = "closed"
        self.error: Exception | None = None
        self.transitions = 0
        self.probers = 0
        self._failures = 0  # in a row
        self._window = None if rules.ratio is None else _Window(_WINDOW if rules.window is None else rules.window)
        self._ticket = 0  # of the calls of a closed circuit, or of the latest probe
        self._since = 0  # the first ticket of this generation
        self._until = 0.0  # open: the end of the open time; half open: when the next probe may begin
        self._left_at = 0.0  # when it was last closed

    def begin(self) -> int | None:
        """Return the ticket of a call; None if the call is refused."""
        if self.state == "closed":
            return self._ticket
        return None if self.probers else self.begin_probe()

    def begin_probe(self) -> int | None:
        """Return the ticket of a probe; None if none may begin now.

        A probe that has not reported within the rules' ``probe_timeout`` no longer keeps others from beginning.
        """
        if self.until_probe != 0:
            return None
        self._ticket += 1
        ticket = self._ticket
        self._until = self._clock() + self._rules.probe_timeout
        if self.state == "open":
            self._since = ticket
            self._enter("half_open", None)
        return ticket

    @property
    def until_probe(self) -> float | None:
        """Seconds until a probe may begin; None while the circuit is closed or isolated."""
        if self.state == "closed" or self.state == "isolated":
            return None
        return max(0.0, self._until - self._clock())

    @property
    def open_time(self) -> float:
        """Seconds since the circuit was last closed; 0 while it is closed."""
        return 0.0 if self.state == "closed" else max(0.0, self._clock() - self._left_at)

    def succeeded(self, ticket: int) -> None:
        """Take in that the backend did what a call asked for, or answered that the call was at fault."""
        if self.state == "closed":
            if ticket == self._ticket:
                self._failures = 0
                if self._window is not None:
                    self._window.add(self._clock(), failed=False)
        # That a probe was given up does not make its success worth less: the backend works now.
        elif self.state == "half_open" and ticket >= self._since:
            self._close()

    def answered(self, ticket: int) -> int:
        """Take in that the backend answered a call whose body follows; return the ticket of the body.

        A probe has then succeeded: a body may be read slowly, or only once another call has begun.
        """
        if self.state == "half_open" and ticket >= self._since:
            self._close()
            return self._ticket
        return ticket

    def failed(self, ticket: int, error: Exception) -> None:
        """Take in that the backend failed."""
        if ticket != self._ticket:
            return
        if self.state == "half_open":
            self._open(error)
        elif self.state == "closed":
            self._failures += 1
            if self._window is not None:
                self._window.add(self._clock(), failed=True)
            if self._has_failed_too_often():
                self._open(error)

    def dropped(self, ticket: int) -> None:
        """Take in that a call ended and tells nothing; if it was the probe, another may begin."""
        if self.state == "half_open" and ticket == self._ticket:
            self._until = self._clock()

    def isolate(self) -> None:
        """Refuse all calls until `reset`."""
        if self.state != "isolated":
            self._begin_generation()
            self._enter("isolated", None)

    def reset(self) -> None:
        """Close the circuit, and count from 0."""
        self._close()

    def _has_failed_too_often(self) -> bool:
        rules, window = self._rules, self._window
        if rules.threshold is not None and self._failures >= rules.threshold:
            return True
        if rules.ratio is None or window is None:
            return False
        minimum = _MINIMUM if rules.minimum is None else rules.minimum
        return window.calls >= minimum and window.failures >= rules.ratio * window.calls

    def _open(self, error: Exception) -> None:
        self._begin_generation()
        self._until = self._clock() + self._rules.open_for * (1 + self._rules.jitter * self._random())
        self._enter("open", error)

    def _close(self) -> None:
        self._begin_generation()
        self._failures = 0
        if self._window is not None:
            self._window.clear()
        self._enter("closed", None)

    def _begin_generation(self) -> None:
        self._ticket += 1
        self._since = self._ticket

    def _enter(self, after: CircuitState, error: Exception | None) -> None:
        before, self.state = self.state, after
        if after != "half_open":
            self.error = error
        if before == "closed":
            self._left_at = self._clock()
        if after != before:
            self.transitions += 1
            self._on_change(before, after, error)
