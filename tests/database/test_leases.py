"""A lease has one holder at a time, and a holder that was too slow is fenced off."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from tests.database.counter import count, increment
from tests.database.victim import Victim
from trove_async.database import Database, Lease, connect
from trove_async.errors import InvalidArgumentError, LeaseLostError

pytestmark = pytest.mark.asyncio


async def take(db: Database, owner: str = "one", seconds: float = 3600) -> Lease:
    lease = await db.leases.acquire("gc", owner=owner, seconds=seconds)
    assert lease is not None
    return lease


def expire(connection: Connection) -> None:
    """Let the time pass that all leases last."""
    connection.execute(text("UPDATE trove_leases SET expires_at = expires_at - 3600000000"))


async def test_a_lease_has_one_holder(db: Database) -> None:
    lease = await take(db)
    assert (lease.name, lease.owner, lease.generation) == ("gc", "one", 1)
    assert timedelta(minutes=59) < lease.expires_at - await db.now() <= timedelta(hours=1)
    assert await db.leases.acquire("gc", owner="two", seconds=60) is None
    assert await db.leases.acquire("gc", owner="one", seconds=60) is None
    assert await db.leases.acquire("other", owner="two", seconds=60) is not None


async def test_of_many_that_want_a_lease_one_gets_it(db: Database, url: str) -> None:
    async with connect(url) as other:
        wanted = [one.leases.acquire("gc", owner=str(n), seconds=60) for n, one in enumerate([db, other] * 10)]
        taken = [lease for lease in await asyncio.gather(*wanted) if lease is not None]
    assert [lease.generation for lease in taken] == [1]


async def test_an_expired_lease_is_taken_over_with_the_next_generation(db: Database) -> None:
    stale = await take(db)
    await db.write(expire)
    lease = await take(db, "two")
    assert lease.generation == 2
    with pytest.raises(LeaseLostError, match="'gc' of generation 1"):
        await db.leases.renew(stale, seconds=60)
    with pytest.raises(LeaseLostError):
        await db.write(stale.check)
    await db.leases.release(stale)
    await db.write(lease.check)
    assert await db.leases.acquire("gc", owner="three", seconds=60) is None


async def test_a_stale_holder_writes_nothing(db: Database) -> None:
    stale = await take(db)

    def unit(connection: Connection) -> None:
        increment(connection)
        stale.check(connection)

    await db.write(unit)
    await db.write(expire)
    await db.write(unit)  # nobody has taken it
    await take(db, "two")
    with pytest.raises(LeaseLostError):
        await db.write(unit)
    assert await db.read(count) == 2


async def test_a_renewed_lease_lasts_longer(db: Database) -> None:
    lease = await take(db)
    await db.write(expire)
    renewed = await db.leases.renew(lease, seconds=7200)
    assert renewed.expires_at > lease.expires_at
    assert renewed.generation == lease.generation
    await db.write(expire)
    assert await db.leases.acquire("gc", owner="two", seconds=60) is None
    await db.write(lease.check)


async def test_a_released_lease_is_free_and_its_generation_does_not_fall(db: Database) -> None:
    lease = await take(db)
    await db.leases.release(lease)
    with pytest.raises(LeaseLostError):
        await db.leases.renew(lease, seconds=60)
    with pytest.raises(LeaseLostError):
        await db.write(lease.check)
    assert (await take(db, "two")).generation == 2


async def test_a_process_takes_the_lease_of_a_killed_one_over(db: Database, url: str) -> None:
    with Victim("hold_lease", url) as victim:
        assert await victim.line() == "1"
        assert await db.leases.acquire("gc", owner="two", seconds=60) is None
    await db.write(expire)
    assert (await take(db, "two")).generation == 2


@pytest.mark.parametrize(
    ("name", "owner", "seconds"),
    [("", "o", 1), ("n", "", 1), ("n", "o", 0), ("n", "o", -1), ("n", "o", float("nan")), ("n\0", "o", 1)],
)
async def test_malformed_arguments_are_refused(db: Database, name: str, owner: str, seconds: float) -> None:
    with pytest.raises(InvalidArgumentError):
        await db.leases.acquire(name, owner=owner, seconds=seconds)
