"""`Hedge`: when a second read begins, which answer is returned, what is left of the other, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

import trove_async as trove
from tests.unit.doubles import ScriptedStream, arguments_of, info_of
from tests.unit.simulated import Simulated
from trove_async import Observation, Trove
from trove_async.driver import CAPABILITIES, METHODS, Driver, RangeDriver, VersioningDriver, unwrap
from trove_async.driver.events import OBSERVER
from trove_async.errors import (
    AccessDeniedError,
    InvalidArgumentError,
    NotModifiedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    UnavailableError,
)
from trove_async.layers import Call, Hedge, LayerDriver, Limit, Observe, Operation, Retry, Timeout
from trove_async.layers.limit import LimitDriver
from trove_async.reader import ObjectReader
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo

R = TypeVar("R")

DATA = b"x" * 1000
FIRST, SECOND = ObjectInfo("k", 1, "first"), ObjectInfo("k", 1, "second")
EARLIER, LATER = (datetime(2026, 1, 1, 12, 0, second, tzinfo=UTC) for second in (0, 1))
HOUR = 3600.0
HEDGED = ("get", "get_range", "get_version", "head")
ALWAYS = Hedge(delay=1e-9, budget=1)


class Answers:
    """Answers each call of a read with the next of its results, after the event of the same number is set.

    A result that is a function is called for it.

    Attributes:
        calls: how many calls began; ``ended`` how many of them ended, in order of their ends.
    """

    def __init__(self, *results: object) -> None:
        self.results = results
        self.ready = [asyncio.Event() for _ in results]
        self.begun = [asyncio.Event() for _ in results]
        self.calls = 0
        self.ended: list[int] = []

    async def __call__(self, *_: object) -> Any:
        number = self.calls
        self.calls += 1
        self.begun[number].set()
        try:
            await self.ready[number].wait()
            result = self.results[number]
            if isinstance(result, Exception):
                raise result
            return result() if callable(result) else result
        finally:
            self.ended.append(number)


class Opened:
    """Opens bodies.

    Attributes:
        streams: all of them.
    """

    def __init__(self, *script: int | BaseException) -> None:
        self.script = script
        self.streams: list[ScriptedStream] = []

    def __call__(self) -> ObjectReader:
        self.streams.append(ScriptedStream(DATA, list(self.script)))
        return ObjectReader(info_of(DATA), self.streams[-1])

    @property
    def open(self) -> int:
        return sum(stream.open for stream in self.streams)


async def race(answers: Answers, *order: int, layer: Hedge = ALWAYS) -> Any:
    """Begin a read, wait until the second one is under way, and let them answer in an order."""
    async with trove.open(MockDriver(head=answers), layers=[layer]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await answers.begun[-1].wait()
        for number in order:
            answers.ready[number].set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return await task


# Which answer is returned


@pytest.mark.asyncio
@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_is_returned_and_the_other_read_has_ended(winner: int) -> None:
    answers = Answers(FIRST, SECOND)
    assert (await race(answers, winner)).etag == ("first", "second")[winner]
    assert sorted(answers.ended) == [0, 1]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.asyncio
async def test_a_read_that_is_not_late_is_made_once() -> None:
    answers = Answers(FIRST)
    assert await race(answers, 0, layer=Hedge(delay=HOUR, budget=1)) == FIRST
    assert answers.calls == 1


@pytest.mark.asyncio
async def test_an_error_before_the_delay_is_raised_at_once() -> None:
    answers = Answers(UnavailableError("down"))
    with pytest.raises(UnavailableError):
        await race(answers, 0, layer=Hedge(delay=HOUR, budget=1))
    assert answers.calls == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("failing", [0, 1])
async def test_after_a_failure_the_other_read_decides(failing: int) -> None:
    results: list[object] = [FIRST, SECOND]
    results[failing] = UnavailableError("down")
    answers = Answers(*results)
    assert await race(answers, failing, 1 - failing) == (FIRST, SECOND)[1 - failing]


@pytest.mark.asyncio
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_if_both_fail_the_error_of_the_first_is_raised(order: tuple[int, int]) -> None:
    errors = UnavailableError("first"), UnavailableError("second")
    with pytest.raises(UnavailableError) as caught:
        await race(Answers(*errors), *order)
    assert caught.value is errors[0]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [ObjectNotFoundError(), NotModifiedError(), AccessDeniedError("no", status=403)])
@pytest.mark.parametrize("winner", [0, 1])
async def test_an_answer_may_be_an_error(error: Exception, winner: int) -> None:
    results: list[object] = [FIRST, SECOND]
    results[winner] = error
    answers = Answers(*results)
    with pytest.raises(type(error)) as caught:
        await race(answers, winner)
    assert caught.value is error
    assert sorted(answers.ended) == [0, 1]


@pytest.mark.asyncio
async def test_an_answer_in_spite_of_the_cancellation_is_not_kept_open() -> None:
    opened, begun = Opened(), asyncio.Event()

    async def get(*_: object) -> ObjectReader:
        if not begun.is_set():
            begun.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return opened()

    async with trove.open(MockDriver(get=get), layers=[ALWAYS]) as t, t.get("b", "k") as reader:
        assert len(opened.streams) == 2
        assert opened.open == 1
        assert await reader.read() == DATA
    assert opened.open == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("winner", [0, 1])
async def test_both_may_answer_at_once(winner: int) -> None:
    opened = Opened()
    answers = Answers(opened, opened)
    async with trove.open(MockDriver(get=answers), layers=[ALWAYS]) as t:
        task = asyncio.ensure_future(_open(t))
        await answers.begun[1].wait()
        answers.ready[winner].set()
        answers.ready[1 - winner].set()
        reader = await task
        assert opened.open == 1
        assert await reader.read() == DATA
    assert opened.open == 0


async def _open(t: Trove) -> ObjectReader:
    return await t.get("b", "k")


# Answers from different objects


def both_answer(results: Sequence[object], winner: int) -> Callable[..., Awaitable[Any]]:
    """Return a read whose two attempts both return, the winner first, the other in spite of its cancellation."""
    calls = 0

    async def answer(*_: object) -> Any:
        nonlocal calls
        number = calls
        calls += 1
        if number == winner:
            for _turn in range(5):
                await asyncio.sleep(0)
        else:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return results[number]

    return answer


@pytest.mark.asyncio
@pytest.mark.parametrize("winner", [0, 1])
@pytest.mark.parametrize(
    ("times", "newest"),
    [
        ((EARLIER, LATER), "second"),
        ((LATER, EARLIER), "first"),
        ((EARLIER, EARLIER), None),
        ((None, LATER), None),
        ((LATER, None), None),
    ],
)
async def test_of_two_objects_the_one_that_was_stored_last_is_the_answer(
    times: tuple[datetime | None, datetime | None], newest: str | None, winner: int
) -> None:
    infos = [replace(info, last_modified=time) for info, time in zip((FIRST, SECOND), times, strict=True)]
    async with trove.open(MockDriver(head=both_answer(infos, winner)), layers=[ALWAYS]) as t:
        assert (await t.head("b", "k")).etag == (newest or ("first", "second")[winner])


@pytest.mark.asyncio
@pytest.mark.parametrize("winner", [0, 1])
async def test_the_reader_of_the_older_object_is_released(winner: int) -> None:
    contents = b"the older one", b"the newer one"
    streams = [ScriptedStream(content, []) for content in contents]
    infos = [replace(info_of(contents[at]), etag=str(at), last_modified=(EARLIER, LATER)[at]) for at in (0, 1)]
    readers = [ObjectReader(info, stream) for info, stream in zip(infos, streams, strict=True)]
    mock = MockDriver(get=both_answer(readers, winner))
    async with trove.open(mock, layers=[ALWAYS]) as t, t.get("b", "k") as reader:
        assert [stream.open for stream in streams] == [False, True]
        assert (reader.info.etag, await reader.read()) == ("1", contents[1])


@pytest.mark.asyncio
@pytest.mark.parametrize("winner", [0, 1])
async def test_an_error_that_won_is_raised_though_the_other_read_found_an_object(winner: int) -> None:
    opened = Opened()
    results: list[Any] = [opened, opened]
    error = results[winner] = ObjectNotFoundError()

    def settled(result: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result()

    read = both_answer(results, winner)

    async def get(*_: object) -> Any:
        return settled(await read())

    async with trove.open(MockDriver(get=get), layers=[ALWAYS]) as t:
        with pytest.raises(ObjectNotFoundError) as caught:
            await t.get("b", "k")
    assert caught.value is error
    assert opened.open == 0


class Replaced(LayerDriver):
    """Carries out the first get before an object is replaced, and answers it too late; the second one afterwards."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.gets = 0
        self.found, self.replaced = asyncio.Event(), asyncio.Event()

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name != "get":
            return await call()
        self.gets += 1
        if self.gets == 2:
            await self.replaced.wait()
            return await call()
        await call()
        self.found.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.asyncio
