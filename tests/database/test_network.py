"""Connections to PostgreSQL that break or fall silent at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from sqlalchemy import Connection, text

from tests.database.conftest import execute, new_database
from tests.database.counter import count, create, increment
from tests.servers import Postgres
from trove_async.database import Database, connect
from trove_async.errors import InvalidArgumentError, OperationTimeoutError, UnavailableError
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


async def test_a_connection_that_takes_no_writes_any_more_is_left_for_another_one(direct: str) -> None:
    """As after a failover that the connection has survived, and whose server is a standby now."""

    def demote(connection: Connection) -> None:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))

    async with connect(f"{direct}&pool_size=1") as database:
        await database.write(create)
        await database.write(demote)
        assert await database.write(increment) == 1
        with pytest.raises(InvalidArgumentError, match="give it to `write`"):
            await database.read(increment)
        assert await database.read(count) == 1


async def test_settings_of_the_server_that_refuse_work_have_clear_errors(postgres: Postgres) -> None:
    with new_database(postgres) as url:
        name = url.rpartition("/")[2]
        async with connect(url) as database:
            await database.write(create)
        for setting, work, error, message in (
            ("default_transaction_read_only = on", increment, UnavailableError, "takes no writes"),
            ("statement_timeout = '50ms'", sleep, OperationTimeoutError, "statement_timeout"),
        ):
            execute(postgres.url, f"ALTER DATABASE {name} SET {setting}")
            async with connect(url) as database:
                with pytest.raises(error, match=message) as caught:
                    await database.write(work)
                assert not caught.value.ambiguous
                assert await database.read(count) == 0
            execute(postgres.url, f"ALTER DATABASE {name} RESET ALL")


def sleep(connection: Connection) -> None:
    connection.execute(text("SELECT pg_sleep(10)"))
