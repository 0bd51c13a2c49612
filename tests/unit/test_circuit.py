"""The state machine of a circuit breaker, with a clock that the test moves."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BackendUnavailableError,
    BodySizeError,
    ClosedError,
    ConflictError,
    InvalidArgumentError,
    NotModifiedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.layers.circuit import Circuit, CircuitRules, CircuitState
from trove_async.layers.verdict import Verdict, verdict_on

DOWN = UnavailableError("down")


class Bench:
    """A circuit, its clock, and what it reported."""

    def __init__(self, rules: CircuitRules | None = None, jitter: float = 0.0) -> None:
        self.now = 1000.0
        self.drawn = jitter
        self.changes: list[tuple[CircuitState, CircuitState, Exception | None]] = []
        rules = rules or CircuitRules(threshold=3, open_for=30)
        self.circuit = Circuit(
            rules, lambda *change: self.changes.append(change), clock=lambda: self.now, random=lambda: self.drawn
        )

    def begin(self) -> int:
        ticket = self.circuit.begin()
        assert ticket is not None
        return ticket

    def fail(self, times: int = 1, error: Exception = DOWN) -> None:
        for _ in range(times):
            self.circuit.failed(self.begin(), error)

    def succeed(self, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.succeeded(self.begin())

    @property
    def state(self) -> str:
        return self.circuit.state

    @property
    def states(self) -> list[CircuitState]:
        return [after for _, after, _ in self.changes]


def opened(rules: CircuitRules | None = None, jitter: float = 0.0) -> Bench:
    bench = Bench(rules, jitter)
    bench.fail(3)
    assert bench.state == "open"
    return bench


def half_open() -> tuple[Bench, int]:
    bench = opened()
    bench.now += 30
    return bench, bench.begin()


# Closed


def test_a_closed_circuit_lets_calls_pass_and_counts_failures_in_a_row() -> None:
    bench = Bench()
    for _ in range(5):
        bench.fail(2)
        bench.succeed()
    assert bench.state == "closed"
    assert bench.changes == []
    assert (bench.circuit.error, bench.circuit.open_time, bench.circuit.until_probe) == (None, 0, None)


def test_it_opens_at_the_threshold_and_names_the_failure_that_opened_it() -> None:
    bench = Bench()
    last = UnavailableError("the last straw")
    bench.fail(2)
    bench.fail(error=last)
    assert bench.changes == [("closed", "open", last)]
    assert bench.circuit.error is last
    assert bench.circuit.begin() is None


def test_a_call_that_tells_nothing_neither_counts_nor_resets_the_count() -> None:
    bench = Bench()
    bench.fail(2)
    bench.circuit.dropped(bench.begin())
    bench.fail()
    assert bench.state == "open"


@pytest.mark.parametrize(("threshold", "calls"), [(1, 1), (5, 5)])
def test_the_threshold_is_a_number_of_failures(threshold: int, calls: int) -> None:
    bench = Bench(CircuitRules(threshold=threshold))
    bench.fail(calls - 1)
    assert bench.state == "closed"
    bench.fail()
    assert bench.state == "open"


# Open


@pytest.mark.parametrize(("drawn", "open_time"), [(0.0, 30), (0.5, 33.75), (1.0, 37.5)])
def test_the_open_time_is_drawn_between_its_bounds(drawn: float, open_time: float) -> None:
    bench = opened(jitter=drawn)
    assert bench.circuit.until_probe == open_time
    bench.now += open_time - 0.001
    assert bench.circuit.begin() is None
    bench.now += 0.001
    assert bench.circuit.begin() is not None


def test_the_jitter_is_drawn_anew_for_each_opening() -> None:
    bench = opened(jitter=0.0)
    bench.now += 30
    bench.drawn = 1.0
    bench.fail()
    assert bench.circuit.until_probe == 37.5


def test_tiny_open_times_work() -> None:
    bench = opened(CircuitRules(threshold=3, open_for=1e-9, jitter=0))
    bench.now += 1e-6
    assert bench.circuit.begin() is not None


def test_the_open_time_grows_from_the_first_opening_to_the_closing() -> None:
    bench, probe = half_open()
    bench.circuit.failed(probe, DOWN)
    bench.now += 5
    assert bench.circuit.open_time == 35
    bench.circuit.reset()
    assert bench.circuit.open_time == 0


def test_a_clock_that_goes_back_only_lengthens_the_open_time() -> None:
    bench = opened()
    bench.now -= 500
    assert bench.circuit.begin() is None
    assert bench.circuit.open_time == 0
    bench.now += 530
    assert bench.circuit.begin() is not None


# Half open


def test_one_call_tests_the_backend_and_all_others_are_refused() -> None:
    bench, _ = half_open()
    assert bench.state == "half_open"
    assert [bench.circuit.begin() for _ in range(3)] == [None, None, None]


def test_a_probe_that_succeeds_closes_the_circuit_and_counts_from_0() -> None:
    bench, probe = half_open()
    bench.circuit.succeeded(probe)
    assert bench.states == ["open", "half_open", "closed"]
    assert bench.circuit.error is None
    bench.fail(2)
    assert bench.state == "closed"


def test_a_probe_whose_body_follows_closes_the_circuit_and_its_body_counts_as_a_call() -> None:
    bench, probe = half_open()
    body = bench.circuit.answered(probe)
    assert bench.state == "closed"
    bench.fail(2)
    bench.circuit.failed(body, UnavailableError("broke off"))
    assert bench.state == "open"


def test_an_answer_changes_nothing_unless_it_is_that_of_a_probe() -> None:
    bench = Bench()
    late = bench.begin()
    bench.fail(2)
    assert bench.circuit.answered(late) == late
    bench.fail(1)
    assert bench.circuit.answered(late) == late
    bench.now += 30
    bench.begin()
    assert bench.circuit.answered(late) == late
    assert bench.state == "half_open"


def test_a_probe_that_fails_opens_the_circuit_again_at_once() -> None:
    bench, probe = half_open()
    again = UnavailableError("still down")
    bench.circuit.failed(probe, again)
    assert bench.changes[-1] == ("half_open", "open", again)
    assert bench.circuit.until_probe == 30
    assert bench.circuit.begin() is None


def test_a_probe_that_was_cancelled_lets_another_begin() -> None:
    bench, probe = half_open()
    bench.circuit.dropped(probe)
    assert bench.state == "half_open"
    bench.succeed()
    assert bench.state == "closed"


def test_a_probe_that_never_reports_is_given_up() -> None:
    bench, _ = half_open()
    bench.now += 29.9
    assert bench.circuit.begin() is None
    bench.now += 0.1
    second = bench.begin()
    assert bench.circuit.begin() is None
    bench.circuit.succeeded(second)
    assert bench.state == "closed"


def test_a_probe_that_was_given_up_may_still_close_the_circuit_but_not_open_it() -> None:
    bench, first = half_open()
    bench.now += 30
    second = bench.begin()
    bench.circuit.failed(first, DOWN)
    bench.circuit.dropped(first)
    assert bench.state == "half_open"
    assert bench.circuit.begin() is None
    bench.circuit.succeeded(first)
    assert bench.state == "closed"
    bench.circuit.failed(second, DOWN)
    bench.fail(2)
    assert bench.state == "closed"


# Generations


@pytest.mark.parametrize("report", ["succeeded", "failed", "dropped"])
@pytest.mark.parametrize("state", ["open", "half_open", "closed", "isolated"])
def test_results_of_an_earlier_generation_change_nothing(report: str, state: str) -> None:
    bench = Bench()
    late = bench.begin()
    if state == "isolated":
        bench.circuit.isolate()
    else:
        bench.fail(3)
    if state in ("half_open", "closed"):
        bench.now += 30
        probe = bench.begin()
        if state == "closed":
            bench.circuit.succeeded(probe)
            bench.fail(2)
    before = list(bench.changes)
    wait = bench.circuit.until_probe
    for _ in range(5):
        getattr(bench.circuit, report)(*((late, DOWN) if report == "failed" else (late,)))
    assert bench.state == state
    assert bench.changes == before
    assert bench.circuit.until_probe == wait
    if state == "closed":  # the count is as it was, too
        bench.fail()
        assert bench.state == "open"


def test_a_change_that_a_hook_makes_within_a_change_stands() -> None:
    states: list[CircuitState] = []

    def veto(before: CircuitState, after: CircuitState, error: Exception | None) -> None:
        states.append(after)
        if after == "open":
            circuit.reset()

    circuit = Circuit(CircuitRules(threshold=1), veto)
    ticket = circuit.begin()
    assert ticket is not None
    circuit.failed(ticket, DOWN)
    assert circuit.state == "closed"
    assert states == ["open", "closed"]
    assert circuit.error is None


# By hand


def test_an_isolated_circuit_refuses_everything_until_it_is_reset() -> None:
    bench = Bench()
    bench.circuit.isolate()
    bench.circuit.isolate()
    bench.now += 1e9
    assert bench.circuit.begin() is None
    assert bench.circuit.begin_probe() is None
    assert bench.circuit.until_probe is None
    bench.circuit.reset()
    bench.succeed()
    assert bench.changes == [("closed", "isolated", None), ("isolated", "closed", None)]
    assert bench.circuit.transitions == 2


def test_reset_of_a_closed_circuit_counts_from_0_and_ignores_what_runs() -> None:
    bench = Bench()
    running = bench.begin()
    bench.fail(2)
    bench.circuit.reset()
    bench.circuit.failed(running, DOWN)
    bench.fail(2)
    assert bench.state == "closed"
    assert bench.changes == []


def test_calls_never_probe_while_a_prober_does() -> None:
    bench = opened()
    bench.circuit.probers = 1
    bench.now += 30
    assert bench.circuit.begin() is None
    probe = bench.circuit.begin_probe()
    assert probe is not None
    assert bench.circuit.begin_probe() is None
    bench.circuit.succeeded(probe)
    bench.succeed()


# The ratio of failures

RATIO = CircuitRules(threshold=None, ratio=0.5, window=10, minimum=10)


def test_it_opens_when_the_share_of_failures_is_reached() -> None:
    bench = Bench(RATIO)
    for _ in range(4):
        bench.fail()
        bench.succeed()
    bench.succeed()
    bench.fail()
    assert bench.state == "open"


def test_few_calls_never_open_it_by_their_ratio() -> None:
    bench = Bench(RATIO)
    bench.fail(9)
    assert bench.state == "closed"
    bench.fail()
    assert bench.state == "open"


def test_calls_that_left_the_window_do_not_count() -> None:
    bench = Bench(RATIO)
    bench.fail(9)
    bench.now += 11
    bench.fail(9)
    assert bench.state == "closed"
    bench.now += 5
    bench.fail()
    assert bench.state == "open"


def test_a_window_that_was_idle_for_long_is_empty() -> None:
    bench = Bench(RATIO)
    bench.succeed(100)
    bench.now += 1e6
    bench.fail(9)
    bench.succeed()
    bench.fail()
    assert bench.state == "open"


def test_the_window_is_empty_after_closing_and_bears_a_clock_that_goes_back() -> None:
    bench = Bench(RATIO)
    bench.fail(10)
    bench.circuit.reset()
    bench.now -= 100
    bench.fail(9)
    assert bench.state == "closed"
    bench.fail()
    assert bench.state == "open"


def test_threshold_and_ratio_apply_together() -> None:
    bench = Bench(CircuitRules(threshold=3, ratio=0.5, minimum=100))
    bench.fail(3)
    assert bench.state == "open"


# Bad input


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (lambda: CircuitRules(threshold=0), "threshold"),
        (lambda: CircuitRules(threshold=-1), "threshold"),
        (lambda: CircuitRules(threshold=2.5), "threshold"),  # type: ignore[arg-type]
        (lambda: CircuitRules(threshold=True), "threshold"),
        (lambda: CircuitRules(threshold="5"), "threshold"),  # type: ignore[arg-type]
        (lambda: CircuitRules(open_for=0), "open_for"),
        (lambda: CircuitRules(open_for=-1), "open_for"),
        (lambda: CircuitRules(open_for=math.nan), "open_for"),
        (lambda: CircuitRules(open_for=math.inf), "open_for"),
        (lambda: CircuitRules(open_for=None), "open_for"),  # type: ignore[arg-type]
        (lambda: CircuitRules(jitter=-0.1), "jitter"),
        (lambda: CircuitRules(jitter=1.1), "jitter"),
        (lambda: CircuitRules(jitter=math.nan), "jitter"),
        (lambda: CircuitRules(ratio=0), "ratio"),
        (lambda: CircuitRules(ratio=1.1), "ratio"),
        (lambda: CircuitRules(ratio=math.nan), "ratio"),
        (lambda: CircuitRules(ratio=0.5, window=0), "window"),
        (lambda: CircuitRules(ratio=0.5, window=math.nan), "window"),
        (lambda: CircuitRules(ratio=0.5, minimum=0), "minimum"),
        (lambda: CircuitRules(probe_timeout=0), "probe_timeout"),
        (lambda: CircuitRules(probe_timeout=math.nan), "probe_timeout"),
        (lambda: CircuitRules(threshold=None), "neither threshold nor ratio"),
        (lambda: CircuitRules(window=10), "give ratio"),
        (lambda: CircuitRules(minimum=10), "give ratio"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: Callable[[], CircuitRules], named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        rules()


# What an error tells


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (UnavailableError("reset"), "failed"),
        (UnavailableError("certificate", retryable=False), "failed"),
        (OperationTimeoutError("slow"), "failed"),
        (TransientError("early end"), "failed"),
        (BackendUnavailableError("an inner breaker"), "failed"),
        (ThrottledError("429", status=429), "failed"),
        (ThrottledError("SlowDown", status=503), "failed"),
        (ThrottledError("rateLimitExceeded", status=403), "failed"),
        (TransientError("500", status=500), "failed"),
        (TransientError("an error in an answer of status 200", status=200), "failed"),
        (UnavailableError("502", status=502), "failed"),
        (BackendError("505", status=505), "failed"),
        (BackendError("429", status=429), "failed"),
        (ObjectNotFoundError("404", status=404), "works"),
        (ObjectNotFoundError("memory"), "works"),
        (AccessDeniedError("403", status=403), "works"),
        (BackendError("400", status=400), "works"),
        (OperationTimeoutError("408", status=408), "works"),
        (ConflictError("409", status=409), "works"),
        (ConflictError("memory"), "works"),
        (TransientError("others were faster", status=412), "works"),
        (PreconditionFailedError("412", status=412), "works"),
        (NotModifiedError("304", status=304), "works"),
        (UnsupportedError("501", status=501), "works"),
        (StorageFullError("507", status=507), "works"),
        (StorageFullError("local"), "works"),
        (UnsupportedError("no such capability"), "neither"),
        (InvalidArgumentError("nothing was sent"), "neither"),
        (ClosedError("closed"), "neither"),
        (BodySizeError("too short"), "neither"),
        (BackendError("a portal", status=200), "neither"),
        (BackendError("odd"), "neither"),
        (TroveError("odd"), "neither"),
        (ConnectionResetError("of the body's source"), "neither"),
        (ZeroDivisionError("a bug"), "neither"),
        (KeyboardInterrupt(), "neither"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__}-{value}",
)
def test_what_an_error_tells_about_the_backend(error: BaseException, verdict: Verdict) -> None:
    assert verdict_on(error) == verdict
