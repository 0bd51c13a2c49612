"""Large objects, read by several requests at once."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

import trove_async
from trove_async import Observation, Observe, Trove
from trove_async.driver import Driver, GetOptions
from trove_async.driver.memory import MemoryBudget
from trove_async.driver.pace import Pace
from trove_async.errors import (
    AccessDeniedError,
    ChecksumError,
    ClosedError,
    InvalidArgumentError,
    ObjectChangedError,
    UnavailableError,
)
from trove_async.layers.base import LayerDriver
from trove_async.ranges import ByteRange
from trove_async.reader import ByteStream, ObjectReader
from trove_async.store import lifetime, ranged
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.transfers import StoredObject, copy
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio

KIB = 1024
SIZE = 64 * KIB  # of a range, in these tests
DATA = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(20 * SIZE // 32)) + b"the end"


class AtOnce(Pace):
    """Reads as many ranges as are allowed, from the first byte on."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.width = limit

    def arrived(self, size: int, now: float) -> None:
        """Change nothing."""


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "RANGE_SIZE", SIZE)
    monkeypatch.setattr(lifetime, "RANGE_SIZE", SIZE)
    monkeypatch.setattr(ranged, "_LEAST", SIZE)
    monkeypatch.setattr(ranged, "Pace", AtOnce)


class Remote(LayerDriver):
    """Answers a get as a service does whose connections are slow: in chunks, and only with what was asked for.

    Attributes:
        parallel: of the readers.
        asked: the options of each get.
        bodies, most: how many bodies are open now, and were at most.
        sent: how many bytes were delivered.
        gate: what the chunks of the ranges wait for.
        failures: by the number of the get: what is raised after the first chunk of its body.
        refusals: by the number of the get: what it raises.
        corrupt: the number of the get whose body begins with a wrong byte.
        ranges: whether a get of a range is answered with the range alone.
    """

    def __init__(self, inner: Driver, parallel: int = 4) -> None:
        super().__init__(inner)
        self.parallel = parallel
        self.asked: list[GetOptions] = []
        self.bodies = self.most = self.sent = 0
        self.gate: asyncio.Event | None = None
        self.corrupt: int | None = None
        self.failures: dict[int, Exception] = {}
        self.refusals: dict[int, Exception] = {}
        self.ranges = True

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        number = len(self.asked)
        self.asked.append(options)
        await asyncio.sleep(0)
        if number in self.refusals:
            raise self.refusals[number]
        reader = await self.inner.get(bucket, key, options)
        data = await reader.read()
        if number == self.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        stream = _Body(self, (bucket, key), number, data, reader)
        parallel = self.parallel if self.ranges or options.range is None else 1
        return ObjectReader(reader.info, stream, start=reader.start, stop=reader.stop, parallel=parallel)

    @property
    def offsets(self) -> list[int]:
        return sorted(options.range.offset for options in self.asked if options.range is not None)


class _Body(ByteStream):
    def __init__(self, remote: Remote, place: tuple[str, str], number: int, data: bytes, reader: ObjectReader) -> None:
        self._remote = remote
        self._place = place
        self._number = number
        self._data, self._start, self._etag = data, reader.start, reader.info.etag
        self._at = 0
        self._is_open = False
        self._take()

    def _take(self) -> None:
        self._is_open = True
        self._remote.bodies += 1
        self._remote.most = max(self._remote.most, self._remote.bodies)

    async def read(self, size: int) -> bytes:
        assert self._is_open
        await asyncio.sleep(0)
        if self._number and self._remote.gate is not None:
            await self._remote.gate.wait()
        if self._at and (failure := self._remote.failures.get(self._number)) is not None:
            raise failure
        chunk = self._data[self._at : self._at + min(size, 10_000)]
        self._at += len(chunk)
        self._remote.sent += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self.abort()
        wanted = ByteRange(offset, self._start + len(self._data) - offset)
        reader = await self._remote.inner.get(*self._place, GetOptions(range=wanted, if_match=self._etag))
        self._data, self._start, self._at = await reader.read(), offset, 0
        self._take()

    def abort(self) -> None:
        if self._is_open:
            self._is_open = False
            self._remote.bodies -= 1


@asynccontextmanager
async def remote(parallel: int = 4, **settings: Any) -> AsyncIterator[tuple[Trove, Remote]]:
    made: list[Remote] = []

    def layer(driver: Driver) -> Driver:
        made.append(Remote(driver, parallel))
        return made[0]

    layers = [layer, *settings.pop("layers", ())]
    async with trove_async.open("memory://", layers=layers, **settings) as t:
        await t.create_bucket("b")
        await t.put("b", "k", DATA)
        yield t, made[0]
        assert made[0].bodies == 0
        assert budget_of(t).held == 0
        assert not budget_of(t).borrowers


