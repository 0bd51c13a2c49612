"""A call that is cancelled at any await point leaves the old state or the new one, and nothing that runs or is held."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.database.counter import count, increment
from trove_async.database import Database, connect
from trove_async.database.sqlite import SQLiteBackend
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere

pytestmark = pytest.mark.asyncio

deliveries = pytest.mark.parametrize("delivery", Delivery, ids=lambda delivery: delivery.name)


def held(db: Database) -> int:
    """Return how many connections are out of the pool."""
    backend = db._backend
    return 0 if isinstance(backend, SQLiteBackend) else backend._engine.pool.checkedout()  # type: ignore[attr-defined]


@deliveries
async def test_a_write(db: Database, delivery: Delivery) -> None:
    before = 0

    async def prepare() -> None:
        nonlocal before
        before = await db.read(count)

    async def check(outcome: Outcome[int]) -> None:
        now = await db.read(count)
        assert now in ((before, before + 1) if outcome.cancelled else (before + 1,))
        assert outcome.error is None
        assert not outcome.left_running
        assert held(db) == 0

    points = await cancel_everywhere(lambda: db.write(increment), delivery, prepare=prepare, check=check)
    assert points


@deliveries
async def test_a_read(db: Database, delivery: Delivery) -> None:
    async def check(outcome: Outcome[int]) -> None:
        assert outcome.cancelled or outcome.result == 0
        assert not outcome.left_running
        assert held(db) == 0

    async def prepare() -> None: ...

    assert await cancel_everywhere(lambda: db.read(count), delivery, prepare=prepare, check=check)


@deliveries
async def test_a_connection_that_is_not_wanted_any_more_reports_no_error(postgres_url: str, delivery: Delivery) -> None:
    """The future of a cancelled asyncpg.connect would have an error that nobody retrieves."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

    async def nothing(outcome: Outcome[None] | None = None) -> None:
        gc.collect()
        assert reported == []

    async with connect(postgres_url) as db:

        async def hold() -> None:
            async with db.lock("one"):
                pass

        assert await cancel_everywhere(hold, delivery, prepare=nothing, check=nothing)


@deliveries
async def test_a_lock(db: Database, delivery: Delivery) -> None:
    async def hold() -> bool:
        async with db.lock("one"):
            return True

    async def check(outcome: Outcome[bool]) -> None:
        assert outcome.error is None
        assert not outcome.left_running
        assert await hold()

    async def prepare() -> None: ...

    await cancel_everywhere(hold, delivery, prepare=prepare, check=check)


@deliveries
async def test_listening(db: Database, delivery: Delivery) -> None:
    async def hear() -> str:
        async with db.listen("jobs") as events:
            await db.notify("jobs", "x")
            return await anext(events)

    async def check(outcome: Outcome[str]) -> None:
        assert outcome.cancelled or outcome.result == "x"
        assert not outcome.left_running
        assert await hear() == "x"

    async def prepare() -> None: ...

    await cancel_everywhere(hear, delivery, prepare=prepare, check=check)
