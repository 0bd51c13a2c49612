from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from tests.unit.telemetry import Race, TwiceMore, in_turn
from trove_async.driver import Body, Driver
from trove_async.driver.events import OBSERVER, Event, Listener, RequestRetried, attempts, report
from trove_async.driver.retry import Attempts, Backoff, RetryPolicy
from trove_async.errors import ObjectNotFoundError, UnavailableError
from trove_async.layers import Call, LayerDriver, Limit, Observation, Observe, Operation, log_operations
from trove_async.layers.instrumentation import Instrumentation, InstrumentedDriver, Ongoing
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

R = TypeVar("R")

DATA = bytes(1000)
INFO = ObjectInfo("k", 1, "e")


def summary(seen: list[Observation]) -> list[tuple[str, str | None, str | None, int, str]]:
    return [(s.operation, s.bucket, s.key, s.bytes, s.outcome) for s in seen]


def streaming(*script: int | BaseException | asyncio.Event) -> MockDriver:
    return MockDriver(get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA, list(script))))


async def test_operations_are_reported_with_their_bytes_and_durations() -> None:
    seen: list[Observation] = []
    mock = MockDriver(put=INFO, head=INFO, get=b"hello", list_buckets=[])
    async with trove_async.open(mock, layers=[Observe(seen.append)]) as t:
        await t.put("b", "k", [b"abc", b"de"])
        await t.put("b", "k", b"abc")
        await t.head("b", "k")
        await t.read("b", "k", (1, 2))
        await t.list_buckets()
    assert summary(seen) == [
        ("put", "b", "k", 5, "ok"),
        ("put", "b", "k", 3, "ok"),
        ("head", "b", "k", 0, "ok"),
        ("get", "b", "k", 2, "ok"),
        ("list_buckets", None, None, 0, "ok"),
    ]
    assert {s.driver for s in seen} == {"mock"}
    assert all(s.duration >= 0 and s.error is None for s in seen)


async def test_an_error_is_reported_and_raised() -> None:
    seen: list[Observation] = []
    error = ObjectNotFoundError("no")
    async with trove_async.open(MockDriver(head=error), layers=[Observe(seen.append)]) as t:
        with pytest.raises(ObjectNotFoundError):
            await t.head("b", "k")
    assert summary(seen) == [("head", "b", "k", 0, "error")]
    assert seen[0].error is error


async def test_a_cancellation_is_reported_as_such_and_not_as_an_error() -> None:
    seen: list[Observation] = []
    began = asyncio.Event()

    async def hang(*_: object) -> ObjectInfo:
        began.set()
        await asyncio.Event().wait()
        return INFO

    async with trove_async.open(MockDriver(head=hang), layers=[Observe(seen.append)]) as t:
        task = asyncio.create_task(t.head("b", "k"))
        await began.wait()
        task.cancel()
        await asyncio.wait({task})
    assert summary(seen) == [("head", "b", "k", 0, "cancelled")]
    assert isinstance(seen[0].error, asyncio.CancelledError)


async def test_the_bytes_of_a_failing_put_are_those_that_were_read() -> None:
    seen: list[Observation] = []

    async def put(bucket: str, key: str, body: Body, options: object) -> ObjectInfo:
        await anext(body)
        raise UnavailableError

    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"de"

    async with trove_async.open(MockDriver(put=put), layers=[Observe(seen.append)]) as t:
        with pytest.raises(UnavailableError):
            await t.put("b", "k", source())
    assert summary(seen) == [("put", "b", "k", 3, "error")]


async def test_a_get_ends_when_its_reader_does() -> None:
    seen: list[Observation] = []
    async with trove_async.open(streaming(), layers=[Observe(seen.append)]) as t:
        async with t.get("b", "k") as reader:
            await reader.read(300)
            assert seen == []
        assert summary(seen) == [("get", "b", "k", 300, "ok")]
        await t.read("b", "k")
    assert summary(seen)[1:] == [("get", "b", "k", 1000, "ok")]


async def test_a_resumed_read_is_not_an_error() -> None:
    seen: list[Observation] = []
    async with trove_async.open(streaming(100, UnavailableError()), layers=[Observe(seen.append)]) as t:
        await t.read("b", "k")
    assert summary(seen) == [("get", "b", "k", 1000, "ok")]