def budget_of(t: Trove) -> MemoryBudget:
    return t._memory


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {cast(asyncio.Task[Any], asyncio.current_task())}


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# What is read


async def by_get(t: Trove, _: Path) -> bytes:
    async with t.get("b", "k") as reader:
        return b"".join([chunk async for chunk in reader])


async def by_read(t: Trove, _: Path) -> bytes:
    return await t.read("b", "k")


async def by_small_reads(t: Trove, _: Path) -> bytes:
    pieces: list[bytes] = []
    async with t.get("b", "k") as reader:
        for size in itertools.cycle([2 * SIZE, 1, 3000, 7777]):
            pieces.append(await reader.read(size))
            if not pieces[-1]:
                return b"".join(pieces)
    raise AssertionError


async def by_readinto(t: Trove, _: Path) -> bytes:
    whole, buffer = bytearray(), bytearray(5 * SIZE // 2)
    async with t.get("b", "k") as reader:
        while count := await reader.readinto(buffer):
            whole += buffer[:count]
            buffer.append(0)  # which Python refuses while somebody else uses the buffer
            buffer.pop()
    return bytes(whole)


async def by_download(t: Trove, path: Path) -> bytes:
    await t.download("b", "k", path / "file")
    return (path / "file").read_bytes()


async def by_copy(t: Trove, _: Path) -> bytes:
    async with trove_async.open("memory://") as other:
        await other.create_bucket("b")
        await copy(StoredObject(t, "b", "k"), StoredObject(other, "b", "k"))
        return await other.read("b", "k")


WAYS: dict[str, Callable[[Trove, Path], Awaitable[bytes]]] = {
    "get": by_get, "read": by_read, "small reads": by_small_reads, "readinto": by_readinto, "download": by_download,
    "copy": by_copy,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_each_byte_is_fetched_once_by_a_bounded_number_of_requests_at_once(way: str, tmp_path: Path) -> None:
    async with remote() as (t, service):
        assert await WAYS[way](t, tmp_path) == DATA
        assert service.most == 4
        assert service.sent == len(DATA)
        assert len(service.asked) == 20  # the first one, and a range for each piece after the first
        assert others() == set()


async def test_ranges_are_of_the_object_that_was_opened_and_say_for_which_operation_they_are() -> None:
    async with remote() as (t, service):
        info = await t.head("b", "k")
        await t.read("b", "k")
        first, *ranges = service.asked
        assert (first.range, first.if_match, first.part_of) == (None, None, None)
        assert {(options.if_match, options.part_of) for options in ranges} == {(info.etag, "read")}


async def test_a_range_of_an_object_is_read_by_ranges_too() -> None:
    async with remote() as (t, service):
        assert await t.read("b", "k", (1000, 5 * SIZE)) == DATA[1000 : 1000 + 5 * SIZE]
        assert service.most == 4
        assert service.sent == 5 * SIZE


async def test_a_small_object_takes_one_request_and_so_does_a_large_one_that_nobody_reads() -> None:
    async with remote() as (t, service):
        await t.put("b", "small", DATA[: 2 * SIZE - 1])
        assert await t.read("b", "small") == DATA[: 2 * SIZE - 1]
        async with t.get("b", "k"):
            await turns()
        assert [options.range for options in service.asked] == [None, None]


@pytest.mark.parametrize("scheme", ["memory", "local"])
async def test_a_backend_of_this_machine_is_asked_once(scheme: str, tmp_path: Path) -> None:
    seen: list[Observation] = []
    dsn = "memory://" if scheme == "memory" else f"local://{tmp_path}?fsync=0"
    async with trove_async.open(dsn, layers=[Observe(seen.append)]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
    assert [one.operation for one in seen].count("get") == 1


async def test_the_rate_is_not_measured_before_all_ranges_that_were_added_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []

    class Measured(AtOnce):
        def arrived(self, size: int, now: float) -> None:
            measured.append(size)

    monkeypatch.setattr(ranged, "Pace", Measured)
    async with remote() as (t, service), t.get("b", "k") as reader:
        service.gate = asyncio.Event()
        await reader.read(10)
        await turns(20)
        measured.clear()
        await reader.read(30_000)  # of the first answer
        assert measured == []
        service.gate.set()
        await reader.read()
        assert sum(measured) > 10 * SIZE


@pytest.mark.parametrize("refused", [{}, {1: AccessDeniedError()}], ids=["read", "refused"])
async def test_a_buffer_that_is_full_is_the_callers_again(refused: dict[int, Exception]) -> None:
    async with remote() as (t, service), t.get("b", "k") as reader:
        service.refusals = refused
        buffer = bytearray(10_000 + 2 * SIZE)  # it ends where a range ends
        assert await reader.readinto(buffer) == len(buffer)
        buffer.append(0)  # which Python refuses while somebody else uses the buffer
        assert buffer[:-1] == DATA[: 10_000 + 2 * SIZE]


async def test_a_seek_goes_on_with_ranges_from_there() -> None:
    async with remote() as (t, service), t.get("b", "k") as reader:
        assert await reader.read(100) == DATA[:100]
        await turns()
        assert len(service.asked) > 1
        await reader.seek(7 * SIZE + 5)
        assert others() == set()
        assert await reader.read() == DATA[7 * SIZE + 5 :]
        assert service.most == 4


async def test_limit_memory_ends_the_reading_ahead() -> None:
    async with remote() as (t, service), t.get("b", "k") as reader:
        reader.limit_memory(SIZE)
        assert await reader.read() == DATA
        assert len(service.asked) == 1


# What goes wrong


async def test_an_object_that_is_replaced_meanwhile_is_never_spliced() -> None:
    async with remote() as (t, _service):
        with pytest.raises(ObjectChangedError):  # noqa: PT012 - it is the reading that raises
            async with t.get("b", "k") as reader:
                read = await reader.read(SIZE // 2)
                await t.put("b", "k", bytes(len(DATA)))
                while chunk := await reader.read(1000):
                    read += chunk
                    assert DATA.startswith(read)
        assert others() == set()


@pytest.mark.parametrize("way", ["get", "read"])
async def test_a_range_that_breaks_off_is_resumed_or_read_by_the_first_request(way: str, tmp_path: Path) -> None:
    async with remote() as (t, service):
        service.failures[5] = UnavailableError("it broke")
        service.refusals[9] = UnavailableError("it is down")
        assert await WAYS[way](t, tmp_path) == DATA
        assert service.most == 4


async def test_nothing_goes_on_where_everything_breaks_off_at_once() -> None:
    async with remote() as (t, service):
        service.failures = {number: AccessDeniedError("it was closed") for number in range(100)}
        for turn in range(5):
            async with t.get("b", "k") as reader:
                assert await reader.read(10)
                await turns(turn)
                with pytest.raises(AccessDeniedError):
                    await reader.read()
            assert others() == set()


async def test_ranges_that_are_always_refused_are_given_up() -> None:
    async with remote() as (t, service):
        service.refusals = {number: AccessDeniedError("no ranges") for number in range(1, 100)}
        assert await t.read("b", "k") == DATA
        assert 3 <= len(service.asked) - 1 <= 6


async def test_a_server_that_answers_a_range_with_the_whole_object_is_asked_for_no_more() -> None:
    async with remote() as (t, service):
        service.ranges = False
        assert await t.read("b", "k") == DATA
        assert len(service.asked) - 1 <= 3  # which were begun together


async def test_the_checksum_of_the_whole_is_compared() -> None:
    async with remote() as (t, service):
        await t.put("b", "k", DATA, checksum="sha256")
        assert await t.read("b", "k") == DATA
        assert service.most == 4
        for way in ("read", "get"):
            service.corrupt = len(service.asked) + 9
            with pytest.raises(ChecksumError):
                await WAYS[way](t, Path())
        assert others() == set()


# What is held


async def test_what_is_read_ahead_of_a_slow_consumer_is_within_the_memory() -> None:
    memory = 5 * SIZE
    async with remote(transfer_memory=memory) as (t, service):
        async with t.get("b", "k") as reader:
            read = await reader.read(10)
            while chunk := await reader.read(3000):
                await turns(20)
                assert service.sent - len(read) - len(chunk) <= memory + SIZE  # one of them is read without any
                assert budget_of(t).held <= memory
                read += chunk
            assert read == DATA
        assert service.most == 4


@pytest.mark.parametrize("way", ["get", "read"])
async def test_without_memory_nothing_is_read_ahead(way: str) -> None:
    async with remote(transfer_memory=0) as (t, service):
        assert await WAYS[way](t, Path()) == DATA
        assert len(service.asked) == 1


async def test_all_readers_together_have_no_more_ranges_than_there_is_memory_for() -> None:
    async with remote(transfer_memory=6 * SIZE) as (t, service):
        assert await asyncio.gather(*(t.read("b", "k") for _ in range(5))) == [DATA] * 5
        assert 6 < service.most <= 5 + 6  # one of each reader needs no memory


@pytest.mark.parametrize("memory", [-1, 1.5, True, "1 MiB"])
async def test_the_memory_is_a_number_of_bytes(memory: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="transfer_memory"):
        await trove_async.open("memory://", transfer_memory=memory)


async def test_a_reader_goes_on_while_others_have_all_memory_and_gets_what_a_reader_that_stands_still_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trove_async.driver.memory._PATIENCE", 0)
    async with remote(transfer_memory=4 * SIZE) as (t, service), t.get("b", "k") as standing:
        assert await standing.read(10) == DATA[:10]
        await turns()
        assert budget_of(t).held > 2 * SIZE
        service.most = 0
        assert await by_get(t, Path()) == DATA
        assert service.most >= 4  # it got memory: the other reader holds one body at most
        assert await standing.read() == DATA[10:]


@pytest.mark.parametrize("way", ["get", "read", "download"])
@pytest.mark.parametrize("delivery", list(Delivery))
async def test_a_cancellation_at_any_point_leaves_nothing(way: str, delivery: Delivery, tmp_path: Path) -> None:
    monkey = pytest.MonkeyPatch()
    monkey.setattr(lifetime, "RANGE_SIZE", 4000)
    monkey.setattr(ranged, "RANGE_SIZE", 4000)
    monkey.setattr(ranged, "_LEAST", 4000)
    async with remote(parallel=3) as (t, service):
        await t.put("b", "k", DATA[:20_000])

        async def check(outcome: Outcome[object]) -> None:
            assert outcome.error is None
            assert not outcome.left_running
            assert service.bodies == 0
            assert budget_of(t).held == 0

        async def nothing() -> None:
            pass

        assert await cancel_everywhere(lambda: WAYS[way](t, tmp_path), delivery, prepare=nothing, check=check) > 5
    monkey.undo()


async def test_a_block_that_raises_ends_all_ranges_before_it_is_left() -> None:
    async with remote() as (t, service):
        with pytest.raises(KeyError):  # noqa: PT012
            async with t.get("b", "k") as reader:
                await reader.read(10)
                await turns(5)
                assert service.bodies > 1
                raise KeyError
        assert service.bodies == 0
        assert others() == set()


async def test_a_block_that_raises_while_another_task_reads_is_left_at_once() -> None:
    async with remote() as (t, service):
        gate = service.gate = asyncio.Event()
        with pytest.raises(KeyError):  # noqa: PT012
            async with t.get("b", "k") as reader:
                reading = asyncio.ensure_future(reader.read())
                await turns()
                raise KeyError
        assert not reading.done()
        gate.set()
        with pytest.raises(ClosedError):
            await reading
        await turns()
        assert others() == set()


async def test_a_reader_that_is_collected_ends_its_ranges() -> None:
    async with remote() as (t, service):
        reader = await t.get("b", "k")
        await reader.read(10)
        service.gate = asyncio.Event()
        await turns(5)
        assert others()
        with pytest.warns(ResourceWarning, match="unclosed <ObjectReader"):  # noqa: PT031
            del reader
            gc.collect()
        await turns()
        assert others() == set()


async def test_closing_the_store_ends_all_ranges() -> None:
    async with remote() as (t, _service):
        reader = await t.get("b", "k")
        await reader.read(10)
        assert others()
        await t.aclose()
        await turns()
        assert others() == set()
        assert reader.closed


class Zeros(ByteStream):
    """A body that takes no memory."""

    def __init__(self, size: int) -> None:
        self._left = size

    async def read(self, size: int) -> bytes:
        chunk = bytes(min(size, self._left, 100_000))
        self._left -= len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("parallel", [1, 4])
async def test_a_whole_read_takes_the_memory_of_its_result(parallel: int) -> None:
    size = 32 << 20
    info = ObjectInfo("k", size, etag="e")
    reader = ObjectReader(info, Zeros(size))

    async def open_range(start: int, stop: int) -> ObjectReader:
        return ObjectReader(info, Zeros(stop - start), start=start, stop=stop, parallel=parallel)

    if parallel > 1:
        budget = MemoryBudget(size)
        reader.wrap(lambda stream: ranged.RangedStream(stream, open_range, 0, size, parallel, budget))
    tracemalloc.start()
    try:
        data = await reader.read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data == bytes(size)
    assert peak < 1.05 * size


# What layers see


async def test_observers_see_the_ranges_as_parts_of_a_get_that_is_under_way() -> None:
    seen: list[Observation] = []
    async with remote(layers=[Observe(seen.append)]) as (t, _service):
        await t.read("b", "k")
    gets = [one for one in seen if one.operation == "get"]
    assert [one.part_of for one in gets] == ["read"] * 19 + [None]  # the whole ends last
    assert sum(one.bytes for one in gets) == len(DATA)
    assert gets[0].fields()["trove.part_of"] == "read"


async def test_a_cache_keeps_no_ranges_of_an_object_that_is_too_large_for_it() -> None:
    cache = trove_async.Cache(1 << 20, max_object_size=3 * SIZE)
    async with remote(layers=[cache]) as (t, service):
        for _ in range(2):
            assert await t.read("b", "k") == DATA
        assert service.most == 4
        assert trove_async.unwrap(t.driver, trove_async.layers.CacheDriver).stats.bytes == 0
        await t.put("b", "k", DATA[: 5 * SIZE // 2])
        service.asked.clear()
        assert await t.read("b", "k") == DATA[: 5 * SIZE // 2]
        assert await t.read("b", "k") == DATA[: 5 * SIZE // 2]
        assert len(service.asked) == 1


async def test_layers_that_bound_and_hedge_pass_the_ranges_on(tmp_path: Path) -> None:
    layers = [trove_async.Limit(2), trove_async.Hedge(), trove_async.Retry(), trove_async.ReadOnly()]
    async with remote() as (t, service):
        driver = t.driver
        for layer in layers:
            driver = cast(Callable[[Driver], Driver], layer)(driver)
        limited = await trove_async.open(driver)
        for way in ("get", "read", "download"):
            assert await WAYS[way](limited, tmp_path) == DATA
        assert len(service.asked) == 3 * 20
        await limited.aclose()


async def test_ranges_earn_no_hedges() -> None:
    async with remote(layers=[trove_async.Hedge(budget=0.5)]) as (t, service):
        await t.read("b", "k")
        assert len(service.asked) == 20
        hedging = cast(Any, t.driver)
        assert hedging._saved == 0.5


async def test_a_store_over_several_stores_goes_on_at_another_one() -> None:
    made: list[Remote] = []

    def layer(driver: Driver) -> Driver:
        made.append(Remote(driver))
        return made[-1]

    names = [f"memory://ranged-{number}" for number in range(2)]
    stores = [await trove_async.open(name) for name in names]
    for store in stores:
        await store.create_bucket("b")
        await store.put("b", "k", DATA, checksum="sha256")
    async with trove_async.open(
        trove_async.Failover([trove_async.Member(name, layers=[layer]) for name in names])
    ) as t:
        assert await t.read("b", "k") == DATA
        assert made[0].most == 4
        async with t.get("b", "k") as reader:
            read = await reader.read(10)
            made[0].failures = {number: UnavailableError("it is down") for number in range(100)}
            made[0].refusals = made[0].failures
            assert read + await reader.read() == DATA
        assert [service.bodies for service in made] == [0, 0]
    for store in stores:
        await store.aclose()


async def test_a_mirror_reads_by_ranges_and_a_member_that_fails_is_replaced(tmp_path: Path) -> None:
    made: list[Remote] = []

    def layer(driver: Driver) -> Driver:
        made.append(Remote(driver))
        return made[-1]

    members = {name: trove_async.Member("memory://", layers=[layer]) for name in ("one", "other")}
    mirror = trove_async.Mirror(members, queue=f"sqlite:///{tmp_path}/queue.db", repair_every=None)
    async with trove_async.open(mirror) as t:
        await t.create_bucket("b")
        await t.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
        assert sum(len(service.offsets) for service in made) == 19
        async with t.get("b", "k") as reader:
            read = await reader.read(10)
            used = max(made, key=lambda service: service.bodies)
            used.failures = used.refusals = {number: UnavailableError("it is down") for number in range(100)}
            assert read + await reader.read() == DATA
        assert [service.bodies for service in made] == [0, 0]


async def test_a_quota_counts_no_ranges() -> None:
    async with remote(layers=[trove_async.Quota({"b": trove_async.QuotaLimit(bytes=2 * len(DATA))})]) as (t, service):
        assert await t.read("b", "k") == DATA
        assert service.most == 4
        quota = trove_async.unwrap(t.driver, trove_async.QuotaDriver)
        assert [(usage.bytes, usage.objects) for usage in await quota.usage()] == [(len(DATA), 1)]
