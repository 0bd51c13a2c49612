"""A mirror: what is acknowledged, what is read, and what becomes of what a member has missed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.mirror.stores import Members, driver_of, repaired
from trove_async import Member, Mirror
from trove_async.driver import Body, DeleteOptions, Driver, PutOptions
from trove_async.errors import (
    AccessDeniedError,
    BackendUnavailableError,
    BucketNotEmptyError,
    ClosedError,
    InvalidArgumentError,
    InvalidDSNError,
    InvalidMetadataError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnavailableError,
)
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.testing.faults import Fault
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.types import ObjectInfo

pytestmark = pytest.mark.asyncio


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


async def test_an_object_is_at_all_members_and_has_one_etag(members: Members) -> None:
    async with members.opened() as t:
        info = await t.put("b", "k", b"content", metadata={"a": "1"})
        assert await members.copies() == [b"content"] * 3
        head = await t.head("b", "k")
        assert (head.etag, head.metadata) == (info.etag, {"a": "1"})
        (listed,) = await t.list("b").all()
        assert (listed.etag, listed.size, listed.last_modified) == (info.etag, 7, head.last_modified)
        assert await driver_of(t).status() == {}


async def test_a_member_that_is_down_gets_what_it_missed_after_a_restart(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "deleted", b"old")
        members.stop("1")
        info = await t.put("b", "k", b"new", tags={"t": "1"}, content_type="text/plain")
        await t.delete("b", "deleted")
        assert (await driver_of(t).status())["1"].copies == 2
        assert await members.copies() == [b"new", None, b"new"]
    members.start("1")
    async with members.opened() as t:
        assert await driver_of(t).repair() == 2
        assert await driver_of(t).status() == {}
        members.stop("0", "2")
        for _ in range(3):  # until their circuits are open
            await t.head("b", "k")
        found = await t.head("b", "k")
        assert (found.etag, found.content_type) == (info.etag, "text/plain")
        assert await t.get_tags("b", "k") == {"t": "1"}
        with pytest.raises(ObjectNotFoundError):
            await t.head("b", "deleted")
        members.start("0", "2")
    assert await members.copies() == [b"new"] * 3


async def test_a_copy_that_waits_for_repair_is_not_read(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"old")
        members.stop("0")
        await t.put("b", "k", b"new")
        members.start("0")
        assert await t.read("b", "k") == b"new"
        assert await members.copies() == [b"old", b"new", b"new"]
        members.stop("1", "2")
        with pytest.raises(UnavailableError):
            await t.read("b", "k")
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await t.read("b", "k")
        with pytest.raises(BackendUnavailableError, match="down: 1, 2; waiting for repair: 0"):
            await t.read("b", "k")
    async with members.opened(stale_reads=True, write_quorum=1) as t:
        for _ in range(3):
            with suppress(UnavailableError):  # until the circuits of the others are open
                await t.read("b", "k")
        assert await t.read("b", "k") == b"old"


async def test_a_missed_quorum_is_ambiguous_and_rolled_forward(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"old")
        members.stop("1", "2")
        with pytest.raises(
            BackendUnavailableError, match="1 of 3 members have the write, and 2 were required"
        ) as caught:
            await t.put("b", "k", b"new")
        assert caught.value.ambiguous
        assert await t.read("b", "k") == b"new"
        members.start("1", "2")
        await repaired(t)
    assert await members.copies() == [b"new"] * 3


async def test_a_quorum_that_is_known_to_be_missing_sends_nothing(members: Members) -> None:
    async with members.opened() as t:
        members.stop("1", "2")
        for _ in range(3):
            with pytest.raises(UnavailableError):
                await t.put("b", "k", b"new")
        with pytest.raises(BackendUnavailableError, match="a write needs 2 of 3 members, and 1 can take it") as caught:
            await t.put("b", "other", b"new")
        assert not caught.value.ambiguous
        assert await members.copies("other") == [None] * 3
        members.start("1", "2")


async def test_a_member_that_is_back_is_noticed_and_repaired_in_the_background(members: Members) -> None:
    async with members.opened(repair_every=0.02) as t:
        members.stop("2")
        for number in range(5):
            await t.put("b", f"k{number}", b"x")
        members.start("2")
        while await driver_of(t).status():  # noqa: ASYNC110 - what is waited for is in the database
            await asyncio.sleep(0.02)
    assert await members.copies("k4") == [b"x"] * 3


async def test_conditions_hold_under_races_of_many_processes(members: Members) -> None:
    stores = [await trove_async.open(members.mirror()) for _ in range(3)]
    try:
        await stores[0].create_bucket("b")

        async def create(number: int) -> Any:
            try:
                return await stores[number % 3].put("b", "k", b"%d" % number, if_none_match="*")
            except ObjectAlreadyExistsError as error:
                return error

        results = await asyncio.gather(*(create(number) for number in range(50)))
        won = [result for result in results if not isinstance(result, Exception)]
        assert len(won) == 1
        content = await stores[0].read("b", "k")
        assert await members.copies() == [content] * 3

        async def add(number: int) -> None:
            while True:
                info = await stores[number % 3].head("b", "sum")
                value = int(await stores[number % 3].read("b", "sum"))
                try:
                    await stores[number % 3].put("b", "sum", b"%d" % (value + 1), if_match=info.etag)
                    return
                except PreconditionFailedError:
                    pass

        await stores[0].put("b", "sum", b"0")
        await asyncio.gather(*(add(number) for number in range(6)))
        assert await members.copies("sum") == [b"6"] * 3
    finally:
        for t in stores:
            await t.aclose()


async def test_writers_that_share_a_queue_in_postgresql(members: Members, new_schema: Callable[[], str]) -> None:
    members.queue = new_schema()
    stores = [await trove_async.open(members.mirror()) for _ in range(2)]
    try:
        await stores[0].create_bucket("b")

        async def create(number: int) -> object:
            try:
                return await stores[number % 2].put("b", "k", b"%d" % number, if_none_match="*")
            except ObjectAlreadyExistsError as error:
                return error

        results = await asyncio.gather(*(create(number) for number in range(10)))
        assert len([result for result in results if not isinstance(result, Exception)]) == 1
        members.stop("1")
        await stores[0].put("b", "k", b"new")
        members.start("1")
        assert await stores[1].read("b", "k") == b"new"
        await repaired(stores[1])
        assert await members.copies() == [b"new"] * 3
    finally:
        for t in stores:
            await t.aclose()


async def test_a_condition_is_decided_on_a_good_copy(members: Members) -> None:
    async with members.opened() as t:
        old = await t.put("b", "k", b"old")
        members.stop("0")
        new = await t.put("b", "k", b"new")
        members.start("0")
        with pytest.raises(PreconditionFailedError):
            await t.put("b", "k", b"newer", if_match=old.etag)
        with pytest.raises(PreconditionFailedError):
            await t.delete("b", "k", if_match=old.etag)
        await t.put("b", "k", b"newer", if_match=new.etag)
    assert await members.copies() == [b"newer"] * 3


async def test_a_member_that_fails_in_the_middle_of_a_body_is_dropped(members: Members) -> None:
    async def chunks() -> Any:
        for number in range(10):
            yield bytes([number]) * 1000

    async with members.opened() as t:
        members.faults["1"].add(Fault("put", reset_after=2500))
        await t.put("b", "k", chunks())
        whole = b"".join([bytes([number]) * 1000 for number in range(10)])
        assert await members.copies() == [whole, None, whole]
        await driver_of(t).repair()
    assert await members.copies() == [whole] * 3


async def test_a_body_that_fails_leaves_all_members_as_they_were(members: Members) -> None:
    async def chunks() -> Any:
        yield b"x" * 1000
        raise ValueError("the source failed")

    async with members.opened() as t:
        await t.put("b", "k", b"old")
        with pytest.raises(ValueError, match="the source failed"):
            await t.put("b", "k", chunks())
        assert await members.copies() == [b"old"] * 3
        assert await driver_of(t).status() == {}


async def test_a_slow_body_does_not_keep_others_from_writing_the_key(members: Members) -> None:
    async with members.opened() as t:

        async def chunks() -> Any:
            yield b"outer"
            await t.put("b", "k", b"inner")

        await t.put("b", "k", chunks())
        assert await t.read("b", "k") == b"outer"


async def test_a_read_continues_at_another_member(members: Members) -> None:
    data = bytes(range(256)) * 4096
    async with members.opened() as t:
        await t.put("b", "k", data)
        members.faults["0"].add(Fault("get", reset_after=300_000))
        async with t.get("b", "k") as reader:
            first = await reader.read(100_000)
            members.faults["0"].add(Fault("get", error=UnavailableError(), times=None))
            assert first + await reader.read() == data


async def test_a_read_does_not_continue_with_other_bytes(members: Members) -> None:
    data = bytes(range(256)) * 4096
    async with members.opened() as t:
        await t.put("b", "k", data)
        members.faults["0"].add(Fault("get", reset_after=300_000, times=None))
        async with t.get("b", "k") as reader:
            await reader.read(100_000)
            await t.put("b", "k", data[::-1])
            with pytest.raises(UnavailableError):
                await reader.read()


async def test_objects_older_than_the_mirror_are_served_and_brought_to_the_others(members: Members) -> None:
    async with members.alone("1") as alone:
        await alone.create_bucket("b")
        await alone.put("b", "k", b"old")
        async with members.opened() as t:
            info = await t.head("b", "k")
            assert await t.read("b", "k") == b"old"
            assert (await t.head("b", "k", if_match=info.etag)).etag == info.etag
            await driver_of(t).repair()
            assert await members.copies() == [b"old"] * 3
            assert (await t.head("b", "k")).etag == info.etag
            await t.put("b", "k", b"new", if_match=info.etag)
        assert await members.copies() == [b"new"] * 3


@pytest.mark.parametrize("delimiter", [None, "/"])
@pytest.mark.parametrize("page_size", [1, 2, 100])
async def test_a_listing_has_what_the_listed_member_has_missed(
    members: Members, delimiter: str | None, page_size: int
) -> None:
    async with members.opened(write_quorum=1) as t:
        last = "\U0010ffff"  # sorts behind all other characters
        for key in ("a", "c/1", "c/2", "d", "gone/x", "part/1", "part/2", f"z/{last}1", f"z/{last}2"):
            await t.put("b", key, b"old")
        for name in members.names:  # each member misses something
            members.stop(name)
            await t.put("b", f"b{name}", b"new")
            await t.put("b", f"c/new{name}", b"new")
            members.start(name)
        members.stop("0")
        await t.delete("b", "gone/x")
        await t.delete("b", "part/1")
        members.start("0")
        found: Any = t.list("b", delimiter=delimiter, page_size=page_size)
        names = [item.key async for item in found]
        keys = ["a", "b0", "b1", "b2", "c/1", "c/2", "c/new0", "c/new1", "c/new2", "d", "part/2"]
        keys += [f"z/{last}1", f"z/{last}2"]
        assert names == (keys if delimiter is None else ["a", "b0", "b1", "b2", "c/", "d", "part/", "z/"])


async def test_tags_of_a_member_that_missed_them_are_repaired(members: Members) -> None:
    async with members.opened() as t:
        info = await t.put("b", "k", b"x", tags={"a": "1"})
        members.stop("0")
        await t.set_tags("b", "k", {"a": "2"})
        members.start("0")
        assert await t.get_tags("b", "k") == {"a": "2"}
        await driver_of(t).repair()
        assert (await t.head("b", "k")).etag == info.etag
    async with members.alone("0") as alone:
        assert await alone.get_tags("b", "k") == {"a": "2"}


async def test_buckets_that_a_member_missed_are_made_and_deleted(members: Members) -> None:
    async with members.opened() as t:
        members.stop("2")
        await t.create_bucket("new")
        await t.delete_bucket("b")
        members.start("2")
        await repaired(t)
    async with members.alone("2") as alone:
        assert [bucket.name for bucket in await alone.list_buckets()] == ["new"]


class _Eager(LayerDriver):
    """Takes the body before it looks for the bucket, as a service does that answers a request."""

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        return await super().put(bucket, key, Body(await body.read_all()), options)


async def test_a_missing_bucket_is_made_by_a_repair_after_the_body_was_taken(members: Members) -> None:
    new: dict[str, Any] = {"0": members.dsns["0"], "1": Member(members.dsns["1"], layers=[_Eager])}
    async with trove_async.open(members.dsns["0"]) as old, trove_async.open(members.dsns["1"]) as empty:
        await old.create_bucket("b")
        await old.put("b", "k", b"x" * 100_000)
        async with trove_async.open(Mirror(new, queue=members.queue, repair_every=None)) as t:
            assert await driver_of(t).backfill("b") == 1
            assert await driver_of(t).repair() == 1
            assert await driver_of(t).status() == {}
        assert await empty.read("b", "k") == b"x" * 100_000


async def until_healthy(t: trove_async.Trove) -> None:
    fleet = driver_of(t)._fleet
    for _ in range(500):
        if fleet.healthy == fleet.replicas:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a member that works is not found to be up")


async def test_a_bucket_is_not_empty_if_a_member_has_missed_its_object_and_another_one_a_deletion(
    tmp_path: Path,
) -> None:
    members = Members(tmp_path, count=2)
    async with members.opened(write_quorum=1) as t:
        many = [f"a{number:02}" for number in range(20)]
        for key in many:
            await t.put("b", key, b"x")
        members.stop("0")
        for key in many:
            await t.delete("b", key)
        members.start("0")
        await until_healthy(t)
        members.stop("1")
        await t.put("b", "z", b"content")
        members.start("1")
        await until_healthy(t)
        with pytest.raises(BucketNotEmptyError):
            await t.delete_bucket("b")
        assert await t.read("b", "z") == b"content"
        await repaired(t)
        await t.delete("b", "z")
        await t.delete_bucket("b")
        assert await t.list_buckets() == []


async def test_the_name_of_the_hidden_metadata_is_refused(members: Members) -> None:
    async with members.opened() as t:
        with pytest.raises(InvalidMetadataError, match="belongs to the mirror"):
            await t.put("b", "k", b"x", metadata={"trove-mirror": "1"})


async def test_the_breakers_show_who_is_down_and_take_a_member_out_of_service(members: Members) -> None:
    async with members.opened() as t:
        breakers = driver_of(t).breakers
        assert {name: breaker.state for name, breaker in breakers.items()} == dict.fromkeys("012", "closed")
        breakers["1"].isolate()
        await t.put("b", "k", b"new")
        assert await members.copies() == [b"new", None, b"new"]
        breakers["1"].reset()
        assert await driver_of(t).repair() == 1
        assert await members.copies() == [b"new"] * 3


async def test_a_list_in_another_order_is_noticed(members: Members) -> None:
    dsns = [*members.dsns.values()]
    async with trove_async.open(Mirror(dsns, queue=members.queue)):
        pass
    with pytest.raises(InvalidArgumentError, match="Keep the order of the list, or name the members"):
        await trove_async.open(Mirror(dsns[::-1], queue=members.queue))


async def test_an_endpoint_among_the_settings_tells_members_apart(members: Members) -> None:
    keys = {"access_key": "key", "secret_key": "secret"}
    services = [
        trove_async.Member("s3://us-east-1/bucket", settings={"endpoint": f"http://{host}.test", **keys})
        for host in "xy"
    ]
    async with trove_async.open(Mirror(services, queue=members.queue, repair_every=None)):
        pass
    with pytest.raises(InvalidArgumentError, match="Keep the order of the list, or name the members"):
        await trove_async.open(Mirror(services[::-1], queue=members.queue))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": ["memory://"]}, "two members or more"),
        ({"members": "memory://"}, "a list or a mapping"),
        ({"members": {"A": "memory://", "b": "memory://"}}, "the name of a member"),
        ({"members": ["local:///srv/a", "memory://", "local:///srv/a"]}, "members '0' and '2' are the same store"),
        ({"write_quorum": 0}, "write_quorum is a whole number from 1 to 2, not 0"),
        ({"write_quorum": 3}, "write_quorum is a whole number from 1 to 2, not 3"),
        ({"queue": None}, "a mirror needs a queue that outlives the process"),
        ({"queue": 1}, "queue is the URL of a database"),
        ({"test_every": 0}, "test_every is a number of seconds"),
        ({"repair_every": "x"}, "repair_every is a number of seconds"),
    ],
)
async def test_wrong_arguments_are_refused_before_any_io(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Mirror(**{"members": ["memory://", "memory://"], "queue": "sqlite:///q.db", **arguments})


async def test_the_same_open_store_twice_is_refused() -> None:
    async with trove_async.open("memory://") as t:
        with pytest.raises(InvalidArgumentError, match="members '0' and '1' are the same store"):
            Mirror([t.driver, t.driver], queue="sqlite:///x")


async def test_a_wrong_url_of_the_queue_is_refused_before_any_io() -> None:
    for url in ("mysql://x", "repair.db"):
        with pytest.raises(InvalidDSNError, match=r"queue is no URL of a database: .*sqlite:///"):
            Mirror(["memory://", "memory://"], queue=url)


async def test_a_write_that_only_a_lost_member_may_have_is_settled_when_that_is_back(members: Members) -> None:
    async with members.opened(write_quorum=1) as t:
        await t.put("b", "k", b"old")
        members.faults["0"].add(Fault("put", error=UnavailableError(), when="after"))
        members.faults["1"].add(Fault("put", error=UnavailableError()))
        members.faults["2"].add(Fault("put", error=UnavailableError()))
        members.faults["0"].add(Fault("head", error=UnavailableError(), times=None))
        with pytest.raises(UnavailableError) as caught:
            await t.put("b", "k", b"new")
        assert caught.value.ambiguous
        driver = driver_of(t)
        await driver.repair()  # it cannot be known yet
        assert await members.copies() == [b"new", b"old", b"old"]
        members.start("0")
        for _ in range(50):  # until the circuit of the member is closed
            await asyncio.sleep(0.01)
            await driver.repair()
            if await members.copies() == [b"new"] * 3:
                break
        assert await members.copies() == [b"new"] * 3
        assert await driver.status() == {}


async def test_the_next_write_does_not_wait_for_a_member_that_may_have_the_last_one(members: Members) -> None:
    async with members.opened() as t:
        await t.put("b", "k", b"old")
        members.faults["0"].add(Fault("put", error=UnavailableError(), when="after"))
        members.faults["1"].add(Fault("put", error=UnavailableError()))
        members.faults["2"].add(Fault("put", error=UnavailableError()))
        members.faults["0"].add(Fault("head", error=UnavailableError(), times=None))
        with pytest.raises(UnavailableError):
            await t.put("b", "k", b"lost")
        await t.put("b", "k", b"new")
        members.start("0")
        await repaired(t)
        assert await members.copies() == [b"new"] * 3


class Gate:
    """A layer that holds back the puts of one store until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    def __call__(self, driver: Driver) -> Driver:
        return _GatedDriver(driver, self)


