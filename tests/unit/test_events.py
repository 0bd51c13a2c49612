"""What layers and drivers report about an operation, with and without an observer."""

from __future__ import annotations

import asyncio

import pytest

from trove_async.driver import events
from trove_async.driver.events import OBSERVER, Attempt, AttemptKind, AttemptSeries, Event, OperationObserver
from trove_async.driver.retry import Attempts, Backoff, RetryPolicy
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import TransientError
from trove_async.layers import LayerDriver


class Recorder(OperationObserver):
    def __init__(self) -> None:
        self.seen: list[Event] = []

    def attempts(self, kind: AttemptKind) -> AttemptSeries:
        return AttemptSeries()

    def report(self, event: Event) -> None:
        self.seen.append(event)


def test_unobserved_attempts_and_events_make_no_objects() -> None:
    first, second = events.attempts("retry"), events.attempts("hedge")
    assert first is second
    assert first.begin() is second.begin()
    with first.begin() as attempt:
        attempt.lost_to(Attempt())
    events.report(Event())


def test_an_unobserved_attempt_passes_the_error_on() -> None:
    with pytest.raises(KeyError), events.attempts("retry").begin():
        raise KeyError


@pytest.mark.asyncio
async def test_a_request_that_is_sent_again_is_reported_to_the_observer_of_its_operation() -> None:
    recorder = Recorder()
    error = TransientError("the connection broke")

    async def operation() -> None:
        OBSERVER.set(recorder)
        attempts = Attempts(RetryPolicy(attempts=3, transport=Backoff(first=0.0, longest=0.0)))
        await attempts.failed(error)
        await attempts.failed(error)
        with pytest.raises(TransientError):
            await attempts.failed(error)  # nothing is sent again after the last attempt

    await asyncio.create_task(operation())
    assert [(e.number, e.error) for e in recorder.seen if isinstance(e, events.RequestRetried)] == [
        (1, error),
        (2, error),
    ]


def test_a_layer_passes_a_listener_to_the_layer_that_has_events() -> None:
    kept: list[events.Listener] = []

    class Source(LayerDriver):
        def add_listener(self, listener: events.Listener) -> None:
            kept.append(listener)
            super().add_listener(listener)

    def listener(event: Event) -> None: ...

    LayerDriver(Source(LayerDriver(MemoryDriver()))).add_listener(listener)
    assert kept == [listener]
