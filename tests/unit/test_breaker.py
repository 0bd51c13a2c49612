"""`CircuitBreaker` around drivers: what counts, what is refused, and what it keeps."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from trove_async import CircuitBreaker, CircuitEvent, Trove
from trove_async.driver import (
    CAPABILITIES,
    METHODS,
    Body,
    Driver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    VersioningDriver,
    unwrap,
)
from trove_async.driver.events import Event
from trove_async.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    ObjectChangedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    ThrottledError,
    TransientError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.layers import LayerDriver, Limit
from trove_async.layers.breaker import BreakerDriver
from trove_async.reader import ObjectReader
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

DATA = bytes(1000)
INFO = ObjectInfo("k", 1, "e")
DOWN = UnavailableError("down")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def breaker_of(threshold: int = 2, **settings: Any) -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    return CircuitBreaker("test", threshold=threshold, open_for=30, jitter=0, clock=clock, **settings), clock


def state_of(breaker: CircuitBreaker) -> str:
    """Return the state, of which a type checker does not believe to know it from an earlier line."""
    return breaker.state


class Script:
    """Answers, one for each call; the last one stays."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def __call__(self, *_: object) -> object:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer() if callable(answer) else answer


def streaming(*script: int | BaseException | asyncio.Event) -> Callable[..., ObjectReader]:
    return lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA, list(script)))


async def fail(t: Trove, times: int) -> None:
    for _ in range(times):
        with pytest.raises(TroveError):
            await t.head("b", "k")


# Opening, refusing, closing


async def test_it_opens_after_failures_in_a_row_and_closes_after_one_success() -> None:
    seen: list[CircuitEvent] = []
    breaker, clock = breaker_of(threshold=3, on_transition=seen.append)
    mock = MockDriver(head=Script(DOWN, DOWN, INFO, DOWN, DOWN, DOWN, INFO))
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 2)
        await t.head("b", "k")
        await fail(t, 3)
        assert state_of(breaker) == "open"
        clock.now = 10
        with pytest.raises(BackendUnavailableError) as caught:
            await t.head("b", "k")
        assert len(mock.calls_to("head")) == 6
        clock.now = 30
        await t.head("b", "k")
        await t.head("b", "k")
    assert caught.value.__cause__ is DOWN
    assert (caught.value.retry_after, caught.value.retryable) == (20, True)
    assert (caught.value.operation, caught.value.bucket, caught.value.driver) == ("head", "b", "mock")
    assert "'test' is open" in str(caught.value)
    assert "down" in str(caught.value)
    assert seen == [
        CircuitEvent("test", "closed", "open", DOWN),
        CircuitEvent("test", "open", "half_open"),
        CircuitEvent("test", "half_open", "closed"),
    ]


async def call(driver: Driver, name: str) -> object:
    """Call a method of a driver with arguments that fit."""
    arguments: list[Any] = []
    for parameter in list(inspect.signature(getattr(driver, name)).parameters):
        match parameter:
            case "body":
                arguments.append(Body(b"x"))
            case "src" | "dst":
                arguments.append(trove_async.ObjectRef("b", "k"))
            case "keys":
                arguments.append(["k"])
            case _:
                arguments.append(parameter)
    if name == "watch":
        return [event async for event in driver.watch("b", trove_async.driver.WatchOptions())]  # type: ignore[attr-defined]
    return await getattr(driver, name)(*arguments)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"open", "close"}))
async def test_an_open_circuit_refuses_every_operation(name: str) -> None:
    mock = MockDriver(capabilities=CAPABILITIES, head=DOWN)
    breaker, _ = breaker_of(threshold=1)
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 1)
        with pytest.raises(BackendUnavailableError) as caught:
            await call(t.driver, name)
    assert caught.value.__cause__ is DOWN
    assert [seen.name for seen in mock.calls] == ["head", "close"]


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"open", "close", "watch"}))
async def test_every_operation_counts(name: str) -> None:
    answers: dict[str, Any] = {name: DOWN}
    mock = MockDriver(capabilities=CAPABILITIES, **answers)
    breaker, _ = breaker_of(threshold=2)
    async with trove_async.open(mock, layers=[breaker]) as t:
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await call(t.driver, name)
        assert state_of(breaker) == "open"


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("reset"),
        OperationTimeoutError("slow"),
        ThrottledError("429", status=429),
        TransientError("500", status=500),
    ],
)
async def test_transport_errors_429_and_5xx_open_it(error: TroveError) -> None:
    breaker, _ = breaker_of()
    async with trove_async.open(MockDriver(head=error), layers=[breaker]) as t:
        await fail(t, 2)
    assert state_of(breaker) == "open"


