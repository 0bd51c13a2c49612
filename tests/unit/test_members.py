"""Stores over several stores: how their members are opened, closed and described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

import trove_async
from trove_async.driver import (
    Driver,
    Features,
    Limits,
    Member,
    MultipartDriver,
    NotificationDriver,
    OpenOptions,
    RangeDriver,
    TaggingDriver,
    Target,
    VersioningDriver,
    capabilities_of,
)
from trove_async.errors import (
    ClosedError,
    InvalidArgumentError,
    InvalidDSNError,
    NotFoundError,
    ObjectNotFoundError,
    UnsupportedError,
)
from trove_async.layers import LayerDriver, Operation
from trove_async.layers.members import MembersDriver, named, open_members
from trove_async.testing.mock import MockDriver

pytestmark = pytest.mark.asyncio


class FirstDriver(MembersDriver):
    name = "first"
    drops = {TaggingDriver: "for the test", NotificationDriver: "for the test"}  # noqa: RUF012 - as in the base class

    async def perform(self, operation: Operation) -> Any:
        return await operation.on(next(iter(self.members.values())))


@dataclass(frozen=True)
class First(Target):
    """Asks its first member alone."""

    members: Mapping[str, Member]

    async def open(self, options: OpenOptions) -> Driver:
        return FirstDriver(await open_members(self.members, options))


class Recorder(LayerDriver):
    def __init__(self, inner: Driver, seen: list[str]) -> None:
        super().__init__(inner)
        self.seen = seen

    async def start(self) -> None:
        self.seen.append("start")

    async def close(self) -> None:
        self.seen.append("close")
        await super().close()


def over(*members: str | Driver | Target | Member) -> First:
    return First(named(members))


async def test_members_given_as_dsns_are_opened_and_closed_with_their_layers() -> None:
    seen: list[str] = []
    member = Member("memory://", layers=[lambda driver: Recorder(driver, seen)])
    t = await trove_async.open(over(member, "memory://"))
    assert seen == ["start"]
    await t.create_bucket("b")
    await t.put("b", "k", b"content")
    assert await t.read("b", "k") == b"content"
    assert t.driver.name == "first"
    members = [*t.driver.members.values()]  # type: ignore[attr-defined]
    await t.aclose()
    assert seen == ["start", "close"]
    for driver in members:
        with pytest.raises(ClosedError):
            await driver.list_buckets()


@pytest.mark.parametrize("layered", [False, True])
async def test_a_member_that_was_open_stays_open(layered: bool) -> None:
    seen: list[str] = []
    async with trove_async.open("memory://") as inner:
        layers = [lambda driver: Recorder(driver, seen)] if layered else []
        async with trove_async.open(over(Member(inner.driver, layers=layers))) as t:
            await t.create_bucket("b")
        assert [bucket.name for bucket in await inner.list_buckets()] == ["b"]
    assert seen == (["start", "close"] if layered else [])


async def test_a_member_that_cannot_be_opened_closes_the_others_and_is_named() -> None:
    seen: list[str] = []
    first = Member("memory://", layers=[lambda driver: Recorder(driver, seen)])
    with pytest.raises(NotFoundError) as caught:
        await trove_async.open(over(first, "local:///nowhere/at/all"))
    assert caught.value.__notes__ == ["while the member '1' was opened"]
    assert seen == ["start", "close"]


async def test_a_target_can_be_opened_again_and_be_a_member() -> None:
    target = over(over("memory://"))
    for _ in range(2):
        async with trove_async.open(target, layers=[trove_async.Limit(8)]) as t:
            assert await t.list_buckets() == []


async def test_the_store_has_what_all_members_have() -> None:
    async with trove_async.open("memory://") as whole, trove_async.open(over(whole.driver, "memory://")) as t:
        assert capabilities_of(t.driver) == capabilities_of(whole.driver) - {TaggingDriver, NotificationDriver}
        assert t.features.conditions == whole.features.conditions
        assert t.supports(VersioningDriver)
        assert not t.supports(TaggingDriver)
        with pytest.raises(UnsupportedError, match="for the test"):
            await t.get_tags("b", "k")


async def test_what_one_member_lacks_is_missing_with_the_reason() -> None:
    def without(driver: Driver) -> Driver:
        return NoVersions(driver)

    class NoVersions(LayerDriver):
        drops = {VersioningDriver: "they cost too much", "put_if_match": "it is slow"}  # noqa: RUF012

    async with trove_async.open(First({"a": Member("memory://"), "b": Member("memory://", layers=[without])})) as t:
        assert not isinstance(t.driver, VersioningDriver)
        assert isinstance(t.driver, MultipartDriver)
        assert isinstance(t.driver, RangeDriver)
        assert "put_if_match" not in t.features.conditions
        assert "put_if_none_match" in t.features.conditions
        await t.create_bucket("b")
        with pytest.raises(UnsupportedError, match="the member 'b' lacks it, which 'a' has: they cost too much"):
            await t.set_versioning("b", enabled=True)
        with pytest.raises(UnsupportedError, match="the member 'b' lacks it, which 'a' has: it is slow"):
            await t.put("b", "k", b"", if_match="x")


async def test_the_limits_are_the_tightest() -> None:
    small = Limits(max_key_size=100, min_part_size=5, max_put_size=7, max_parts=10, equal_parts=True)
    large = Limits(max_key_size=900, min_part_size=9, max_part_size=50)
    a, b = MockDriver(features=Features(limits=small)), MockDriver(features=Features(limits=large))
    async with trove_async.open(over(a, b)) as t:
        limits = t.features.limits
    assert (limits.max_key_size, limits.min_part_size, limits.max_part_size) == (100, 9, 50)
    assert (limits.max_put_size, limits.max_parts, limits.equal_parts) == (7, 10, True)


async def test_a_bucket_of_the_dsn_is_known_if_all_members_name_it() -> None:
    dsn = "s3://key:secret@us-east-1/assets"
    async with trove_async.open(over(dsn, dsn)) as t:
        assert t.driver.default_bucket == "assets"
    async with trove_async.open(over(dsn, "memory://")) as t:
        assert t.driver.default_bucket is None


async def test_errors_and_signatures_are_those_of_a_driver() -> None:
    async with trove_async.open(over("memory://")) as t:
        await t.create_bucket("b")
        with pytest.raises(ObjectNotFoundError) as caught:
            await t.read("b", "k")
        assert (caught.value.bucket, caught.value.key) == ("b", "k")
        with pytest.raises(TypeError, match=r"head\(\): missing a required argument: 'key'"):
            await t.driver.head("b")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "a DSN is a str"),
        (trove_async.Limit, "Limit is a class"),
    ],
)
async def test_what_is_no_member_is_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidDSNError, match=message):
        Member(given)


async def test_a_member_refuses_bad_arguments_before_anything_is_opened() -> None:
    with pytest.raises(InvalidDSNError, match="no scheme"):
        Member("nothing")
    with pytest.raises(InvalidArgumentError, match=r"layers is a list of layers"):
        Member("memory://", layers=trove_async.Limit(8))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="First is no layer; give it to open"):
        trove_async.open("memory://", layers=[over("memory://")])  # type: ignore[list-item]
    async with trove_async.open("memory://") as t:
        with pytest.raises(InvalidArgumentError, match="'region' is not an argument of open"):
            Member(t.driver, settings={"region": "x"})
    with pytest.raises(InvalidArgumentError, match="'region' is not an argument of open"):
        await trove_async.open(over("memory://"), region="x")


async def test_a_member_shows_no_secret() -> None:
    assert "hidden" not in repr(Member("s3://key:hidden@us-east-1", settings={"token": "hidden"}))