class _GatedDriver(LayerDriver):
    def __init__(self, inner: Driver, gate: Gate) -> None:
        super().__init__(inner)
        self._gate = gate

    async def around(self, operation: Operation, call: Call[Any]) -> Any:
        if operation.name == "put":
            self._gate.reached.set()
            await self._gate.opened.wait()
        return await call()


async def test_a_writer_that_slept_too_long_is_told_and_its_late_write_is_put_right(members: Members) -> None:
    gate = Gate()
    gated: dict[str, Any] = {**members.dsns, "0": Member(members.dsns["0"], layers=[gate])}
    async with members.opened() as other:
        sleeping = Mirror(gated, queue=members.queue, repair_every=None, claim_seconds=0.05)
        async with trove_async.open(sleeping) as sleeper:
            for task in driver_of(sleeper)._keeping:  # nothing renews its claims: the machine sleeps
                task.cancel()
            late = asyncio.create_task(sleeper.put("b", "k", b"late"))
            await gate.reached.wait()
            await other.put("b", "k", b"new")  # it waits until the claim has expired
            gate.opened.set()
            with pytest.raises(trove_async.LeaseLostError) as caught:
                await late
            assert caught.value.ambiguous
            assert await members.copies() == [b"late", b"new", b"new"]
            await driver_of(sleeper).repair()
            assert await members.copies() == [b"new"] * 3