@pytest.mark.parametrize(
    "error", [ObjectNotFoundError("404"), PreconditionFailedError("412", status=412), ZeroDivisionError("a bug")]
)
async def test_what_is_not_the_fault_of_the_backend_never_opens_it(error: Exception) -> None:
    breaker, _ = breaker_of(threshold=1)
    async with trove_async.open(MockDriver(head=error), layers=[breaker]) as t:
        for _ in range(5):
            with pytest.raises(type(error)):
                await t.head("b", "k")
    assert state_of(breaker) == "closed"


async def test_a_missing_object_closes_a_half_open_circuit() -> None:
    breaker, clock = breaker_of()
    async with trove_async.open(MockDriver(head=Script(DOWN, DOWN, ObjectNotFoundError())), layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        await fail(t, 1)
    assert state_of(breaker) == "closed"


async def test_a_driver_without_server_copies_is_told_so_although_the_circuit_is_open() -> None:
    breaker, _ = breaker_of()
    breaker.isolate()
    async with trove_async.open(MockDriver(), layers=[breaker]) as t:
        assert not isinstance(t.driver, ServerCopyDriver)
        with pytest.raises(UnsupportedError):
            await t.server_copy(trove_async.ObjectRef("b", "k"), trove_async.ObjectRef("b", "l"))


async def test_unwrap_reaches_what_is_beneath() -> None:
    mock = MockDriver()
    breaker, _ = breaker_of()
    inner = breaker(mock)
    outer = CircuitBreaker("outer")(Limit(1)(inner))
    assert inner.unwrap() is mock
    assert unwrap(outer, MockDriver) is mock
    found = unwrap(outer, BreakerDriver)
    assert found is outer
    assert found.breaker.name == "outer"


async def test_bulk_deletes_are_judged_by_their_keys() -> None:
    breaker, _ = breaker_of(threshold=1)
    missing = [DeleteResult("k", ObjectNotFoundError()), DeleteResult("l")]
    answers = Script(missing, [DeleteResult("k"), DeleteResult("l", DOWN)])
    async with trove_async.open(MockDriver(delete_many=answers), layers=[breaker]) as t:
        with pytest.raises(trove_async.BulkError):
            await t.delete_many("b", ["k", "l"])
        assert state_of(breaker) == "closed"
        with pytest.raises(trove_async.BulkError):
            await t.delete_many("b", ["k", "l"])
    assert breaker.error is DOWN


async def test_signing_a_url_tells_nothing_about_the_backend() -> None:
    breaker, clock = breaker_of()
    mock = MockDriver(capabilities=[PresignDriver], presign_get="https://x", head=Script(DOWN, DOWN, INFO))
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 1)
        await t.presign_get("b", "k")
        await fail(t, 1)
        assert state_of(breaker) == "open"
        clock.now = 30
        await t.presign_get("b", "k")
        assert state_of(breaker) == "half_open"
        await t.head("b", "k")
        assert state_of(breaker) == "closed"


# Bodies


@pytest.mark.parametrize(("count", "state"), [(999, "open"), (1000, "closed")])
async def test_a_get_counts_when_its_body_has_ended(count: int, state: str) -> None:
    breaker, _ = breaker_of()
    mock = MockDriver(head=DOWN, get=streaming())
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 1)
        async with t.get("b", "k") as reader:
            await reader.read(count)
            await fail(t, 1)
            assert state_of(breaker) == state


