from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from trove_async import Trove
from trove_async.driver import Body, BulkDeleteDriver, Driver, PresignDriver, RangeDriver, VersioningDriver, unwrap
from trove_async.driver.events import Event
from trove_async.errors import (
    InvalidArgumentError,
    ObjectNotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async.layers import Backoff, Limit, LimitChanged, Retry, Timeout
from trove_async.layers.limit import LimitDriver
from trove_async.layers.rates import TokenBucket
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import DeleteResult, ObjectInfo

pytestmark = pytest.mark.asyncio

Layer = Callable[[Driver], Driver]

DATA = bytes(1000)


class Gauge:
    """Counts concurrent work."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0

    async def work(self, *_: object) -> ObjectInfo:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _turn in range(3):
                await asyncio.sleep(0)
        finally:
            self.now -= 1
        return ObjectInfo("k", 1, "e")


class GaugedStream(ScriptedStream):
    def __init__(self, gauge: Gauge) -> None:
        super().__init__(DATA)
        self.gauge = gauge

    async def read(self, size: int) -> bytes:
        await self.gauge.work()
        return await super().read(min(size, 100))


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_concurrency_does_not_exceed_the_limit(concurrency: int) -> None:
    gauge = Gauge()
    mock = MockDriver(put=gauge.work, head=gauge.work, delete=gauge.work)
    async with trove_async.open(mock, layers=[Limit(concurrency)]) as t, asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(t.put("b", str(number), b""))
            group.create_task(t.head("b", str(number)))
            group.create_task(t.delete("b", str(number)))
    assert gauge.most == concurrency
    assert len(mock.calls) == 31


OPENINGS: dict[str, Callable[[Trove], Awaitable[ObjectReader]]] = {
    "get": lambda t: t.get("b", "k"),
    "get_range": lambda t: t.get_range("b", "k", 0),
    "get_version": lambda t: t.get_version("b", "k", "v"),
}


@pytest.mark.parametrize("opening", sorted(OPENINGS))
async def test_readers_count_only_while_they_fetch(opening: str) -> None:
    gauge = Gauge()

    def make(*_: object) -> ObjectReader:
        return ObjectReader(info_of(DATA), GaugedStream(gauge))

    mock = MockDriver(capabilities=[RangeDriver, VersioningDriver], get=make, get_range=make, get_version=make)
    async with trove_async.open(mock, layers=[Limit(2)]) as t:
        readers = [await OPENINGS[opening](t) for _ in range(6)]
        assert await asyncio.gather(*(reader.read() for reader in readers)) == [DATA] * 6
    assert gauge.most == 2


async def test_an_idle_reader_blocks_nobody() -> None:
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA)), head=ObjectInfo("k", 1, "e"))
    async with trove_async.open(mock, layers=[Limit(1)]) as t, t.get("b", "k") as reader:
        await reader.read(10)
        async with asyncio.timeout(5):
            await t.head("b", "k")


async def test_an_object_that_is_read_can_be_put_through_the_same_limit() -> None:
    mock = MockDriver(
        get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA, [10, 10])), put=ObjectInfo("k", 1, "e")
    )
    async with trove_async.open(mock, layers=[Limit(1)]) as t, asyncio.timeout(5):
        async with t.get("b", "k") as reader:
            await t.put("b", "l", reader)
        async with t.get("b", "k") as reader, t.writer("b", "m") as writer:
            async for chunk in reader:
                await writer.write(chunk)
    assert [call.body for call in mock.calls_to("put")] == [DATA, DATA]


async def test_a_put_that_waits_for_its_body_releases_its_slot() -> None:
    gauge = Gauge()
    more = asyncio.Event()

    async def put(bucket: str, key: str, body: Body, options: object) -> ObjectInfo:
        await gauge.work()
        async for _ in body:
            await gauge.work()
        return await gauge.work()

    async def source() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()
        yield b"two"

    async with trove_async.open(MockDriver(put=put, head=gauge.work), layers=[Limit(1)]) as t, asyncio.timeout(5):
        putting = asyncio.create_task(t.put("b", "k", source(), checksum="md5", size=6))
        for _ in range(3):
            await t.head("b", "k")
        assert not putting.done()
        more.set()
        heads = [asyncio.create_task(t.head("b", "k")) for _ in range(5)]
        await putting
        await asyncio.gather(*heads)
    assert gauge.most == 1


async def test_a_put_cancelled_at_any_point_releases_its_slot_once() -> None:
    for turns in range(12):
        gauge = Gauge()
        mock = MockDriver(put=ObjectInfo("k", 1, "e"), head=gauge.work)
        async with trove_async.open(mock, layers=[Limit(1)]) as t, asyncio.timeout(5):

            async def source() -> AsyncIterator[bytes]:
                for _ in range(3):
                    await asyncio.sleep(0)
                    yield b"x"

            putting = asyncio.create_task(t.put("b", "k", source()))
            competing = asyncio.create_task(t.head("b", "k"))
            for _ in range(turns):
                await asyncio.sleep(0)
            putting.cancel()
            await asyncio.wait({putting, competing})
            await asyncio.gather(*(t.head("b", "k") for _ in range(5)))
        assert gauge.most == 1


async def test_a_failure_releases_the_slot() -> None:
    mock = MockDriver(head=UnavailableError("no"), put=UnavailableError("no"))
    async with trove_async.open(mock, layers=[Limit(1)]) as t, asyncio.timeout(5):
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await t.head("b", "k")
            with pytest.raises(UnavailableError):
                await t.put("b", "k", iter([b"x"]))


async def test_each_driver_has_its_own_limit() -> None:
    gauge = Gauge()
    limit = Limit(1)
    one = trove_async.open(MockDriver(head=gauge.work), layers=[limit])
    two = trove_async.open(MockDriver(head=gauge.work), layers=[limit])
    async with one as s, two as t:
        await asyncio.gather(s.head("b", "k"), t.head("b", "k"), s.head("b", "k"))
    assert gauge.most == 2


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "3", None, True])
async def test_a_limit_is_a_positive_number(concurrency: object) -> None:
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        Limit(concurrency)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operations": 0}, "operations is a number a second"),
        ({"operations": True}, "operations is"),
        ({"bytes": -1}, "bytes is a number a second"),
        ({"bytes": math.inf}, "bytes is"),
        ({"bytes": math.nan}, "bytes is"),
        ({"bytes": "1M"}, "bytes is"),
        ({"adaptive": 1}, "adaptive is True or False"),
        ({"per_class": "yes", "concurrency": 1}, "per_class is True or False"),
        ({"operations": 5, "per_class": True}, "per_class divides the concurrency"),
        ({"adaptive": True, "concurrency": 1}, "give more"),
        ({}, "needs a limit"),
    ],
)
async def test_limits_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Limit(**arguments)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that the layer looks at every millisecond while something waits."""
    monkeypatch.setattr(TokenBucket, "wait", lambda self, amount: 0.001)
    return Clock()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what changes it is a timer
            await asyncio.sleep(0.001)


async def test_operations_a_second(clock: Clock) -> None:
    mock = MockDriver(head=ObjectInfo("k", 1, "e"))
    async with trove_async.open(mock, layers=[Limit(operations=1000, clock=clock)]) as t:
        tasks = [asyncio.create_task(t.head("b", "k")) for _ in range(150)]
        await until(lambda: len(mock.calls_to("head")) >= 100)
        assert len(mock.calls_to("head")) == 100
        clock.now += 0.0100001
        await until(lambda: len(mock.calls_to("head")) >= 110)
        assert len(mock.calls_to("head")) == 110
        clock.now += 1
        await asyncio.gather(*tasks)


async def test_signed_urls_cost_no_operation() -> None:
    mock = MockDriver(capabilities=[PresignDriver], presign_get="https://x")
    async with trove_async.open(mock, layers=[Limit(operations=1, clock=Clock())]) as t, asyncio.timeout(5):
        for _ in range(5):
            await t.presign_get("b", "k")


RATE = 1_000_000
"""Bytes a second; 100 000 pass at once."""


async def test_bytes_a_second_of_readers(clock: Clock) -> None:
    data = bytes(400_000)
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(data), ScriptedStream(data)))
    async with trove_async.open(mock, layers=[Limit(bytes=RATE, clock=clock)]) as t, t.get("b", "k") as reader:
        received = 0

        async def read() -> None:
            nonlocal received
            while chunk := await reader.read(400_000 - received if received < 400_000 else 1):
                received += len(chunk)

        reading = asyncio.create_task(read())
        while not reading.done():
            await asyncio.sleep(0.002)
            clock.now += 0.01
        await reading
    assert received == 400_000
    # Less what is saved, and what the last chunk still owes.
    assert clock.now - 1000 >= (400_000 - 100_000 - 100_000) / RATE