async def test_a_read_that_fails_or_is_cancelled_is_reported_as_such() -> None:
    seen: list[Observation] = []
    async with trove_async.open(streaming(100, OSError("broken")), layers=[Observe(seen.append)]) as t:
        with pytest.raises(OSError, match="broken"):
            await t.read("b", "k")
    assert summary(seen) == [("get", "b", "k", 100, "error")]
    seen.clear()
    async with trove_async.open(streaming(100, asyncio.Event()), layers=[Observe(seen.append)]) as t:
        task = asyncio.create_task(t.read("b", "k"))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert summary(seen) == [("get", "b", "k", 100, "cancelled")]


async def test_a_watch_is_reported_when_it_ends() -> None:
    seen: list[Observation] = []
    mock = MockDriver(watch=[ObjectEvent(EventType.CREATED, "b", "k")])
    async with trove_async.open(mock, layers=[Observe(seen.append)]) as t, t.watch("b") as events:
        await anext(events)
        assert seen == []
    assert summary(seen) == [("watch", "b", None, 0, "ok")]


async def test_the_events_of_a_watch_are_counted() -> None:
    seen: list[Observation] = []
    mock = MockDriver(watch=[ObjectEvent(EventType.CREATED, "b", "k")] * 3)
    async with trove_async.open(mock, layers=[Observe(seen.append)]) as t, t.watch("b") as events:
        for _ in range(3):
            await anext(events)
    assert [s.events for s in seen] == [3]


async def test_attempts_are_counted_by_every_observer_around_them() -> None:
    answer = in_turn(UnavailableError("first"), UnavailableError("second"), INFO)
    inner: list[Observation] = []
    outer: list[Observation] = []

    async def head(*_: object) -> ObjectInfo:
        info = answer()
        await Attempts(RetryPolicy(attempts=3, transport=Backoff(first=0.0, longest=0.0))).failed(
            UnavailableError("busy")
        )
        return info

    layers: list[Callable[[Driver], Driver]] = [Observe(inner.append), TwiceMore, Observe(lambda _: None)]
    async with trove_async.open(MockDriver(head=head), layers=[*layers, Observe(outer.append)]) as t:
        await t.head("b", "k")
    assert [(s.attempts, s.resent, s.outcome) for s in inner] == [(1, 0, "error"), (1, 0, "error"), (1, 1, "ok")]
    assert [(s.attempts, s.hedges, s.resent, s.outcome) for s in outer] == [(3, 0, 1, "ok")]


async def test_an_attempt_beside_a_slow_one_is_a_hedge() -> None:
    seen: list[Observation] = []
    layers: list[Callable[[Driver], Driver]] = [Race, Observe(lambda _: None), Observe(seen.append)]
    async with trove_async.open(MockDriver(head=INFO), layers=layers) as t:
        await t.head("b", "k")
    assert [(s.attempts, s.hedges, s.outcome) for s in seen] == [(2, 1, "ok")]


async def test_the_time_to_the_first_byte_leaves_out_the_time_in_which_nobody_asks() -> None:
    seen: list[Observation] = []
    async with trove_async.open(streaming(), layers=[Observe(seen.append)]) as t:
        async with t.get("b", "k") as reader:
            paused = time.perf_counter()
            while time.perf_counter() == paused:
                pass
            await reader.read(300)
        async with t.get("b", "k"):
            pass
    read, unread = seen
    assert read.time_to_first_byte is not None
    assert read.time_to_first_byte < read.duration
    assert unread.time_to_first_byte is None


async def test_an_event_outside_of_operations_reaches_each_observer_once() -> None:
    @dataclass(frozen=True)
    class Turned(Event):
        name: str

    class Source(LayerDriver):
        def __init__(self, inner: Driver) -> None:
            super().__init__(inner)
            self.listeners: list[Listener] = []

        def add_listener(self, listener: Listener) -> None:
            self.listeners.append(listener)
            super().add_listener(listener)

        async def around(self, operation: Operation, call: Call[R]) -> R:
            for listener in self.listeners:
                listener(Turned("inside"))
            return await call()

    class Seen(Instrumentation):
        def __init__(self) -> None:
            self.all: list[Event] = []
            self.inside: list[Event] = []

        def begin(self, operation: Operation) -> Ongoing:
            seen = self

            class Noted(Ongoing):
                def on_event(self, event: Event) -> None:
                    seen.inside.append(event)

            return Noted(operation)

        def on_event(self, event: Event) -> None:
            self.all.append(event)

    first, second = Seen(), Seen()
    source = Source(MockDriver(head=INFO))
    layers: list[Callable[[Driver], Driver]] = [
        lambda _: source,
        lambda driver: InstrumentedDriver(driver, first),
        lambda driver: InstrumentedDriver(driver, second),
    ]
    async with trove_async.open(source.inner, layers=layers) as t:
        await t.head("b", "k")
        for listener in source.listeners:
            listener(Turned("outside"))
    for seen in (first, second):
        assert seen.inside == [Turned("inside")]
        assert seen.all == [Turned("inside"), Turned("outside")]