async def test_a_body_that_is_in_memory_counts_at_once() -> None:
    breaker, clock = breaker_of()
    async with trove_async.open(MockDriver(head=DOWN, get=b"data"), layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        await t.get("b", "k")
    assert state_of(breaker) == "closed"


OPENINGS: dict[str, Callable[[Trove], Awaitable[ObjectReader]]] = {
    "get": lambda t: t.get("b", "k"),
    "get_range": lambda t: t.get_range("b", "k", 0),
    "get_version": lambda t: t.get_version("b", "k", "v"),
}


@pytest.mark.parametrize("opening", sorted(OPENINGS))
@pytest.mark.parametrize("breaks", [UnavailableError("reset"), 0], ids=["reset", "truncated"])
@pytest.mark.parametrize("threshold", [3, 4])
async def test_each_break_of_a_body_counts_once(opening: str, breaks: int | UnavailableError, threshold: int) -> None:
    breaker, _ = breaker_of(threshold=threshold)
    make = streaming(100, breaks, 100, breaks, breaks)
    mock = MockDriver(capabilities=[RangeDriver, VersioningDriver], get=make, get_range=make, get_version=make)
    async with trove_async.open(mock, layers=[breaker]) as t:
        reader = await OPENINGS[opening](t)
        if threshold == 4:
            assert await reader.read() == DATA
        else:
            with pytest.raises(BackendUnavailableError) as caught:
                await reader.read()
            assert isinstance(caught.value.__cause__, TransientError)
            assert reader.closed
    assert state_of(breaker) == ("closed" if threshold == 4 else "open")


async def test_a_body_that_is_resumed_and_ends_is_a_success() -> None:
    breaker, _ = breaker_of(threshold=2)
    async with trove_async.open(MockDriver(get=streaming(100, DOWN), head=DOWN), layers=[breaker]) as t:
        assert await t.read("b", "k") == DATA
        await fail(t, 1)
        assert state_of(breaker) == "closed"


async def test_a_body_that_breaks_while_the_circuit_is_open_is_not_resumed() -> None:
    breaker, _ = breaker_of(threshold=1)
    stream = ScriptedStream(DATA, [100, DOWN])
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(DATA), stream))
    async with trove_async.open(mock, layers=[breaker]) as t:
        with pytest.raises(BackendUnavailableError) as caught:
            await t.read("b", "k")
    assert (caught.value.__cause__, caught.value.retry_after) == (DOWN, 30)
    assert (stream.seeks, stream.open) == ([], False)


async def test_what_continues_a_body_may_be_the_probe() -> None:
    breaker, clock = breaker_of(threshold=1)
    mock = MockDriver(get=streaming(100, 100), head=DOWN)
    async with trove_async.open(mock, layers=[breaker]) as t, t.get("b", "k") as reader:
        await reader.read(100)
        await fail(t, 1)
        clock.now = 30
        await reader.seek(500)
        assert state_of(breaker) == "closed"
        assert await reader.read() == DATA[500:]


async def test_an_object_that_changed_while_it_was_read_shows_that_the_backend_works() -> None:
    breaker, clock = breaker_of(threshold=1)
    stream = ScriptedStream(DATA, [100])
    stream.seek_errors = [PreconditionFailedError("changed")]
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(DATA), stream), head=DOWN)
    async with trove_async.open(mock, layers=[breaker]) as t, t.get("b", "k") as reader:
        await reader.read(100)
        await fail(t, 1)
        clock.now = 30
        with pytest.raises(ObjectChangedError):
            await reader.seek(500)
        assert state_of(breaker) == "closed"


async def test_a_probe_whose_body_follows_has_succeeded_once_it_is_answered() -> None:
    breaker, clock = breaker_of()
    mock = MockDriver(head=DOWN, get=streaming(), put=INFO)
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        async with t.get("b", "k") as reader:
            assert state_of(breaker) == "closed"
            await t.put("b", "copy", reader)


async def test_the_body_of_a_probe_counts_like_any_other() -> None:
    breaker, clock = breaker_of()
    mock = MockDriver(head=DOWN, get=streaming(100, DOWN, DOWN, DOWN))
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        with pytest.raises(BackendUnavailableError):
            await t.read("b", "k")
        assert (state_of(breaker), breaker.transitions) == ("open", 4)


