"""The policy of trying again: delays, reasons, and the budget that pays."""

from __future__ import annotations

import asyncio
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trove_async.driver.retry import (
    BEGUN_ANEW,
    THROTTLED,
    TRANSPORT,
    Attempts,
    Backoff,
    Budget,
    Retries,
    RetryPolicy,
    many_requests,
    reason_of,
    until_uncontended,
)
from trove_async.errors import (
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    ThrottledError,
    TransientError,
    TroveError,
    UnavailableError,
)


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.25

    def __call__(self) -> float:
        return self.now


def policy_of(attempts: int = 5, reserve: float = math.inf) -> RetryPolicy:
    return RetryPolicy(attempts=attempts, budget=Budget(reserve))


# Delays


@pytest.mark.parametrize(
    ("backoff", "ceilings"),
    [
        (TRANSPORT, [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20]),
        (THROTTLED, [1, 2, 4, 8, 16, 32, 60, 60]),
    ],
    ids=["transport", "throttled"],
)
def test_delays_double_up_to_the_longest(backoff: Backoff, ceilings: list[float]) -> None:
    assert [backoff.ceiling(failures) for failures in range(1, len(ceilings) + 1)] == pytest.approx(ceilings)
    assert backoff.ceiling(100_000) == backoff.longest


@pytest.mark.parametrize("backoff", [TRANSPORT, THROTTLED], ids=["transport", "throttled"])
def test_a_delay_is_random_between_zero_and_its_ceiling(backoff: Backoff, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr("trove_async.jitter.jitter.uniform", uniform)
    assert [backoff.delay(failures) for failures in (1, 2)] == [backoff.first, 2 * backoff.first]
    assert asked == [(0, backoff.first), (0, 2 * backoff.first)]


@pytest.mark.parametrize("asked", [0, 0.5, 7, 60])
def test_the_wait_that_a_service_asks_for_is_a_floor(asked: float) -> None:
    waits = [THROTTLED.wait(1, asked) for _ in range(20)]
    assert all(wait is not None and asked <= wait <= asked + 1 for wait in waits)


def test_a_service_that_asks_for_more_than_the_patience_is_not_asked_again() -> None:
    assert THROTTLED.wait(1, 60.1) is None


@pytest.mark.parametrize(
    "seconds", [(-1, 5), (2, 1), (0, math.inf), (0, math.nan), (math.nan, 1), (0, 1, -1), (0, 1, math.nan)]
)
def test_delays_that_make_no_sense_are_refused(seconds: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Backoff\(0\.05, 20\)"):
        Backoff(*seconds)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ThrottledError(), "throttled"),
        (TransientError(status=429), "throttled"),
        (UnavailableError(status=503), "throttled"),
        (UnavailableError(), "transport"),
        (UnavailableError(status=502), "transport"),
        (TransientError(status=500), "transport"),
        (OperationTimeoutError(), "transport"),
        (ConflictError(status=409), "transport"),
    ],
)
def test_the_reason_is_told_by_class_and_by_status(error: TroveError, reason: str) -> None:
    assert reason_of(error) == reason


# Attempts


@pytest.mark.asyncio
async def test_delays_are_those_of_the_reason_of_each_failure(
    delays: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda low, high: high)
    attempts = Attempts(policy_of(attempts=5))
    for error in (UnavailableError(), ThrottledError(), ThrottledError(retry_after=9), UnavailableError()):
        await attempts.failed(error)
    assert delays == pytest.approx([0.05, 2, 9 + 4, 0.4])


@pytest.mark.asyncio
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_the_last_attempt_raises_its_error(limit: int, delays: list[float]) -> None:
    attempts = Attempts(policy_of(attempts=limit))
    for _ in range(limit - 1):
        await attempts.failed(UnavailableError())
    last = UnavailableError()
    with pytest.raises(UnavailableError) as caught:
        await attempts.failed(last)
    assert caught.value is last
    assert len(delays) == limit - 1
    assert last.exhausted == (limit > 1)  # with one attempt, a layer may begin the operation anew


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [NotFoundError(), PreconditionFailedError()])
async def test_an_error_that_another_attempt_would_meet_again_is_raised(error: TroveError) -> None:
    with pytest.raises(type(error)):
        await Attempts(policy_of()).failed(error)
    assert not error.exhausted


@pytest.mark.asyncio
async def test_an_exhausted_error_is_tried_again_by_nobody(delays: list[float]) -> None:
    error = UnavailableError()
    error.exhausted = True
    with pytest.raises(UnavailableError):
        await Attempts(policy_of()).failed(error)
    assert delays == []


@pytest.mark.asyncio
async def test_an_empty_budget_raises_the_first_cause_and_says_so(delays: list[float]) -> None:
    attempts = Attempts(policy_of(reserve=1))
    await attempts.failed(UnavailableError("the first"))
    error = UnavailableError("the second", status=502)
    with pytest.raises(UnavailableError, match=r"the second; .* retry budget is used up") as caught:
        await attempts.failed(error)
    assert caught.value is error
    assert error.exhausted
    assert error.retryable
    assert len(delays) == 1


@pytest.mark.asyncio
async def test_progress_pays_for_an_attempt(delays: list[float]) -> None:
    attempts = Attempts(policy_of(attempts=9, reserve=0))
    for _ in range(3):
        await attempts.failed(UnavailableError(), paid=True)
    assert len(delays) == 3
    with pytest.raises(UnavailableError):
        await attempts.failed(UnavailableError())


