"""The state machines of `Limit`, with a clock that the test moves, and the line in front of them."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trove_async.driver import METHODS
from trove_async.layers.aimd import Aimd
from trove_async.layers.limit_part import LIMIT_CLASSES
from trove_async.layers.queueing import Line, Places
from trove_async.layers.rates import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_operation_has_a_class() -> None:
    assert set(METHODS) - {"open", "close"} == set(LIMIT_CLASSES)


def test_a_bucket_saves_a_tenth_of_a_second() -> None:
    clock = Clock()
    bucket = TokenBucket(100, clock=clock)
    clock.now += 3600
    assert [bucket.take(1) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.wait(1) == pytest.approx(0.01)
    clock.now += bucket.wait(1)
    assert bucket.take(1)
    assert not bucket.take(1)


def test_a_slow_bucket_saves_one() -> None:
    clock = Clock()
    bucket = TokenBucket(0.5, clock=clock)
    assert bucket.take(1)
    assert bucket.wait(1) == pytest.approx(2)


def test_more_than_a_second_brings_passes_and_is_paid_afterwards() -> None:
    clock = Clock()
    bucket = TokenBucket(100, clock=clock)
    assert bucket.take(510)
    assert bucket.wait(0) == pytest.approx(5)
    assert bucket.wait(1000) == pytest.approx(5.1)


def test_tokens_that_are_given_back_are_not_lost_and_not_saved_beyond_the_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(100, clock=clock)
    assert bucket.take(10)
    bucket.give(10)
    bucket.give(10)
    assert bucket.take(10)
    assert not bucket.take(1)
    bucket.give(-90)
    assert bucket.wait(10) == pytest.approx(1)


@settings(max_examples=200, deadline=None)
@given(
    rate=st.floats(0.1, 1e9),
    steps=st.lists(st.tuples(st.floats(0, 2), st.floats(0, 3)), max_size=60),
)
def test_never_more_than_the_rate_the_burst_and_the_last(rate: float, steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock=clock)
    taken = 0.0
    for passed, share in steps:
        clock.now += passed
        if bucket.take(amount := share * rate):
            assert taken + min(amount, bucket.burst) <= (bucket.burst + rate * (clock.now - 1000)) * (1 + 1e-6)
            taken += amount


class Bench:
    """An adaptive limit, its clock, and what it reported."""

    def __init__(self, maximum: int = 100) -> None:
        self.clock = Clock()
        self.changes: list[tuple[int, int]] = []
        self.limit = Aimd(maximum, lambda *change: self.changes.append(change), clock=self.clock)

    def round_trip(self, running: int | None = None, *, throttled: bool = False) -> None:
        tickets = [self.limit.begin() for _ in range(running or self.limit.limit)]
        self.clock.now += 1
        for ticket in tickets:
            (self.limit.throttled if throttled else self.limit.succeeded)(ticket)


def test_each_round_trip_allows_about_one_more() -> None:
    bench = Bench()
    for _ in range(20):
        bench.round_trip()
    # Those that end last, when few are under way, add nothing.
    assert 24 <= bench.limit.limit <= 30
    assert bench.changes[0] == (10, 11)


def test_throttling_lowers_once_a_round_trip() -> None:
    bench = Bench()
    bench.round_trip(throttled=True)
    assert bench.changes == [(10, 6)]
    bench.round_trip(throttled=True)
    assert bench.limit.limit == 3


def test_throttling_lowers_at_most_every_tenth_of_a_second() -> None:
    bench = Bench()
    for _ in range(5):
        bench.limit.throttled(bench.limit.begin())
    assert bench.limit.limit == 6
    bench.clock.now += 0.11
    bench.limit.throttled(bench.limit.begin())
    assert bench.limit.limit == 3


def test_answers_to_what_began_before_it_was_lowered_do_not_raise_it() -> None:
    bench = Bench()
    early = [bench.limit.begin() for _ in range(10)]
    bench.limit.throttled(early.pop())
    for ticket in early:
        bench.limit.succeeded(ticket)
    assert bench.changes == [(10, 6)]


def test_the_bounds() -> None:
    bench = Bench(maximum=12)
    for _ in range(100):
        bench.round_trip()
    assert bench.limit.limit == 12
    for _ in range(100):
        bench.round_trip(throttled=True)
    assert bench.limit.limit == 1
    bench.round_trip()
    assert bench.limit.limit == 2
    assert Bench(maximum=3).limit.limit == 3


def test_what_is_not_used_does_not_grow() -> None:
    bench = Bench()
    for _ in range(1000):
        bench.round_trip(running=1)
        bench.clock.now += 3600
    assert bench.limit.limit == 10
    for _ in range(1000):
        bench.round_trip(running=4)
    assert bench.limit.limit <= 20


def test_what_is_dropped_teaches_nothing() -> None:
    bench = Bench()
    for _ in range(100):
        bench.limit.begin()
    for _ in range(100):
        bench.limit.dropped()
    assert bench.changes == []
    assert bench.limit.running == 0


def test_it_finds_what_the_backend_takes() -> None:
    bench = Bench()
    seen = []
    for _ in range(300):
        running = bench.limit.limit
        tickets = [bench.limit.begin() for _ in range(running)]
        bench.clock.now += 1
        for number, ticket in enumerate(tickets):
            (bench.limit.succeeded if number < 40 else bench.limit.throttled)(ticket)
        seen.append(running)
    steady = seen[100:]
    assert max(steady) <= 42
    assert sum(steady) / len(steady) >= 0.75 * 40


@pytest.mark.asyncio
async def test_a_line_serves_in_order() -> None:
    line, order = Line(Places(2)), []

    async def work(number: int) -> None:
        async with line:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert order == list(range(20))


@pytest.mark.asyncio
async def test_who_needs_little_does_not_overtake_who_needs_much() -> None:
    clock = Clock()
    line, order = Line(TokenBucket(0.01, clock=clock)), []  # so slow that no timer ends during the test
    await line.take(1)

    async def work(amount: float) -> None:
        await line.take(amount)
        order.append(amount)

    tasks = [asyncio.create_task(work(amount)) for amount in (5, 0)]
    await asyncio.sleep(0)
    clock.now += 50
    line.serve()
    await asyncio.sleep(0)
    assert order == []
    clock.now += 50
    line.serve()
    await tasks[0]
    assert order == [5]
    tasks[1].cancel()
    await asyncio.wait(tasks)


@pytest.mark.asyncio
async def test_a_cancelled_head_lets_the_next_one_pass() -> None:
    clock = Clock()
    line = Line(TokenBucket(0.01, clock=clock))
    await line.take(1)
    clock.now += 50
    large, small = asyncio.create_task(line.take(5)), asyncio.create_task(line.take(0.5))
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait({large, small}, timeout=5)
    assert small.done()


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_at_any_point_no_place_is_lost_and_none_is_taken_twice(seed: int) -> None:
    dice = random.Random(seed)
    places = Places(3)
    line = Line(places)
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        async with line:
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            finally:
                running -= 1

    tasks = [asyncio.create_task(work()) for _ in range(40)]
    while not all(task.done() for task in tasks):
        dice.choice(tasks).cancel()
        places.limit = dice.choice([1, 2, 3])
        line.serve()
        await asyncio.sleep(0)
    assert most <= 3
    assert places.taken == 0


@pytest.mark.asyncio
async def test_cancelled_after_its_turn_came_it_gives_the_tokens_back() -> None:
    clock = Clock()
    bucket = TokenBucket(0.01, clock=clock)
    line = Line(bucket)
    await line.take(1)
    waiting = asyncio.create_task(line.take(1))
    await asyncio.sleep(0)
    clock.now += 100
    line.serve()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert bucket.take(1)
