"""Checks R: ranges."""

from __future__ import annotations

import os
import random

import pytest

from trove_async.driver import RangeDriver
from trove_async.errors import (
    BucketNotFoundError,
    InvalidRangeError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
)
from trove_async.ranges import ByteRange
from trove_async.testing.conformance.context import Context, requires
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.conformance.probes import STALE
from trove_async.testing.helpers import random_bytes, read_all

__all__ = ["RangeChecks"]

KIB = 1024
DATA = random_bytes(KIB)


async def put(ctx: Context, data: bytes = DATA) -> None:
    await ctx.store.put(ctx.bucket, "key", data)


async def read(ctx: Context, offset: int, length: int | None) -> bytes:
    return await ctx.store.read(ctx.bucket, "key", (offset, length))


class RangeChecks:
    """R1 to R18."""

    async def test_r01_start_and_length(self, ctx: Context) -> None:
        await put(ctx)
        assert await read(ctx, 10, 20) == DATA[10:30]
        async with ctx.store.get(ctx.bucket, "key", range=(10, 20)) as reader:
            assert (reader.size, reader.start, reader.stop) == (20, 10, 30)
            assert await reader.read() == DATA[10:30]

    @requires(RangeDriver)
    async def test_r01_get_range(self, ctx: Context) -> None:
        await put(ctx)
        assert await read_all(await ctx.store.get_range(ctx.bucket, "key", 10, 20)) == DATA[10:30]
        assert await read_all(await ctx.store.get_range(ctx.bucket, "key", 10)) == DATA[10:]

    async def test_r02_offset_to_end(self, ctx: Context) -> None:
        await put(ctx)
        for offset in (0, 1, 1000, KIB - 1):
            assert await read(ctx, offset, None) == DATA[offset:]

    async def test_r03_suffix(self, ctx: Context) -> None:
        await put(ctx)
        for length in (1, 24, KIB - 1, KIB):
            assert await read(ctx, -length, None) == DATA[-length:]
            assert await ctx.store.read(ctx.bucket, "key", ByteRange.suffix(length)) == DATA[-length:]

    async def test_r04_suffix_longer_than_object(self, ctx: Context) -> None:
        await put(ctx)
        async with ctx.store.get(ctx.bucket, "key", range=(-KIB - 1, None)) as reader:
            assert (reader.start, reader.stop) == (0, KIB)
            assert await reader.read() == DATA
        assert await read(ctx, -(2**40), None) == DATA

    async def test_r05_end_past_the_end_is_cut(self, ctx: Context) -> None:
        await put(ctx)
        for length in (25, 10**6, 2**40):
            assert await read(ctx, 1000, length) == DATA[1000:]

    async def test_r06_start_past_the_end(self, ctx: Context) -> None:
        await put(ctx)
        for offset, length in ((KIB, 1), (KIB, None), (KIB + 1, 10), (10**6, None)):
            for call in (ctx.store.get, ctx.store.read):
                with pytest.raises(RangeNotSatisfiableError) as raised:
                    await call(ctx.bucket, "key", range=(offset, length))
                assert type(raised.value) is RangeNotSatisfiableError
                assert (raised.value.bucket, raised.value.key) == (ctx.bucket, "key")

    @requires(RangeDriver)
    async def test_r06_get_range_past_the_end(self, ctx: Context) -> None:
        await put(ctx)
        for length in (1, -1):
            with pytest.raises(RangeNotSatisfiableError):
                await ctx.store.get_range(ctx.bucket, "key", KIB, length)

    async def test_r07_empty_range_needs_no_request(self, ctx: Context) -> None:
        await put(ctx)
        counter = CallCounter()
        store = await ctx.reopen(counter)
        assert await store.read(ctx.bucket, "key", (10, 0)) == b""
        assert await store.read(ctx.bucket, "key", (10**9, 0)) == b""
        assert await store.read_ranges(ctx.bucket, "key", [(0, 0), (5, 0)]) == [b"", b""]
        assert counter.calls == []
        async with store.get(ctx.bucket, "key", range=(10, 0)) as reader:
            assert await reader.read() == b""
            assert reader.info.size == KIB
        assert counter.count("get") == 0

    async def test_r08_negative_is_rejected(self, ctx: Context) -> None:
        await put(ctx)
        counter = CallCounter()
        store = await ctx.reopen(counter)
        for bad in ((0, -1), (5, -5), (-5, 3), ("0", 1), (0, 1.5), (1,), 7):
            with pytest.raises(InvalidRangeError):
                await store.read(ctx.bucket, "key", bad)  # type: ignore[arg-type]
            with pytest.raises(InvalidRangeError):
                await store.get(ctx.bucket, "key", range=bad)  # type: ignore[arg-type]
        if store.supports(RangeDriver):
            for offset, length in ((-1, 5), (0, -2)):
                with pytest.raises(InvalidRangeError):
                    await store.get_range(ctx.bucket, "key", offset, length)
        assert counter.calls == []

    async def test_r09_empty_object(self, ctx: Context) -> None:
        await put(ctx, b"")
        for offset, length in ((0, 1), (0, None), (-1, None)):
            with pytest.raises(RangeNotSatisfiableError):
                await read(ctx, offset, length)
        assert await read(ctx, 0, 0) == b""

    async def test_r10_missing(self, ctx: Context) -> None:
        for offset, length in ((0, 1), (-1, None), (10**6, None)):
            with pytest.raises(ObjectNotFoundError):
                await read(ctx, offset, length)
            with pytest.raises(BucketNotFoundError):
                await ctx.store.read(ctx.missing_bucket, "key", (offset, length))
        with pytest.raises(ObjectNotFoundError):
            await ctx.store.get(ctx.bucket, "key", range=(0, 0))

    async def test_r11_info_is_of_the_whole(self, ctx: Context) -> None:
        await put(ctx)
        head = await ctx.store.head(ctx.bucket, "key")
        for wanted in ((0, 1), (1000, 10**6), (-1, None)):
            async with ctx.store.get(ctx.bucket, "key", range=wanted) as reader:
                assert reader.info == head
                assert reader.info.size == KIB

    @requires("get")
    async def test_r12_with_condition(self, ctx: Context) -> None:
        info = await ctx.store.put(ctx.bucket, "key", DATA)
        assert await ctx.store.read(ctx.bucket, "key", (10, 20), if_match=info.etag) == DATA[10:30]
        with pytest.raises(PreconditionFailedError) as raised:
            await ctx.store.read(ctx.bucket, "key", (10, 20), if_match=STALE)
        assert type(raised.value) is PreconditionFailedError
        with pytest.raises(PreconditionFailedError):  # the condition is checked before the range
            await ctx.store.read(ctx.bucket, "key", (10**6, 1), if_match=STALE)

    async def test_r13_many_ranges_keep_their_order(self, ctx: Context) -> None:
        await put(ctx)
        wanted = [(500, 10), (0, 5), (500, 10), (505, 20), (525, 5), (1000, None), (1000, 10**6), (-8, None), (7, 0)]
        for gap in (0, 10, 10**6):
            found = await ctx.store.read_ranges(ctx.bucket, "key", wanted, coalesce_gap=gap)
            assert found == [
                DATA[500:510], DATA[:5], DATA[500:510], DATA[505:525], DATA[525:530], DATA[1000:], DATA[1000:],
                DATA[-8:], b"",
            ]  # fmt: skip
        with pytest.raises(RangeNotSatisfiableError):
            await ctx.store.read_ranges(ctx.bucket, "key", [(0, 1), (KIB, 1)], coalesce_gap=0)

    @pytest.mark.parametrize("gap", [0, 9, 10, 11, 500])
    async def test_r14_coalescing(self, ctx: Context, gap: int) -> None:
        """Ranges that are ten bytes apart are fetched together if the allowed gap is ten, and separately otherwise."""
        await put(ctx)
        counter = CallCounter()
        store = await ctx.reopen(counter)
        wanted = [(start, 10) for start in range(0, 200, 20)]
        found = await store.read_ranges(ctx.bucket, "key", wanted, coalesce_gap=gap)
        assert found == [DATA[start : start + 10] for start, _ in wanted]
        assert len(counter.calls) == counter.count("get") == (1 if gap >= 10 else len(wanted))
        fetched = sum(wanted.length or 0 for wanted in counter.ranges if wanted is not None)
        assert fetched == (190 if gap >= 10 else 100)

    async def test_r14_never_more_requests_than_ranges(self, ctx: Context) -> None:
        await put(ctx)
        lots = random.Random(14)
        for _ in range(20):
            wanted = [(lots.randrange(KIB), lots.randrange(1, 100)) for _ in range(lots.randrange(1, 12))]
            gap = lots.randrange(0, 200)
            counter = CallCounter()
            store = await ctx.reopen(counter)
            found = await store.read_ranges(ctx.bucket, "key", wanted, coalesce_gap=gap)
            assert found == [DATA[start : start + length] for start, length in wanted]
            assert len(counter.calls) <= len(wanted)
            covered = set().union(*(range(start, start + length) for start, length in wanted))
            for fetched in counter.ranges:
                assert fetched is not None
                assert fetched.length is not None
                stop = fetched.offset + fetched.length
                holes = _longest_hole(covered, fetched.offset, stop)
                assert holes <= gap
            await store.aclose()

    async def test_r15_every_range_is_a_slice(self, ctx: Context) -> None:
        await put(ctx)
        edges = (0, 1, 2, 511, 512, 513, KIB - 2, KIB - 1, KIB)
        pairs = {(start, stop) for start in edges for stop in edges if start < stop}
        lots = random.Random(15)
        while len(pairs) < 336:
            start, stop = sorted(lots.sample(range(KIB + 1), 2))
            pairs.add((start, stop))
        for start, stop in sorted(pairs):
            assert await read(ctx, start, stop - start) == DATA[start:stop], (start, stop)

    async def test_r16_first_last_and_far_beyond(self, ctx: Context) -> None:
        await put(ctx)
        assert await read(ctx, 0, 1) == DATA[:1]
        assert await read(ctx, KIB - 1, 1) == DATA[-1:]
        assert await read(ctx, -1, None) == DATA[-1:]
        for offset in (2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**40):  # beyond 32 bits
            for length in (1, None):
                with pytest.raises(RangeNotSatisfiableError):
                    await read(ctx, offset, length)

    @pytest.mark.parametrize("size", [KIB, 3 * KIB * KIB])
    async def test_r17_seek_tell_read(self, ctx: Context, size: int) -> None:
        data = random_bytes(size)
        await put(ctx, data)
        async with ctx.store.get(ctx.bucket, "key") as reader:
            assert await reader.read(10) == data[:10]
            assert reader.tell() == 10
            assert await reader.read(0) == b""
            assert await reader.seek(size // 2) == size // 2
            assert await reader.read(5) == data[size // 2 : size // 2 + 5]
            assert await reader.seek(-5, os.SEEK_CUR) == size // 2
            assert await reader.seek(-7, os.SEEK_END) == size - 7
            assert await reader.read(100) == data[-7:]
            assert (await reader.read(1), await reader.read(-1), await reader.read()) == (b"", b"", b"")
            assert await reader.seek(0) == 0
            buffer = bytearray(100)
            assert await reader.readinto(buffer) == 100
            assert buffer == data[:100]
            assert await reader.read(-1) == data[100:]
            assert await reader.readinto(buffer) == 0
            for offset, whence in ((-1, os.SEEK_SET), (-size - 1, os.SEEK_END)):
                with pytest.raises(ValueError):
                    await reader.seek(offset, whence)
            await reader.seek(size - 3)
            assert b"".join([chunk async for chunk in reader]) == data[-3:]

    async def test_r17_positions_of_a_range(self, ctx: Context) -> None:
        await put(ctx)
        async with ctx.store.get(ctx.bucket, "key", range=(100, 50)) as reader:
            assert await reader.seek(10) == 10
            assert await reader.read(5) == DATA[110:115]
            assert await reader.seek(-1, os.SEEK_END) == 49
            assert await reader.read(100) == DATA[149:150]

    async def test_r18_seek_past_the_end(self, ctx: Context) -> None:
        await put(ctx)
        async with ctx.store.get(ctx.bucket, "key") as reader:
            assert await reader.seek(KIB + 10) == KIB + 10
            assert await reader.read(5) == b""
            assert await reader.read() == b""
            await reader.seek(-20, os.SEEK_CUR)
            assert await reader.read() == DATA[-10:]


def _longest_hole(covered: set[int], start: int, stop: int) -> int:
    longest = hole = 0
    for position in range(start, stop):
        hole = 0 if position in covered else hole + 1
        longest = max(longest, hole)
    return longest
