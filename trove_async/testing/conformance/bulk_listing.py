"""T: listings of many objects, and listings that another process continues."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import anyio

from trove_async.testing.conformance.context import Context, plainly
from trove_async.testing.conformance.counting import CallCounter
from trove_async.testing.conformance.processes import OPEN, run_python, store_for_another_process
from trove_async.types import ObjectInfo

__all__ = ["BulkListChecks"]

_WRITERS = 50
_MEMORY = 32 * 1024 * 1024
_PAGES = 4
_FEWER = 5_000

_RESUME = f"""{OPEN}
async def main(dsn, layers, bucket, cursor):
    async with open_store(dsn, layers) as store:
        async for found in store.list(bucket, page_size=2, cursor=cursor):
            print(found.key)

asyncio.run(main(*sys.argv[1:]))
"""


async def _fill(ctx: Context, count: int) -> list[str]:
    """Store empty objects concurrently, in folders of a hundred; return their keys in order."""
    keys = [f"folder-{number // 100:05}/object-{number % 100:02}" for number in range(count)]
    left: Iterator[str] = iter(keys)

    async def write() -> None:
        for key in left:
            await ctx.store.put(ctx.bucket, key, b"")

    async with anyio.create_task_group() as group:
        for _ in range(_WRITERS):
            group.start_soon(write)
    return keys


def _live_descriptions() -> int:
    """Return the number of descriptions of objects that this process holds."""
    return sum(type(found) is ObjectInfo for found in gc.get_objects())


class BulkListChecks:
    """Pages, memory and turns of the event loop for large listings."""

    async def test_t05_cursor_resumes_in_a_new_process(self, ctx: Context) -> None:
        """A cursor contains everything that is needed to continue the listing."""
        there = store_for_another_process(ctx)
        keys = [f"key-{number}" for number in range(7)]
        for key in keys:
            await ctx.store.put(ctx.bucket, key, b"")
        listing = ctx.store.list(ctx.bucket, page_size=2)
        for _ in range(3):
            await listing.next()
        assert listing.cursor is not None
        printed = await run_python(_RESUME, *there, ctx.bucket, listing.cursor)
        assert printed.split() == keys[3:]

    @plainly
    async def test_t14_more_than_two_full_pages(self, ctx: Context) -> None:
        """2,500 objects: more than 1,000, and more than twice a page."""
        keys = await _fill(ctx, 2500)
        counter = CallCounter()
        store = await ctx.reopen(counter)
        assert [found.key async for found in store.list(ctx.bucket)] == keys
        assert counter.count("list_page") >= 3
        assert [found.key async for found in store.list(ctx.bucket, page_size=999)] == keys
        groups = [found.key async for found in store.list(ctx.bucket, delimiter="/")]
        assert groups == [f"folder-{number:05}/" for number in range(25)]
        assert await store.delete_many(ctx.bucket, keys) == 2500

    @plainly
    async def test_t19_memory_does_not_grow_with_the_listing(self, ctx: Context) -> None:
        """Iterating over many objects keeps a few pages of them in memory, not all."""
        count = ctx.harness.bulk_objects if ctx.long else min(ctx.harness.bulk_objects, _FEWER)
        page_size = min(1000, count // 20)
        keys = await _fill(ctx, count)
        held = _live_descriptions()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            listed = 0
            async for found in ctx.store.list(ctx.bucket, page_size=page_size):
                assert found.key == keys[listed]
                listed += 1
                if listed % (count // 5) == 0:
                    assert _live_descriptions() - held <= _PAGES * page_size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert listed == count
        assert peak - before <= _MEMORY

    @plainly
    async def test_t20_listing_yields_to_the_loop(self, ctx: Context) -> None:
        """Other tasks get a turn at least once in every 1,000 entries."""
        await _fill(ctx, 1100)
        turns = 0

        async def tick() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        try:
            seen_turns, since, longest = turns, 0, 0
            async for _ in ctx.store.list(ctx.bucket):
                since = since + 1 if turns == seen_turns else 1
                seen_turns = turns
                longest = max(longest, since)
        finally:
            ticker.cancel()
            await asyncio.wait({ticker})
        assert longest <= 1000
