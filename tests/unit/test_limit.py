from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import trove_async
from tests.unit.doubles import ScriptedStream, info_of
from trove_async import Trove
from trove_async.driver import Body, RangeDriver, VersioningDriver
from trove_async.errors import InvalidArgumentError, UnavailableError
from trove_async.layers import Limit
from trove_async.reader import ObjectReader
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio

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


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, "3", None])
async def test_a_limit_is_a_positive_number(concurrency: object) -> None:
    with pytest.raises(InvalidArgumentError, match="concurrency"):
        Limit(concurrency)  # type: ignore[arg-type]