async def test_a_probe_that_is_not_answered_keeps_others_waiting_for_a_limited_time() -> None:
    breaker, clock = breaker_of(probe_timeout=10)
    answer = asyncio.Event()

    async def get(*_: object) -> ObjectReader:
        await answer.wait()
        return streaming(100)()

    mock = MockDriver(head=Script(DOWN, DOWN, ObjectNotFoundError(), DOWN), get=get)
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        probe = asyncio.create_task(t.get("b", "k").__aenter__())
        await asyncio.sleep(0)
        with pytest.raises(BackendUnavailableError, match="while a probe"):
            await t.head("b", "k")
        clock.now = 40
        with pytest.raises(ObjectNotFoundError):
            await t.head("b", "k")
        assert state_of(breaker) == "closed"
        await fail(t, 1)
        answer.set()
        reader = await probe
        await reader.read(100)
        await reader.aclose()  # its success is of an earlier generation, and does not reset the count
        await fail(t, 1)
        assert state_of(breaker) == "open"


async def test_what_the_source_of_a_body_raises_is_not_the_fault_of_the_backend() -> None:
    breaker, _ = breaker_of(threshold=1)

    async def source() -> AsyncIterator[bytes]:
        yield b"data"
        raise UnavailableError("the other store is down")

    async with trove_async.open("memory://", layers=[breaker, Limit(8)]) as t:
        await t.create_bucket("b")
        with pytest.raises(UnavailableError, match="other store"):
            await t.put("b", "k", source())
        assert state_of(breaker) == "closed"


# Cancellation


async def test_a_cancelled_call_is_neither_success_nor_failure() -> None:
    breaker, clock = breaker_of()
    began, hang = asyncio.Event(), asyncio.Event()

    async def hanging(*_: object) -> ObjectInfo:
        began.set()
        await hang.wait()
        return INFO

    mock = MockDriver(head=Script(DOWN), put=hanging)
    async with trove_async.open(mock, layers=[breaker]) as t:

        async def cancel_one() -> None:
            began.clear()
            task = asyncio.create_task(t.put("b", "k", b""))
            await began.wait()
            task.cancel()
            await asyncio.wait({task})

        await fail(t, 1)
        await cancel_one()
        await fail(t, 1)  # not reset: the second in a row
        assert state_of(breaker) == "open"
        clock.now = 30
        await cancel_one()
        assert state_of(breaker) == "half_open"
        hang.set()
        await t.put("b", "k", b"")  # the slot was free
        assert state_of(breaker) == "closed"


async def test_a_body_whose_reading_is_cancelled_tells_nothing() -> None:
    breaker, _ = breaker_of()
    hangs = asyncio.Event()
    mock = MockDriver(head=DOWN, get=streaming(100, hangs))
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 1)
        task = asyncio.create_task(t.read("b", "k"))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert state_of(breaker) == "closed"
        await fail(t, 1)
        assert state_of(breaker) == "open"


# Watches

EVENT = ObjectEvent(EventType.CREATED, "b", "k")


async def test_a_watch_counts_when_it_is_subscribed() -> None:
    breaker, clock = breaker_of()

    async def events(bucket: str, options: trove_async.driver.WatchOptions) -> AsyncIterator[ObjectEvent]:
        options.on_ready()
        yield EVENT
        raise UnavailableError("lost")

    mock = MockDriver(capabilities=[NotificationDriver], watch=events, head=DOWN)
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 2)
        clock.now = 30
        async with t.watch("b") as watch:
            assert state_of(breaker) == "closed"
            assert await anext(watch) == EVENT
            await fail(t, 1)
            with pytest.raises(UnavailableError, match="lost"):
                await anext(watch)
        assert state_of(breaker) == "closed"


async def test_a_watch_that_cannot_be_subscribed_is_a_failure() -> None:
    breaker, _ = breaker_of(threshold=1)
    async with trove_async.open(MockDriver(watch=DOWN), layers=[breaker]) as t:
        with pytest.raises(UnavailableError):
            async with t.watch("b"):
                pass
        assert state_of(breaker) == "open"


# What is seen


async def test_the_circuit_is_seen_on_the_object_that_was_made() -> None:
    breaker, clock = breaker_of(threshold=1)
    async with trove_async.open(MockDriver(head=DOWN), layers=[breaker]) as t:
        assert (state_of(breaker), breaker.error, breaker.open_time, breaker.retry_after) == ("closed", None, 0, None)
        await fail(t, 1)
        clock.now = 12
    assert (state_of(breaker), breaker.error, breaker.open_time, breaker.retry_after) == ("open", DOWN, 12, 18)
    assert breaker.transitions == 1
    assert repr(breaker) == "<CircuitBreaker 'test' open>"


