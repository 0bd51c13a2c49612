"""Common operations of every driver on uvloop's event loop, which closes, cancels and measures time differently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.azure.harness import azurite
from tests.drivers.local_harness import harness as local
from tests.drivers.memory_harness import harness as memory
from tests.gcs.harness import gcs
from tests.s3.harness import ceph
from tests.sftp.harness import openssh
from trove_async.testing import random_bytes
from trove_async.testing.conformance import Harness
from trove_async.testing.conformance.cancelled_operations import OPERATIONS
from trove_async.testing.conformance.context import Context, leftover_tasks
from trove_async.testing.conformance.session import Harnesses
from trove_async.testing.injection import Delivery, cancel_everywhere

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest_asyncio.fixture(params=[memory, local, ceph, gcs, azurite, openssh], ids=lambda harness: harness.name)
async def ctx(request: pytest.FixtureRequest, trove_harnesses: Harnesses) -> AsyncIterator[Context]:
    harness: Harness = request.param
    await trove_harnesses.start(harness)
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    before = asyncio.all_tasks()
    context = await Context.open(harness, long=request.config.getoption("trove_long"))
    try:
        yield context
        await context.assert_clean()
    finally:
        await context.aclose()
    assert not await leftover_tasks(before)


@pytest.mark.parametrize("parts", [0, 3], ids=["small", "in-parts"])
async def test_put_get_and_list(ctx: Context, parts: int) -> None:
    data = random_bytes(1000 + parts * ctx.part_size)
    info = await ctx.store.put(ctx.bucket, "folder/key", data)
    async with ctx.store.get(ctx.bucket, "folder/key") as reader:
        assert await reader.read() == data
    [listed] = await ctx.store.list(ctx.bucket, prefix="folder/").all()
    assert (listed.key, listed.size, listed.etag) == ("folder/key", len(data), info.etag)


@pytest.mark.parametrize("name", ["put-async-iterable", "get"])
async def test_cancelled(ctx: Context, name: str, tmp_path: Path) -> None:
    operation = OPERATIONS[name](ctx, tmp_path)
    await operation.open()
    points = await cancel_everywhere(
        operation.run,
        Delivery.PENDING,
        prepare=operation.prepare,
        check=operation.check,
        step=ctx.await_point_step,
    )
    assert points >= operation.least_points


async def test_cancelled_while_the_server_answers(ctx: Context) -> None:
    """The connection of a cancelled read is closed, and the next read gets another."""
    data = random_bytes(ctx.part_size * 3)
    await ctx.store.put(ctx.bucket, "key", data)
    tasks = [asyncio.create_task(ctx.store.read(ctx.bucket, "key")) for _ in range(8)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results[::2]] == [asyncio.CancelledError] * 4
    assert results[1::2] == [data] * 4
    assert await ctx.store.read(ctx.bucket, "key") == data
