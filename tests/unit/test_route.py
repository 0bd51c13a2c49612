"""`Route`: which member has a key, and what the members are as one store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import trove_async as trove
from trove_async import CircuitBreaker, Member, Route, RouteRule, Trove
from trove_async.driver import (
    METHODS,
    LifecycleDriver,
    LifecycleSweepDriver,
    ListOptions,
    MultipartDriver,
    OpenOptions,
    VersioningDriver,
    VersionListOptions,
)
from trove_async.drivers.memory import MemoryDriver
from trove_async.dsn import parse_dsn
from trove_async.errors import (
    BackendUnavailableError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ConflictError,
    CopyNotSupportedError,
    InvalidArgumentError,
    InvalidCursorError,
    InvalidDSNError,
    ObjectAlreadyExistsError,
    ObjectNotFoundError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.layers import LayerDriver
from trove_async.layers.route.driver import PLANS, RouteDriver
from trove_async.layers.route.globs import Glob
from trove_async.layers.route.rules import RouteRuleLike, Rules
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.faults import Fault, Faults
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.types import ObjectRef, Prefix, VersioningStatus

pytestmark = pytest.mark.asyncio

LOGS: list[RouteRuleLike] = [("logs/**", "cold")]


@dataclass
class Stores:
    """A store over two members, and the members themselves as stores."""

    route: Trove
    hot: Trove
    cold: Trove
    counters: dict[str, CallCounter]

    def calls(self, name: str) -> dict[str, int]:
        return {member: sum(call.name == name for call in counter.calls) for member, counter in self.counters.items()}


@asynccontextmanager
async def stores(
    rules: Sequence[RouteRuleLike] = LOGS, *, bucket: bool = True, hot: Any = (), cold: Any = ()
) -> AsyncGenerator[Stores, None]:
    """Open two stores, each of them empty, and the Route over them."""
    drivers = [MemoryDriver(), MemoryDriver()]
    for driver in drivers:
        await driver.open(parse_dsn("memory://?min_part_size=4"), OpenOptions())
    counters = {"hot": CallCounter(), "cold": CallCounter()}
    members = {
        "hot": Member(drivers[0], layers=[*hot, counters["hot"]]),
        "cold": Member(drivers[1], layers=[*cold, counters["cold"]]),
    }
    async with (
        trove.open(drivers[0]) as one,
        trove.open(drivers[1]) as other,
        trove.open(Route(members, rules, default="hot")) as route,
    ):
        if bucket:
            await route.create_bucket("b")
        yield Stores(route, one, other, counters)


class Yielding(LayerDriver):
    """Lets other tasks run before and after each operation."""

    async def around(self, operation: Any, call: Any) -> Any:
        await asyncio.sleep(0)
        result = await call()
        await asyncio.sleep(0)
        return result


SLOW = [Yielding]


async def names(store: Trove, prefix: str = "", **options: Any) -> list[str]:
    return [found.key for found in await store.list("b", prefix, **options).all()]


# Globs and rules


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("logs/**", ["logs/", "logs/a", "logs/a/b", "logs/a\nb"], ["logs", "log/a", "x/logs/a"]),
        ("logs/*", ["logs/", "logs/a"], ["logs/a/b", "logs"]),
        ("*.txt", ["a.txt", ".txt"], ["a/b.txt", "a.txtx", "atxt"]),
        ("**/*.txt", ["a.txt", "a/b.txt", "a/b/c.txt"], ["a.txt/b"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/zz", "a/b"]),
        ("**.txt", ["a.txt", "a/b.txt"], ["a.tx"]),
        ("x**/z", ["x/z", "xa/b/z"], ["xz"]),
        ("a?c", ["abc", "a.c"], ["a/c", "ac", "abbc"]),
        ("a[b].c+", ["a[b].c+"], ["ab.c", "a[b]xc+"]),
        ("**", ["a", "a/b"], []),
    ],
)
async def test_globs(pattern: str, matching: list[str], others: list[str]) -> None:
    glob = Glob(pattern)
    assert [name for name in matching + others if glob.matches(name)] == matching
    for name in matching:
        assert all(glob.may_match_below(name[:length]) for length in range(len(name) + 1))


async def test_what_is_below_a_prefix() -> None:
    assert not Glob("logs/**").may_match_below("photos/")
    assert not Glob("logs/a").may_match_below("logs/b")
    assert Glob("logs/**").matches_all_below("logs/2024/")
    assert not Glob("logs/**").matches_all_below("lo")
    assert not Glob("logs/**/x").matches_all_below("logs/")
    assert not Glob("logs/*").matches_all_below("logs/")


async def test_the_first_rule_that_names_a_member_decides() -> None:
    def by_bucket(bucket: str, key: str) -> str | None:
        return "c" if bucket == "third" else None

    rules = Rules("abc", [("x/keep", "a"), ("x/**", "b"), by_bucket, RouteRule("**", "b", bucket="old-*")], "a")
    for bucket, key, member in [
        ("any", "x/keep", "a"), ("any", "x/y", "b"), ("third", "x/y", "b"), ("third", "y", "c"), ("old-1", "y", "b"),
        ("any", "y", "a"),
    ]:  # fmt: skip
        assert rules.member_of(bucket, key) == member
    assert rules.members_below("any", "x/z") == ("b",)
    assert rules.members_below("any", "x/") == ("a", "b")
    assert rules.members_below("any", "y") == ("a", "b", "c")  # a function may name any


async def test_the_members_of_a_bucket() -> None:
    rules = Rules("abc", [RouteRule("**", "b", bucket="old-*"), ("c/**", "c")], "a")
    assert rules.members_below("old-1") == ("b",)
    assert rules.members_below("new") == ("a", "c")
    assert rules.members_below("new", "c/x") == ("c",)
    assert rules.members_below("new", "d") == ("a",)


def same(bucket: str, key: str) -> str | None:
    return None


async def asynchronous(bucket: str, key: str) -> str | None:
    return None


@pytest.mark.parametrize(
    ("members", "rules", "default", "message"),
    [
        ({}, (), "a", "the members of a Route are stores by name"),
        (["memory://"], (), "a", "the members of a Route are stores by name"),
        ({"1a": "memory://"}, (), "1a", "the name of a member is a letter and"),
        ({"a b": "memory://"}, (), "a b", "the name of a member is a letter and"),
        ({"a": "memory://"}, (), "b", "default names the unknown member 'b'; the members are a"),
        ({"a": "memory://"}, [("x", "b")], "a", "names the unknown member 'b'"),
        ({"a": "memory://"}, [RouteRule("x", "b")], "a", "names the unknown member 'b'"),
        ({"a": "memory://"}, [("", "a")], "a", "a glob is a text"),
        ({"a": "memory://"}, [(5, "a")], "a", "a glob is a text"),
        ({"a": "memory://"}, [("***", "a")], "a", "three asterisks"),
        ({"a": "memory://"}, [("x", "a"), ("x", "a")], "a", "stands twice"),
        ({"a": "memory://"}, [same, same], "a", "stands twice"),
        ({"a": "memory://"}, [("x", "a", "b")], "a", "a rule is a pair"),
        ({"a": "memory://"}, ["x"], "a", "a rule of a Route is a function of a bucket and a key"),
        ({"a": "memory://"}, [asynchronous], "a", "async def"),
        ({"a": "memory://"}, "x", "a", "the rules of a Route are a list"),
        ({"a": "memory://"}, same, "a", "the rules of a Route are a list"),
        ({"a": "memory://"}, {"x": "a"}, "a", "the rules of a Route are a list"),
    ],
)
async def test_what_is_wrong_is_refused_when_it_is_made(members: Any, rules: Any, default: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Route(members, rules, default=default)


async def test_a_wrong_dsn_is_refused_when_it_is_made_and_no_secret_is_shown() -> None:
    with pytest.raises(InvalidDSNError, match="no scheme"):
        Route({"a": "nothing"}, default="a")
    assert "hidden" not in repr(Route({"a": "s3://key:hidden@us-east-1"}, default="a"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda bucket, key: "nowhere", r"returned 'nowhere'; it returns None or the name of a member: hot, cold"),
        (lambda bucket, key: {}[key], r"of the Route raised KeyError"),
    ],
)
async def test_a_function_that_fails_is_named_before_anything_is_sent(
    rule: Callable[[str, str], str], message: str
) -> None:
    async with stores([rule]) as s:
        for call in (
            lambda: s.route.put("b", "k", b""),
            lambda: s.route.read("b", "k"),
            lambda: s.route.copy("b", "k", "b", "l"),
            lambda: s.route.delete_many("b", ["k"]),
        ):
            before = {name: len(counter.calls) for name, counter in s.counters.items()}
            with pytest.raises(InvalidArgumentError, match=message):
                await call()
            assert before == {name: len(counter.calls) for name, counter in s.counters.items()}


# Objects


async def test_each_object_is_in_the_member_of_its_key_and_found_there() -> None:
    async with stores() as s:
        for key in ("photo", "logs/1", "logs"):
            await s.route.put("b", key, key.encode(), tags={"a": "1"})
            assert await s.route.read("b", key) == key.encode()
            assert await s.route.get_tags("b", key) == {"a": "1"}
        assert (await names(s.hot), await names(s.cold)) == (["logs", "photo"], ["logs/1"])
        await s.route.delete("b", "logs/1")
        assert await names(s.cold) == []


async def test_what_the_rules_send_elsewhere_is_neither_read_nor_listed() -> None:
    async with stores() as s:
        await s.hot.put("b", "logs/old", b"from before the rules")
        await s.cold.put("b", "logs/new", b"x")
        assert not await s.route.exists("b", "logs/old")
        assert await names(s.route) == ["logs/new"]


async def test_multipart_uploads_are_in_the_member_of_their_key() -> None:
    async with stores() as s:
        uploads = {key: await s.route.initiate_multipart("b", key) for key in ("z", "logs/1", "a")}
        await s.cold.initiate_multipart("b", "elsewhere")
        assert [(found.key, found.upload_id) for found in await s.route.list_multipart_uploads("b")] == sorted(
            uploads.items()
        )
        assert [found.key for found in await s.route.list_multipart_uploads("b", "logs/")] == ["logs/1"]
        part = await s.route.upload_part("b", "logs/1", uploads["logs/1"], 1, b"data")
        assert await s.route.list_parts("b", "logs/1", uploads["logs/1"]) == [part]
        await s.route.complete_multipart("b", "logs/1", uploads["logs/1"], [part])
        assert await s.cold.read("b", "logs/1") == b"data"


async def test_a_bulk_delete_is_split_and_its_results_are_in_order() -> None:
    async with stores() as s:
        keys = ["a", "logs/1", "b", "logs/2", "missing"]
        for key in keys[:4]:
            await s.route.put("b", key, b"x")
        results = [result async for result in s.route.delete_many("b", keys)]
        assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
        assert (await names(s.hot), await names(s.cold)) == ([], [])
        assert s.calls("delete_many") == {"hot": 1, "cold": 1}


async def test_a_bulk_delete_of_which_one_member_fails_deletes_in_the_other() -> None:
    async with stores(cold=[Faults([Fault("delete_many", error=UnavailableError("down"), times=None)])]) as s:
        await s.route.put("b", "a", b"x")
        results = [r async for r in s.route.delete_many("b", ["logs/1", "a"], raise_errors=False)]
        assert [(result.key, type(result.error)) for result in results] == [
            ("logs/1", UnavailableError), ("a", type(None)),
        ]  # fmt: skip
        with pytest.raises(UnavailableError):
            await s.route.delete_many("b", ["logs/1"])


# Listings


async def test_a_listing_is_merged_in_order_with_one_cursor() -> None:
    generator = random.Random(7)
    keys = sorted({"".join(generator.choices("ab/ü\U0001f600\uffff", k=generator.randint(1, 6))) for _ in range(300)})

    def odd(bucket: str, key: str) -> str | None:
        return "cold" if sum(key.encode()) % 2 else None

    async with stores([odd]) as s:
        for key in keys:
            await s.route.put("b", key, b"x")
            if len(key) == 3:  # what is in the other member too is not listed twice
                await s.hot.put("b", key, b"x")
                await s.cold.put("b", key, b"x")
        assert await names(s.route) == sorted(keys, key=str.encode)
        for size in (1, 2, 7, 1000):
            for prefix in ("", "a", "a/"):
                assert await names(s.route, prefix, page_size=size) == [key for key in keys if key.startswith(prefix)]
            groups = sorted({key.partition("/")[0] + "/" * ("/" in key) for key in keys})
            assert await names(s.route, delimiter="/", page_size=size) == groups
            listing = s.route.list("b", page_size=size)
            taken = [(await listing.next()).key for _ in range(100)]
            assert taken + await names(s.route, cursor=listing.cursor, page_size=3) == keys
            after = keys[150]
            assert await names(s.route, start_after=after, page_size=size) == keys[151:]


async def test_a_group_without_a_key_of_the_store_is_not_shown() -> None:
    async with stores([("a/keep", "hot"), ("a/**", "cold"), ("d/**", "cold")]) as s:
        await s.hot.put("b", "a/left", b"stored before the rules")
        await s.hot.put("b", "d/left", b"stored before the rules")
        await s.cold.put("b", "c/elsewhere", b"x")
        await s.route.put("b", "z/1", b"x")
        assert await s.route.list("b", delimiter="/").all() == [Prefix("z/")]
        await s.route.put("b", "a/keep", b"x")
        assert await s.route.list("b", delimiter="/").all() == [Prefix("a/"), Prefix("z/")]
        await s.route.put("b", "a/1", b"x")
        await s.route.delete("b", "a/keep")
        assert await names(s.route, delimiter="/", page_size=1) == ["a/", "z/"]


async def test_a_listing_asks_only_the_members_that_can_have_such_keys() -> None:
    async with stores([("logs/**", "cold")]) as s:
        for key in ("logs/1", "logs/2", "photo"):
            await s.route.put("b", key, b"x")
        assert await names(s.route, "logs/") == ["logs/1", "logs/2"]
        assert s.calls("list_page") == {"hot": 0, "cold": 1}
        assert await names(s.route, "p") == ["photo"]
        assert s.calls("list_page") == {"hot": 1, "cold": 1}
        assert await names(s.route) == ["logs/1", "logs/2", "photo"]
        assert s.calls("list_page") == {"hot": 2, "cold": 2}


async def test_a_member_that_has_ended_is_not_asked_for_further_pages() -> None:
    async with stores() as s:
        await s.route.put("b", "logs/1", b"x")
        for number in range(10):
            await s.route.put("b", f"z{number}", b"x")
        assert len(await names(s.route, page_size=2)) == 11
        assert s.calls("list_page")["cold"] <= 2


async def test_many_keys_that_are_not_shown_do_not_end_a_listing() -> None:
    async with stores([same_as_prefix]) as s:
        for number in range(1200):
            await s.cold.put("b", f"m{number:05}", b"x")
        await s.route.put("b", "a", b"x")
        await s.route.put("b", "z", b"x")
        assert await names(s.route, page_size=1) == ["a", "z"]


def same_as_prefix(bucket: str, key: str) -> str | None:
    return "cold" if key == "z" else None


async def test_a_cursor_of_other_rules_is_refused() -> None:
    async with stores() as s, stores([("logs/**", "cold"), ("x/**", "cold"), same]) as other:
        for one in (s, other):
            for key in ("a", "logs/1", "z"):
                await one.route.put("b", key, b"x")
        page = await s.route.driver.list_page("b", ListOptions(page_size=1))
        with pytest.raises(InvalidCursorError):
            await other.route.driver.list_page("b", ListOptions(cursor=str(page.cursor)[:-4]))
        route = Route({"cold": other.cold.driver, "hot": other.hot.driver}, LOGS, default="hot")
        async with trove.open(route) as turned:
            with pytest.raises(InvalidCursorError, match="a Route with other rules"):
                await turned.driver.list_page("b", ListOptions(cursor=page.cursor))


async def test_versions_of_a_bucket_are_merged() -> None:
    async with stores([("**/cold", "cold")]) as s:
        await s.route.set_versioning("b", enabled=True)
        keys = ["a/cold", "a/hot", "b/cold", "b/hot", "c/hot"]
        for key in keys:
            for text in (b"1", b"22", b"333"):
                await s.route.put("b", key, text)
        await s.cold.put("b", "c/hot", b"elsewhere")
        expected = [version for key in keys for version in await s.route.list_versions("b", key)]
        versions = await s.route.list_all_versions("b").all()
        assert versions == expected
        assert [version.key for version in versions] == [key for key in keys for _ in range(3)]
        for size in (1, 2, 4):
            found: list[Any] = []
            cursor = None
            driver: Any = s.route.driver
            while True:
                page = await driver.list_versions_page("b", VersionListOptions(page_size=size, cursor=cursor))
                found += page.versions
                if (cursor := page.cursor) is None:
                    break
            assert found == expected


# Buckets


async def test_a_bucket_exists_if_all_its_members_have_it() -> None:
    async with stores([RouteRule("**", "cold", bucket="old-*"), ("logs/**", "cold")], bucket=False) as s:
        await s.route.create_bucket("old-1")
        assert ([b.name for b in await s.hot.list_buckets()], [b.name for b in await s.cold.list_buckets()]) == (
            [], ["old-1"],
        )  # fmt: skip
        await s.hot.create_bucket("half")
        await s.route.create_bucket("both")
        assert [bucket.name for bucket in await s.route.list_buckets()] == ["both", "old-1"]
        with pytest.raises(BucketAlreadyExistsError):
            await s.route.create_bucket("both")
        await s.route.create_bucket("half")  # completes it
        assert [bucket.name for bucket in await s.route.list_buckets()] == ["both", "half", "old-1"]
        await s.cold.delete_bucket("half")
        with pytest.raises(BucketNotFoundError) as caught:
            await s.route.list("half").all()
        assert (caught.value.bucket, caught.value.driver) == ("half", "route/cold")
        await s.route.delete_bucket("half")  # deletes what is left of it
        with pytest.raises(BucketNotFoundError):
            await s.route.delete_bucket("half")
        assert [bucket.name for bucket in await s.hot.list_buckets()] == ["both"]


async def test_a_bucket_that_one_member_cannot_create_is_created_in_none() -> None:
    async with stores(bucket=False, cold=[Faults([Fault("create_bucket", error=UnavailableError("down"))])]) as s:
        with pytest.raises(UnavailableError) as caught:
            await s.route.create_bucket("b")
        assert caught.value.driver == "route/cold"
        assert await s.hot.list_buckets() == []


@pytest.mark.parametrize("member", ["hot", "cold"])
async def test_a_bucket_that_is_not_empty_in_one_member_is_deleted_in_none(member: str) -> None:
    async with stores() as s:
        await getattr(s, member).put("b", "logs/1", b"perhaps not listed by the Route")
        with pytest.raises(BucketNotEmptyError, match=f"not empty in the member '{member}'"):
            await s.route.delete_bucket("b")
        assert [bucket.name for bucket in await s.route.list_buckets()] == ["b"]
        assert s.calls("delete_bucket") == {"hot": 0, "cold": 0}


async def test_a_bucket_that_one_member_cannot_delete_stays_in_all() -> None:
    async with stores(cold=[Faults([Fault("delete_bucket", error=BucketNotEmptyError())])]) as s:
        with pytest.raises(BucketNotEmptyError):
            await s.route.delete_bucket("b")
        assert [bucket.name for bucket in await s.route.list_buckets()] == ["b"]
        await s.route.delete_bucket("b")
        assert (await s.hot.list_buckets(), await s.cold.list_buckets()) == ([], [])


async def test_versioning_is_that_of_all_members_or_of_none() -> None:
    faults = Faults([Fault("set_versioning", error=ConflictError())])
    async with stores(cold=[faults]) as s:
        with pytest.raises(ConflictError):
            await s.route.set_versioning("b", enabled=True)
        assert await s.hot.get_versioning("b") is VersioningStatus.SUSPENDED
        assert await s.route.get_versioning("b") is VersioningStatus.UNVERSIONED
        await s.route.set_versioning("b", enabled=True)
        assert await s.route.get_versioning("b") is VersioningStatus.ENABLED
        assert await s.cold.get_versioning("b") is VersioningStatus.ENABLED


# Copies


async def test_a_copy_within_one_member_is_that_of_the_member() -> None:
    async with stores() as s:
        await s.route.put("b", "logs/1", b"data")
        await s.route.copy("b", "logs/1", "b", "logs/2")
        assert s.calls("copy") == {"hot": 0, "cold": 1}
        assert s.calls("get") == {"hot": 0, "cold": 0}
        await s.route.server_copy(ObjectRef("b", "logs/1"), ObjectRef("b", "logs/3"))
        assert await names(s.cold) == ["logs/1", "logs/2", "logs/3"]


async def test_a_copy_between_members_is_streamed_with_all_that_describes_the_object() -> None:
    async with stores() as s:
        data = random.Random(1).randbytes(300_000)
        source = await s.route.put(
            "b", "a.bin", data, metadata={"m": "1"}, tags={"t": "2"}, cache_control="no-store", checksum="sha256"
        )
        await s.route.copy("b", "a.bin", "b", "logs/a.bin")
        found = await s.cold.head("b", "logs/a.bin")
        assert (found.metadata, found.cache_control, found.checksums) == ({"m": "1"}, "no-store", source.checksums)
        assert await s.cold.get_tags("b", "logs/a.bin") == {"t": "2"}
        assert await s.cold.read("b", "logs/a.bin") == data
        with pytest.raises(ObjectAlreadyExistsError):
            await s.route.copy("b", "a.bin", "b", "logs/a.bin", if_none_match="*")
        with pytest.raises(ObjectNotFoundError) as caught:
            await s.route.copy("b", "missing", "b", "logs/a.bin")
        assert (caught.value.key, caught.value.copy_phase) == ("missing", "read")
        await s.route.move("b", "a.bin", "b", "logs/moved")
        assert (await names(s.hot), await names(s.cold)) == ([], ["logs/a.bin", "logs/moved"])


async def test_no_server_copies_between_members_that_share_no_backend() -> None:
    async with stores() as s:
        await s.route.put("b", "a", b"data")
        with pytest.raises(CopyNotSupportedError, match="in the member 'hot' of the Route, the destination in 'cold'"):
            await s.route.server_copy(ObjectRef("b", "a"), ObjectRef("b", "logs/a"))
        assert await names(s.cold) == []
        upload = await s.route.initiate_multipart("b", "logs/a")
        with pytest.raises(CopyNotSupportedError, match="do not share a backend; read the range, and upload it"):
            await s.route.copy_part("b", "logs/a", upload, 1, ObjectRef("b", "a"), 0, 4)
        assert await s.route.list_parts("b", "logs/a", upload) == []


async def test_members_that_share_a_backend_copy_by_themselves() -> None:
    route = Route({"hot": "memory://shared-route", "cold": "memory://shared-route"}, LOGS, default="hot")
    async with trove.open(route) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"data")
        await t.server_copy(ObjectRef("b", "a"), ObjectRef("b", "logs/a"))
        assert await t.read("b", "logs/a") == b"data"
        upload = await t.initiate_multipart("b", "logs/b")
        part = await t.copy_part("b", "logs/b", upload, 1, ObjectRef("b", "a"), 1, 2)
        await t.complete_multipart("b", "logs/b", upload, [part])
        assert await t.read("b", "logs/b") == b"at"


# Events


async def test_a_watch_has_the_events_of_all_members_of_the_keys_that_they_have() -> None:
    async with stores() as s, s.route.watch("b") as events:
        await s.cold.put("b", "photo", b"of another store")
        await s.hot.put("b", "logs/1", b"of another store")
        for key in ("logs/1", "photo", "logs/1"):
            await s.route.put("b", key, b"x")
        seen = [await anext(events) for _ in range(3)]
        assert sorted(event.key for event in seen) == ["logs/1", "logs/1", "photo"]
        assert [event.type for event in seen if event.key == "logs/1"] == [
            trove.EventType.CREATED, trove.EventType.UPDATED,
        ]  # fmt: skip


async def test_a_watch_of_one_member_that_fails_ends_and_leaves_nothing() -> None:
    async with stores(cold=[Faults([Fault("watch", error=UnavailableError("lost"), skip=1)])]) as s:
        before = asyncio.all_tasks()
        async with s.route.watch("b") as events:
            await s.route.put("b", "logs/1", b"x")
            assert (await anext(events)).key == "logs/1"
            await s.route.put("b", "logs/2", b"x")
            with pytest.raises(UnavailableError) as caught:
                await anext(events)
        assert caught.value.driver == "route/cold"
        assert asyncio.all_tasks() == before


async def test_a_watch_cannot_be_resumed() -> None:
    async with stores() as s:
        assert not s.route.features.watch_resume
        with pytest.raises(UnsupportedError):
            async with s.route.watch("b", resume_token="x"):
                pass


# The store


async def test_lifecycle_rules_are_those_of_the_members() -> None:
    async with stores() as s:
        assert s.route.supports(VersioningDriver)
        assert s.route.supports(MultipartDriver)
        assert not s.route.supports(LifecycleDriver)
        assert not s.route.supports(LifecycleSweepDriver)
        with pytest.raises(UnsupportedError, match="set them in the store of the member"):
            await s.route.get_lifecycle("b")


async def test_errors_name_the_member_and_keep_their_class() -> None:
    async with stores(cold=[Faults([Fault("ping", error=UnavailableError("down"))])]) as s:
        with pytest.raises(UnavailableError, match=r"driver route/cold") as caught:
            await s.route.ping()
        assert caught.value.operation == "ping"
        with pytest.raises(ObjectNotFoundError) as missing:
            await s.route.read("b", "logs/missing")
        assert (missing.value.driver, missing.value.bucket, missing.value.key) == ("route/cold", "b", "logs/missing")


async def test_a_circuit_breaker_of_one_member_leaves_the_others_alone() -> None:
    down = Faults([Fault("get", error=UnavailableError("down"), times=None)])
    async with stores(cold=[down, CircuitBreaker(threshold=1)]) as s:
        for key in ("photo", "logs/1"):
            await s.route.put("b", key, b"x")
        for error in (UnavailableError, BackendUnavailableError):
            with pytest.raises(error):
                await s.route.read("b", "logs/1")
            assert await s.route.read("b", "photo") == b"x"


async def test_members_given_as_dsns_are_opened_and_closed() -> None:
    route = Route({"hot": "memory://", "cold": Member("memory://", layers=[trove.Retry()])}, LOGS, default="hot")
    for _ in range(2):
        async with trove.open(route, layers=[trove.Limit(8)]) as t:
            await t.create_bucket("b")
            await t.put("b", "logs/1", b"x")
            assert await t.read("b", "logs/1") == b"x"


async def test_every_method_is_about_one_key_or_has_a_plan() -> None:
    for name, method in METHODS.items():
        about_one_key = {"bucket", "key"} <= {*method.parameters} and "src" not in method.parameters
        never_asked = name in ("open", "close", "watch") or method.capability in RouteDriver.drops
        assert never_asked or about_one_key != (name in PLANS), name


async def test_members_of_one_backend_share_their_buckets() -> None:
    route = Route({"hot": "memory://one-backend", "cold": "memory://one-backend"}, LOGS, default="hot")
    async with trove.open(route) as t:
        await t.create_bucket("b")
        for key in ("logs/1", "photo"):
            await t.put("b", key, b"x")
        assert await names(t) == ["logs/1", "photo"]
        await t.delete_many("b", ["logs/1", "photo"])
        await t.delete_bucket("b")
        assert await t.list_buckets() == []


# Cancellation


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_copy_between_members_leaves_the_old_object_or_the_new_one(delivery: Delivery) -> None:
    async with stores(hot=SLOW, cold=SLOW) as s:
        data = bytes(200_000)

        async def prepare() -> None:
            await s.hot.put("b", "a", data)
            await s.cold.put("b", "logs/a", b"old")

        async def check(outcome: Outcome[Any]) -> None:
            found = await s.cold.read("b", "logs/a")
            assert found in ((data,) if not outcome.reached else (b"old", data))
            assert outcome.cancelled or not outcome.reached or found == data
            assert not outcome.left_running
            assert await s.hot.read("b", "a") == data

        points = await cancel_everywhere(
            lambda: s.route.copy("b", "a", "b", "logs/a"), delivery, prepare=prepare, check=check
        )
        assert points > 3


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_creation_is_completed_by_the_next(delivery: Delivery) -> None:
    async with stores(bucket=False, hot=SLOW, cold=SLOW) as s:

        async def prepare() -> None:
            for store in (s.hot, s.cold):
                if await store.list_buckets():
                    await store.delete_bucket("b")

        async def check(outcome: Outcome[Any]) -> None:
            assert not outcome.left_running
            exists = bool(await s.route.list_buckets())
            assert exists or outcome.reached
            if not exists:
                await s.route.create_bucket("b")
            await s.route.put("b", "logs/1", b"x")
            await s.route.delete("b", "logs/1")

        assert await cancel_everywhere(lambda: s.route.create_bucket("b"), delivery, prepare=prepare, check=check) > 1


@pytest.mark.parametrize("delivery", Delivery)
async def test_cancelled_versioning_is_that_of_all_members_or_of_none(delivery: Delivery) -> None:
    async with stores(hot=SLOW, cold=SLOW) as s:

        async def prepare() -> None:
            for store in (s.hot, s.cold):
                await store.set_versioning("b", enabled=False)

        async def check(outcome: Outcome[Any]) -> None:
            assert not outcome.left_running
            found = [await store.get_versioning("b") is VersioningStatus.ENABLED for store in (s.hot, s.cold)]
            assert found == [not outcome.cancelled] * 2

        points = await cancel_everywhere(
            lambda: s.route.set_versioning("b", enabled=True), delivery, prepare=prepare, check=check
        )
        assert points > 3


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_deletion_leaves_the_bucket_in_all_members_or_in_none(delivery: Delivery) -> None:
    async with stores(bucket=False, hot=SLOW, cold=SLOW) as s:

        async def prepare() -> None:
            await s.route.create_bucket("b")

        async def check(outcome: Outcome[Any]) -> None:
            assert not outcome.left_running
            found = [[bucket.name for bucket in await store.list_buckets()] for store in (s.hot, s.cold)]
            assert found[0] == found[1] == (["b"] if outcome.cancelled else [])
            if found[0]:
                await s.route.delete_bucket("b")

        assert await cancel_everywhere(lambda: s.route.delete_bucket("b"), delivery, prepare=prepare, check=check) > 1
