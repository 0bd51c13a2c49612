"""`Cache`: what is read from it, when the backend is asked, and what is never served."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import trove_async as trove
from tests.unit.cache_bench import Backend, Clock, opened, settle
from trove_async import Cache, CacheRead, CacheStats, Observe, Trove
from trove_async.driver import CAPABILITIES, OpenOptions, capabilities_of
from trove_async.driver.events import OBSERVER
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumError,
    InvalidArgumentError,
    InvalidDSNError,
    NotModifiedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    VersionNotFoundError,
)
from trove_async.layers import LayerDriver, Prefixed
from trove_async.testing.helpers import random_bytes
from trove_async.types import ObjectRef

pytestmark = pytest.mark.asyncio

DATA = random_bytes(10_000)
NEW = random_bytes(5_000, seed=7)


# When the backend is asked


async def test_a_second_read_asks_for_the_etag_alone() -> None:
    backend, cache = Backend(), Cache()
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
        assert backend.took() == {"put": 1, "get": 1}
        async with t.get("b", "k") as reader:
            assert (reader.info.size, await reader.read()) == (len(DATA), DATA)
        assert backend.took() == {"head": 1}
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.validations) == (1, 1, 1)


async def test_an_object_that_was_replaced_around_the_cache_is_read_anew() -> None:
    backend = Backend()
    async with trove.open("memory://around") as other, opened(Cache(), backend, "memory://around") as t:
        await other.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
        await other.put("b", "k", NEW)
        assert await t.read("b", "k") == NEW
        assert backend.took() == {"get": 2, "head": 1}
        assert await t.read("b", "k") == NEW
        assert backend.took() == {"head": 1}


async def test_the_description_is_that_of_the_answer_not_that_of_the_entry() -> None:
    """An object can change without its ETag: its storage class, or its metadata on services that hash the content."""
    backend = Backend()
    async with trove.open("memory://described") as other, opened(Cache(), backend, "memory://described") as t:
        info = await t.put("b", "k", DATA)
        await t.read("b", "k")
        driver: Any = other.driver
        await driver.transition("b", "k", "COLD", info.etag)
        async with t.get("b", "k") as reader:
            assert reader.info.storage_class == "COLD"
        assert backend.calls["get"] == 1


async def test_an_object_that_was_deleted_around_the_cache_is_missing() -> None:
    cache = Cache()
    async with trove.open("memory://gone") as other, opened(cache, Backend(), "memory://gone") as t:
        await other.put("b", "k", DATA)
        await t.read("b", "k")
        await other.delete("b", "k")
        with pytest.raises(ObjectNotFoundError) as caught:
            await t.read("b", "k")
        assert (caught.value.bucket, caught.value.key) == ("b", "k")
        assert cache.stats.entries == 0


async def test_within_the_ttl_nothing_is_asked() -> None:
    backend, clock = Backend(), Clock()
    async with trove.open("memory://ttl") as other, opened(Cache(ttl=60, clock=clock), backend, "memory://ttl") as t:
        await other.put("b", "k", DATA)
        assert await t.read("b", "k") == DATA
        await other.put("b", "k", NEW)
        backend.took()
        clock.now += 59.9
        assert await t.read("b", "k") == DATA
        assert (await t.head("b", "k")).size == len(DATA)
        assert backend.took() == {}
        clock.now += 0.1
        assert await t.read("b", "k") == NEW
        assert backend.took() == {"head": 1, "get": 1}


async def test_a_validation_renews_the_ttl() -> None:
    backend, clock = Backend(), Clock()
    async with opened(Cache(ttl=60, clock=clock), backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        clock.now += 60
        await t.read("b", "k")
        clock.now += 59
        await t.read("b", "k")
        assert backend.took() == {"put": 1, "get": 1, "head": 1}


async def test_a_head_renews_the_ttl_and_finds_that_an_entry_is_out_of_date() -> None:
    backend, clock = Backend(), Clock()
    cache = Cache(ttl=60, clock=clock)
    async with trove.open("memory://heads") as other, opened(cache, backend, "memory://heads") as t:
        await other.put("b", "k", DATA)
        await t.read("b", "k")
        clock.now += 60
        await t.head("b", "k")
        clock.now += 1
        await t.read("b", "k")
        assert backend.took() == {"get": 1, "head": 1}
        await other.put("b", "k", NEW)
        clock.now += 60
        assert (await t.head("b", "k")).size == len(NEW)
        assert cache.stats.entries == 0


async def test_nothing_is_remembered_of_listings_and_missing_objects() -> None:
    backend = Backend()
    async with opened(Cache(ttl=60), backend) as t:
        for _ in range(2):
            assert await t.list("b").all() == []
            assert not await t.exists("b", "k")
            with pytest.raises(ObjectNotFoundError):
                await t.read("b", "k")
        assert backend.took() == {"list_page": 2, "head": 2, "get": 2}


# What is changed through the store

CHANGES: dict[str, Callable[[Trove], Awaitable[object]]] = {
    "put": lambda t: t.put("b", "k", NEW),
    "delete": lambda t: t.delete("b", "k"),
    "delete_many": lambda t: t.delete_many("b", ["x", "k"]),
    "copy": lambda t: t.copy("b", "other", "b", "k"),
    "server_copy": lambda t: t.server_copy(ObjectRef("b", "other"), ObjectRef("b", "k")),
    "set_tags": lambda t: t.set_tags("b", "k", {"a": "b"}),
    "restore": lambda t: _restore(t),
    "multipart": lambda t: _upload(t),
    "writer": lambda t: _write(t),
}


async def _restore(t: Trove) -> None:
    await t.restore_version("b", "k", (await t.list_versions("b", "k"))[-1].version_id)


async def _upload(t: Trove) -> None:
    upload = await t.initiate_multipart("b", "k")
    await t.complete_multipart("b", "k", upload, [await t.upload_part("b", "k", upload, 1, NEW)])


async def _write(t: Trove) -> None:
    async with t.writer("b", "k") as writer:
        await writer.write(NEW)


async def _state(t: Trove) -> bytes | None:
    try:
        return await t.read("b", "k")
    except ObjectNotFoundError:
        return None


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_through_the_store_is_seen_at_once(change: str) -> None:
    """Also within the ttl, and also if it fails, since a failed request may have changed something."""
    cache = Cache(ttl=3600)
    async with (
        trove.open(f"memory://change-{change}") as other,
        opened(cache, Backend(), f"memory://change-{change}") as t,
    ):
        await t.set_versioning("b", True)
        await t.put("b", "other", NEW)
        await t.put("b", "k", b"first")
        await t.put("b", "k", DATA)
        version = (await t.head("b", "k")).version_id
        assert await t.read("b", "k") == DATA
        assert await t.read("b", "k", version_id=version) == DATA
        assert cache.stats.entries == 2
        await CHANGES[change](t)
        assert cache.stats.entries == 0
        assert await _state(t) == await _state(other)


async def test_the_deletion_of_a_bucket_makes_the_cache_ask_again() -> None:
    backend, clock = Backend(), Clock()
    cache = Cache(ttl=60, clock=clock)
    async with trove.open("memory://buckets") as other, opened(cache, backend, "memory://buckets") as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        clock.now += 1
        await other.delete("b", "k")
        await t.delete_bucket("b")
        with pytest.raises(BucketNotFoundError):
            await t.read("b", "k")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_read_that_races_with_a_put_does_not_make_the_old_object_current(when: str) -> None:
    """The read finds the old object; its bytes arrive after the put has returned."""
    backend, cache = Backend(), Cache(ttl=3600)
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        gate = asyncio.Event()
        setattr(backend, when, gate)
        reading = asyncio.create_task(t.read("b", "k"))
        await settle()
        backend.before = backend.after = None
        await t.put("b", "k", NEW)
        assert await t.read("b", "k") == NEW
        gate.set()
        assert await reading == (NEW if when == "before" else DATA)
        assert await t.read("b", "k") == NEW
        assert (await t.head("b", "k")).size == len(NEW)


async def test_a_body_that_is_read_during_a_put_is_not_kept() -> None:
    backend, cache = Backend(step=1000), Cache(ttl=3600)
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        async with t.get("b", "k") as reader:
            begun = await reader.read(1500)
            await t.put("b", "k", NEW)
            assert await t.read("b", "k") == NEW
            assert begun + await reader.read() == DATA
        assert await t.read("b", "k") == NEW


async def test_a_validation_that_races_with_a_put_does_not_make_the_old_entry_current() -> None:
    """The head was answered before the put, and its answer is taken in after it."""
    heads = asyncio.Event()

    class LateHeads(LayerDriver):
        late = False

        async def around(self, operation: Any, call: Any) -> Any:
            result = await call()
            if operation.name == "head" and LateHeads.late:
                await heads.wait()
            return result

    clock = Clock()
    async with trove.open("memory://", layers=[LateHeads, Cache(ttl=60, clock=clock)]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        clock.now += 60
        LateHeads.late = True
        reading = asyncio.create_task(t.read("b", "k"))
        await settle()
        clock.now += 1
        LateHeads.late = False
        await t.put("b", "k", NEW)
        assert await t.read("b", "k") == NEW
        heads.set()
        assert await reading in (DATA, NEW)
        assert await t.read("b", "k") == NEW


# Ranges


async def test_a_range_of_a_cached_object_is_read_from_it() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        backend.took()
        for given, expected in [
            ((0, 10), DATA[:10]),
            ((9_990, 100), DATA[9_990:]),
            ((-7, None), DATA[-7:]),
            ((100, None), DATA[100:]),
            ((0, None), DATA),
        ]:
            async with t.get("b", "k", range=given) as reader:
                assert (reader.start, reader.stop - reader.start) == (DATA.index(expected), len(expected))
                assert await reader.read() == expected
        driver: Any = t.driver
        assert await (await driver.get_range("b", "k", 5, 3)).read() == DATA[5:8]
        assert backend.took() == {"head": 6}


async def test_a_range_that_is_not_cached_is_fetched_alone_and_kept() -> None:
    backend, cache = Backend(step=100), Cache()
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        assert await t.read("b", "k", (1000, 500)) == DATA[1000:1500]
        assert backend.bytes == 500
        backend.took()
        assert await t.read("b", "k", (1100, 300)) == DATA[1100:1400]
        assert backend.took() == {"head": 1}
        assert await t.read("b", "k", (1400, 200)) == DATA[1400:1600]
        assert await t.read("b", "k", (1050, 500)) == DATA[1050:1550]
        assert backend.took() == {"get": 1, "head": 1}
        assert backend.bytes == 700
        assert await t.read("b", "k") == DATA
        assert cache.stats.entries == 1


async def test_ranges_of_two_etags_are_never_joined() -> None:
    async with trove.open("memory://splice") as other, opened(Cache(), Backend(), "memory://splice") as t:
        await other.put("b", "k", DATA)
        assert await t.read("b", "k", (0, 100)) == DATA[:100]
        await other.put("b", "k", DATA[::-1])
        assert await t.read("b", "k", (100, 100)) == DATA[::-1][100:200]
        assert await t.read("b", "k", (0, 200)) == DATA[::-1][:200]
        assert await t.read_ranges("b", "k", [(0, 50), (9000, 50)]) == [DATA[::-1][:50], DATA[::-1][9000:9050]]


async def test_a_range_past_the_end_is_refused_as_without_a_cache() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        with pytest.raises(RangeNotSatisfiableError):
            await t.read("b", "k", (len(DATA), 1))
        assert await t.read("b", "k", (3, 0)) == b""


@pytest.mark.parametrize("step", [0, 10])
async def test_an_empty_object_is_an_entry_too(step: int) -> None:
    backend = Backend(step=step)
    async with opened(Cache(), backend) as t:
        await t.put("b", "k", b"")
        assert [await t.read("b", "k") for _ in range(2)] == [b"", b""]
        assert backend.took() == {"put": 1, "get": 1, "head": 1}
        with pytest.raises(RangeNotSatisfiableError):
            await t.read("b", "k", (-1, None))


# Conditions and versions


async def test_conditions_are_those_of_the_backend() -> None:
    clock = Clock()
    cache = Cache(ttl=60, clock=clock)
    async with trove.open("memory://conditions") as other, opened(cache, Backend(), "memory://conditions") as t:
        old = await t.put("b", "k", DATA)
        assert old.last_modified is not None
        await t.read("b", "k")
        new = await other.put("b", "k", NEW)
        past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
        cases: list[tuple[dict[str, Any], bytes | type[Exception]]] = [
            ({"if_match": new.etag}, NEW),
            ({"if_match": "another"}, PreconditionFailedError),
            ({"if_match": "*"}, NEW),
            ({"if_none_match": new.etag}, NotModifiedError),
            ({"if_none_match": old.etag}, NEW),
            ({"if_none_match": "*"}, NotModifiedError),
            ({"if_modified_since": past}, NEW),
            ({"if_modified_since": future}, NotModifiedError),
            ({"if_unmodified_since": past}, PreconditionFailedError),
            ({"if_unmodified_since": future}, NEW),
            ({"if_match": old.etag}, PreconditionFailedError),
        ]
        for given, expected in cases:
            for _ in range(2):
                if isinstance(expected, bytes):
                    async with t.get("b", "k", **given) as reader:
                        assert await reader.read() == expected, given
                    assert (await t.head("b", "k", **given)).etag == new.etag
                else:
                    with pytest.raises(expected):
                        await t.get("b", "k", **given)
                    with pytest.raises(expected):
                        await t.head("b", "k", **given)


async def test_a_condition_that_holds_for_the_entry_is_answered_from_it() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        info = await t.put("b", "k", DATA)
        await t.read("b", "k")
        backend.took()
        assert await t.read("b", "k", if_match=info.etag) == DATA
        assert await t.read("b", "k", if_none_match="another") == DATA
        assert backend.took() == {"head": 2}
        with pytest.raises(NotModifiedError):
            await t.read("b", "k", if_none_match=info.etag)
        assert backend.took() == {"get": 1}


async def test_within_the_ttl_a_read_of_the_cached_etag_asks_nothing() -> None:
    """So all ranges of `read_ranges` come from the cache."""
    backend = Backend()
    async with opened(Cache(ttl=60), backend) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        backend.took()
        ranges = [(0, 10), (5000, 10), (9000, 10)]
        assert await t.read_ranges("b", "k", ranges, coalesce_gap=0) == [DATA[a : a + n] for a, n in ranges]
        assert backend.took() == {}


async def test_versions_are_entries_of_their_own() -> None:
    backend = Backend()
    async with opened(Cache(), backend) as t:
        await t.set_versioning("b", True)
        first, second = await t.put("b", "k", DATA), await t.put("b", "k", NEW)
        backend.took()
        for _ in range(2):
            assert await t.read("b", "k", version_id=first.version_id) == DATA
            assert await t.read("b", "k", version_id=second.version_id) == NEW
            assert await t.read("b", "k") == NEW
        assert backend.took() == {"get": 3, "head": 3}
        driver: Any = t.driver
        assert await (await driver.get_version("b", "k", first.version_id)).read() == DATA
        await t.delete_version("b", "k", str(first.version_id))
        with pytest.raises(VersionNotFoundError):
            await t.read("b", "k", version_id=first.version_id)


async def test_a_backend_without_conditional_gets_is_asked_in_the_same_way() -> None:
    backend = Backend(conditions=False, step=1000)
    async with trove.open("memory://plain") as other, opened(Cache(), backend, "memory://plain") as t:
        await other.put("b", "k", DATA)
        assert [await t.read("b", "k") for _ in range(2)] == [DATA, DATA]
        await other.put("b", "k", NEW)
        assert await t.read("b", "k") == NEW
        assert all(options.if_match is None for options in backend.options)


# What is kept


async def test_a_body_that_is_larger_passes_and_is_not_kept() -> None:
    backend, cache = Backend(step=100), Cache(max_object_size=1000)
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        await t.put("b", "small", DATA[:1000])
        async with t.get("b", "k") as reader:
            await reader.read(500)
            assert backend.bytes == 500
            assert await reader.read() == DATA[500:]
        assert cache.stats.entries == 0
        assert await t.read("b", "k", (0, 100)) == DATA[:100]
        await t.read("b", "small")
        assert cache.stats.entries == 2


async def test_what_was_not_read_to_its_end_is_not_kept() -> None:
    backend, cache = Backend(step=100), Cache()
    async with opened(cache, backend) as t:
        await t.put("b", "k", DATA)
        async with t.get("b", "k") as reader:
            await reader.read(5000)
        assert cache.stats.entries == 0
        assert backend.open_streams == 0
        assert await t.read("b", "k") == DATA
        assert backend.calls["get"] == 2


async def test_the_entries_that_were_not_read_for_longest_are_removed() -> None:
    backend, cache = Backend(), Cache(max_bytes=60_000, max_object_size=20_000)
    async with opened(cache, backend) as t:
        for key in "abcd":
            await t.put("b", key, DATA)
            await t.read("b", key)
        await t.read("b", "a")
        await t.put("b", "e", DATA)
        await t.read("b", "e")
        backend.took()
        for key in "acde":
            assert await t.read("b", key) == DATA
        assert backend.took() == {"head": 4}
        assert cache.stats.evictions == 1
        assert cache.stats.bytes <= 60_000
        await t.read("b", "b")
        assert backend.took() == {"get": 1}


@pytest.mark.parametrize("size", [1, 500, 20_000])
async def test_the_memory_stays_within_the_bound(size: int) -> None:
    """The overhead counts: a million small objects take more than their bytes."""
    bound = 3_000_000
    cache = Cache(max_bytes=bound, max_object_size=100_000)

    class Source(LayerDriver):
        """Makes objects up, so that nothing but the cache holds their bytes."""

        async def around(self, operation: Any, call: Any) -> Any:
            if operation.name != "get":
                return await call()
            info = trove.ObjectInfo(operation.key, size, f"etag-of-{operation.key}", datetime.now(UTC), "text/plain")
            return trove.ObjectReader(info, bytes(size))

    async with trove.open("memory://", layers=[Source, cache]) as t:
        await t.read("b", "first")
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(2 * bound // (size + 2000)):
                await t.read("b", f"a-key-of-usual-length/{number}")
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert cache.stats.evictions > 0
    assert taken < bound


async def test_bodies_on_their_way_count_against_the_bound() -> None:
    backend, cache = Backend(step=100), Cache(max_bytes=25_000, max_object_size=12_000)
    async with opened(cache, backend) as t:
        for key in "abc":
            await t.put("b", key, DATA)
        readers = [await t.get("b", key) for key in "abc"]
        for reader in readers:
            assert await reader.read() == DATA
        assert cache.stats.entries == 2  # the third body passed
        assert cache.stats.bytes <= 25_000


async def test_entries_are_removed_at_their_age() -> None:
    backend, clock = Backend(), Clock()
    cache = Cache(max_age=100, clock=clock)
    async with opened(cache, backend) as t:
        await t.put("b", "old", DATA)
        await t.read("b", "old")
        clock.now += 60
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        clock.now += 40
        await t.read("b", "k")
        assert (cache.stats.expirations, cache.stats.entries) == (1, 1)
        backend.took()
        await t.read("b", "old")
        assert backend.took() == {"get": 1}


async def test_a_body_that_does_not_match_its_checksum_is_not_kept() -> None:
    class Damaging(LayerDriver):
        async def around(self, operation: Any, call: Any) -> Any:
            result = await call()
            if operation.name == "get":
                return trove.ObjectReader(result.info, b"damaged!"[: result.info.size])
            return result

    cache = Cache(ttl=60)
    async with trove.open("memory://", layers=[Damaging, cache]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"original", checksum="sha256")
        for _ in range(2):
            with pytest.raises(ChecksumError):
                await t.read("b", "k")
        assert cache.stats.entries == 0


async def test_what_has_a_checksum_is_kept_and_checked() -> None:
    backend = Backend(step=1000)
    async with opened(Cache(ttl=60), backend) as t:
        await t.put("b", "k", DATA, checksum="sha256")
        assert [await t.read("b", "k") for _ in range(2)] == [DATA, DATA]
        assert backend.took() == {"put": 1, "get": 1}


async def test_a_closed_store_holds_nothing() -> None:
    cache = Cache()
    for _ in range(2):
        async with opened(cache, Backend()) as t:
            await t.put("b", "k", DATA)
            await t.read("b", "k")
            assert cache.stats.entries == 1
        assert (cache.stats.entries, cache.stats.bytes) == (0, 0)


async def test_each_store_has_its_own_entries() -> None:
    cache = Cache(ttl=60)
    async with opened(cache, Backend()) as one, opened(cache, Backend()) as two:
        await one.put("b", "k", DATA)
        await two.put("b", "k", NEW)
        for _ in range(2):
            assert (await one.read("b", "k"), await two.read("b", "k")) == (DATA, NEW)


# The layer


async def test_it_keeps_all_capabilities() -> None:
    async with trove.open("memory://") as bare, trove.open("memory://", layers=[Cache()]) as t:
        assert capabilities_of(t.driver) == capabilities_of(bare.driver) == frozenset(CAPABILITIES)
        assert t.driver.features == bare.driver.features


async def test_a_cache_around_prefixed_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Cache must not be around Prefixed"):
        await trove.open("memory://", layers=[Prefixed("a/"), Cache()])
    async with trove.open("memory://", layers=[Cache(), Prefixed("a/")]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", DATA)
        assert [await t.read("b", "k") for _ in range(2)] == [DATA, DATA]


async def test_the_prefix_of_a_dsn_is_put_around_the_outermost_cache() -> None:
    """A prefix in the DSN is innermost otherwise, where the cache would be around it."""

    class WithPrefix(MemoryDriver):
        default_prefix = "folder/"

    driver = WithPrefix()
    await driver.open(trove.parse_dsn("memory://prefix-and-cache"), OpenOptions())
    keys: list[str | None] = []

    class Keys(LayerDriver):
        async def around(self, operation: Any, call: Any) -> Any:
            keys.append(operation.key)
            return await call()

    async with trove.open("memory://prefix-and-cache") as bare:
        await bare.create_bucket("b")
        async with trove.open(driver, layers=[Keys, Cache(), Keys, Cache(), Prefixed("own/")]) as t:
            await t.put("b", "k", DATA)
            assert set(keys) == {"folder/own/k"}
            assert [await t.read("b", "k") for _ in range(2)] == [DATA, DATA]
            assert [info.key async for info in t.list("b")] == ["k"]
        assert await bare.read("b", "folder/own/k") == DATA


async def test_two_caches_are_two_tiers() -> None:
    backend, disk, memory = Backend(), Cache(), Cache(ttl=60)
    async with opened(disk, backend, "memory://", memory) as t:
        await t.put("b", "k", DATA)
        for _ in range(3):
            assert await t.read("b", "k") == DATA
        assert (memory.stats.hits, disk.stats.misses) == (2, 1)


async def test_observers_see_how_a_body_was_read() -> None:
    seen: list[object] = []

    class Watching(LayerDriver):
        """An observer of each operation."""

        async def around(self, operation: Any, call: Any) -> Any:
            from trove_async.driver.events import AttemptSeries, OperationObserver

            class Observer(OperationObserver):
                def attempts(self, kind: object) -> AttemptSeries:
                    return AttemptSeries()

                def report(self, event: object) -> None:
                    seen.append(event)

            token = OBSERVER.set(Observer())
            try:
                return await call()
            finally:
                OBSERVER.reset(token)

    clock = Clock()
    async with opened(Cache(ttl=60, clock=clock), Backend(), "memory://", Watching, Observe(lambda _: None)) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        await t.read("b", "k")
        clock.now += 60
        await t.read("b", "k")
    assert seen == [CacheRead("miss"), CacheRead("hit"), CacheRead("validated")]


async def test_the_statistics_are_values() -> None:
    cache = Cache()
    before = cache.stats
    assert before == CacheStats()
    async with opened(cache, Backend()) as t:
        await t.put("b", "k", DATA)
        await t.read("b", "k")
        assert (before.misses, cache.stats.misses) == (0, 1)
        assert repr(cache) == f"<Cache of {cache.stats.bytes} of {256 * 1024 * 1024} bytes in memory>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_bytes": 0}, "max_bytes is a number of bytes"),
        ({"max_bytes": 1.5}, "max_bytes is a number of bytes"),
        ({"max_bytes": True}, "max_bytes is a number of bytes"),
        ({"max_object_size": 0}, "max_object_size is a number of bytes"),
        ({"ttl": 0}, "ttl is a number of seconds"),
        ({"ttl": float("nan")}, "ttl is a number of seconds"),
        ({"ttl": "60"}, "ttl is a number of seconds"),
        ({"max_age": -1}, "max_age is a number of seconds"),
        ({"clock": 3}, "clock is a function"),
        ({"on": "memory://"}, "needs a namespace"),
        ({"on": "memory://", "namespace": ""}, "namespace is text"),
        ({"on": "memory://", "namespace": "a/b"}, "namespace is text"),
        ({"on": "memory://", "namespace": 3}, "namespace is text"),
        ({"on": "memory://", "namespace": "a", "bucket": ""}, "bucket is the name"),
        ({"namespace": "a"}, "namespace is of a cache on a store"),
        ({"bucket": "a"}, "bucket is of a cache on a store"),
    ],
)
async def test_wrong_arguments_are_refused_before_anything_is_opened(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Cache(**arguments)


@pytest.mark.parametrize("on", ["no dsn", 3, "s3"])
async def test_a_store_that_is_none_is_refused(on: Any) -> None:
    with pytest.raises(InvalidDSNError):
        Cache(on=on, namespace="a")