@pytest.mark.parametrize("delivery", [*Delivery])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_put_that_is_cancelled_while_a_member_is_down(
    members: Members, delivery: Delivery, stream: bool
) -> None:
    async with members.opened() as t:
        driver = driver_of(t)

        async def prepare() -> None:
            members.start("1")
            await t.put("b", "k", b"old")
            await driver.repair()
            members.faults["1"].add(Fault("put", error=UnavailableError()))

        async def check(outcome: Outcome[Any]) -> None:
            visible = await t.read("b", "k")
            assert visible in ((b"old", b"new") if outcome.cancelled else (b"new",))
            assert not outcome.left_running
            await driver.repair()
            assert await t.read("b", "k") == visible
            assert await members.copies() == [visible] * 3
            assert await driver.status() == {}

        async def put() -> None:
            await t.put("b", "k", iter([b"n", b"ew"]) if stream else b"new")

        assert await cancel_everywhere(put, delivery, prepare=prepare, check=check) > 5


@pytest.mark.parametrize("delimiter", [None, "/"])
async def test_a_listing_continues_at_another_member(members: Members, delimiter: str | None) -> None:
    async with members.opened() as t:
        for key in ("a", "b/1", "b/2", "c", "d/1", "e", "f"):
            await t.put("b", key, b"x")
        found: Any = t.list("b", delimiter=delimiter, page_size=2)
        names = [(await found.next()).key for _ in range(2)]
        members.stop("0")
        names += [item.key async for item in found]
        keys = ["a", "b/1", "b/2", "c", "d/1", "e", "f"] if delimiter is None else ["a", "b/", "c", "d/", "e", "f"]
        assert names == keys


