"""The queue of repairs: what it keeps, for whom, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from trove_async.errors import InvalidArgumentError, LeaseLostError
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Intent, Kind

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def queue(url: str) -> AsyncIterator[RepairQueue]:
    queue = await RepairQueue.open(url)
    yield queue
    await queue.aclose()


def put(generation: str, key: str = "k", kind: Kind = "put") -> Intent:
    return Intent(bucket="b", key=key, kind=kind, generation=generation)


async def begun(queue: RepairQueue, intent: Intent, seconds: float = 60) -> Intent:
    claim = await queue.begin(intent, seconds=seconds)
    assert claim is not None
    assert claim.intent.generation == intent.generation
    return claim.intent


async def test_one_writer_of_a_key_at_a_time_in_all_processes(queue: RepairQueue, url: str) -> None:
    other = await RepairQueue.open(url)
    intent = await begun(queue, put("g1"))
    assert await other.begin(put("g2"), seconds=60) is None
    await begun(other, put("g2", key="another"))
    await queue.end(intent)
    await begun(other, put("g2"))
    await other.aclose()


async def test_members_that_were_missed_are_queued_until_they_are_reached(queue: RepairQueue, url: str) -> None:
    await queue.end(await begun(queue, put("g1")), reached=["a"], missed=["b", "c"])
    await queue.aclose()  # and a restart
    queue = await RepairQueue.open(url)
    assert {name: found.generation for name, found in (await queue.repairs("b", "k")).items()} == {"b": "g1", "c": "g1"}
    await queue.end(await begun(queue, put("g2")), reached=["b"], missed=["a", "c"])
    assert {name: found.generation for name, found in (await queue.repairs("b", "k")).items()} == {"a": "g2", "c": "g2"}
    assert {name: found.copies for name, found in (await queue.pending()).items()} == {"a": 1, "c": 1}
    await queue.aclose()


async def test_an_intent_that_expired_is_handed_to_the_next_writer_to_be_settled(queue: RepairQueue) -> None:
    dead = await begun(queue, put("g1"), seconds=0.01)
    await asyncio.sleep(0.05)
    assert [found.generation for found in await queue.expired(10)] == ["g1"]
    claim = await queue.begin(put("g2"), seconds=60)
    assert claim is not None
    assert claim.intent.generation == "g1"
    with pytest.raises(LeaseLostError) as caught:
        await queue.end(dead, missed=["a"])
    assert caught.value.ambiguous
    assert not await queue.repairs("b", "k")
    await queue.end(claim.intent, missed=["a"])
    await queue.end(await begun(queue, put("g2")))


async def test_an_intent_that_was_renewed_does_not_expire(queue: RepairQueue) -> None:
    intent = await begun(queue, put("g1"), seconds=0.2)
    assert await queue.renew([intent], seconds=60) == {intent.token}
    await asyncio.sleep(0.3)
    assert await queue.begin(put("g2"), seconds=60) is None
    assert not await queue.expired(10)


async def test_an_intent_is_taken_by_one_of_those_who_found_it(queue: RepairQueue) -> None:
    await queue.abandon(await begun(queue, put("g1")))
    (found,) = await queue.expired(10)
    claims = await asyncio.gather(*(queue.take(found, seconds=60) for _ in range(5)))
    assert len([claim for claim in claims if claim is not None]) == 1


async def test_an_intent_that_another_write_has_replaced_is_not_taken(queue: RepairQueue) -> None:
    await queue.abandon(await begun(queue, put("g1")))
    (found,) = await queue.expired(10)
    await queue.end(await begun(queue, found), missed=[])
    await queue.abandon(await begun(queue, put("g2")))
    assert await queue.take(found, seconds=60) is None
    assert [left.generation for left in await queue.expired(10)] == ["g2"]


async def test_a_repair_that_failed_waits_and_is_hastened_when_its_member_is_back(queue: RepairQueue) -> None:
    await queue.end(await begun(queue, put("g1")), missed=["a", "b"])
    (repair,) = await queue.due(10, members=["a"])
    await queue.postpone(repair, "it is down", seconds=60)
    assert not await queue.due(10, members=["a"])
    (late,) = await queue.due(10, members=["a"], only_due=False)
    assert (late.attempts, late.error) == (1, "it is down")
    pending = (await queue.pending())["a"]
    assert (pending.failing, pending.error) == (1, "it is down")
    await queue.hasten("a")
    assert [found.member for found in await queue.due(10, members=["a"])] == ["a"]


async def test_repairs_of_a_bucket_are_in_the_order_of_a_listing(queue: RepairQueue) -> None:
    keys = ["a", "a\U0010ffff", "a\ufffd", "a/b", "b", "ä"]
    for key in keys:
        await queue.end(await begun(queue, put("g", key=key)), missed=["m"])
    assert [found.key for found in await queue.in_bucket("b", members=["m"])] == sorted(keys)
    found = await queue.in_bucket("b", "a", members=["m"], after="a/b")
    assert [one.key for one in found] == ["a\ufffd", "a\U0010ffff"]
    assert not await queue.in_bucket("b", members=["other"])
    assert await queue.behind("b", "a/") == {"m"}
    assert await queue.behind("b", "c") == set()


async def test_a_name_that_stood_for_another_store_is_refused(queue: RepairQueue) -> None:
    await queue.register({"0": "memory://x", "1": ""})
    await queue.register({"1": "memory://y", "0": "memory://x"})
    with pytest.raises(InvalidArgumentError, match="'0' is memory://y, but in the repair queue it is memory://x"):
        await queue.register({"0": "memory://y", "1": "memory://x"})


async def test_stores_in_one_database_do_not_see_each_other(queue: RepairQueue, url: str) -> None:
    other = await RepairQueue.open(url, "other")
    await queue.end(await begun(queue, put("g1")), missed=["a"])
    await queue.abandon(await begun(queue, put("g2")))
    assert not await other.due(10, members=["a"])
    assert not await other.expired(10)
    assert not await other.pending()
    await begun(other, put("g3"))
    await other.aclose()