@pytest.mark.asyncio
async def test_a_cancellation_ends_a_delay() -> None:
    attempts = Attempts(policy_of())
    task = asyncio.create_task(attempts.failed(ThrottledError(retry_after=50)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# The two levels


@pytest.mark.asyncio
async def test_a_request_is_left_to_the_layer_that_begins_its_operation_anew(delays: list[float]) -> None:
    policy = policy_of()
    retries = Retries(policy)
    await retries.of_request().failed(UnavailableError())
    token = BEGUN_ANEW.set(policy)
    try:
        with pytest.raises(UnavailableError) as caught:
            await retries.of_request().failed(UnavailableError())
        assert not caught.value.exhausted
        await retries.of_step().failed(UnavailableError())
        await Retries(policy_of()).of_request().failed(UnavailableError())  # another store, used by this operation
    finally:
        BEGUN_ANEW.reset(token)
    assert len(delays) == 3


@pytest.mark.asyncio
async def test_an_operation_of_many_requests_is_never_begun_anew(delays: list[float]) -> None:
    policy = policy_of()
    token = BEGUN_ANEW.set(policy)
    try:
        with many_requests():
            await Retries(policy).of_request().failed(UnavailableError())
        with pytest.raises(UnavailableError) as caught, many_requests(), many_requests():
            raise UnavailableError
        assert caught.value.exhausted
        with pytest.raises(NotFoundError) as missing, many_requests():
            raise NotFoundError
        assert not missing.value.exhausted
        assert BEGUN_ANEW.get() is policy
    finally:
        BEGUN_ANEW.reset(token)
    assert len(delays) == 1


@pytest.mark.asyncio
async def test_contention_is_given_up_by_all(delays: list[float]) -> None:
    calls = 0

    async def work() -> None:
        nonlocal calls
        calls += 1
        raise PreconditionFailedError

    with pytest.raises(TransientError, match="too busy") as caught:
        await until_uncontended(work, lost=PreconditionFailedError, message="too busy", limit=4)
    assert calls == 4
    assert caught.value.exhausted
    assert len(delays) == 3


# The budget


def test_five_successes_pay_for_one_attempt() -> None:
    budget = Budget(0, clock=Clock())
    for _ in range(4):
        budget.succeeded()
    assert not budget.take()
    budget.succeeded()
    assert [budget.take(), budget.take()] == [True, False]


@pytest.mark.parametrize(
    ("seconds", "pays"), [(0, True), (1, True), (8.9, True), (9.75, False), (11, False), (1e6, False)]
)
def test_successes_pay_for_ten_seconds(seconds: float, pays: bool) -> None:
    clock = Clock()
    budget = Budget(0, clock=clock)
    for _ in range(5):
        budget.succeeded()
    clock.now += seconds
    assert budget.take() == pays


def test_what_attempts_have_used_is_not_paid_twice() -> None:
    """Successes that leave the window leave no more behind than they have brought."""
    clock = Clock()
    budget = Budget(0, clock=clock)
    for _ in range(10):
        budget.succeeded()
    clock.now += 5
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(5):
        budget.succeeded()
    clock.now += 5.5  # the ten have left; their two attempts have not
    assert not budget.take()
    clock.now += 4.5
    assert not budget.take()


def test_the_reserve_is_refilled_by_time() -> None:
    clock = Clock()
    budget = Budget(3, clock=clock)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 9
    assert not budget.take()
    clock.now += 1.01
    assert [budget.take(), budget.take()] == [True, False]
    clock.now += 1000
    assert [budget.take() for _ in range(4)] == [True, True, True, False]


def test_a_budget_without_an_end_always_pays() -> None:
    budget = Budget(math.inf)
    assert all(budget.take() for _ in range(1000))


@pytest.mark.parametrize("reserve", [-1, math.nan])
def test_a_reserve_is_not_negative(reserve: float) -> None:
    with pytest.raises(InvalidArgumentError, match="0 or more"):
        Budget(reserve)


STEPS = st.lists(st.tuples(st.sampled_from(["succeed", "fail", "storm"]), st.floats(0, 15)), max_size=150)


@given(STEPS)
def test_attempts_stay_within_what_pays_for_them(steps: list[tuple[str, float]]) -> None:
    """Of any 10 seconds: a fifth of the successes in them and in the 10 seconds before, the reserve, and its refill."""
    clock = Clock()
    budget = Budget(3, clock=clock)
    successes: list[float] = []
    taken: list[float] = []
    for step, seconds in steps:
        clock.now += seconds
        if step == "succeed":
            for _ in range(7):
                budget.succeeded()
                successes.append(clock.now)
        else:
            taken += [clock.now for _ in range(1 if step == "fail" else 20) if budget.take()]
    for end in taken:
        start = end - 10
        retries = sum(start < at <= end for at in taken)
        paying = sum(start - 10 < at <= end for at in successes)
        assert retries <= 0.2 * paying + 3 + 0.1 * 10 + 1e-6


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(1, 30), st.floats(0, 40)), min_size=1, max_size=60))
def test_while_everything_fails_attempts_are_bounded(limit: int, waves: list[tuple[int, float]]) -> None:
    """At most 1.2 for each operation, the reserve, and what time has refilled, however many fail at once."""
    clock = Clock()
    budget = Budget(3, clock=clock)
    began, operations, attempts = clock.now, 0, 0
    for count, seconds in waves:
        clock.now += seconds
        for _ in range(count):
            operations += 1
            attempts += 1
            for _ in range(limit - 1):
                if not budget.take():
                    break
                attempts += 1
    assert attempts <= 1.2 * operations + 3 + 0.1 * (clock.now - began) + 1e-6


def test_delays_differ_in_processes_that_seed_random_alike() -> None:
    seeded, before = random.Random(0).getstate(), random.getstate()
    try:
        delays = set()
        for _ in range(2):
            random.setstate(seeded)
            delays.add(THROTTLED.delay(1))
            assert random.getstate() == seeded
    finally:
        random.setstate(before)
    assert len(delays) == 2
