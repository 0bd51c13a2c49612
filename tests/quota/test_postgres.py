"""The books in PostgreSQL, which stores with connections of their own share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.quota.truth import expire_leases, held, layers, quota_of, reserved, used
from tests.quota.victim import LIMITS, Victim
from trove_async.database import connect

pytestmark = pytest.mark.asyncio


async def test_a_hundred_writers_of_two_stores(new_schema: Callable[[], str], tmp_path: Path) -> None:
    dsn, url = f"memory://{tmp_path.name}", new_schema()
    limits = {"b": trove.QuotaLimit(bytes=1000), "b/é": trove.QuotaLimit(bytes=500)}

    async def put(store: trove.Trove, n: int) -> bool:
        try:
            await store.put("b", f"{'éa'[n % 2]}{n % 70}", b"x" * 33)
        except trove.QuotaExceededError:
            return False
        return True

    async with (
        trove.open(dsn, layers=layers(limits, url)) as first,
        trove.open(dsn, layers=layers(None, url)) as second,
    ):
        await first.create_bucket("b")
        done = await asyncio.gather(*(put((first, second)[n % 2], n) for n in range(100)))
        assert sum(done) >= 30
        assert await used(first) == (990, 30) == await held(first)
        assert await used(second, "b/é") == await held(first, prefix="é")
        await first.delete_many("b", [f"a{n}" for n in range(70)])
        assert await used(first) == await used(first, "b/é") == await held(first)
        before = await quota_of(first).usage()
        assert await quota_of(second).recount() == before


async def test_killed_by_a_signal(new_schema: Callable[[], str], tmp_path: Path) -> None:
    dsn, url = f"local://{tmp_path}?min_part_size=1&fsync=0", new_schema()
    with Victim(dsn, url) as victim:
        for _ in range(30):
            assert await victim.line()
        victim.kill()
    async with connect(url) as db:
        await expire_leases(db)
        async with trove.open(dsn, layers=layers(LIMITS, db)) as survivor:
            assert await reserved(db) == 0
            for bucket in ("b", "kept"):
                assert await used(survivor, bucket) == await held(survivor, bucket)
