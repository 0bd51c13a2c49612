"""A process that is killed while it changes a store with a `Dedup`: nothing that was acknowledged is lost."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from pathlib import Path

import pytest

import trove_async
from tests.managed.dedup_harness import faults
from tests.managed.dedup_victim import BUCKET, content
from trove_async.database import connect
from trove_async.managed import Dedup, ResourceCatalog, StoreResourceStorage, collect, fsck

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(n, marks=pytest.mark.long) for n in range(3, 20))])
async def test_nothing_acknowledged_is_lost(seed: int, tmp_path: Path) -> None:
    store, database = f"local://{tmp_path}/store?create=1&fsync=0", f"sqlite:///{tmp_path}/dedup.db?synchronous=0"
    dedup = Dedup(database)
    async with trove_async.open(store, layers=[dedup]) as t:
        await t.create_bucket(BUCKET)
    copied = await _kill(store, database, acknowledged=random.Random(seed).randrange(20, 200))
    async with trove_async.open(store, layers=[dedup]) as t:
        for number in copied:  # these keys were written once
            await t.head(BUCKET, f"copy-{number}")
        found = [info async for info in t.list(BUCKET)]
        assert len(found) >= len(copied)
        for info in found:
            data = await t.read(BUCKET, info.key)
            assert data in {content(number) for number in range(13)}
            assert len(data) == info.size
    await _check(store, database)


async def _kill(store: str, database: str, *, acknowledged: int) -> list[int]:
    """Start a process, and kill it once it has acknowledged a number of changes; return what was copied."""
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.managed.dedup_victim", store, database), stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    lines = [(await victim.stdout.readline()).decode() for _ in range(acknowledged)]
    victim.kill()
    lines += [line.decode() for line in (await victim.stdout.read()).splitlines()]
    await victim.wait()
    return [int(found[1]) for line in lines if (found := re.fullmatch(r"copied (\d+)\s*", line))]


async def _check(store: str, database: str) -> None:
    """The tables agree with each other, and with the store once what nobody has is collected."""
    async with connect(database) as db, trove_async.open(store) as inner:
        catalogue = ResourceCatalog(db, "dedup")
        storage = StoreResourceStorage(inner, "trove-dedup")
        assert (await fsck(catalogue, storage, depth="bytes")).clean
        await collect(catalogue, storage, grace=0, dry_run=False, force=True)
        await collect(catalogue, storage, grace=0, dry_run=False, force=True)
        keys = {info.key async for info in inner.list("trove-dedup")}
        assert await db.read(lambda connection: faults(connection, "dedup", keys)) == []