async def test_listings_without_etags_of_the_mirror_match_no_condition(members: Members) -> None:
    async with members.opened(list_etags=False) as t:
        await t.put("b", "k", b"x")
        (listed,) = await t.list("b").all()
        with pytest.raises(PreconditionFailedError):
            await t.put("b", "k", b"y", if_match=listed.etag)


async def test_a_bucket_that_a_member_missed_is_listed(members: Members) -> None:
    async with members.opened() as t:
        members.stop("0")
        await t.create_bucket("new")
        members.start("0")
        assert [bucket.name for bucket in await t.list_buckets()] == ["b", "new"]


async def test_a_missing_package_is_named_by_its_extra(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import trove_async\n"
        f"try: trove_async.Mirror(['memory://', 'memory://'], queue='sqlite:///{tmp_path}/q.db')\n"
        "except trove_async.MissingDependencyError as error: print(error)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert b"pip install 'trove-async[database]'" in output


async def test_many_repairs_of_which_some_fail(members: Members) -> None:
    async with members.opened() as t:
        members.stop("1")
        for number in range(3):
            await t.put("b", f"k{number}", b"x")
        await t.create_bucket("other")
        for number in range(250):
            await t.put("other", f"k{number}", b"x")
        members.start("1")
        members.faults["1"].add(Fault("put", key="k1", error=AccessDeniedError("no"), times=None))
        driver = driver_of(t)
        while (await driver.status())["1"].copies != 2:
            await driver.repair()
        pending = (await driver.status())["1"]
        assert pending.failing == 2
        assert pending.error == "no"
        members.start("1")
        await repaired(t)
        assert [item.key async for item in t.list("other")] == sorted(f"k{number}" for number in range(250))
    async with members.alone("1") as alone:
        assert len(await alone.list("other").all()) == 250


async def test_a_mirror_is_no_member_of_a_mirror(members: Members, tmp_path: Path) -> None:
    outer = Mirror([members.mirror(), "memory://"], queue=f"sqlite:///{tmp_path}/outer.db")
    with pytest.raises(InvalidArgumentError, match="the member '0' is a mirror itself; give its members to this one"):
        await trove_async.open(outer)


async def test_a_write_that_is_under_way_when_the_mirror_is_closed_leaves_no_claim(members: Members) -> None:
    gate = Gate()
    async with members.opened() as other:
        gated: dict[str, Any] = {**members.dsns, "0": Member(members.dsns["0"], layers=[gate])}
        t = await trove_async.open(Mirror(gated, queue=members.queue, claim_seconds=1e6))
        writing = asyncio.create_task(t.put("b", "k", b"late"))
        await gate.reached.wait()
        closing = asyncio.create_task(t.aclose())
        await asyncio.sleep(0)
        gate.opened.set()
        await closing
        with suppress(ClosedError):  # a member may have had the object before it was closed
            await writing
        async with asyncio.timeout(60):  # a claim that was left would last for days
            await other.put("b", "k", b"new")
        assert await members.copies() == [b"new"] * 3


async def delete_until_it_fails(driver: Driver) -> None:
    while True:
        await driver.delete("b", "other", DeleteOptions())


async def test_closing_waits_for_a_write_of_members_that_stay_open(members: Members) -> None:
    gate = Gate()
    async with members.alone("0") as one, members.alone("1") as two:
        await one.create_bucket("b")
        await two.create_bucket("b")
        mirror = Mirror([one.driver, gate(two.driver)], queue=members.queue, claim_seconds=1e6)
        t = await trove_async.open(mirror)
        writing = asyncio.create_task(t.put("b", "k", b"content"))
        await gate.reached.wait()
        closing = asyncio.create_task(t.aclose())
        with pytest.raises(ClosedError, match="the mirror was closed"):
            await delete_until_it_fails(driver_of(t))
        gate.opened.set()
        assert (await writing).size == 7
        await closing
        async with asyncio.timeout(60), trove_async.open(mirror) as t:
            assert await driver_of(t).status() == {}
            await t.put("b", "k", b"new")
