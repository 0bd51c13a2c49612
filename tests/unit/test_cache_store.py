"""`Cache` on a store: what is found again, what is never served, and what a store that fails means."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.unit.cache_bench import Backend, Clock, opened
from trove_async import Cache, Member, ObjectInfo, Trove
from trove_async.driver import Driver, ListOptions, OpenOptions, Target
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import InvalidArgumentError, ObjectNotFoundError, UnavailableError
from trove_async.layers.cache.stored import FRAME, stored_size
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.helpers import random_bytes

pytestmark = pytest.mark.asyncio

DATA = random_bytes(10_000)
NEW = random_bytes(5_000, seed=7)
LARGE = random_bytes(3 * 1024 * 1024 + 12345)


async def entries_of(store: Trove, bucket: str = "trove-cache") -> list[ObjectInfo]:
    return [info for info in await store.list(bucket).all() if isinstance(info, ObjectInfo)]


async def test_entries_are_found_again_when_the_store_is_opened_again(tmp_path: Path) -> None:
    for step in (0, 1000):
        backend = Backend(step=step)
        origin, on = f"memory://restart-{step}", f"local://{tmp_path}/{step}?create=1"
        async with trove.open(origin) as other:
            await other.create_bucket("b")
            await other.put("b", "k", DATA)
            await other.put("b", "large", LARGE)
            for seen in ({"get": 3}, {"head": 3}):
                cache = Cache(on=on, namespace="n")
                async with opened(cache, backend, origin) as t:
                    assert await t.read("b", "k") == DATA
                    assert await t.read("b", "large") == LARGE
                    assert await t.read("b", "large", (5, 10)) == LARGE[5:15]
                    assert cache.stats.entries == 2
                    assert backend.took() == (seen if "head" in seen else {"get": 2, "head": 1})


async def test_after_a_restart_nothing_is_served_without_a_question() -> None:
    """Also within the ttl: nobody knows what has happened meanwhile."""
    clock, backend = Clock(), Backend()
    async with trove.open("memory://kept"), trove.open("memory://again") as other:
        for data in (DATA, NEW):
            async with opened(
                Cache(ttl=3600, on="memory://kept", namespace="n", clock=clock), backend, "memory://again"
            ) as t:
                await other.put("b", "k", data)
                assert await t.read("b", "k") == data
                assert await t.read("b", "k") == data


@pytest.mark.parametrize(
    "wanted", [(0, 1), (FRAME - 1, 2), (FRAME, FRAME), (1024 * 1024 - 5, 10), (3_000_000, None), (7, None)]
)
async def test_a_range_reads_the_frames_that_it_needs(wanted: tuple[int, int | None]) -> None:
    store = Backend(step=100_000)
    async with opened(Cache(on=Member("memory://", layers=[store]), namespace="n"), Backend()) as t:
        await t.put("b", "k", LARGE)
        await t.read("b", "k")
        store.bytes = 0
        stop = len(LARGE) if wanted[1] is None else wanted[0] + wanted[1]
        assert await t.read("b", "k", wanted) == LARGE[wanted[0] : stop]
        assert store.bytes <= stop - wanted[0] + 3 * (FRAME + 64)


async def test_a_large_entry_is_read_in_steps() -> None:
    store = Backend(step=100_000)
    async with opened(Cache(on=Member("memory://", layers=[store]), namespace="n"), Backend()) as t:
        await t.put("b", "k", LARGE)
        await t.read("b", "k")
        store.bytes = 0
        async with t.get("b", "k") as reader:
            assert await reader.read(10) == LARGE[:10]
            assert store.bytes < 1_100_000
            await reader.seek(2_000_000)
            assert await reader.read() == LARGE[2_000_000:]
            await reader.seek(5)
            assert await reader.read(5) == LARGE[5:10]


Damage = Callable[[Trove, ObjectInfo], Any]


async def _truncate(store: Trove, entry: ObjectInfo) -> None:
    await store.put("trove-cache", entry.key, (await store.read("trove-cache", entry.key))[:-1])


async def _flip(store: Trove, entry: ObjectInfo) -> None:
    data = bytearray(await store.read("trove-cache", entry.key))
    data[-1] ^= 1
    await store.put("trove-cache", entry.key, data)


async def _lengthen(store: Trove, entry: ObjectInfo) -> None:
    await store.put("trove-cache", entry.key, await store.read("trove-cache", entry.key) + b"x")


async def _swap(store: Trove, entry: ObjectInfo) -> None:
    """Put the content of another entry of the same size there."""
    others = [other for other in await entries_of(store) if other.key != entry.key and other.size == entry.size]
    await store.copy("trove-cache", others[0].key, "trove-cache", entry.key)


async def _remove(store: Trove, entry: ObjectInfo) -> None:
    await store.delete("trove-cache", entry.key)


@pytest.mark.parametrize("damage", [_truncate, _flip, _lengthen, _swap, _remove])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("size", [10_000, len(LARGE)])
async def test_an_entry_that_is_damaged_is_never_served(damage: Damage, restarted: bool, size: int) -> None:
    data = LARGE[:size]
    async with AsyncExitStack() as stack:
        # Named stores of memory last as long as the process.
        name = f"memory://damaged-{damage.__name__}-{restarted}-{size}"
        store = await stack.enter_async_context(trove.open(name))
        cache = Cache(on=name, namespace="n")
        t = await stack.enter_async_context(opened(cache, Backend(), f"{name}-origin"))
        await t.put("b", "k", data)
        await t.put("b", "twin", data[::-1])
        await t.read("b", "k")
        (entry,) = await entries_of(store)
        await t.read("b", "twin")
        if restarted:
            await t.aclose()
            t = await stack.enter_async_context(trove.open(f"{name}-origin", layers=[cache]))
        await damage(store, entry)
        assert [await t.read("b", "k") for _ in range(2)] == [data, data]
        assert await t.read("b", "twin") == data[::-1]
        assert cache.stats.store_errors == 0
        found = {info.key: info.size for info in await entries_of(store)}
        assert found[entry.key] == stored_size(size)


async def test_a_damaged_frame_in_the_middle_is_read_from_the_backend() -> None:
    backend = Backend()
    cache = Cache(on="memory://middle", namespace="n")
    async with trove.open("memory://middle") as store, opened(cache, backend) as t:
        await t.put("b", "k", LARGE)
        await t.read("b", "k")
        (entry,) = await entries_of(store)
        data = bytearray(await store.read("trove-cache", entry.key))
        data[2_500_000] ^= 1
        await store.put("trove-cache", entry.key, data)
        backend.took()
        assert await t.read("b", "k") == LARGE
        assert backend.took() == {"head": 1, "get": 1}
        assert backend.options[-1].range.offset >= 2_000_000
        assert cache.stats.entries == 0
        assert [await t.read("b", "k") for _ in range(2)] == [LARGE, LARGE]
        assert backend.took() == {"head": 1, "get": 1}


async def test_foreign_objects_of_the_namespace_are_removed_and_others_stay() -> None:
    async with trove.open("memory://foreign") as store:
        await store.create_bucket("trove-cache")
        foreign = ["trove-cache-1/n/README", "trove-cache-1/n/aa/bb.1-0", "trove-cache-1/n/x"]
        stay = ["trove-cache-1/other/x", "trove-cache-1/n2/x", "mine"]
        for key in foreign + stay:
            await store.put("trove-cache", key, b"not an entry")
        cache = Cache(on="memory://foreign", namespace="n")
        async with opened(cache, Backend()):
            assert [info.key for info in await entries_of(store)] == sorted(stay)
        assert cache.stats.store_errors == 0


async def test_namespaces_keep_stores_apart() -> None:
    async with trove.open("memory://shared-cache") as store:
        one, two = (Cache(ttl=60, on="memory://shared-cache", namespace=name) for name in ("one", "two"))
        async with opened(one, Backend()) as a, opened(two, Backend()) as b:
            await a.put("b", "k", DATA)
            await b.put("b", "k", NEW)
            for _ in range(2):
                assert (await a.read("b", "k"), await b.read("b", "k")) == (DATA, NEW)
            assert len(await entries_of(store)) == 2


async def test_a_cache_may_be_around_the_same_backend_twice() -> None:
    """As a store of trove.toml is that is opened twice."""
    cache = Cache(on="memory://twice-cache", namespace="n")
    async with opened(cache, Backend(), "memory://twice") as a, opened(cache, Backend(), "memory://twice") as b:
        await a.put("b", "k", DATA)
        for t in (a, b, a, b):
            assert await t.read("b", "k") == DATA


async def test_a_cache_on_a_store_is_not_around_two_backends() -> None:
    cache = Cache(on="memory://", namespace="n")
    async with opened(cache, Backend()):
        with pytest.raises(InvalidArgumentError, match="a Cache for each store"):
            await trove.open("memory://", layers=[cache])
    async with opened(cache, Backend()):
        pass


async def test_the_bound_holds_in_the_store_and_across_restarts() -> None:
    async with trove.open("memory://bounded") as store, trove.open("memory://bounded-origin"):
        for bound in (100_000, 50_000):
            cache = Cache(max_bytes=bound, max_object_size=20_000, on="memory://bounded", namespace="n")
            async with opened(cache, Backend(), "memory://bounded-origin") as t:
                assert sum(info.size for info in await entries_of(store) if bound == 50_000) <= bound
                for number in range(20):
                    await t.put("b", str(number), DATA)
                    await t.read("b", str(number))
                    assert sum(info.size for info in await entries_of(store)) <= bound
                assert cache.stats.bytes <= bound
                assert cache.stats.evictions > 0


async def test_processes_that_share_a_namespace_find_the_entries_of_each_other_and_share_the_bound() -> None:
    """Each lists the namespace again from time to time."""
    bound, limits = 200_000, {"max_bytes": 200_000, "max_object_size": 20_000}
    one, two = (Cache(on="memory://siblings", namespace="n", **limits) for _ in range(2))  # type: ignore[arg-type]
    backends = Backend(), Backend()
    async with trove.open("memory://siblings") as store, trove.open("memory://siblings-origin") as origin:
        await origin.create_bucket("b")
        for number in range(40):
            await origin.put("b", str(number), DATA)
        async with (
            opened(one, backends[0], "memory://siblings-origin") as a,
            opened(two, backends[1], "memory://siblings-origin") as b,
        ):
            for number in range(40):
                assert await (a if number % 2 else b).read("b", str(number)) == DATA
                assert sum(info.size for info in await entries_of(store)) <= bound * 1.5
            assert backends[0].took() == {"get": 20}
            for number in (36, 34, 32):
                assert await a.read("b", str(number)) == DATA
            assert backends[0].calls["get"] < 3  # some are entries of the other
            assert one.stats.store_errors == two.stats.store_errors == 0


async def test_a_newer_entry_of_another_process_is_not_deleted() -> None:
    def cache() -> Cache:
        return Cache(max_bytes=60_000, max_object_size=20_000, on="memory://newer", namespace="n")

    async with trove.open("memory://newer-origin") as origin, trove.open("memory://newer") as store:
        await origin.create_bucket("b")
        await origin.put("b", "k", DATA)
        backend = Backend()
        async with (
            opened(cache(), Backend(), "memory://newer-origin") as one,
            opened(cache(), backend, "memory://newer-origin") as two,
        ):
            await one.read("b", "k")
            await origin.put("b", "k", NEW)
            assert await two.read("b", "k") == NEW
            await origin.put("b", "other", DATA)
            await one.read("b", "other")  # lists the namespace
            sizes = sorted(info.size for info in await entries_of(store))
            assert sizes == [stored_size(len(NEW)), stored_size(len(DATA))]
            backend.took()
            assert await two.read("b", "k") == NEW
            assert backend.took() == {"head": 1}


async def test_what_was_discarded_is_deleted_in_batches() -> None:
    store = Backend()
    async with trove.open("memory://batches") as entries, trove.open("memory://batches-origin"):
        for bound in (10_000_000, 10_000):
            cache = Cache(bound, on=Member("memory://batches", layers=[store]), namespace="n")
            async with opened(cache, Backend(), "memory://batches-origin") as t:
                if bound == 10_000_000:
                    for number in range(250):
                        await t.put("b", str(number), b"x")
                        await t.read("b", str(number))
                    store.took()
                else:
                    assert store.took() == {"list_page": 1, "delete_many": 3}
                    assert len(await entries_of(entries)) == cache.stats.entries == 2


async def test_what_is_changed_through_the_store_is_deleted_from_it() -> None:
    async with (
        trove.open("memory://deleting") as store,
        opened(Cache(on="memory://deleting", namespace="n"), Backend()) as t,
    ):
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        await t.read("b", "k", (0, 10))
        assert len(await entries_of(store)) == 1
        await t.put("b", "k", NEW)
        assert await entries_of(store) == []


async def test_a_prefix_and_a_bucket_of_the_store() -> None:
    async with (
        trove.open("memory://named") as store,
        opened(
            Cache(on=Member("memory://named", layers=[trove.Prefixed("p/")]), namespace="n", bucket="mine"), Backend()
        ) as t,
    ):
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        (info,) = await entries_of(store, "mine")
        assert info.key.startswith("p/trove-cache-1/n/")


async def test_an_open_driver_stays_open() -> None:
    async with trove.open("memory://") as store:
        for _ in range(2):
            async with opened(Cache(on=store.driver, namespace="n"), Backend()) as t:
                await t.put("b", "k", DATA)
                await t.read("b", "k")
        assert len(await entries_of(store)) == 1


async def test_an_open_driver_with_a_prefix_stays_open() -> None:
    class WithPrefix(MemoryDriver):
        default_prefix = "folder/"

    driver = WithPrefix()
    await driver.open(trove.parse_dsn("memory://"), OpenOptions())
    async with opened(Cache(on=driver, namespace="n"), Backend()) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
    page = await driver.list_page("trove-cache", ListOptions())
    assert [info.key.startswith("folder/trove-cache-1/n/") for info in page.objects] == [True]
    await driver.close()


# A store that fails


FAILURES = ["put", "get", "list_page", "delete_many", "create_bucket"]


@pytest.mark.parametrize("operation", FAILURES)
async def test_a_store_that_fails_is_a_miss(operation: str, caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults([Fault(operation, error=UnavailableError("the disk is full"), times=None)])
    clock, backend = Clock(), Backend()
    cache = Cache(on=Member("memory://", layers=[faults]), namespace="n", clock=clock)
    with caplog.at_level(logging.WARNING, logger="trove_async"):
        async with opened(cache, backend) as t:
            for data in (DATA, NEW):
                await t.put("b", "k", data)
                for _ in range(3):
                    assert await t.read("b", "k") == data
            await t.delete("b", "k")
            with pytest.raises(ObjectNotFoundError):
                await t.read("b", "k")
    assert cache.stats.store_errors > 0
    assert sum("the store of a cache failed" in record.message for record in caplog.records) == 1


async def test_after_a_failure_the_store_has_a_rest_and_is_used_again() -> None:
    faults, clock = Faults([Fault("put", error=UnavailableError("down"))]), Clock()
    backend, store = Backend(), Backend()
    cache = Cache(on=Member("memory://", layers=[store, faults]), namespace="n", clock=clock)
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        store.took()
        await t.read("b", "k")
        assert store.took() == {}
        clock.now += 10
        await t.read("b", "k")
        assert store.took() == {"put": 1}
        backend.took()
        assert await t.read("b", "k") == DATA
        assert backend.took() == {"head": 1}


async def test_a_store_that_is_full_keeps_what_was_read_last(caplog: pytest.LogCaptureFixture) -> None:
    """As a disk that is smaller than the bound of the cache: the oldest entries make room, and the others are read."""
    disk = trove.Quota({"": trove.QuotaLimit(bytes=35_000)})
    cache, backend = Cache(on=Member("memory://", layers=[disk]), namespace="n"), Backend()
    async with opened(cache, backend) as t:
        for number in range(6):
            await t.put("b", f"{number}", DATA)
            await t.read("b", f"{number}")
        backend.took()
        for number in range(3, 6):
            assert await t.read("b", f"{number}") == DATA
        assert backend.took() == {"head": 3}
        assert await t.read("b", "0") == DATA
        assert backend.took() == {"get": 1}
        await t.put("b", "larger than the store", LARGE)
        assert await t.read("b", "larger than the store") == LARGE
    assert cache.stats.evictions == 6 + 1
    assert sum("the store of a cache is full" in record.message for record in caplog.records) == 1


class Server(Target):
    """A store that connects when it is opened, as one over SFTP does.

    Attributes:
        up: whether it answers.
        asked: how often it was asked.
        connected: how many of its drivers are open.
        gate: what the answer waits for.
        reached: set when it is asked.
    """

    def __init__(self) -> None:
        self.up = False
        self.asked = self.connected = 0
        self.gate, self.reached = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def open(self, options: OpenOptions) -> Driver:
        server = self

        class Connected(MemoryDriver):
            async def close(self) -> None:
                server.connected -= 1
                await super().close()

        self.asked += 1
        self.reached.set()
        await self.gate.wait()
        if not self.up:
            raise UnavailableError("connection refused")
        driver = Connected()
        await driver.open(trove.parse_dsn("memory://server"), options)
        self.connected += 1
        return driver


async def test_a_store_that_is_down_is_opened_later() -> None:
    clock, backend, server = Clock(), Backend(), Server()
    async with trove.open("memory://server") as store:
        async with opened(Cache(on="memory://server", namespace="n"), backend) as t:
            await t.put("b", "1", DATA)
            await t.read("b", "1")
        cache = Cache(on=server, namespace="n", clock=clock)
        async with opened(cache, Backend()) as t:
            for key in ("1", "2"):
                await t.put("b", key, DATA)
                assert await t.read("b", key) == DATA
            assert server.asked == 1, "it has a rest"
            clock.now += 10
            server.up = True
            assert await t.read("b", "2") == DATA
            assert len(await entries_of(store)) == cache.stats.entries == 1 + 1, "the old one was found"
        assert (server.asked, server.connected) == (2, 0)


async def test_a_store_is_not_opened_after_the_cache_was_closed() -> None:
    clock, server = Clock(), Server()
    backend = Backend()
    async with opened(Cache(on=server, namespace="n", clock=clock), backend) as t:
        await t.put("b", "k", DATA)
        clock.now += 10
        server.up = True
        server.gate.clear()
        server.reached.clear()
        readers = [asyncio.ensure_future(t.read("b", "k")) for _ in range(3)]
        await asyncio.wait_for(server.reached.wait(), 10)
        readers[0].cancel()
        closing = asyncio.ensure_future(t.aclose())
        await asyncio.sleep(0)
        server.gate.set()
        await asyncio.gather(*readers, closing, return_exceptions=True)
    assert server.connected == 0


async def test_a_bucket_that_was_removed_is_created_again() -> None:
    cache, backend = Cache(on="memory://swept", namespace="n"), Backend()
    async with trove.open("memory://swept") as store, opened(cache, backend) as t:
        for key in ("1", "2"):
            await t.put("b", key, DATA)
            await t.read("b", key)
        await store.delete_many("trove-cache", [info.key for info in await entries_of(store)])
        await store.delete_bucket("trove-cache")
        for _ in range(2):
            for key in ("1", "2"):
                assert await t.read("b", key) == DATA
        assert len(await entries_of(store)) == 2
    assert (cache.stats.hits, cache.stats.store_errors) == (2, 0)


async def test_a_store_that_hangs_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.layers.cache.careful._TIMEOUT", 0.01)
    store = Backend()
    cache = Cache(on=Member("memory://", layers=[store]), namespace="n")
    async with opened(cache, Backend()) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        store.before = asyncio.Event()
        assert await t.read("b", "k") == DATA
        assert cache.stats.store_errors == 1


async def test_a_store_that_cannot_be_opened_is_an_error_of_open(tmp_path: Path) -> None:
    with pytest.raises(trove.InvalidDSNError):
        await trove.open("memory://", layers=[Cache(on="memory://x?colour=red", namespace="n")])
