"""`Cache`: reads at the same time share one request, and nobody suffers from what happens to another reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import trove_async as trove
from tests.unit.cache_bench import Backend, opened, settle
from trove_async import Cache, Trove
from trove_async.driver import unwrap
from trove_async.errors import BackendError, ObjectChangedError, ObjectNotFoundError, UnavailableError
from trove_async.layers.cache.driver import CacheDriver
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

DATA = random_bytes(10_000)
NEW = random_bytes(10_000, seed=7)


def nothing_is_under_way(t: Trove) -> bool:
    driver = unwrap(t.driver, CacheDriver)
    return not driver._fetching.flights._by_object and not driver._heads._by_object and driver._index._reserved == 0


async def several(t: Trove, count: int) -> list[asyncio.Task[bytes]]:
    """Begin reads of the same object, and wait until the first one has asked the backend."""
    tasks = [asyncio.create_task(t.read("b", "k")) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("step", [0, 700])
async def test_reads_at_the_same_time_share_one_request(step: int) -> None:
    backend, cache = Backend(step=step), Cache()
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        assert await asyncio.gather(*(t.read("b", "k") for _ in range(100))) == [DATA] * 100
        assert backend.took() == {"put": 1, "get": 1}
        assert (cache.stats.misses, cache.stats.shared) == (1, 99)
        assert nothing_is_under_way(t)


async def test_questions_at_the_same_time_share_one_request() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        backend.took()
        assert await asyncio.gather(*(t.read("b", "k", (n, 10)) for n in range(50))) == [
            DATA[n : n + 10] for n in range(50)
        ]
        assert backend.took()["head"] <= 25  # the memory driver answers some before others begin


async def test_different_ranges_are_different_requests() -> None:
    backend = Backend(step=10)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        wanted = [(0, 100), (0, 100), (100, 100), (-50, None)]
        found = await asyncio.gather(*(t.read("b", "k", given) for given in wanted))
        assert found == [DATA[:100], DATA[:100], DATA[100:200], DATA[-50:]]
        assert backend.took() == {"put": 1, "get": 3}


async def test_a_reader_that_comes_while_the_body_arrives_asks_for_the_etag_and_shares_the_body() -> None:
    backend = Backend(step=1000)
    async with trove.open("memory://late") as other, opened(Cache(), backend, "memory://late") as t:
        await other.put("b", "k", DATA)
        async with t.get("b", "k") as first:
            begun = await first.read(3000)
            async with t.get("b", "k") as second:
                assert await second.read() == DATA
            assert backend.took() == {"get": 1, "head": 1}
            await other.put("b", "k", NEW)
            assert await t.read("b", "k") == NEW
            assert begun + await first.read() == DATA


async def test_a_slow_reader_holds_back_nobody() -> None:
    """Neither the one that began, nor one that joined: whoever wants bytes fetches them."""
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        first, second, third = await asyncio.gather(*(t.get("b", "k") for _ in range(3)))
        assert await second.read() == DATA
        assert await third.read(2500) == DATA[:2500]
        assert await first.read() == DATA
        assert await third.read() == DATA[2500:]
        assert backend.calls["get"] == 1
        assert backend.bytes == len(DATA)


async def test_followers_stream_while_the_body_arrives() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        first, second = await asyncio.gather(t.get("b", "k"), t.get("b", "k"))
        assert (await first.read(1000), await second.read(1000)) == (DATA[:1000], DATA[:1000])
        assert backend.bytes == 1000
        await first.aclose()
        assert await second.read() == DATA[1000:]
        assert backend.calls["get"] == 1


# A leader that is cancelled, closes or fails


async def test_a_reader_that_closes_at_once_leaves_the_body_to_those_who_wait_for_the_answer() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)

        async def look() -> None:
            async with t.get("b", "k"):
                pass

        results = await asyncio.gather(look(), t.read("b", "k"), look(), t.read("b", "k"))
        assert [*results] == [None, DATA, None, DATA]
        assert backend.calls["get"] == 1
        assert await t.read("b", "k") == DATA
        assert backend.calls["get"] == 1


async def test_a_reader_that_waits_is_cancelled_when_its_answer_is_there() -> None:
    """What was held for it is released: nobody else reads the body."""
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        backend.after = asyncio.Event()
        first, second = await several(t, 2)
        backend.after.set()
        for _ in range(20):
            if not backend.streams:
                await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.wait({first, second})
        assert backend.open_streams == 0
        assert nothing_is_under_way(t)


@pytest.mark.parametrize("cancelled", [[0], [0, 1], [1], [0, 1, 2, 3]])
async def test_a_reader_that_waits_for_its_answer_is_cancelled(cancelled: list[int]) -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        backend.before = asyncio.Event()
        tasks = await several(t, 5)
        for number in cancelled:
            tasks[number].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        backend.before.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            if number in cancelled:
                assert isinstance(result, asyncio.CancelledError)
            else:
                assert result == DATA
        assert backend.calls["get"] == 1 + (len(cancelled) if 0 in cancelled else 0)
        assert nothing_is_under_way(t)


async def test_a_reader_that_fetches_is_cancelled_and_another_continues_where_it_was() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        first, second = await asyncio.gather(t.get("b", "k"), t.get("b", "k"))
        await first.read(3000)
        backend.gate = asyncio.Event()
        fetching = asyncio.create_task(first.read())
        waiting = asyncio.create_task(second.read())
        await settle()
        assert backend.waiting == 1
        fetching.cancel()
        await settle()
        backend.gate.set()
        assert await waiting == DATA
        assert (backend.options[-1].range.offset, backend.options[-1].if_match) == (3000, second.info.etag)
        assert backend.bytes == len(DATA)
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert await t.read("b", "k") == DATA
        assert backend.calls["get"] == 2  # what was put together from both requests is an entry


async def test_an_error_is_raised_to_the_reader_that_fetched_and_the_others_try_for_themselves() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        readers = await asyncio.gather(*(t.get("b", "k") for _ in range(4)))
        backend.errors = [BackendError("broken")]

        results = await asyncio.gather(*(reader.read() for reader in readers), return_exceptions=True)
        assert [type(result) for result in results].count(BackendError) == 1
        assert results.count(DATA) == 3
        assert backend.calls["get"] == 2
        assert nothing_is_under_way(t)


async def test_a_body_that_breaks_off_is_resumed_once_for_all() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        readers = await asyncio.gather(*(t.get("b", "k") for _ in range(4)))
        backend.errors = [UnavailableError("down"), UnavailableError("down")]
        assert await asyncio.gather(*(reader.read() for reader in readers)) == [DATA] * 4
        assert (backend.calls["get"], backend.bytes) == (1, len(DATA))


async def test_a_body_that_stays_broken_is_not_resumed_by_the_reader_as_well() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        reader = await t.get("b", "k")
        backend.errors = [UnavailableError("down") for _ in range(100)]
        with pytest.raises(UnavailableError):
            await reader.read()
        assert len(backend.errors) == 96  # the read and the 3 attempts of a reader without a policy


async def test_a_failed_answer_is_raised_to_the_one_that_asked() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        backend.failures = [UnavailableError("down")]
        results = await asyncio.gather(*(t.read("b", "k") for _ in range(10)), return_exceptions=True)
        assert [type(result) for result in results].count(UnavailableError) == 1
        assert results.count(DATA) == 9
        assert backend.calls["get"] == 2


async def test_a_backend_that_is_down_does_not_make_readers_wait_one_after_another() -> None:
    """After two failures of others each sends its own request."""
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        backend.failures = [UnavailableError(str(number)) for number in range(20)]
        rounds = []

        async def read() -> Exception:
            with pytest.raises(UnavailableError) as caught:
                await t.read("b", "k")
            rounds.append(backend.calls["get"])
            return caught.value

        errors = await asyncio.gather(*(read() for _ in range(20)))
        assert len({id(error) for error in errors}) == 20
        assert rounds[:3] == [1, 2, 20]


async def test_a_missing_object_is_missing_for_all() -> None:
    async with opened(Cache(), Backend()) as t:
        results = await asyncio.gather(*(t.read("b", "k") for _ in range(10)), return_exceptions=True)
        assert {type(result) for result in results} == {ObjectNotFoundError}
        assert nothing_is_under_way(t)


async def test_an_object_that_is_replaced_before_a_successor_continues_is_not_spliced() -> None:
    for conditions in (True, False):
        backend = Backend(step=1000, conditions=conditions)
        async with trove.open("memory://spliced") as other, opened(Cache(), backend, "memory://spliced") as t:
            await other.put("b", "k", DATA)
            first, second = await asyncio.gather(t.get("b", "k"), t.get("b", "k"))
            await first.read(3000)
            backend.gate = asyncio.Event()
            fetching = asyncio.create_task(first.read())
            await settle()
            await other.put("b", "k", NEW)
            fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await fetching
            backend.gate.set()
            assert await second.read(3000) == DATA[:3000]
            with pytest.raises(ObjectChangedError):
                await second.read()
            assert await t.read("b", "k") == NEW


async def test_a_large_body_is_read_by_each_on_its_own() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(max_object_size=5000), backend) as t:
        await t.put("b", "k", DATA)
        assert await asyncio.gather(*(t.read("b", "k") for _ in range(5))) == [DATA] * 5
        assert backend.calls["get"] == 5
        assert nothing_is_under_way(t)


# Readers that move


async def test_a_reader_that_moves_ahead_has_a_request_of_its_own() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        async with t.get("b", "k") as reader, t.get("b", "k") as other:
            await reader.seek(9000)
            assert await reader.read() == DATA[9000:]
            assert backend.bytes == 1000
            await reader.seek(100)
            assert await reader.read(50) == DATA[100:150]
            assert await other.read() == DATA
        assert nothing_is_under_way(t)


async def test_a_reader_at_its_end_may_move_back() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        async with t.get("b", "k") as reader:
            assert await reader.read() == DATA
            await reader.seek(2000)
            assert await reader.read() == DATA[2000:]
        assert backend.calls["get"] == 1


async def test_a_reader_may_move_within_what_has_arrived() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        async with t.get("b", "k", range=(100, 5000)) as reader:
            await reader.read(2000)
            await reader.seek(500)
            assert await reader.read() == DATA[600:5100]
        assert backend.calls["get"] == 1


async def test_a_reader_that_is_dropped_releases_the_body() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        reader = await t.get("b", "k")
        await reader.read(10)
        with pytest.warns(ResourceWarning, match="unclosed"):
            del reader
        assert backend.open_streams == 0
        assert nothing_is_under_way(t)


async def test_a_store_that_is_closed_closes_shared_bodies() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        readers = await asyncio.gather(t.get("b", "k"), t.get("b", "k"))
        await readers[0].read(10)
    assert all(reader.closed for reader in readers)


# Every await point


class Race:
    """Two reads of an object, of which one is cancelled at some point while the other goes on."""

    def __init__(self, begin: int) -> None:
        self.begin = begin  # turns of the loop after which the other read begins; negative: before
        self.stack = contextlib.AsyncExitStack()
        self.other: asyncio.Task[bytes] | None = None

    async def prepare(self) -> None:
        self.backend = Backend(step=3000)
        self.t = await self.stack.enter_async_context(opened(Cache(), self.backend))
        await self.t.put("b", "k", DATA)
        if self.begin < 0:
            self.other = asyncio.create_task(self.t.read("b", "k"))
            for _ in range(-self.begin - 1):
                await asyncio.sleep(0)

    async def operation(self) -> bytes:
        if self.begin >= 0:
            self.other = asyncio.get_running_loop().create_task(self._late())
        return await self.t.read("b", "k")

    async def _late(self) -> bytes:
        for _ in range(self.begin):
            await asyncio.sleep(0)
        return await self.t.read("b", "k")

    async def check(self, outcome: Outcome[bytes]) -> None:
        assert self.other is not None
        assert await asyncio.wait_for(self.other, 30) == DATA
        if outcome.error is not None:
            raise outcome.error
        assert outcome.cancelled or outcome.result == DATA
        assert await self.t.read("b", "k") == DATA
        assert nothing_is_under_way(self.t)
        assert self.backend.open_streams == 0
        await self.stack.aclose()


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("begin", [-6, -4, -2, -1, 0, 1, 3, 5, 8])
async def test_one_of_two_readers_is_cancelled_at_every_await_point(delivery: Delivery, begin: int) -> None:
    race = Race(begin)
    points = await cancel_everywhere(race.operation, delivery, prepare=race.prepare, check=race.check)
    assert points >= (4 if begin >= 0 else 1)


OPERATIONS: dict[str, Callable[[Trove], Awaitable[object]]] = {
    "get": lambda t: t.read("b", "k"),
    "range": lambda t: t.read("b", "k", (10, 100)),
    "put": lambda t: t.put("b", "k", NEW),
    "delete": lambda t: t.delete("b", "k"),
}


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("stored", [False, True])
async def test_after_a_cancellation_the_cache_says_what_the_backend_says(
    delivery: Delivery, name: str, stored: bool
) -> None:
    stack = contextlib.AsyncExitStack()
    state: dict[str, Any] = {}

    async def prepare() -> None:
        memory = trove.Limit(1000)  # a store of the entries that takes turns of the loop
        on = trove.Member("memory://", layers=[Backend(step=3000), memory])
        cache = Cache(ttl=3600, on=on, namespace="n") if stored else Cache(ttl=3600)
        state["other"] = await stack.enter_async_context(trove.open("memory://at-every-point"))
        state["t"] = t = await stack.enter_async_context(opened(cache, Backend(step=3000), "memory://at-every-point"))
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        if name != "get":
            await t.read("b", "k", (10, 100))

    async def check(outcome: Outcome[object]) -> None:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.left_running == frozenset()
        for wanted in (None, (20, 50)):
            found = [await _read(store, wanted) for store in (state["t"], state["other"])]
            assert found[0] == found[1]
        assert nothing_is_under_way(state["t"])
        await stack.aclose()

    await cancel_everywhere(lambda: OPERATIONS[name](state["t"]), delivery, prepare=prepare, check=check)


async def _read(t: Trove, wanted: tuple[int, int] | None) -> bytes | None:
    try:
        return await t.read("b", "k", wanted)
    except ObjectNotFoundError:
        return None


@pytest.mark.parametrize("at", [0, 3000, 9999])
async def test_a_body_that_breaks_outside_of_the_cache_is_resumed(at: int) -> None:
    """A layer around the cache, or a fault there, does not make the read fail: the reader goes on where it was."""
    backend, faults = Backend(step=1000), Faults([Fault("get", reset_after=at)])
    async with opened(Cache(), backend, "memory://", faults) as t:
        await t.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
        assert len(faults.injected) == 1
        assert backend.took() == {"put": 1, "get": 1}


async def test_a_stored_body_that_breaks_outside_of_the_cache_is_resumed() -> None:
    backend, faults = Backend(step=100_000), Faults()
    data = random_bytes(3_000_000)
    async with opened(Cache(on="memory://", namespace="n"), backend, "memory://", faults) as t:
        await t.put("b", "k", data)
        assert await t.read("b", "k") == data
        backend.took()
        faults.add(Fault("get", reset_after=2_000_000))
        assert await t.read("b", "k") == data
        assert len(faults.injected) == 1
        assert backend.took() == {"head": 1}
