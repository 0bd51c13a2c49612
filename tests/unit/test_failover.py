"""`Failover`: which member is read, what is an answer, what pays for another read, and how a body continues."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.unit.doubles import ScriptedStream
from trove_async import Budget, Failover, Member, Retry, Trove
from trove_async.driver import (
    AppendDriver,
    BulkDeleteDriver,
    Driver,
    Features,
    LifecycleDriver,
    MultipartDriver,
    OpenOptions,
    PartCopyDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListOptions,
)
from trove_async.drivers.memory import MemoryDriver
from trove_async.dsn import parse_dsn
from trove_async.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketNotFoundError,
    ConflictError,
    InvalidArgumentError,
    InvalidDSNError,
    NotModifiedError,
    ObjectNotFoundError,
    ThrottledError,
    TransientError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.layers import Observe
from trove_async.layers.failover.driver import FailoverDriver
from trove_async.reader import ByteStream, ObjectReader
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.testing.mock import MockDriver
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio

DOWN = UnavailableError("down")


@dataclass
class Stores:
    """A Failover over stores that can be written to, and faults that can be added to each."""

    failover: Trove
    members: list[Trove]
    faults: list[Faults]

    def asked(self, operation: str) -> list[int]:
        return [sum(seen.operation == operation for seen in faults.injected) for faults in self.faults]

    @property
    def driver(self) -> FailoverDriver:
        return trove.unwrap(self.failover.driver, FailoverDriver)


@asynccontextmanager
async def stores(
    *faults: Sequence[Fault], layers: Sequence[Any] = (), written: bool = True, **settings: Any
) -> AsyncGenerator[Stores, None]:
    """Open a store for each list of faults, with one object in each, and a Failover over them."""
    drivers = [MemoryDriver() for _ in faults]
    for driver in drivers:
        await driver.open(parse_dsn("memory://"), OpenOptions())
    injected = [Faults(each) for each in faults]
    members = [Member(driver, layers=[faulty]) for driver, faulty in zip(drivers, injected, strict=True)]
    opened = [await trove.open(driver) for driver in drivers]
    try:
        async with trove.open(Failover(members, **settings), layers=layers) as failover:
            for number, store in enumerate(opened):
                await store.create_bucket("b")
                if written:
                    await store.put("b", "k", f"copy {number}".encode())
            yield Stores(failover, opened, injected)
    finally:
        for store in opened:
            await store.aclose()


# Which member is read


async def test_reads_go_to_the_first_member() -> None:
    async with stores([], []) as s:
        assert await s.failover.read("b", "k") == b"copy 0"
        assert (await s.failover.head("b", "k")).etag == (await s.members[0].head("b", "k")).etag


@pytest.mark.parametrize("error", [DOWN, ThrottledError("slow down"), TransientError("reset", status=500)])
async def test_a_member_that_fails_is_not_asked_first_for_a_while(error: TroveError) -> None:
    async with stores([Fault("*", error=error, times=None)], []) as s:
        for _ in range(5):
            assert await s.failover.read("b", "k") == b"copy 1"
        assert (await s.failover.head("b", "k")).size == 6
        assert len(s.faults[0].injected) == 1
        assert [breaker.state for breaker in s.driver.breakers.values()] == ["open", "closed"]


async def test_a_member_is_tested_by_a_read_after_its_time_and_is_first_again() -> None:
    async with stores([Fault("get", error=DOWN)], [], open_for=1e-9) as s:
        assert await s.failover.read("b", "k") == b"copy 1"
        await asyncio.sleep(0.001)
        assert await s.failover.read("b", "k") == b"copy 0"
        assert s.driver.breakers["0"].state == "closed"


async def test_the_threshold_is_the_number_of_failures_in_a_row() -> None:
    async with stores([Fault("get", error=DOWN, times=None)], [], threshold=3, budget=Budget(9)) as s:
        for _ in range(5):
            assert await s.failover.read("b", "k") == b"copy 1"
        assert s.asked("get") == [3, 0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ObjectNotFoundError(), ObjectNotFoundError),
        (BucketNotFoundError(), BucketNotFoundError),
        (AccessDeniedError("no", status=403), AccessDeniedError),
        (NotModifiedError(), NotModifiedError),
        (ConflictError(), ConflictError),
        (InvalidArgumentError("never sent"), InvalidArgumentError),
    ],
)
async def test_what_a_member_answers_is_the_answer(error: TroveError, kind: type[TroveError]) -> None:
    async with stores([Fault("get", error=error)], []) as s:
        with pytest.raises(kind) as caught:
            await s.failover.read("b", "k")
        assert caught.value.driver == "failover/0"
        assert s.driver.breakers["0"].state == "closed"


async def test_if_all_fail_the_error_of_the_first_is_raised_with_those_of_the_others() -> None:
    async with stores(
        [Fault("get", error=UnavailableError("first"))], [Fault("get", error=UnavailableError("second"))]
    ) as s:
        with pytest.raises(UnavailableError, match="first") as caught:
            await s.failover.read("b", "k")
        assert "another member failed too: second (driver failover/1)" in caught.value.__notes__[0]
        # Both are open now, and are asked nevertheless.
        assert await s.failover.read("b", "k") == b"copy 0"
        assert s.driver.breakers["0"].state == "closed"
        assert s.driver.breakers["1"].state == "open"


async def test_a_member_can_be_taken_out_of_service() -> None:
    async with stores([], []) as s:
        s.driver.breakers["0"].isolate()
        assert await s.failover.read("b", "k") == b"copy 1"
        s.driver.breakers["1"].isolate()
        with pytest.raises(BackendUnavailableError, match="was isolated by hand"):
            await s.failover.read("b", "k")
        s.driver.breakers["0"].reset()
        assert await s.failover.read("b", "k") == b"copy 0"


async def test_ping_needs_one_member() -> None:
    async with stores([Fault("ping", error=DOWN, times=None)], [Fault("ping", error=DOWN, skip=1, times=None)]) as s:
        await s.failover.ping()
        with pytest.raises(UnavailableError):
            await s.failover.ping()


async def test_signed_urls_are_those_of_the_first_member_that_works() -> None:
    members = ["memory://?presign_url=http://one.test", "memory://?presign_url=http://two.test"]
    async with trove.open(Failover(members)) as t:
        driver = trove.unwrap(t.driver, FailoverDriver)
        assert (await t.presign_get("b", "k")).startswith("http://one.test")
        driver.breakers["0"].isolate()
        assert (await t.presign_get("b", "k")).startswith("http://two.test")
        with pytest.raises(UnsupportedError, match="a Failover without queue= only reads"):
            await t.presign_put("b", "k")


# What pays


async def test_a_read_that_fails_over_is_paid_from_the_budget() -> None:
    async with stores([Fault("get", error=DOWN, times=None)], [], threshold=100, budget=Budget(2)) as s:
        for _ in range(2):
            assert await s.failover.read("b", "k") == b"copy 1"
        s.driver._replicas.budget = Budget(0)
        with pytest.raises(UnavailableError, match="no other member is asked, since the budget is used up") as caught:
            await s.failover.read("b", "k")
        assert caught.value.exhausted


async def test_a_member_that_is_known_to_fail_costs_nothing() -> None:
    async with stores([Fault("get", error=DOWN, times=None)], [], budget=Budget(1)) as s:
        for _ in range(20):
            assert await s.failover.read("b", "k") == b"copy 1"


async def test_the_budget_is_that_of_retry_around_it() -> None:
    budget = Budget(0)
    async with stores([Fault("get", error=DOWN, times=None)], [], layers=[Retry(budget=budget)]) as s:
        assert s.driver._replicas.budget is budget
        with pytest.raises(UnavailableError):
            await s.failover.read("b", "k")
    own = Budget(1)
    async with stores([Fault("get", error=DOWN)], [], layers=[Retry(budget=budget)], budget=own) as s:
        assert s.driver._replicas.budget is own
        assert await s.failover.read("b", "k") == b"copy 1"


async def test_attempts_are_observed() -> None:
    seen: list[trove.Observation] = []
    async with stores([Fault("head", error=DOWN)], [], layers=[Observe(seen.append)]) as s:
        await s.failover.head("b", "k")
    assert [(each.operation, each.attempts) for each in seen if each.operation == "head"] == [("head", 2)]


# Writes


WRITES: dict[str, Callable[[Trove], Any]] = {
    "put": lambda t: t.put("b", "k", b"x"),
    "delete": lambda t: t.delete("b", "k"),
    "copy": lambda t: t.copy("b", "k", "b", "l"),
    "create_bucket": lambda t: t.create_bucket("c"),
    "delete_bucket": lambda t: t.delete_bucket("b"),
    "set_tags": lambda t: t.set_tags("b", "k", {"a": "1"}),
    "delete_tags": lambda t: t.delete_tags("b", "k"),
    "set_versioning": lambda t: t.set_versioning("b", enabled=True),
    "restore_version": lambda t: t.restore_version("b", "k", "1"),
    "initiate_multipart": lambda t: t.initiate_multipart("b", "k"),
    "set_lifecycle": lambda t: t.set_lifecycle("b", []),
}


@pytest.mark.parametrize("name", WRITES)
async def test_what_changes_something_is_refused_before_anything_is_sent(name: str) -> None:
    async with stores([Fault("*", error=DOWN, times=None)], []) as s:
        with pytest.raises(UnsupportedError, match="a Failover without queue= only reads"):
            await WRITES[name](s.failover)
        assert s.faults[0].injected == []


async def test_a_bulk_delete_fails_for_each_key() -> None:
    async with stores([Fault("*", error=DOWN, times=None)], []) as s:
        results = [result async for result in s.failover.delete_many("b", ["k", "l"], raise_errors=False)]
        assert [(result.key, type(result.error)) for result in results] == [
            ("k", UnsupportedError), ("l", UnsupportedError),
        ]  # fmt: skip
        assert s.faults[0].injected == []


async def test_it_declares_what_it_reads_and_nothing_that_only_writes() -> None:
    async with stores([], []) as s:
        kept: list[type] = [RangeDriver, TaggingDriver, VersioningDriver]
        dropped: list[type] = [
            MultipartDriver,
            AppendDriver,
            PartCopyDriver,
            BulkDeleteDriver,
            ServerCopyDriver,
            LifecycleDriver,
        ]
        assert all(s.failover.supports(capability) for capability in kept)
        assert not any(s.failover.supports(capability) for capability in dropped)
        assert s.failover.features.dropped.keys() > {*dropped} - {ServerCopyDriver} | {"PUT", "put_if_match"}
        assert s.failover.features.conditions == {"get"}
        assert not s.failover.features.watch_resume


# Listings


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("delimiter", [None, "/"])
async def test_a_listing_continues_at_another_member(size: int, delimiter: str | None) -> None:
    names = [*sorted(random.Random(3).sample([f"{a}/{b}" for a in "abcdef" for b in range(10)], 40)), "x", "y", "z"]
    expected = names if delimiter is None else ["a/", "b/", "c/", "d/", "e/", "f/", "x", "y", "z"]
    async with stores([Fault("list_page", error=DOWN, skip=1, times=None)], [], written=False) as s:
        for name in names:
            for store in s.members:
                await store.put("b", name, b"x")
        found = [item.key async for item in s.failover.list("b", delimiter=delimiter, page_size=size)]
        assert found == expected
        assert len(s.faults[0].injected) == 1


async def test_a_cursor_continues_at_another_member() -> None:
    async with stores([], [], written=False) as s:
        for name in ("a/1", "a/2", "a/3", "a/4", "b"):
            for store in s.members:
                await store.put("b", name, b"x")
        listing = s.failover.list("b", "a/", page_size=2)
        taken = [(await listing.next()).key for _ in range(3)]
        s.driver.breakers["0"].isolate()
        rest = [item.key async for item in s.failover.list("b", "a/", cursor=listing.cursor)]
        assert taken + rest == ["a/1", "a/2", "a/3", "a/4"]


async def test_versions_are_listed_by_one_member() -> None:
    async with stores([Fault("list_versions_page", error=DOWN, skip=1)], []) as s:
        for store in s.members:
            await store.put("b", "l", b"x")
        driver: Any = s.driver
        options = VersionListOptions(page_size=1)
        page = await driver.list_versions_page("b", options)
        with pytest.raises(UnavailableError):
            await driver.list_versions_page("b", VersionListOptions(page_size=1, cursor=page.cursor))
        following = await driver.list_versions_page("b", VersionListOptions(cursor=page.cursor))
        assert [version.key for version in (*page.versions, *following.versions)] == ["k", "l"]


# Events


async def test_a_watch_is_of_the_first_member_that_can_be_subscribed_to() -> None:
    async with stores([Fault("watch", error=DOWN)], []) as s, s.failover.watch("b") as events:
        await s.members[0].put("b", "other", b"x")
        await s.members[1].put("b", "k", b"x")
        assert (await anext(events)).key == "k"


async def test_a_watch_that_fails_later_ends() -> None:
    async with stores([Fault("watch", error=DOWN, skip=1)], []) as s, s.failover.watch("b") as events:
        for _ in range(2):
            await s.members[0].put("b", "k", b"x")
        assert (await anext(events)).key == "k"
        with pytest.raises(UnavailableError) as caught:
            await anext(events)
        assert caught.value.driver == "failover/0"


async def test_a_watch_that_no_member_can_begin_raises_the_error_of_the_first() -> None:
    faults = [[Fault("watch", error=UnavailableError(text))] for text in ("first", "second")]
    async with stores(*faults) as s:
        with pytest.raises(UnavailableError, match="first") as caught:
            async with s.failover.watch("b"):
                pass
        assert "second" in caught.value.__notes__[0]


# Bodies


async def test_a_large_file_continues_in_another_store_of_another_kind(tmp_path: Path) -> None:
    data = random.Random(9).randbytes(3_000_000)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    places = [f"local://{tmp_path}/{name}?fsync=0" for name in ("one", "two")]
    for place in places:
        async with trove.open(place) as store:
            await store.create_bucket("b")
            await store.put("b", "k", data, checksum="sha256")
    faults = Faults([Fault("get", reset_after=1_500_000)])
    seen: list[trove.Observation] = []
    other = Member(places[1], layers=[Observe(seen.append)])
    async with trove.open(Failover([Member(places[0], layers=[faults]), other])) as t:
        assert await t.read("b", "k") == data
    assert len(faults.injected) == 1
    assert [(each.operation, each.bytes) for each in seen] == [("get", 1_500_000)]


DATA = random.Random(5).randbytes(500)


def served(
    script: list[int | BaseException | asyncio.Event] | None, info: ObjectInfo, data: bytes = DATA
) -> tuple[Callable[..., Any], list[ScriptedStream]]:
    """Return a get that serves bodies from a script, and the streams that it has opened."""
    opened: list[ScriptedStream] = []

    async def get(bucket: str, key: str, options: Any) -> ObjectReader:
        start, stop = (0, info.size) if options.range is None else options.range.resolve(info.size)
        stream = ScriptedStream(data, script)
        stream.position = start
        if opened and script is not None:
            stream.script = []
        opened.append(stream)
        return ObjectReader(info, stream, start=start, stop=stop)

    return get, opened


def mock(get: Callable[..., Any]) -> Driver:
    return MockDriver(get=get, features=Features(conditions=frozenset({"get"})))


@pytest.mark.parametrize(
    ("one", "other", "continues"),
    [
        (ObjectInfo("k", 500, "e"), ObjectInfo("k", 500, "e"), True),
        (ObjectInfo("k", 500, "e"), ObjectInfo("k", 500, "f"), False),
        (ObjectInfo("k", 500, "e"), ObjectInfo("k", 501, "e"), False),
        (ObjectInfo("k", 500, "e", checksums={"a": "1"}), ObjectInfo("k", 500, "f", checksums={"a": "1"}), True),
        (ObjectInfo("k", 500, "e", checksums={"a": "1"}), ObjectInfo("k", 500, "e", checksums={"a": "2"}), False),
    ],
)
async def test_a_body_continues_only_with_the_same_bytes(one: ObjectInfo, other: ObjectInfo, continues: bool) -> None:
    first, streams = served([100, TransientError("reset")], one)
    second, others = served(None, other, DATA + b"!")

    async with trove.open(Failover([mock(first), mock(second)])) as t, t.get("b", "k", range=(0, 499)) as reader:
        head = await reader.read(50)
        streams[0].seek_errors = [UnavailableError("still down") for _ in range(9)]
        if continues:
            assert head + await reader.read() == DATA[:499]
        else:
            with pytest.raises(TransientError):
                await reader.read()
    assert not any(stream.open for stream in (*streams, *others))


async def test_a_body_returns_to_a_member_that_works_again() -> None:
    first, streams = served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))
    second, others = served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))

    async def only_once(bucket: str, key: str, options: Any) -> ObjectReader:
        if others:
            raise DOWN
        reader: ObjectReader = await second(bucket, key, options)
        others[0].seek_errors = [DOWN for _ in range(9)]
        return reader

    async with trove.open(Failover([mock(first), mock(only_once)], open_for=1e-9)) as t, t.get("b", "k") as reader:
        head = await reader.read(50)
        streams[0].seek_errors = [DOWN]
        assert head + await reader.read() == DATA
    assert (len(streams), len(others)) == (2, 1)
    assert not any(stream.open for stream in (*streams, *others))


async def test_a_body_that_no_other_member_has_continues_where_it_was() -> None:
    first, streams = served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))
    second, _ = served(None, ObjectInfo("k", 500, "another"))
    async with trove.open(Failover([mock(first), mock(second)])) as t:
        assert await t.read("b", "k") == DATA
        assert streams[0].seeks == [100]


async def test_a_body_does_not_continue_at_another_member_without_a_budget() -> None:
    first, streams = served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))
    second, others = served(None, ObjectInfo("k", 500, "e"))
    async with trove.open(Failover([mock(first), mock(second)], budget=Budget(0))) as t:
        assert await t.read("b", "k") == DATA
    assert (streams[0].seeks, others) == ([100], [])


async def test_a_body_in_memory_continues_a_stream() -> None:
    first, streams = served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))

    async def second(bucket: str, key: str, options: Any) -> ObjectReader:
        start, stop = options.range.resolve(500)
        return ObjectReader(ObjectInfo("k", 500, "e"), DATA[start:stop], start=start, stop=stop)

    async def only_once(bucket: str, key: str, options: Any) -> ObjectReader:
        if streams:
            raise DOWN
        reader: ObjectReader = await first(bucket, key, options)
        return reader

    async with trove.open(Failover([mock(only_once), mock(second)])) as t, t.get("b", "k") as reader:
        head = await reader.read(50)
        streams[0].seek_errors = [DOWN]
        assert head + await reader.read() == DATA
        assert await reader.seek(20) == 20
        assert await reader.read(10) == DATA[20:30]
        assert await reader.seek(200) == 200
        assert await reader.read(10) == DATA[200:210]
    assert not streams[0].open


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_read_that_fails_over_leaves_nothing_open(delivery: Delivery) -> None:
    opened: list[ScriptedStream] = []
    first_get: list[Callable[..., Any]] = []

    async def prepare() -> None:
        opened.clear()
        first_get[:] = [served([100, TransientError("reset")], ObjectInfo("k", 500, "e"))[0]]

    def keep(stream: ByteStream) -> ByteStream:
        assert isinstance(stream, ScriptedStream)
        opened.append(stream)
        return stream

    def slowly(get: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        async def call(*args: Any) -> ObjectReader:
            await asyncio.sleep(0)
            reader: ObjectReader = await get()(*args)
            reader.wrap(keep)
            return reader

        return call

    second, _ = served(None, ObjectInfo("k", 500, "e"))
    members = [mock(slowly(lambda: first_get[0])), mock(slowly(lambda: second))]

    async def check(outcome: Outcome[Any]) -> None:
        assert not outcome.left_running
        assert outcome.cancelled or outcome.result == DATA
        assert not any(stream.open for stream in opened)

    async with trove.open(Failover(members, budget=Budget(1000))) as t:
        driver = trove.unwrap(t.driver, FailoverDriver)

        async def again() -> None:
            await prepare()
            driver.breakers["0"].reset()

        assert await cancel_everywhere(lambda: t.read("b", "k"), delivery, prepare=again, check=check) >= 2


# Being made


@pytest.mark.parametrize(
    ("members", "settings", "error", "message"),
    [
        ([], {}, InvalidArgumentError, "has no member"),
        ("memory://", {}, InvalidArgumentError, "the members of a Failover are a list of stores"),
        (5, {}, InvalidArgumentError, "the members of a Failover are a list of stores"),
        ({"a": "memory://"}, {}, InvalidArgumentError, "the members of a Failover are a list of stores.*not dict"),
        ({"memory://"}, {}, InvalidArgumentError, "the members of a Failover are a list of stores.*not set"),
        (["nothing"], {}, InvalidDSNError, "no scheme"),
        (["memory://"], {"threshold": 0}, InvalidArgumentError, "threshold"),
        (["memory://"], {"threshold": None}, InvalidArgumentError, "threshold"),
        (["memory://"], {"open_for": 0}, InvalidArgumentError, "open_for"),
        (["memory://"], {"budget": 5}, InvalidArgumentError, "budget is a Budget"),
    ],
)
async def test_what_is_wrong_is_refused_when_it_is_made(
    members: Any, settings: dict[str, Any], error: type[TroveError], message: str
) -> None:
    with pytest.raises(error, match=message):
        Failover(members, **settings)


async def test_it_can_be_opened_again_and_shows_no_secret() -> None:
    target = Failover(iter(["memory://", "memory://"]))
    for _ in range(2):
        async with trove.open(target) as t:
            assert await t.list_buckets() == []
    assert "hidden" not in repr(Failover(["s3://key:hidden@us-east-1"]))