async def test_an_object_that_is_replaced_between_the_two_reads_is_never_mixed_with_the_other() -> None:
    breaking = Faults([Fault("get", reset_after=100)])
    old, new, newest = (letter * 1000 for letter in (b"a", b"b", b"c"))
    async with trove.open("memory://", layers=[Replaced, breaking, ALWAYS]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", old)
        task = asyncio.ensure_future(_open(t))
        between = unwrap(t.driver, Replaced)
        await between.found.wait()
        stored = await t.put("b", "k", new)
        between.replaced.set()
        async with await task as reader:
            assert reader.info == stored
            assert await reader.read(100) == new[:100]
            await t.put("b", "k", newest)
            assert await reader.read() == new[100:]


@pytest.mark.asyncio
@pytest.mark.parametrize("behind", [0, 1])
async def test_a_replica_without_the_object_that_is_asked_for_does_not_decide(behind: int) -> None:
    results: list[object] = [FIRST, SECOND]
    results[behind] = PreconditionFailedError()
    answers = Answers(*results)
    assert await race(answers, behind, 1 - behind) == (FIRST, SECOND)[1 - behind]


@pytest.mark.asyncio
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("failing", [None, 0, 1])
async def test_if_no_read_finds_the_object_that_is_asked_for_the_condition_has_failed(
    order: tuple[int, int], failing: int | None
) -> None:
    results: list[object] = [PreconditionFailedError(), PreconditionFailedError()]
    if failing is not None:
        results[failing] = UnavailableError("down")
    with pytest.raises(PreconditionFailedError):
        await race(Answers(*results), *order)


# What is read twice


@pytest.mark.asyncio
@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"open", "close", "watch"}))
async def test_only_reads_that_await_one_answer_are_made_twice(name: str) -> None:
    calls = 0

    async def answer(*_: object) -> ObjectInfo:
        nonlocal calls
        calls += 1
        for _turn in range(20):
            await asyncio.sleep(0)
        return FIRST

    answers: dict[str, Any] = {name: answer}
    driver = ALWAYS(MockDriver(capabilities=CAPABILITIES, **answers))
    assert await getattr(driver, name)(*arguments_of(name)) is FIRST
    assert calls == (2 if name in HEDGED else 1)


