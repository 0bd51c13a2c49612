"""A lock is held by one task of all processes, and ends with its process."""

from __future__ import annotations

import asyncio

import pytest

from tests.database.victim import Victim
from trove_async.database import Database, connect
from trove_async.errors import InvalidArgumentError

pytestmark = pytest.mark.asyncio


async def test_one_holds_a_lock_at_a_time(db: Database, url: str) -> None:
    inside = 0
    most = 0

    async def hold(database: Database, name: str) -> None:
        nonlocal inside, most
        async with database.lock(name):
            inside += 1
            most = max(most, inside)
            await database.now()
            inside -= 1

    async with connect(url) as other:
        await asyncio.gather(*(hold(one, "one") for one in [db, other] * 5))
        assert most == 1


async def test_locks_with_other_names_are_free(db: Database) -> None:
    async with db.lock("one"), db.lock("two"):
        pass


async def test_a_lock_ends_with_its_process(db: Database, url: str) -> None:
    async with asyncio.timeout(60):
        with Victim("hold_lock", url) as victim:
            assert await victim.line() == "locked"
            waiting = asyncio.create_task(db.lock("one").__aenter__())
            done, _ = await asyncio.wait({waiting}, timeout=0.1)
            assert not done
            waiting.cancel()
            await asyncio.wait({waiting})
        async with db.lock("one"):
            pass


async def test_a_lock_needs_a_name(db: Database) -> None:
    with pytest.raises(InvalidArgumentError, match="name of a lock"):
        async with db.lock(""):
            pass
