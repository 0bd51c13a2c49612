"""The metrics of Prometheus, in registries of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from tests.unit.telemetry import FullDriver, TwiceMore, in_turn
from trove_async import CircuitBreaker, ObjectNotFoundError, Prometheus, UnavailableError
from trove_async.driver import Driver, HeadOptions
from trove_async.layers.labels import BUCKETS
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import EventType, ObjectEvent, ObjectInfo

pytestmark = pytest.mark.asyncio

DATA = bytes(1000)
INFO = ObjectInfo("k", 1, "e")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(registry: CollectorRegistry, name: str, operation: str, bucket: str = "", **labels: str) -> float | None:
    return registry.get_sample_value(name, {"driver": "mock", "operation": operation, "bucket": bucket, **labels})


def duration_count(registry: CollectorRegistry, operation: str, outcome: str = "ok", error: str = "") -> float | None:
    name = "trove_operation_duration_seconds_count"
    return value(registry, name, operation, outcome=outcome, error_type=error)


async def test_operations_and_bytes_are_counted(registry: CollectorRegistry) -> None:
    mock = MockDriver(put=INFO, get=b"hello", head=ObjectNotFoundError("no"))
    async with trove_async.open(mock, layers=[Prometheus(registry)]) as t:
        await t.put("b", "k", b"abc")
        await t.put("b", "k2", b"de")
        await t.read("b", "k")
        with pytest.raises(ObjectNotFoundError):
            await t.head("b", "k")
    assert duration_count(registry, "put") == 2
    assert duration_count(registry, "head", "error", "ObjectNotFoundError") == 1
    assert value(registry, "trove_bytes_total", "put", direction="sent") == 5
    assert value(registry, "trove_bytes_total", "get", direction="received") == 5
    assert value(registry, "trove_operations_in_flight", "put") == 0


async def test_a_get_is_in_flight_until_its_reader_is_closed(registry: CollectorRegistry) -> None:
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA)))
    async with trove_async.open(mock, layers=[Prometheus(registry)]) as t:
        async with t.get("b", "k") as reader:
            await reader.read(300)
            assert value(registry, "trove_operations_in_flight", "get") == 1
            assert duration_count(registry, "get") is None
        assert value(registry, "trove_operations_in_flight", "get") == 0
    assert duration_count(registry, "get") == 1
    assert value(registry, "trove_time_to_first_byte_seconds_count", "get") == 1
    assert value(registry, "trove_bytes_total", "get", direction="received") == 300


async def test_retries_are_counted_by_kind(registry: CollectorRegistry) -> None:
    head = in_turn(UnavailableError("first"), UnavailableError("second"), INFO)
    async with trove_async.open(MockDriver(head=head), layers=[TwiceMore, Prometheus(registry)]) as t:
        await t.head("b", "k")
    assert value(registry, "trove_retries_total", "head", kind="retry") == 2
    assert duration_count(registry, "head") == 1


async def test_the_events_of_a_watch_are_counted_while_it_lasts(registry: CollectorRegistry) -> None:
    mock = MockDriver(watch=[ObjectEvent(EventType.CREATED, "b", "k")])
    async with trove_async.open(mock, layers=[Prometheus(registry)]) as t:
        async with t.watch("b") as events:
            await anext(events)
            assert value(registry, "trove_watch_events_total", "watch") == 1
            assert value(registry, "trove_operations_in_flight", "watch") == 1
            assert duration_count(registry, "watch") == 1
        assert value(registry, "trove_operations_in_flight", "watch") == 0
    name = "trove_watch_duration_seconds_count"
    assert value(registry, name, "watch", outcome="ok", error_type="") == 1


async def test_stores_share_a_registry_whatever_their_labels(registry: CollectorRegistry) -> None:
    for bucket_label in (False, True, False):
        layer = Prometheus(registry, bucket_label=bucket_label)
        async with trove_async.open(MockDriver(put=INFO), layers=[layer]) as t:
            await t.put("b", "k", b"abc")
    assert value(registry, "trove_bytes_total", "put", direction="sent") == 6
    assert value(registry, "trove_bytes_total", "put", "b", direction="sent") == 3


async def test_keys_and_buckets_make_no_new_series(registry: CollectorRegistry) -> None:
    driver, options = Prometheus(registry)(FullDriver()), HeadOptions()

    async def run(first: int, last: int) -> int:
        for number in range(first, last):
            await driver.head(f"tenant-{number}", f"path/{number}", options)
        return len(generate_latest(registry).splitlines())

    assert await run(0, 1) == await run(1, 10_000)


async def test_the_buckets_with_labels_are_bounded(registry: CollectorRegistry) -> None:
    async with trove_async.open(MockDriver(put=INFO), layers=[Prometheus(registry, bucket_label=True)]) as t:
        for number in range(BUCKETS + 10):
            await t.put(f"b{number}", "k", b"x")
    assert value(registry, "trove_bytes_total", "put", "b0", direction="sent") == 1
    assert value(registry, "trove_bytes_total", "put", "_OTHER", direction="sent") == 10


async def test_a_circuit_that_two_stores_share_is_counted_once(registry: CollectorRegistry) -> None:
    breaker = CircuitBreaker("assets", threshold=1)
    layers: list[Callable[[Driver], Driver]] = [breaker, Prometheus(registry)]
    mock = MockDriver(head=UnavailableError("down"))
    async with trove_async.open(mock, layers=layers) as t, trove_async.open(MockDriver(), layers=layers):
        with pytest.raises(UnavailableError):
            await t.head("b", "k")
    for state, current in (("closed", 0), ("open", 1), ("half_open", 0), ("isolated", 0)):
        assert registry.get_sample_value("trove_circuit_state", {"name": "assets", "state": state}) == current
    turned = {"name": "assets", "state": "open"}
    assert registry.get_sample_value("trove_circuit_transitions_total", turned) == 1