OPENINGS: dict[str, Callable[[Trove], Awaitable[ObjectReader]]] = {
    "get": lambda t: t.get("b", "k"),
    "get_range": lambda t: t.get_range("b", "k", 0),
    "get_version": lambda t: t.get_version("b", "k", "v"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("opening", sorted(OPENINGS))
async def test_a_body_that_is_resumed_stays_with_its_own_read(opening: str) -> None:
    opened = Opened(100, UnavailableError("reset"))
    answers = Answers(opened, opened)
    answers.ready[1].set()
    configured: dict[str, Any] = {opening: answers}
    mock = MockDriver(capabilities=(RangeDriver, VersioningDriver), **configured)
    async with trove.open(mock, layers=[ALWAYS]) as t, await OPENINGS[opening](t) as reader:
        assert await reader.read() == DATA
    [stream] = opened.streams
    assert stream.seeks == [100]
    assert answers.calls == 2


@pytest.mark.asyncio
async def test_each_second_read_runs_in_the_context_of_its_own_operation() -> None:
    """One timer tells several operations that they are late."""
    name: ContextVar[str] = ContextVar("name")
    seen: list[tuple[str, str]] = []
    all_twice = asyncio.Event()

    async def head(_bucket: str, key: str, _options: object) -> ObjectInfo:
        seen.append((key, name.get()))
        if len(seen) == 6:
            all_twice.set()
        await all_twice.wait()
        return FIRST

    async def read(t: Trove, key: str) -> None:
        name.set(key)
        await t.head("b", key)

    async with trove.open(MockDriver(head=head), layers=[ALWAYS]) as t:
        await asyncio.gather(*(read(t, key) for key in "xyz"))
    assert sorted(seen) == [(key, key) for key in "xxyyzz"]


# Cancellation


class Bench:
    """A store whose reads take turns of the loop, the first of each pair more than the second."""

    store: Trove

    def __init__(self, turns: tuple[int, int]) -> None:
        self.turns = turns

    async def open(self) -> None:
        self.opened = Opened()
        self.calls = 0

        async def get(*_: object) -> ObjectReader:
            turns = self.turns[self.calls % 2]
            self.calls += 1
            for _turn in range(turns):
                await asyncio.sleep(0)
            return self.opened()

        layers: list[trove.Layer] = [Limit(2), Timeout(HOUR, HOUR), ALWAYS, Retry(), Observe(print)]
        self.store = await trove.open(MockDriver(get=get), layers=layers)

    async def check(self, outcome: Outcome[object]) -> None:
        async with self.store:
            if outcome.error is not None:
                raise outcome.error
            assert outcome.left_running == frozenset()
            assert OBSERVER.get() is None
            assert self.opened.open == 0
            assert unwrap(self.store.driver, LimitDriver).running == {"all": 0}
            assert outcome.cancelled or self.calls == 2


async def read(t: Trove) -> None:
    async with t.get("b", "k") as reader:
        assert await reader.read() == DATA


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [(12, 2), (6, 20), (8, 6)], ids=["the second wins", "the first wins", "about equal"])
async def test_a_cancelled_read_leaves_neither_task_nor_stream_nor_slot(turns: tuple[int, int]) -> None:
    bench = Bench(turns)
    for delivery in Delivery:
        await cancel_everywhere(lambda: read(bench.store), delivery, prepare=bench.open, check=bench.check)


@pytest.mark.asyncio
async def test_a_caller_who_cancels_while_the_slower_read_ends_gets_neither_answer() -> None:
    opened, calls, ending = Opened(), 0, asyncio.Event()

    async def get(*_: object) -> ObjectReader:
        nonlocal calls
        calls += 1
        if calls == 1:
            for _turn in range(5):
                await asyncio.sleep(0)
            return opened()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        ending.set()
        for _turn in range(5):
            await asyncio.sleep(0)
        return opened()

    async with trove.open(MockDriver(get=get), layers=[ALWAYS]) as t:
        task = asyncio.ensure_future(_open(t))
        await ending.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(opened.streams) == 2
        assert opened.open == 0


@pytest.mark.asyncio
async def test_a_caller_who_cancels_while_the_first_has_failed_ends_the_second() -> None:
    answers = Answers(UnavailableError("down"), SECOND)
    async with trove.open(MockDriver(head=answers), layers=[ALWAYS]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await answers.begun[1].wait()
        answers.ready[0].set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert answers.ended == [0]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert answers.ended == [0, 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("inside", [True, False])
async def test_a_timeout_ends_both(inside: bool) -> None:
    answers = Answers(FIRST, SECOND)
    timeout = Timeout(attempt=0.05)
    layers: list[trove.Layer] = [timeout, ALWAYS] if inside else [ALWAYS, timeout]
    async with trove.open(MockDriver(head=answers), layers=layers) as t:
        with pytest.raises(OperationTimeoutError):
            await t.head("b", "k")
    assert answers.ended == [0, 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", [(9, 1), (5, 9)], ids=["the second fails first", "the first fails first"])
async def test_the_errors_of_both_reads_are_freed_at_once(turns: tuple[int, int]) -> None:
    references: list[weakref.ref[Exception]] = []
    left = iter(turns)

    async def fail(*_: object) -> None:
        for _turn in range(next(left)):
            await asyncio.sleep(0)
        error = UnavailableError("down")
        references.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async with trove.open(MockDriver(head=fail), layers=[ALWAYS]) as t:
        gc.collect()
        gc.disable()
        try:
            with contextlib.suppress(UnavailableError):
                await t.head("b", "k")
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()


# What is seen of it


@pytest.mark.asyncio
async def test_an_observer_sees_the_second_read() -> None:
    seen: list[Observation] = []
    answers = Answers(FIRST, SECOND)
    answers.ready[1].set()
    async with trove.open(MockDriver(head=answers), layers=[ALWAYS, Observe(seen.append)]) as t:
        await t.head("b", "k")
    assert [(each.attempts, each.hedges, each.outcome) for each in seen] == [(2, 1, "ok")]


# When it is late, and what it costs


class Service:
    """Answers each request in the time that a function tells for its number, from 1."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds = seconds
        self.requests = 0

    async def head(self, bucket: str, key: str, _options: object) -> ObjectInfo:
        self.requests += 1
        await asyncio.sleep(self.seconds(self.requests))
        return FIRST

    def times(self, layer: Hedge | None, reads: int, concurrency: int = 1) -> list[float]:
        """Return the sorted times of reads."""

        async def run() -> list[float]:
            clock, taken = asyncio.get_running_loop().time, []

            async def some(t: Trove) -> None:
                for _ in range(reads // concurrency):
                    began = clock()
                    await t.head("b", "k")
                    taken.append(clock() - began)

            async with trove.open(MockDriver(head=self.head), layers=[layer] if layer else []) as t:
                await asyncio.gather(*(some(t) for _ in range(concurrency)))
            return sorted(taken)

        with asyncio.Runner(loop_factory=Simulated) as runner:
            return runner.run(run())


def tail(seed: int) -> Callable[[int], float]:
    """Return times of about 10 ms, of which one in twenty, anywhere among them, is 500 ms longer."""
    source = random.Random(seed)
    slow = 0

    def seconds(number: int) -> float:
        nonlocal slow
        if number % 20 == 1:
            slow = number + source.randrange(20)
        return source.gauss(0.010, 0.001) + (0.5 if number == slow else 0)

    return seconds


@pytest.mark.parametrize("concurrency", [1, 20])
@pytest.mark.parametrize("seed", range(2))
def test_slow_answers_are_rare_for_few_more_requests(seed: int, concurrency: int) -> None:
    plain = Service(tail(seed)).times(None, 4000, concurrency)
    service = Service(tail(seed))
    hedged = service.times(Hedge(), 4000, concurrency)
    assert service.requests <= 4000 * 1.05
    assert hedged[3960] <= plain[3960] / 4


@pytest.mark.parametrize("concurrency", [1, 50])
def test_a_backend_that_becomes_slow_is_asked_little_more(concurrency: int) -> None:
    source = random.Random(7)
    service = Service(lambda number: source.gauss(0.010, 0.001) * (10 if number > 1000 else 1))
    service.times(Hedge(), 3000, concurrency)
    assert service.requests <= 3000 * 1.05


def test_while_the_median_rises_nothing_is_read_twice() -> None:
    """After 16 slow answers the median of 32 has risen."""
    service = Service(lambda number: 0.1 if number > 600 else 0.01)
    service.times(Hedge(delay=0.05, budget=1), 600 + 200)
    assert service.requests == 600 + 200 + 16


@pytest.mark.parametrize(("before", "hedges"), [(49, 0), (50, 1)])
def test_no_second_read_before_the_minimum_of_answers(before: int, hedges: int) -> None:
    service = Service(lambda number: 9.0 if number == before + 1 else 0.01 - number / 1e6)
    slowest = service.times(Hedge(minimum=50), before + 1)[-1]
    assert service.requests == before + 1 + hedges
    assert (slowest < 1) == bool(hedges)


@pytest.mark.parametrize("budget", [0.05, 0.5])
def test_second_reads_are_paid_by_reads(budget: float) -> None:
    service = Service(lambda _: 1.0)
    service.times(Hedge(delay=0.5, budget=budget), 200)
    assert service.requests == 200 + 200 * budget


def test_ten_second_reads_are_saved_up_at_most() -> None:
    service = Service(lambda number: 1.0 if number > 1000 else 0.01)
    service.times(Hedge(delay=0.5, budget=0.1), 1000 + 10, concurrency=1)
    assert service.requests == 1010 + 10


def test_operations_share_a_timer_which_ends_with_the_store() -> None:
    timers: list[asyncio.TimerHandle] = []

    class Loop(Simulated):
        def call_at(self, when: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]
            timers.append(super().call_at(when, *arguments, **options))
            return timers[-1]

    async def head(*_: object) -> ObjectInfo:
        await asyncio.sleep(0)
        return FIRST

    async def run() -> None:
        async with trove.open(MockDriver(head=head), layers=[Hedge(delay=HOUR)]) as t:
            for _ in range(5):
                await asyncio.gather(*(t.head("b", "k") for _ in range(20)))
            assert [timer.cancelled() for timer in timers] == [False]
        assert timers[0].cancelled()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())


# Bad input


@pytest.mark.parametrize(
    "arguments",
    [
        {"delay": 0}, {"delay": -1.0}, {"delay": float("nan")}, {"delay": float("inf")}, {"delay": "1"},
        {"delay": True},
        {"quantile": 0}, {"quantile": 1}, {"quantile": 95},
        {"budget": 0}, {"budget": 1.5}, {"budget": None},
        {"minimum": 0}, {"minimum": 513}, {"minimum": 1.5},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        Hedge(**arguments)
