"""All layers at once, in several orders: operations are cancelled at each await point, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import trove_async as trove
from tests.unit.doubles import ScriptedStream
from trove_async import Observation, Trove, UnavailableError
from trove_async.driver import Driver, unwrap
from trove_async.driver.events import OBSERVER
from trove_async.driver.retry import BEGUN_ANEW
from trove_async.layers import (
    Budget,
    Cache,
    Call,
    CircuitBreaker,
    Hedge,
    LayerDriver,
    Limit,
    Observe,
    Operation,
    Prefixed,
    Retry,
    Timeout,
)
from trove_async.layers.limit import LimitDriver
from trove_async.layers.timeout import _TimeoutDriver
from trove_async.reader import ObjectReader
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

OLD, NEW = b"o" * 1000, b"n" * 1200
HOUR = 3600
SLOTS = 2
ORDERS = {
    "documented": ("Limit", "CircuitBreaker", "Timeout", "Hedge", "Retry", "Cache", "Prefixed", "Observe"),
    "another": ("Cache", "Prefixed", "Timeout", "Hedge", "Limit", "CircuitBreaker", "Retry", "Observe"),
    "the breaker outside": ("Limit", "Hedge", "Timeout", "Retry", "CircuitBreaker", "Observe", "Prefixed"),
}
DOWN = UnavailableError("down")
FAULTS = (
    Fault("put", error=DOWN),
    Fault("put", error=DOWN, when="after"),
    Fault("get", error=DOWN),
    Fault("get", reset_after=500),
    Fault("list_page", error=DOWN),
    Fault("watch", error=DOWN),
    Fault("delete_many", error=DOWN),
    Fault("copy", error=DOWN),
)


class Slow:
    """A layer whose operations and bodies take turns of the loop.

    Attributes:
        streams: the bodies that it has opened.
    """

    def __init__(self) -> None:
        self.streams: list[ScriptedStream] = []

    def __call__(self, driver: Driver) -> LayerDriver:
        slow = self

        class Yielding(LayerDriver):
            async def around(self, operation: Operation, call: Call[Any]) -> Any:
                await asyncio.sleep(0)
                result = await call()
                return await slow.stream(result) if isinstance(result, ObjectReader) else result

        return Yielding(driver)

    async def stream(self, reader: ObjectReader) -> ObjectReader:
        class Stream(ScriptedStream):
            async def read(self, size: int) -> bytes:
                await asyncio.sleep(0)
                return await super().read(min(size, 400))

            async def aclose(self) -> None:
                await asyncio.sleep(0)
                await super().aclose()

        stream = Stream(await reader.read())
        self.streams.append(stream)
        return ObjectReader(reader.info, stream)


class Bench:
    """A store in a stack of layers, and what a test looks at."""

    store: Trove

    def __init__(self, order: str) -> None:
        self.order = ORDERS[order]

    async def open(self, *faults: Fault, half_open: bool = False) -> None:
        """Open the store; with ``half_open`` the circuit waits for a probe."""
        self.now = 0.0
        self.seen: list[Observation] = []
        self.slow, self.faults = Slow(), Faults()
        self.breaker = CircuitBreaker("test", threshold=9, open_for=30, jitter=0, clock=lambda: self.now)
        made: dict[str, Callable[[Driver], Driver]] = {
            "Limit": Limit(SLOTS),
            "CircuitBreaker": self.breaker,
            "Timeout": Timeout(attempt=HOUR, idle=HOUR),
            "Hedge": Hedge(delay=HOUR),
            "Retry": Retry(budget=Budget(math.inf)),
            "Cache": Cache(),
            "Prefixed": Prefixed("tenant/"),
            "Observe": Observe(self.seen.append),
        }
        layers: list[Callable[[Driver], Driver]] = [self.slow, self.faults, *(made[name] for name in self.order)]
        self.store = await trove.open("memory://", layers=layers)
        await self.store.create_bucket("b")
        await self.store.put("b", "k", OLD)
        self.seen.clear()
        self.faults.add(*faults)
        if half_open:
            for _ in range(9):
                ticket = self.breaker.circuit.begin()
                assert ticket is not None
                self.breaker.circuit.failed(ticket, DOWN)
            self.now = 30

    async def check(self, outcome: Outcome[object]) -> None:
        """Check that nothing is left of an operation that has ended, and close the store."""
        async with self.store:
            await self._check(outcome)

    async def _check(self, outcome: Outcome[object]) -> None:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.left_running == frozenset()
        assert (OBSERVER.get(), BEGUN_ANEW.get()) == (None, None)
        assert not any(stream.open for stream in self.slow.streams)
        assert unwrap(self.store.driver, LimitDriver).running == {"all": 0}
        timeouts = unwrap(self.store.driver, _TimeoutDriver)
        for deadlines in (timeouts._attempts, timeouts._reads):
            assert deadlines is not None
            assert not deadlines._running
        assert outcome.cancelled or {seen.outcome for seen in self.seen} == {"ok"}
        assert self.breaker.state == "closed" or self.breaker.retry_after == 0  # another call may probe
        self.faults.clear()
        assert await self.store.read("b", "k") in (OLD, NEW)


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(3):
        await asyncio.sleep(0)
        assert OBSERVER.get() is None
        yield NEW[:400]


async def put(t: Trove) -> None:
    await t.put("b", "k", NEW)


async def put_a_source(t: Trove) -> None:
    await t.put("b", "k", _chunks())


async def get(t: Trove) -> None:
    async with t.get("b", "k") as reader:
        assert b"".join([chunk async for chunk in reader]) in (OLD, NEW)


async def get_a_part(t: Trove) -> None:
    async with t.get("b", "k") as reader:
        assert len(await reader.read(10)) == 10


async def stream_a_copy(t: Trove) -> None:
    async with t.get("b", "k") as reader:
        await t.put("b", "copy", reader)


async def copy(t: Trove) -> None:
    await t.copy("b", "k", "b", "copy")


async def list_all(t: Trove) -> None:
    assert [info.key async for info in t.list("b")] == ["k"]


async def delete_many(t: Trove) -> None:
    await t.delete_many("b", ["x", "y"])


async def watch(t: Trove) -> None:
    async with t.watch("b") as events:
        await t.put("b", "other", b"")
        event = await anext(events)
        assert (event.key, OBSERVER.get(), BEGUN_ANEW.get()) == ("other", None, None)


OPERATIONS: tuple[Callable[[Trove], Awaitable[None]], ...] = (
    put, put_a_source, get, get_a_part, stream_a_copy, copy, list_all, delete_many, watch,
)  # fmt: skip


async def _everywhere(order: str, operation: Callable[[Trove], Awaitable[None]], *faults: Fault, **how: bool) -> None:
    bench = Bench(order)
    for delivery in Delivery:
        await cancel_everywhere(
            lambda: operation(bench.store),
            delivery,
            prepare=lambda: bench.open(*faults, **how),
            check=bench.check,
        )


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("order", ORDERS)
async def test_a_cancelled_operation_leaves_nothing_in_any_layer(
    order: str, operation: Callable[[Trove], Awaitable[None]]
) -> None:
    await _everywhere(order, operation)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_cancelled_probe_lets_another_begin(operation: Callable[[Trove], Awaitable[None]]) -> None:
    await _everywhere("documented", operation, half_open=True)


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each not in (put_a_source, stream_a_copy)])
async def test_an_operation_that_is_cancelled_between_its_attempts_leaves_nothing(
    operation: Callable[[Trove], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda *_: 0.0)
    await _everywhere("documented", operation, *FAULTS)


@pytest.mark.parametrize("order", ORDERS)
async def test_an_error_and_what_it_refers_to_are_freed_at_once(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda *_: 0.0)
    bench = Bench(order)
    await bench.open(Fault("put", error=UnavailableError, times=None))
    gc.collect()
    gc.disable()
    try:
        try:
            await bench.store.put("b", "k", NEW)
        except UnavailableError as error:
            raised = weakref.ref(error)
        else:
            pytest.fail("no error was raised")
        bench.seen.clear()
        assert raised() is None
    finally:
        gc.enable()
        await bench.store.aclose()


@pytest.mark.parametrize("order", ORDERS)
async def test_attempts_are_counted_once(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda *_: 0.0)
    bench = Bench(order)
    await bench.open(Fault("head", error=DOWN, times=None))
    with pytest.raises(UnavailableError):
        await bench.store.head("b", "k")
    assert len(bench.faults.injected) == 4
    assert [seen.attempts for seen in bench.seen] == [4]
    await bench.store.aclose()
