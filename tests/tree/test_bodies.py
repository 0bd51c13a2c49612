"""Bodies that are written as their chunks arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from trove_async.body import Body, Chunk
from trove_async.tree import write_at_once

pytestmark = pytest.mark.asyncio

AHEAD = 1000


class Target:
    """What was written; each write waits until it may end, if that is asked for."""

    def __init__(self, *, waits: bool = False) -> None:
        self.content = bytearray()
        self.writes = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.cancelled = False
        self.complete = False
        self.error: Exception | None = None
        if not waits:
            self.may_end.set()

    async def write(self, chunks: Sequence[Chunk], *, last: bool) -> None:
        assert not self.complete
        self.complete = last
        self.writes += 1
        self.begun.set()
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        for chunk in chunks:
            self.content += chunk


async def test_every_byte_is_written_in_order_though_the_source_reuses_its_buffer() -> None:
    chance = random.Random(1)
    sizes = [chance.choice([1, 10, 400, AHEAD - 1, AHEAD, 3 * AHEAD]) for _ in range(300)]
    data = chance.randbytes(sum(sizes))
    buffer = bytearray(3 * AHEAD)

    async def chunks() -> AsyncIterator[memoryview]:
        at = 0
        for size in sizes:
            buffer[:size] = data[at : at + size]
            at += size
            if chance.random() < 0.3:
                await asyncio.sleep(0)
            yield memoryview(buffer)[:size]

    target = Target()
    await write_at_once(Body(chunks()), target.write, ahead=AHEAD)
    assert target.content == data
    assert target.complete
    assert target.writes < len(sizes)


@pytest.mark.parametrize(("sizes", "writes"), [([], 1), ([100, 200], 1), ([AHEAD], 2), ([AHEAD, 100], 2)])
async def test_the_end_of_a_body_takes_no_write_of_its_own_if_a_small_chunk_is_the_last(
    sizes: list[int], writes: int
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for size in sizes:
            yield bytes(size)

    target = Target()
    await write_at_once(Body(chunks()), target.write, ahead=AHEAD)
    assert (len(target.content), target.writes, target.complete) == (sum(sizes), writes, True)


async def test_few_bytes_are_requested_during_a_write() -> None:
    requested = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal requested
        for _ in range(100):
            requested += 100
            yield bytes(100)

    target = Target(waits=True)
    writing = asyncio.ensure_future(write_at_once(Body(chunks()), target.write, ahead=AHEAD))
    await target.begun.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert target.writes == 1
    assert requested <= AHEAD + 100
    target.may_end.set()
    await writing
    assert len(target.content) == 100 * 100


@pytest.mark.parametrize("size", [100, AHEAD])
async def test_what_arrived_before_the_body_failed_is_written(size: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * size
        raise RuntimeError("the source failed")

    target = Target()
    with pytest.raises(RuntimeError, match="the source failed"):
        await write_at_once(Body(chunks()), target.write, ahead=AHEAD)
    assert target.content == b"x" * size * 5
    assert not target.complete


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_is_written_after_a_write_that_failed(fails: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 100
        if fails:
            raise RuntimeError("the source failed too")

    target = Target()
    target.error = OSError("the disk is full")
    with pytest.raises(OSError, match="the disk is full"):
        await write_at_once(Body(chunks()), target.write, ahead=AHEAD)
    assert target.writes == 1


async def test_a_cancelled_call_ends_its_write_first() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    target = Target(waits=True)
    writing = asyncio.ensure_future(write_at_once(Body(chunks()), target.write, ahead=AHEAD))
    await target.begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert target.cancelled
    assert asyncio.all_tasks() == before
