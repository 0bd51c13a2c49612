"""A quota around a store that finishes writes later by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import trove_async as trove
from tests.mirror.stores import Members, repaired
from tests.quota.truth import AMPLE, Sizes, layers, used
from trove_async.driver import Driver
from trove_async.errors import UnavailableError
from trove_async.layers import LayerDriver
from trove_async.testing.faults import Fault

pytestmark = pytest.mark.asyncio

LOST = Fault("put", error=UnavailableError("the answer is lost"), when="after")


async def held(t: trove.Trove) -> Sizes:
    sizes = [info.size async for info in t.list("b")]
    return sum(sizes), len(sizes)


async def up(t: trove.Trove) -> None:
    """Wait until the members that were down are found to be up."""
    breakers = trove.unwrap(t.driver, trove.MirrorDriver).breakers.values()
    for _ in range(500):
        if all(breaker.state == "closed" for breaker in breakers):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a member is still taken for down")


@pytest.mark.parametrize(("before", "looks"), [(None, 0), (None, 1), (None, 4), (None, None), (b"x" * 30, 2)])
async def test_a_write_that_the_mirror_settles_later(before: bytes | None, looks: int | None, tmp_path: Path) -> None:
    """The sums are right whenever the member that may have the write can be looked at again."""
    members = Members(tmp_path, 2)
    quota = layers({"b": AMPLE}, f"sqlite:///{tmp_path}/quota.db?synchronous=0")
    async with (
        members.alone("0"),
        members.alone("1"),
        trove.open(members.mirror(write_quorum=1), layers=quota) as t,
    ):
        await t.create_bucket("b")
        if before is not None:
            await t.put("b", "k", before)
        members.faults["0"].add(Fault("put", error=UnavailableError("the member is down")))
        members.faults["1"].add(LOST)
        if looks != 0:
            members.faults["1"].add(Fault("head", error=UnavailableError("it is still down"), times=looks))
        with pytest.raises(UnavailableError) as caught:
            await t.put("b", "k", b"x" * 10)
        assert caught.value.ambiguous or looks == 0
        members.start("0", "1")
        await up(t)
        await repaired(t)
        assert await used(t) == await held(t)


async def test_each_layer_passes_the_question_on(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    class Asked(LayerDriver):
        async def settle(self, bucket: str, key: str) -> None:
            asked.append((bucket, key))

    def layer(driver: Driver) -> Driver:
        return Asked(driver)

    route = trove.Route({"hot": trove.Member("memory://", layers=[layer])}, default="hot")
    async with trove.open(route, layers=[trove.Retry(), trove.Cache(), trove.Prefixed("acme/")]) as t:
        await t.driver.settle("b", "k")
    assert asked == [("b", "acme/k")]
