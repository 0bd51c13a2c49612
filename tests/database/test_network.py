"""Connections to PostgreSQL that break or fall silent at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from tests.database.counter import count, create, increment
from trove_async.database import Database, connect
from trove_async.errors import OperationTimeoutError, UnavailableError
from trove_async.testing.proxy import FaultProxy

pytestmark = pytest.mark.asyncio


@pytest.fixture
def direct(new_schema: Callable[[], str]) -> str:
    return new_schema()


@pytest_asyncio.fixture
async def proxy(direct: str) -> AsyncIterator[FaultProxy]:
    server = urlsplit(direct)
    assert server.hostname is not None
    assert server.port is not None
    async with FaultProxy(server.hostname, server.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def db(direct: str, proxy: FaultProxy) -> AsyncIterator[Database]:
    """A database behind the proxy."""
    async with connect(through(proxy, direct)) as database:
        await database.write(create)
        yield database


def through(proxy: FaultProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


async def test_a_unit_whose_connection_breaks_runs_again_on_another_one(db: Database, proxy: FaultProxy) -> None:
    attempts = 0

    def unit(connection: Connection) -> int:
        nonlocal attempts
        attempts += 1
        increment(connection)
        if attempts == 1:
            proxy.break_open("reset")
        return increment(connection)

    assert await db.write(unit) == 2
    assert attempts == 2
    assert await db.read(count) == 2


async def test_a_connection_that_breaks_at_the_commit_leaves_the_outcome_open(
    db: Database, proxy: FaultProxy, direct: str
) -> None:
    attempts = 0

    def unit(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        increment(connection)
        proxy.break_open("reset")

    with pytest.raises(UnavailableError, match="connection to the database broke") as caught:
        await db.write(unit)
    assert caught.value.ambiguous
    assert attempts == 1
    async with connect(direct) as other:
        assert await other.write(count) in (0, 1)


async def test_a_server_that_falls_silent_is_a_timeout(db: Database, proxy: FaultProxy, direct: str) -> None:
    def unit(connection: Connection) -> None:
        proxy.break_open("stall")
        increment(connection)

    async with connect(f"{through(proxy, direct)}&timeout=2") as impatient:
        with pytest.raises(OperationTimeoutError, match="did not answer in time"):
            await impatient.write(unit)
        assert await impatient.write(increment) == 1


async def test_a_server_that_cannot_be_reached_is_unavailable(db: Database, proxy: FaultProxy) -> None:
    proxy.break_open("reset")
    with proxy.unreachable(), pytest.raises(UnavailableError, match=r"cannot be reached|broke"):
        await db.write(increment)
    assert await db.write(increment) == 1
