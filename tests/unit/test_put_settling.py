"""Puts whose answer was lost, through `Retry`: what a look at the object makes of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trove_async as trove
from trove_async.driver import Driver, copy_settling, put_settling
from trove_async.driver import retry as retry_module
from trove_async.layers import LayerDriver, Operation, Retry
from trove_async.layers.base import Call
from trove_async.testing.faults import Fault, Faults

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make every wait pass at once, and return how long they were."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(retry_module, "asyncio", SimpleNamespace(sleep=sleep))
    return waits


def _retry(attempts: int = 4) -> Retry:
    return Retry(attempts, budget=trove.Budget(math.inf))


def _lost(**more: Any) -> Fault:
    return Fault("put", error=trove.UnavailableError("the answer was lost", ambiguous=True), **more)


class Between:
    """Does something before the first look at an object, and notes the operations that reach the driver."""

    def __init__(self, act: Callable[[trove.Trove], Any] | None = None) -> None:
        self.act = act
        self.seen: list[str] = []
        self.outside: trove.Trove | None = None

    def __call__(self, driver: Driver) -> Driver:
        between = self

        class Noting(LayerDriver):
            async def around(self, operation: Operation, call: Call[Any]) -> Any:
                between.seen.append(operation.name)
                if operation.name == "head" and between.act is not None and between.outside is not None:
                    act, between.act = between.act, None
                    await act(between.outside)
                return await call()

        return Noting(driver)

    def count(self, name: str) -> int:
        return self.seen.count(name)


@pytest.mark.parametrize("kind", ["bytes", "path"])
async def test_a_put_that_was_carried_out_is_not_sent_again(kind: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"data")
    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        body: Any = b"data" if kind == "bytes" else tmp_path / "body"
        info = await t.put("b", "k", body, metadata={"a": "b"}, tags={"c": "d"}, content_type="x/y")
        assert info == await t.head("b", "k")
        assert [version.etag for version in await t.list_versions("b", "k")] == [info.etag]
    assert noted.count("put") == 1


async def test_a_put_that_was_not_carried_out_is_sent_again() -> None:
    faults, noted = Faults([_lost()]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"data")
        assert await t.read("b", "k") == b"data"
    assert noted.seen.index("head") < noted.seen.index("put")


@pytest.mark.parametrize(
    "old",
    [
        {"data": b"else"},
        {"data": b"longer"},
        {"metadata": {"a": "old"}},
        {"tags": {"a": "old"}},
        {"content_type": "old/old"},
        {"data": b"else", "checksum": "sha256"},
    ],
    ids=["bytes", "size", "metadata", "tags", "content type", "checksum"],
)
async def test_an_object_that_differs_is_replaced(old: dict[str, Any]) -> None:
    faults, noted = Faults([_lost(skip=1)]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", **{"data": b"data", **old})
        await t.put("b", "k", b"data", checksum=old.get("checksum"))
        assert await t.read("b", "k") == b"data"
        info = await t.head("b", "k")
        assert (info.metadata, info.content_type) == ({}, "application/octet-stream")
        assert await t.get_tags("b", "k") == {}
    assert noted.count("put") == 2


async def test_an_object_with_the_same_checksum_is_not_read() -> None:
    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"data", checksum="sha256")
    assert (noted.count("put"), noted.count("get")) == (1, 0)


async def test_a_look_that_fails_is_tried_again(delays: list[float]) -> None:
    faults, noted = Faults([_lost(when="after"), Fault("head", error=trove.UnavailableError(), times=2)]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"data")
    assert noted.count("put") == 1
    assert len(delays) == 3


@pytest.mark.parametrize("error", [trove.UnavailableError(), trove.AccessDeniedError("no right to read")])
async def test_a_put_that_cannot_be_looked_for_is_ambiguous(error: trove.TroveError) -> None:
    faults, noted = Faults([_lost(when="after"), Fault("head", error=error, times=None)]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        with pytest.raises(trove.UnavailableError, match=r"the answer was lost; .* a look at it failed") as caught:
            await t.put("b", "k", b"data")
    assert (caught.value.ambiguous, caught.value.exhausted) == (True, True)
    assert noted.count("put") == 1


async def test_a_large_object_without_checksum_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(put_settling, "COMPARED", 3)
    assert copy_settling.COMPARED == 64 * 1024 * 1024
    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        with pytest.raises(trove.UnavailableError) as caught:
            await t.put("b", "k", b"data")
    assert caught.value.ambiguous
    assert (noted.count("put"), noted.count("get")) == (1, 0)


async def test_the_last_attempt_is_settled_too() -> None:
    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry(1)]) as t:
        await t.create_bucket("b")
        assert (await t.put("b", "k", b"data")).size == 4
    assert noted.count("put") == 1


async def test_a_put_that_another_writer_has_replaced_meanwhile_is_sent_again() -> None:
    """The last writer wins, which is the put."""

    async def replace(outside: trove.Trove) -> None:
        await outside.put("b", "k", b"theirs")

    faults, noted = Faults([_lost(when="after")]), Between(replace)
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        noted.outside = t
        await t.create_bucket("b")
        await t.put("b", "k", b"data")
        assert await t.read("b", "k") == b"data"
    assert noted.count("put") == 3


async def test_a_put_of_a_condition_that_may_hold_again_is_not_sent_again() -> None:
    faults, noted = Faults([_lost(skip=1, when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        await t.put("b", "k", b"old")
        with pytest.raises(trove.UnavailableError) as caught:
            await t.put("b", "k", b"data", if_match="*")
    assert caught.value.ambiguous
    assert noted.count("put") == 2


async def test_a_body_that_can_be_read_once_is_neither_sent_again_nor_looked_for() -> None:
    async def chunks() -> Any:
        yield b"data"

    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry()]) as t:
        await t.create_bucket("b")
        with pytest.raises(trove.UnavailableError) as caught:
            await t.put("b", "k", chunks())
    assert caught.value.ambiguous
    assert (noted.count("put"), noted.count("head")) == (1, 0)


@pytest.mark.parametrize("at", ["head", "get_tags", "get"])
async def test_a_look_that_is_cancelled_sends_nothing(at: str) -> None:
    begun = asyncio.Event()

    class Standing(LayerDriver):
        async def around(self, operation: Operation, call: Call[Any]) -> Any:
            if operation.name == at:
                begun.set()
                await asyncio.Event().wait()
            return await call()

    faults, noted = Faults([_lost(when="after")]), Between()
    async with trove.open("memory://", layers=[noted, Standing, faults, _retry()]) as t:
        await t.create_bucket("b")
        task = asyncio.create_task(t.put("b", "k", b"data"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert noted.count("put") == 1


async def test_a_mirror_that_reached_too_few_stores_is_not_looked_at() -> None:
    """The object can be seen, and still too few stores have it."""
    error = trove.BackendUnavailableError("1 of 3 members have the write", ambiguous=True)
    faults, noted = Faults([Fault("put", error=error, when="after", times=2)]), Between()
    async with trove.open("memory://", layers=[noted, faults, _retry(2)]) as t:
        await t.create_bucket("b")
        with pytest.raises(trove.BackendUnavailableError):
            await t.put("b", "k", b"data")
    assert (noted.count("put"), noted.count("head")) == (2, 0)