async def test_bytes_a_second_of_bodies_that_come_whole(clock: Clock) -> None:
    data = bytes(300_000)
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(data), data), put=ObjectInfo("k", 1, "e"))
    async with trove_async.open(mock, layers=[Limit(bytes=RATE, clock=clock)]) as t:
        assert await t.read("b", "k") == data
        putting = asyncio.create_task(t.put("b", "k", data))
        await asyncio.sleep(0.02)
        assert not mock.calls_to("put")
        clock.now += 0.300001  # to pay the debt of the first, and to save the burst again
        await until(lambda: bool(mock.calls_to("put")))
        await putting
        reading = asyncio.create_task(t.read("b", "k"))
        await asyncio.sleep(0.02)
        assert not reading.done()
        clock.now += 10
        await reading


@pytest.mark.parametrize("replayable", [True, False])
async def test_bytes_a_second_of_bodies_that_are_put(replayable: bool, clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(bytes(3 * RATE))
    taken = 0

    async def put(bucket: str, key: str, body: Body, options: object) -> ObjectInfo:
        nonlocal taken
        assert body.replayable == replayable
        async for chunk in body:
            taken += len(chunk)
        if replayable:
            await body.rewind()
            assert len(await body.read_all()) == 3 * RATE
        return ObjectInfo("k", 1, "e")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(RATE)

    layers = [Limit(2, bytes=RATE, clock=clock)]
    async with trove_async.open(MockDriver(put=put), layers=layers) as t, asyncio.timeout(10):
        putting = asyncio.create_task(t.put("b", "k", path if replayable else chunks()))
        await until(lambda: taken > 0)
        await asyncio.sleep(0.02)
        assert taken <= 2 * RATE
        while not putting.done():
            await asyncio.sleep(0.001)
            clock.now += 0.5
        await putting


async def test_each_attempt_pays_its_body_once(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(bytes(RATE))
    attempts = 0

    async def put(bucket: str, key: str, body: Body, options: object) -> ObjectInfo:
        nonlocal attempts
        attempts += 1
        await body.read_all()
        if attempts == 1:
            raise ThrottledError("slow down")
        return ObjectInfo("k", 1, "e")

    layers: list[Layer] = [Limit(bytes=RATE, clock=clock), Retry(throttled=Backoff(0, 0))]
    async with trove_async.open(MockDriver(put=put), layers=layers) as t, asyncio.timeout(10):
        putting = asyncio.create_task(t.put("b", "k", path))
        await until(lambda: attempts == 2)
        assert not putting.done()
        clock.now += 1.01  # for the debt of the first attempt, and the burst that the second one begins with
        await putting


async def test_cancelled_while_it_waits_for_a_rate_it_has_sent_nothing(clock: Clock) -> None:
    mock = MockDriver(put=ObjectInfo("k", 1, "e"))
    layers: list[Layer] = [Limit(operations=1, clock=clock), Timeout(attempt=0.01)]
    async with trove_async.open(mock, layers=layers) as t:
        await t.put("b", "k", b"")
        with pytest.raises(OperationTimeoutError) as caught:
            await t.put("b", "k", b"")
        assert not caught.value.ambiguous
        assert len(mock.calls_to("put")) == 1


class Busy:
    """A backend that throttles what comes while a number of operations is under way."""

    def __init__(self, takes: int, clock: Clock) -> None:
        self.takes = takes
        self.clock = clock
        self.running = self.answered = self.refused = 0

    async def work(self, *_: object) -> ObjectInfo:
        self.running += 1
        try:
            if self.running > self.takes:
                self.refused += 1
                raise ThrottledError("slow down")
            for _turn in range(5):
                await asyncio.sleep(0)
            self.clock.now += 0.01
            self.answered += 1
        finally:
            self.running -= 1
        return ObjectInfo("k", 1, "e")


async def test_an_adaptive_limit_finds_what_the_backend_takes() -> None:
    clock = Clock()
    backend = Busy(20, clock)
    layers = [Limit(adaptive=True, clock=clock)]
    events: list[Event] = []
    async with trove_async.open(MockDriver(head=backend.work), layers=layers) as t:
        driver = unwrap(t.driver, LimitDriver)
        driver.add_listener(events.append)
        assert driver.limits == {"all": 10}

        async def use() -> None:
            for _ in range(100):
                with contextlib.suppress(ThrottledError):
                    await t.head("b", "k")

        await asyncio.gather(*(use() for _ in range(60)))
        assert 10 <= driver.limits["all"] <= 21
    assert backend.refused <= 0.1 * backend.answered
    changes = [event for event in events if isinstance(event, LimitChanged)]
    assert changes[0] == LimitChanged("all", 10, 11)
    assert any(change.after < change.before for change in changes)


async def test_each_class_learns_for_itself() -> None:
    clock = Clock()
    mock = MockDriver(head=ObjectInfo("k", 1, "e"), delete=ThrottledError("slow down"))
    async with trove_async.open(mock, layers=[Limit(50, adaptive=True, per_class=True, clock=clock)]) as t:
        driver = unwrap(t.driver, LimitDriver)
        for _ in range(3):
            clock.now += 1
            with pytest.raises(ThrottledError):
                await t.delete("b", "k")
        assert driver.limits == {"read": 10, "write": 10, "list": 10, "delete": 2}


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (UnavailableError("x", status=503), 6),
        (UnavailableError("x"), 10),
        (UnavailableError("x", status=500), 10),
        (ObjectNotFoundError("x"), 10),
    ],
)
async def test_only_throttling_lowers_it(error: TroveError, after: int) -> None:
    mock = MockDriver(head=error)
    async with trove_async.open(mock, layers=[Limit(adaptive=True)]) as t:
        with pytest.raises(type(error)):
            await t.head("b", "k")
        assert unwrap(t.driver, LimitDriver).limits == {"all": after}


