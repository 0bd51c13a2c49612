"""The memory of uploads: of each, and of all together."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from tests.uploads.store.stores import Parts, chunks, parts_of
from tests.uploads.store.test_writers import Gate
from trove_async.testing.helpers import random_bytes
from trove_async.uploads import FileInfo, TroveDataStore
from trove_async.uploads.store.budget import MemoryBudget
from trove_async.uploads.store.buffer import Buffer

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024


async def test_uploads_wait_for_memory() -> None:
    """More uploads than the memory has parts for: all of them end, and the bound holds."""
    async with trove.open("memory://?min_part_size=1", layers=[Parts]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=100_000, memory=400_000, shared=False)
        data = random_bytes(250_001)

        async def one() -> None:
            upload_id = await uploads.new_upload(FileInfo(size=len(data)))
            for start in range(0, len(data), 70_000):
                await uploads.write_chunk(upload_id, start, chunks(data[start : start + 70_000], 9000))
            await uploads.finish_upload(upload_id)
            assert await store.read("b", upload_id) == data

        await asyncio.gather(*(one() for _ in range(40)))
        assert uploads.budget.used == 0
        assert 100_000 <= uploads.budget.peak <= 400_000


async def test_clients_that_stall_hold_what_they_have_sent() -> None:
    async with trove.open("memory://", layers=[Parts]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=8 * MIB, memory=16 * MIB, shared=False)
        gates = [Gate(b"x", b"y") for _ in range(5)]
        stalled = []
        for gate in gates:
            upload_id = await uploads.new_upload(FileInfo(size=30 * MIB))
            stalled.append(asyncio.create_task(uploads.write_chunk(upload_id, 0, aiter(gate))))
            await gate.waiting.wait()
        assert uploads.budget.used == 5 * MIB
        data = random_bytes(17 * MIB)
        fast = await uploads.new_upload(FileInfo(size=len(data)))
        await uploads.write_chunk(fast, 0, chunks(data, 60_000))
        await uploads.finish_upload(fast)
        assert await store.read("b", fast) == data
        for gate in gates:
            gate.open.set()
        await asyncio.gather(*stalled)
        assert uploads.budget.peak <= 16 * MIB


async def test_idle_tails_give_way() -> None:
    async with trove.open("memory://?min_part_size=1", layers=[Parts]) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=1000, memory=3000, shared=False)
        data = random_bytes(2500)
        ids = [await uploads.new_upload(FileInfo(size=len(data))) for _ in range(8)]
        for start in range(0, len(data), 900):
            for upload_id in ids:
                await uploads.write_chunk(upload_id, start, chunks(data[start : start + 900], 100))
                assert uploads.budget.used <= 3000
        for upload_id in ids:
            await uploads.finish_upload(upload_id)
            assert await store.read("b", upload_id) == data


async def test_a_part_that_grows_takes_little_memory(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", shared=False)
        piece = bytes(60_000)
        all_wait = asyncio.Barrier(21)
        go_on = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield piece
            await all_wait.wait()
            await go_on.wait()

        ids = [await uploads.new_upload(FileInfo(size=10 * MIB)) for _ in range(21)]
        assert await uploads.write_chunk(ids.pop(), 0, chunks(piece)) == len(piece)  # threads, and what is imported
        gc.collect()
        tracemalloc.start()
        try:
            writing = [asyncio.create_task(uploads.write_chunk(each, 0, slow())) for each in ids]
            await all_wait.wait()
            assert tracemalloc.get_traced_memory()[1] / len(ids) <= 150 * 1024
        finally:
            tracemalloc.stop()
            go_on.set()
        assert await asyncio.gather(*writing) == [30 * len(piece)] * len(ids)


async def test_a_part_is_no_larger_than_the_memory() -> None:
    layers = [parts_of(max_parts=10)]
    async with trove.open("memory://?min_part_size=1", layers=layers) as store:
        await store.create_bucket("b")
        uploads = TroveDataStore(store, "b", part_size=10, memory=100)
        data = random_bytes(1000)
        upload_id = await uploads.new_upload(FileInfo(size=len(data)))
        await uploads.write_chunk(upload_id, 0, chunks(data, 33))
        await uploads.finish_upload(upload_id)
        assert await store.read("b", upload_id) == data
        with pytest.raises(trove.ContentTooLargeError):
            await uploads.new_upload(FileInfo(size=1001))
        assert await store.list_multipart_uploads("b") == []


STEPS = st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=12)


@given(STEPS)
async def test_no_order_of_steps_blocks_all(wanted: list[tuple[int, int]]) -> None:
    """Buffers that grow step by step, each up to its own size: in the end all have become full."""
    budget = MemoryBudget(12)

    async def fill(most: int, step: int) -> None:
        share = budget.share(most)
        while share.held < most:
            await share.grow(min(step, most - share.held))
            assert budget.used <= budget.size
            await asyncio.sleep(0)
        share.shrink(most)
        await asyncio.sleep(0)
        share.release()

    await asyncio.wait_for(asyncio.gather(*(fill(*each) for each in wanted)), 60)
    assert budget.used == 0


async def test_who_is_cancelled_gets_no_memory() -> None:
    budget = MemoryBudget(10)
    first, second, third = (budget.share(10) for _ in range(3))
    await first.grow(10)
    waiting = [asyncio.create_task(each.grow(10)) for each in (second, third)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    first.release()  # in the same turn: the memory may have been given to the one that is cancelled
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await waiting[1]
    assert (second.held, third.held, budget.used) == (0, 10, 10)


async def test_a_buffer_whose_bytes_are_still_referred_to() -> None:
    """As by the traceback of a request that failed."""
    buffer = Buffer(MemoryBudget(100), 100)
    await buffer.reserve(5)
    buffer.add(b"hello")
    with buffer.followed_by(b" world") as body:
        kept = body[2:4]
        assert bytes(body) == b"hello world"
    buffer.add(b"!")
    assert bytes(buffer.view) == b"hello!"
    assert bytes(kept) == b"ll"
