"""A `Failover` with a queue: one copy first, and the queue brings it to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.mirror.stores import Members, driver_of
from trove_async import Backoff, Budget, Failover, Layer, Member, Retry, Trove
from trove_async.errors import (
    BackendUnavailableError,
    InvalidArgumentError,
    InvalidDSNError,
    ObjectAlreadyExistsError,
    UnavailableError,
)
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path, count=2)


@asynccontextmanager
async def opened(members: Members, layers: Sequence[Layer] = (), **arguments: Any) -> AsyncIterator[Trove]:
    """Open the store, with a bucket at all members and no repairs but those that a test asks for."""
    target = Failover(
        [Member(members.dsns[name], layers=[members.faults[name]]) for name in members.names],
        queue=members.queue,
        **arguments,
    )
    assert target._written is not None
    object.__setattr__(target._written, "repair_every", None)
    async with trove_async.open(target, layers=layers) as t:
        await t.create_bucket("b", exist_ok=True)
        await driver_of(t).repair()
        yield t


async def test_one_copy_is_written_and_the_queue_brings_it_to_the_others(members: Members) -> None:
    async with opened(members) as t:
        info = await t.put("b", "k", b"content", tags={"a": "1"})
        assert await members.copies() == [b"content", None]
        assert (await t.head("b", "k")).etag == info.etag
        assert [found.key for found in await t.list("b").all()] == ["k"]
    async with opened(members) as t:  # which has repaired what another process left in the queue
        assert await driver_of(t).status() == {}
        assert await members.copies() == [b"content"] * 2
        await t.delete("b", "k")
        assert await members.copies() == [None, b"content"]
        assert await t.list("b").all() == []
        await driver_of(t).repair()
    assert await members.copies() == [None, None]


async def test_writes_go_to_the_next_member_while_the_first_fails(members: Members) -> None:
    async with opened(members, open_for=0.02) as t:
        await t.put("b", "old", b"old")
        await driver_of(t).repair()
        members.stop("0")
        with pytest.raises(UnavailableError):
            await t.put("b", "k", b"new")
        await t.put("b", "k", b"new")
        await t.put("b", "old", b"new")
        assert await t.read("b", "old") == b"new"
        assert (await members.copies(), await members.copies("old")) == ([None, b"new"], [b"old", b"new"])
        members.start("0")
        while await driver_of(t).repair() or await driver_of(t).status():
            await t.ping()  # until the first member is noticed to be back
        assert (await members.copies(), await members.copies("old")) == ([b"new"] * 2, [b"new"] * 2)


async def test_a_new_bucket_is_at_all_members_so_that_the_next_one_can_take_over(members: Members) -> None:
    async with opened(members) as t:
        await t.create_bucket("new")
        members.stop("0")
        with pytest.raises(UnavailableError):
            await t.put("new", "k", b"content")
        await t.put("new", "k", b"content")
        assert await t.read("new", "k") == b"content"
        members.start("0")
        async with members.alone("1") as second:
            assert await second.read("new", "k") == b"content"


async def test_retry_around_it_writes_to_the_next_member(members: Members) -> None:
    at_once = Backoff(0, 0)
    async with opened(members, layers=[Retry(transport=at_once)]) as t:
        members.stop("0")
        await t.put("b", "k", b"new")
        assert await members.copies() == [None, b"new"]
        members.start("0")


async def test_a_copy_that_waits_for_repair_is_not_read(members: Members) -> None:
    async with opened(members) as t:
        await t.put("b", "k", b"old")
        await driver_of(t).repair()
        await t.put("b", "k", b"new")
        assert await members.copies() == [b"new", b"old"]
        members.stop("0")
        for _ in range(2):
            with pytest.raises((UnavailableError, BackendUnavailableError)):
                await t.read("b", "k")
        members.start("0")


async def test_conditions_hold(members: Members) -> None:
    async with opened(members) as t:
        info = await t.put("b", "k", b"1", if_none_match="*")
        with pytest.raises(ObjectAlreadyExistsError):
            await t.put("b", "k", b"2", if_none_match="*")
        await t.put("b", "k", b"2", if_match=info.etag)
        assert await t.read("b", "k") == b"2"


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_cancelled_put_is_at_all_members_or_at_none(members: Members, delivery: Delivery) -> None:
    async with opened(members) as t:

        async def prepare() -> None:
            await t.put("b", "k", b"old")
            await driver_of(t).repair()

        async def check(outcome: Outcome[Any]) -> None:
            assert not outcome.left_running
            await driver_of(t).repair()
            found = await members.copies()
            assert found in ([b"old"] * 2, [b"new"] * 2)
            assert outcome.cancelled or found == [b"new"] * 2
            assert await t.read("b", "k") == found[0]

        await cancel_everywhere(lambda: t.put("b", "k", b"new"), delivery, prepare=prepare, check=check, step=2)


@pytest.mark.parametrize(
    ("given", "arguments", "error", "message"),
    [
        (["memory://"], {"queue": "sqlite:///x.db"}, InvalidArgumentError, "two members or more"),
        (["memory://"] * 2, {"queue": 5}, InvalidArgumentError, "queue is the URL of a database"),
        (["memory://"] * 2, {"queue": "sqlite:///x.db", "budget": Budget()}, InvalidArgumentError, "no budget"),
        (["memory://", "nothing"], {"queue": "sqlite:///x.db"}, InvalidDSNError, "no scheme"),
    ],
)
async def test_what_is_wrong_is_refused_when_it_is_made(
    given: list[str], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Failover(given, **arguments)
