"""Objects of many pieces: how many are read at once, and what becomes of a reader when one is damaged."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
import pytest_asyncio

import trove_async
from trove_async import BackendError, Trove
from trove_async.driver import Driver
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.managed import Dedup
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

R = TypeVar("R")

SIZE = 1000
PARTS = [os.urandom(SIZE) for _ in range(20)]
WHOLE = b"".join(PARTS)


class InFlight(LayerDriver):
    """Counts the gets from the inner store, and the most of them that were under way at once."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.gets = self.now = self.most = 0

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name != "get":
            return await call()
        self.gets += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            return await call()
        finally:
            self.now -= 1


@pytest_asyncio.fixture
async def store(sqlite_url: str, space: str) -> AsyncIterator[Trove]:
    """A store with an object of twenty pieces."""
    dedup = Dedup(sqlite_url, bucket="blobs", space=space)
    async with trove_async.open(f"memory://{space}", layers=[InFlight, dedup]) as opened:
        await opened.create_bucket("b")
        upload = await opened.initiate_multipart("b", "whole")
        parts = [
            await opened.upload_part("b", "whole", upload, number, part) for number, part in enumerate([*PARTS, b""], 1)
        ]
        await opened.complete_multipart("b", "whole", upload, parts)
        yield opened


@pytest.fixture
def inner(store: Trove) -> InFlight:
    return trove_async.unwrap(store.driver, InFlight)


async def test_pieces_after_the_first_are_read_several_at_once(store: Trove, inner: InFlight) -> None:
    assert await store.read("b", "whole") == WHOLE
    assert (inner.gets, inner.most) == (20, 8)


async def test_a_range_reads_only_the_pieces_that_it_touches(store: Trove, inner: InFlight) -> None:
    for offset, length, pieces in (
        (5 * SIZE, SIZE, 1),
        (5 * SIZE - 1, 2, 2),
        (0, 1, 1),
        (9_500, 3_000, 4),
        (19_999, 1, 1),
    ):
        inner.gets = 0
        assert await store.read("b", "whole", range=(offset, length)) == WHOLE[offset : offset + length]
        assert inner.gets == pieces


async def test_whoever_reads_the_beginning_pays_for_no_more(store: Trove, inner: InFlight) -> None:
    async with store.get("b", "whole") as reader:
        assert await reader.read(10) == WHOLE[:10]
    assert inner.gets == 1


async def test_a_limit_of_memory_holds_for_what_is_read_ahead(store: Trove, inner: InFlight) -> None:
    async with store.get("b", "whole") as reader:
        reader.limit_memory(3 * SIZE)
        assert await reader.read() == WHOLE
    assert inner.most == 3


async def test_a_reader_can_seek_in_what_was_read_ahead(store: Trove) -> None:
    async with store.get("b", "whole") as reader:
        assert await reader.read(2_500) == WHOLE[:2_500]
        for offset in (2_400, 17_999, 0, 8_001):
            await reader.seek(offset)
            assert await reader.read(1_500) == WHOLE[offset : offset + 1_500]


async def test_a_small_read_copies_no_rest_of_a_piece(store: Trove) -> None:
    piece = 512 * 1024
    upload = await store.initiate_multipart("b", "large")
    parts = [await store.upload_part("b", "large", upload, number, bytes([number]) * piece) for number in (1, 2, 3)]
    await store.complete_multipart("b", "large", upload, parts)
    async with store.get("b", "large") as reader:
        await reader.read(piece + 1)
        tracemalloc.start()
        try:
            assert [await reader.read(1000) for _ in range(10)] == [b"\2" * 1000] * 10
            assert tracemalloc.get_traced_memory()[1] < piece / 2
        finally:
            tracemalloc.stop()
        assert await reader.read() == b"\2" * (piece - 10_001) + b"\3" * piece


async def cut_short(bytes_of: Trove, key: str) -> None:
    await bytes_of.put("blobs", key, PARTS[5][:-1])


@pytest.mark.parametrize("damage", [lambda bytes_of, key: bytes_of.delete("blobs", key), cut_short])
async def test_damaged_bytes_among_those_that_are_read_ahead_are_an_error(
    store: Trove, space: str, damage: Callable[[Trove, str], Awaitable[object]]
) -> None:
    async with trove_async.open(f"memory://{space}") as bytes_of:
        for key in [info.key async for info in bytes_of.list("blobs")]:
            if await bytes_of.read("blobs", key) == PARTS[5]:
                await damage(bytes_of, key)
    async with store.get("b", "whole") as reader:
        with pytest.raises(BackendError, match="missing or too short"):
            await reader.read()
    assert await store.read("b", "whole", range=(10_000, 10_000)) == WHOLE[10_000:]


@pytest.mark.parametrize("delivery", Delivery)
async def test_cancelled_everywhere(store: Trove, delivery: Delivery, await_point_step: int) -> None:
    async def check(outcome: Outcome[bytes]) -> None:
        assert outcome.error is None
        assert outcome.left_running == frozenset()

    async def prepare() -> None:
        """The object stays as it is."""

    points = await cancel_everywhere(
        lambda: store.read("b", "whole"), delivery, prepare=prepare, check=check, step=await_point_step
    )
    assert points >= 2
