"""Many writers at once: the limit is never exceeded, and the sums are right at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, TypeVar

import pytest

import trove_async as trove
from tests.quota.truth import AMPLE, held, layers, quota_of, used
from trove_async.database import connect
from trove_async.driver import Driver
from trove_async.driver.options import ListOptions
from trove_async.layers import Call, LayerDriver, Operation

pytestmark = pytest.mark.asyncio

R = TypeVar("R")

WRITERS = 100


async def put(store: trove.Trove, key: str, body: Any, **options: Any) -> int:
    try:
        return (await store.put("b", key, body, **options)).size
    except trove.QuotaExceededError:
        return -1


class Slow(LayerDriver):
    """Lets other tasks run before and after each operation, and looks what is there each time."""

    def __init__(self, inner: Driver, most: list[int]) -> None:
        super().__init__(inner)
        self._most = most

    async def around(self, operation: Operation, call: Call[R]) -> R:
        await asyncio.sleep(0)
        result = await call()
        if operation.name == "put":
            page = await self.inner.list_page("b", ListOptions())
            self._most.append(sum(info.size for info in page.objects))
        await asyncio.sleep(0)
        return result


async def test_of_a_hundred_writers_as_many_succeed_as_there_is_room_for(dsn: str, database: str | None) -> None:
    most: list[int] = []
    stack = [lambda driver: Slow(driver, most), *layers({"b": trove.QuotaLimit(bytes=1000)}, database)]
    async with trove.open(dsn, layers=stack) as t:
        await t.create_bucket("b")
        sizes = await asyncio.gather(*(put(t, str(n), b"x" * 33) for n in range(WRITERS)))
        assert sizes.count(33) == 1000 // 33
        assert await used(t) == (990, 30) == await held(t)
    assert max(most) <= 1000


@pytest.mark.parametrize("versions", [False, True])
async def test_a_hundred_writers_of_a_few_keys(dsn: str, database: str | None, versions: bool) -> None:
    """Overwrites, deletions and copies of the same objects at the same time."""
    chosen = random.Random(7)
    async with trove.open(dsn, layers=layers({"b": AMPLE, "b/1": AMPLE}, database)) as t:
        await t.create_bucket("b")
        if versions:
            await t.set_versioning("b", True)
        await t.put("b", "0", b"x")

        async def work() -> None:
            key = str(chosen.randrange(4))
            size = chosen.randrange(1000)
            match chosen.randrange(4):
                case 0:
                    await t.delete("b", key)
                case 1:
                    with suppress(trove.ObjectNotFoundError, trove.ConflictError):
                        await t.copy("b", "0", "b", key)
                case _:
                    await t.put("b", key, b"x" * size)

        await asyncio.gather(*(work() for _ in range(WRITERS)))
        assert await used(t) == await held(t)
        assert await used(t, "b/1") == await held(t, prefix="1")


async def test_an_overwrite_that_makes_room_does_so_only_when_it_has_ended(dsn: str, database: str | None) -> None:
    """While a smaller object replaces a larger one, both may be what is there in the end."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        begun.set()
        await go.wait()
        yield b"x" * 10

    async with trove.open(dsn, layers=layers({"b": trove.QuotaLimit(bytes=1000)}, database)) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 900)
        replacing = asyncio.create_task(put(t, "a", slow_body(), size=10))
        await begun.wait()
        assert await put(t, "other", b"x" * 200) == -1
        go.set()
        assert await replacing == 10
        assert await put(t, "other", b"x" * 200) == 200


async def test_an_object_that_is_deleted_while_it_is_replaced_keeps_its_room(dsn: str, database: str | None) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        begun.set()
        await go.wait()
        yield b"x" * 900

    async with trove.open(dsn, layers=layers({"b": trove.QuotaLimit(bytes=1000)}, database)) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 900)
        replacing = asyncio.create_task(put(t, "a", slow_body(), size=900))
        await begun.wait()
        await t.delete("b", "a")
        assert await put(t, "other", b"x" * 200) == -1
        go.set()
        assert await replacing == 900
        assert await used(t) == (900, 1) == await held(t)


async def test_stores_that_share_a_database_share_the_quota(sqlite_url: str, tmp_path: Any) -> None:
    limits = {"b": trove.QuotaLimit(bytes=1000)}
    dsn = f"memory://{tmp_path.name}"
    async with connect(sqlite_url) as shared:
        first = await trove.open(dsn, layers=layers(limits, sqlite_url))
        await first.create_bucket("b")
        second = await trove.open(dsn, layers=layers(limits, shared))
        third = await trove.open(dsn, layers=layers(None, shared))
        stores = (first, second, third)
        sizes = await asyncio.gather(*(put(stores[n % 3], str(n % 40), b"x" * 33) for n in range(WRITERS)))
        assert sizes.count(33) >= 30
        for store in stores:
            assert await used(store) == (990, 30) == await held(store)
            await store.aclose()
        await shared.now()  # it was given open, and stays open


async def test_a_recount_is_right_while_others_write(dsn: str, database: str | None) -> None:
    """The books are wrong at first, and objects come and go while they are corrected."""
    chosen = random.Random(3)
    async with trove.open(dsn, layers=layers({"b": AMPLE}, database)) as t, trove.open(dsn) as plain:
        await t.create_bucket("b")
        for n in range(30):
            await t.put("b", f"{n:02}", b"x" * 50)
        for n in range(0, 30, 3):
            await plain.delete("b", f"{n:02}")  # as a lifecycle rule of the service would
        for n in range(30, 35):
            await plain.put("b", f"{n:02}", b"x" * 7)
        assert await used(t) != await held(t)

        async def write() -> None:
            for _ in range(12):
                key = f"{chosen.randrange(40):02}"
                await (t.delete("b", key) if chosen.random() < 0.4 else t.put("b", key, b"y" * chosen.randrange(90)))

        await asyncio.gather(quota_of(t).recount(), *(write() for _ in range(4)))
        assert await used(t) == await held(t)