async def test_a_cancelled_operation_teaches_nothing_and_gives_its_place_back() -> None:
    stuck = asyncio.Event()

    async def head(*_: object) -> ObjectInfo:
        await stuck.wait()
        return ObjectInfo("k", 1, "e")

    async with trove_async.open(MockDriver(head=head), layers=[Limit(adaptive=True)]) as t, asyncio.timeout(5):
        for _ in range(3):
            tasks = [asyncio.create_task(t.head("b", "k")) for _ in range(30)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        assert unwrap(t.driver, LimitDriver).limits == {"all": 10}
        stuck.set()
        await asyncio.gather(*(t.head("b", "k") for _ in range(30)))


async def test_keys_of_a_bulk_delete_that_were_throttled_lower_it() -> None:
    results = [DeleteResult("k", None), DeleteResult("l", ThrottledError("slow down"))]
    mock = MockDriver(capabilities=[BulkDeleteDriver], delete_many=results)
    async with trove_async.open(mock, layers=[Limit(adaptive=True)]) as t:
        assert len([result async for result in t.delete_many("b", ["k", "l"], raise_errors=False)]) == 2
        assert unwrap(t.driver, LimitDriver).limits == {"all": 6}


async def test_a_read_that_is_cancelled_costs_no_bytes(clock: Clock) -> None:
    stuck = asyncio.Event()
    mock = MockDriver(get=lambda *_: ObjectReader(info_of(DATA), ScriptedStream(DATA, [stuck])))
    async with trove_async.open(mock, layers=[Limit(bytes=10_000, clock=clock)]) as t, asyncio.timeout(5):
        for _ in range(3):
            async with t.get("b", "k") as reader:
                reading = asyncio.create_task(reader.read())
                await asyncio.sleep(0.005)
                reading.cancel()
                await asyncio.wait({reading})
        stuck.set()
        assert await t.read("b", "k") == DATA