async def test_what_outlives_an_operation_keeps_no_body_of_it_and_reports_to_nobody() -> None:
    contexts: list[contextvars.Context] = []
    seen: list[Observation] = []

    def put(*_: object) -> ObjectInfo:
        contexts.append(contextvars.copy_context())  # as a connection or a task does that the operation starts
        return INFO

    async with trove_async.open(MockDriver(put=put), layers=[Observe(seen.append)]) as t:
        await t.put("b", "k", b"content")
    [context] = contexts
    ongoing = context[OBSERVER]
    assert isinstance(ongoing, Ongoing)
    assert ongoing.operation.body is None
    assert not ongoing.operation.arguments
    series = context.run(attempts, "retry")
    series.begin()
    series.begin()
    context.run(report, RequestRetried(1, UnavailableError("busy"), 0.0))
    assert (ongoing.retries, ongoing.resent) == (0, 0)
    assert len(seen) == 1


async def test_an_exception_of_the_hook_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Observation) -> None:
        raise ZeroDivisionError

    async with trove_async.open(MockDriver(head=INFO), layers=[Observe(broken)]) as t:
        with caplog.at_level(logging.ERROR, "trove_async"):
            assert await t.head("b", "k") == INFO
    [record] = caplog.records
    assert "head" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_operations_are_logged_with_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("unit-test")
    mock = MockDriver(put=INFO, head=ObjectNotFoundError("no such thing"))
    with caplog.at_level(logging.INFO, "unit-test"):
        async with trove_async.open(mock, layers=[log_operations(logger, logging.INFO)]) as t:
            await t.put("b", "a/k", b"hello")
            with pytest.raises(ObjectNotFoundError):
                await t.head("b", "a/k")
    put, head = caplog.records
    assert (put.levelno, head.levelno) == (logging.INFO, logging.WARNING)
    assert put.getMessage().startswith("mock put 'b/a/k' ok, 5 bytes in ")
    assert "no such thing" in head.getMessage()
    fields = put.__dict__["trove"]
    assert isinstance(fields, Observation)
    assert (fields.operation, fields.key, fields.bytes, fields.outcome) == ("put", "a/k", 5, "ok")
    flat = {name: value for name, value in head.__dict__.items() if name.startswith(("trove.", "error."))}
    assert flat.pop("trove.duration") >= 0
    assert flat == {
        "trove.driver": "mock",
        "trove.operation.name": "head",
        "trove.bucket": "b",
        "trove.key": "a/k",
        "trove.bytes": 0,
        "trove.outcome": "error",
        "trove.attempts": 1,
        "error.type": "ObjectNotFoundError",
    }


async def test_records_that_are_not_logged_are_not_formatted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "trove_async"):
        async with trove_async.open(MockDriver(head=INFO), layers=[log_operations()]) as t:
            await t.head("b", "k")
    assert caplog.records == []


@pytest.mark.parametrize("turned", [False, True])
async def test_the_order_of_two_layers_does_not_change_what_is_observed(turned: bool) -> None:
    seen: list[Observation] = []
    layers: list[Callable[[Driver], Driver]] = [Observe(seen.append), Limit(1)]
    async with trove_async.open(streaming(100), layers=layers[::-1] if turned else layers) as t:
        await t.read("b", "k")
    assert summary(seen) == [("get", "b", "k", 1000, "ok")]


async def test_a_streamed_body_is_counted_through_the_limit() -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"de"

    for turned in (False, True):
        seen: list[Observation] = []
        layers: list[Callable[[Driver], Driver]] = [Observe(seen.append), Limit(1)]
        async with trove_async.open(MockDriver(put=INFO), layers=layers[::-1] if turned else layers) as t:
            await t.put("b", "k", source(), checksum="md5")
        assert summary(seen) == [("put", "b", "k", 5, "ok")]