async def test_a_refusal_names_the_failure_and_not_what_a_layer_outside_says_about_it() -> None:
    outage = Faults([Fault("head", error=UnavailableError("no route to host"))])
    breaker, _ = breaker_of(threshold=1)
    without_budget = trove_async.Retry(budget=trove_async.Budget(reserve=0))
    async with trove_async.open("memory://", layers=[outage, breaker, without_budget]) as t:
        with pytest.raises(UnavailableError, match="is not tried again"):
            await t.head("b", "k")
        with pytest.raises(BackendUnavailableError) as refused:
            await t.head("b", "k")
    assert "what opened it: no route to host" in refused.value.message
    assert refused.value.message.count("is not tried again") == 1  # about the refused call, and not about the first one


async def test_isolation_refuses_at_once_and_is_not_worth_another_try() -> None:
    breaker, clock = breaker_of()
    async with trove_async.open(MockDriver(head=INFO), layers=[breaker]) as t:
        breaker.isolate()
        clock.now = 1e9
        with pytest.raises(BackendUnavailableError, match="isolated by hand") as caught:
            await t.head("b", "k")
        assert (caught.value.retryable, caught.value.retry_after, caught.value.__cause__) == (False, None, None)
        breaker.reset()
        assert await t.head("b", "k") == INFO


async def test_a_circuit_has_the_name_of_its_first_driver_by_default() -> None:
    breaker = CircuitBreaker()
    breaker(MockDriver())
    assert breaker.name == "mock"


async def test_drivers_share_the_circuit_of_one_object() -> None:
    breaker, _ = breaker_of()
    one = trove_async.open(MockDriver(head=DOWN), layers=[breaker])
    two = trove_async.open(MockDriver(head=DOWN), layers=[breaker])
    async with one as s, two as t:
        await fail(s, 1)
        await fail(t, 1)
        with pytest.raises(BackendUnavailableError):
            await s.head("b", "k")


async def test_hooks_that_raise_are_logged_and_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: CircuitEvent) -> None:
        raise ZeroDivisionError

    breaker, _ = breaker_of(threshold=1, on_transition=broken)
    async with trove_async.open(MockDriver(head=DOWN), layers=[breaker]) as t:
        with pytest.raises(UnavailableError, match="down"):
            await t.head("b", "k")
    assert state_of(breaker) == "open"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_transitions_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    breaker, _ = breaker_of(threshold=1)
    with caplog.at_level(logging.INFO, "trove_async"):
        async with trove_async.open(MockDriver(head=UnavailableError("down")), layers=[breaker]) as t:
            await fail(t, 1)
            breaker.reset()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "circuit breaker 'test': open, was closed (down)"),
        (logging.INFO, "circuit breaker 'test': closed, was open"),
    ]


async def test_listeners_of_a_store_hear_of_transitions_while_it_is_open() -> None:
    heard: list[Event] = []
    breaker, _ = breaker_of(threshold=1)
    async with trove_async.open(MockDriver(), layers=[breaker, LayerDriver]) as t:
        t.driver.add_listener(heard.append)
        breaker.isolate()
    breaker.reset()
    assert heard == [CircuitEvent("test", "closed", "isolated")]


# The prober


async def test_a_prober_closes_the_circuit_without_a_call() -> None:
    closed = asyncio.Event()
    breaker = CircuitBreaker(
        threshold=1, open_for=0.05, prober=True, on_transition=lambda e: closed.set() if e.after == "closed" else None
    )
    mock = MockDriver(head=Script(DOWN, INFO), ping=Script(DOWN, DOWN, None))
    async with trove_async.open(mock, layers=[breaker]) as t:
        await fail(t, 1)
        with pytest.raises(BackendUnavailableError):
            await t.head("b", "k")
        await closed.wait()
        assert await t.head("b", "k") == INFO
    assert len(mock.calls_to("ping")) == 3
    assert len(mock.calls_to("head")) == 2


async def test_a_prober_may_be_a_function_of_the_driver_and_ends_with_the_store() -> None:
    probed: list[Driver] = []
    began = asyncio.Event()

    async def probe(driver: Driver) -> None:
        probed.append(driver)
        began.set()
        await asyncio.Event().wait()

    mock = MockDriver(head=DOWN)
    breaker = CircuitBreaker(threshold=1, open_for=0.001, prober=probe)
    before = asyncio.all_tasks()
    t = await trove_async.open(mock, layers=[breaker])
    await fail(t, 1)
    await began.wait()
    assert state_of(breaker) == "half_open"
    await t.aclose()
    assert asyncio.all_tasks() == before
    assert probed == [mock]
    assert breaker.circuit.probers == 0


async def test_a_prober_that_hangs_or_raises_anything_has_failed() -> None:
    outcomes: list[Exception | None] = []
    done = asyncio.Event()

    def seen(event: CircuitEvent) -> None:
        if event.before == "half_open":
            outcomes.append(event.error)
        if event.after == "closed":
            done.set()

    async def probe(driver: Driver) -> None:
        if not outcomes:
            await asyncio.Event().wait()
        if len(outcomes) == 1:
            raise ZeroDivisionError
        raise ObjectNotFoundError("an answer is an answer")

    breaker = CircuitBreaker(threshold=1, open_for=0.001, probe_timeout=0.001, prober=probe, on_transition=seen)
    async with trove_async.open(MockDriver(head=DOWN), layers=[breaker]) as t:
        await fail(t, 1)
        await done.wait()
    assert [type(outcome) for outcome in outcomes] == [OperationTimeoutError, ZeroDivisionError, type(None)]


async def test_a_store_that_fails_to_open_leaves_no_prober() -> None:
    class Broken(LayerDriver):
        async def start(self) -> None:
            raise UnavailableError("no")

    before = asyncio.all_tasks()
    with pytest.raises(UnavailableError):
        await trove_async.open(MockDriver(), layers=[CircuitBreaker(prober=True), Broken])
    assert asyncio.all_tasks() == before


async def test_without_an_open_store_calls_probe_again() -> None:
    clock = Clock()
    breaker = CircuitBreaker(threshold=1, open_for=30, jitter=0, prober=True, clock=clock)
    async with trove_async.open(MockDriver(), layers=[breaker]):
        await asyncio.sleep(0)
        assert breaker.circuit.probers == 1
    driver = breaker(MockDriver(ping=Script(DOWN, None)))
    with pytest.raises(UnavailableError):
        await driver.ping()
    clock.now = 30
    await driver.ping()
    assert state_of(breaker) == "closed"


# Arguments, and a store that works


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CircuitBreaker(threshold=0), "threshold"),
        (lambda: CircuitBreaker(open_for=float("nan")), "open_for"),
        (lambda: CircuitBreaker(window=3), "ratio"),
        (lambda: CircuitBreaker(MockDriver()), "name"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(on_transition=3), "on_transition"),  # type: ignore[arg-type]
        (lambda: CircuitBreaker(prober="ping"), "prober"),  # type: ignore[arg-type]
    ],
)
async def test_arguments_that_make_no_sense_are_refused(make: Callable[[], CircuitBreaker], named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        make()


async def test_a_store_in_trouble_is_spared_and_serves_again() -> None:
    faults = Faults()
    breaker, clock = breaker_of(threshold=3)
    async with trove_async.open("memory://", layers=[faults, breaker]) as t:
        b = await t.create_bucket("b")
        await b.put("k", DATA)
        faults.add(Fault("get", reset_after=100, times=2))
        faults.add(Fault("put", error=UnavailableError(), times=2))
        assert await b.read("k") == DATA  # resumed twice, and a success in the end
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await b.put("k", b"new")
        faults.add(Fault("*", error=ThrottledError("slow down", status=429)))
        with pytest.raises(ThrottledError):
            await b.head("k")
        struck = len(faults.injected)
        for _ in range(10):
            with pytest.raises(BackendUnavailableError):
                await b.read("k")
        assert len(faults.injected) == struck
        clock.now = 30
        assert await b.read("k") == DATA
        assert state_of(breaker) == "closed"
