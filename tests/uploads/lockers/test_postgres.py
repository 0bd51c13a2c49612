"""PostgresLocker: its connection, how it is lost, and what it costs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from trove_async.database import connect
from trove_async.database.postgres import _Session
from trove_async.errors import (
    BackendError,
    InvalidArgumentError,
    InvalidDSNError,
    MissingDependencyError,
    OperationTimeoutError,
    TransientError,
    UnavailableError,
    UnsupportedError,
)
from trove_async.testing.proxy import FaultProxy
from trove_async.uploads import PostgresLocker
from trove_async.uploads.lockers import postgres

pytestmark = pytest.mark.asyncio


def unasked() -> None:
    """Ignore the request to stop."""


@pytest_asyncio.fixture
async def locker(postgres_url: str) -> AsyncIterator[PostgresLocker]:
    locker = PostgresLocker(postgres_url)
    yield locker
    await locker.aclose()


@pytest_asyncio.fixture
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def proxy(postgres_url: str) -> AsyncIterator[FaultProxy]:
    server = urlsplit(postgres_url)
    assert server.hostname is not None
    assert server.port is not None
    async with FaultProxy(server.hostname, server.port) as proxy:
        yield proxy


def through(proxy: FaultProxy, url: str) -> str:
    return url.replace(f":{urlsplit(url).port}", f":{proxy.port}")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements of all lockers."""
    names = {value: name for name, value in vars(postgres).items() if isinstance(value, str)}
    ran: list[str] = []
    query = _Session.query

    async def recorded(self: _Session, sql: str, *values: object, timeout: float) -> Any:
        result = await query(self, sql, *values, timeout=timeout)
        ran.append(names[sql])
        return result

    monkeypatch.setattr(_Session, "query", recorded)
    return ran


class Held:
    """A lock of which the requests to stop are counted."""

    def __init__(self) -> None:
        self.requests = 0
        self.asked = asyncio.Event()

    def __call__(self) -> None:
        self.requests += 1
        self.asked.set()


LOCKS = "FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database " \
    "WHERE datname = current_database())"  # fmt: skip


async def terminate(admin: asyncpg.Connection[Any]) -> None:
    await admin.execute(f"SELECT pg_terminate_backend(pid) {LOCKS}")


async def test_all_locks_of_a_process_take_one_connection(locker: PostgresLocker, admin: Any) -> None:
    locks = await asyncio.gather(*(locker.acquire(str(n), unasked) for n in range(50)))
    backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert await admin.fetchval(backends) == 1
    assert await admin.fetchval(f"SELECT count(*) {LOCKS}") == 50
    await asyncio.gather(*(lock.release() for lock in locks))
    assert await admin.fetchval(f"SELECT count(*) {LOCKS}") == 0


async def test_a_lock_that_nobody_else_wants_costs_two_statements(
    locker: PostgresLocker, statements: list[str]
) -> None:
    for name in ("a", "b"):
        lock = await locker.acquire(name, unasked)
        await lock.release()
    assert statements == ["_OPEN", *["_TRY_OR_ASK", "_UNLOCK"] * 2]


async def test_a_take_over_costs_four_statements_more(
    locker: PostgresLocker, postgres_url: str, statements: list[str]
) -> None:
    other = PostgresLocker(postgres_url)
    await (await other.acquire("b", unasked)).release()
    held = Held()
    lock = await locker.acquire("a", held)
    statements.clear()
    waiting = asyncio.ensure_future(other.acquire("a", unasked))
    await held.asked.wait()
    while "_TRY" not in statements:  # noqa: ASYNC110 - the server decides when
        await asyncio.sleep(0)
    await lock.release()
    await (await waiting).release()
    assert sorted(statements) == ["_TRY", "_TRY_OR_ASK", "_TRY_OR_ASK", "_UNLOCK", "_UNLOCK_AND_ANNOUNCE"]
    await other.aclose()


async def test_locks_are_lost_with_the_connection_and_the_next_one_makes_another(
    locker: PostgresLocker, admin: asyncpg.Connection[Any]
) -> None:
    first, second = Held(), Held()
    locks = [await locker.acquire("a", first), await locker.acquire("b", second)]
    await terminate(admin)
    await first.asked.wait()
    await second.asked.wait()
    assert [lock.lost for lock in locks] == [True, True]
    for lock in locks:
        await lock.release()
    assert (first.requests, second.requests) == (1, 1)
    lock = await locker.acquire("a", unasked)
    assert not lock.lost
    await lock.release()


async def test_whoever_waits_when_the_connection_breaks_goes_on_waiting(
    locker: PostgresLocker, postgres_url: str, admin: asyncpg.Connection[Any]
) -> None:
    other = PostgresLocker(postgres_url)
    held = Held()
    lock = await locker.acquire("a", held)
    mine = await other.acquire("b", unasked)
    waiting = asyncio.ensure_future(other.acquire("a", unasked))
    await held.asked.wait()
    number = other._key_of("b")
    await admin.execute(
        f"SELECT pg_terminate_backend(pid) {LOCKS} AND (classid::bigint << 32) | objid::bigint = $1", number
    )
    while not mine.lost:  # noqa: ASYNC110 - the server decides when
        await asyncio.sleep(0)
    await mine.release()
    await lock.release()
    assert not lock.lost
    await (await waiting).release()
    await other.aclose()


async def test_a_database_that_is_away_is_unavailable_and_may_come_back(proxy: FaultProxy, postgres_url: str) -> None:
    locker = PostgresLocker(through(proxy, postgres_url))
    with proxy.unreachable():
        for _ in range(2):
            with pytest.raises(UnavailableError, match="cannot be reached") as caught:
                await locker.acquire("a", unasked)
            assert isinstance(caught.value, TransientError)
        errors = await asyncio.gather(*(locker.acquire("a", unasked) for _ in range(3)), return_exceptions=True)
        assert {type(error) for error in errors} == {UnavailableError}
    held = Held()
    lock = await locker.acquire("a", held)
    proxy.break_open("reset")
    await held.asked.wait()
    assert lock.lost
    await lock.release()
    await (await locker.acquire("a", unasked)).release()
    await locker.aclose()


async def test_a_server_that_falls_silent_is_noticed_while_a_lock_is_held(
    proxy: FaultProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    locker = PostgresLocker(through(proxy, postgres_url))
    held = Held()
    monkeypatch.setattr(postgres, "_BEAT", 0.01)
    lock = await locker.acquire("a", held)
    monkeypatch.setattr(postgres, "_ANSWER", 0.05)
    proxy.break_open("stall")
    await held.asked.wait()
    assert lock.lost
    await lock.release()
    monkeypatch.setattr(postgres, "_ANSWER", 5)
    await (await locker.acquire("a", unasked)).release()
    await locker.aclose()


async def test_a_server_that_does_not_answer_is_a_timeout(
    proxy: FaultProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    locker = PostgresLocker(through(proxy, postgres_url))
    await (await locker.acquire("a", unasked)).release()
    monkeypatch.setattr(postgres, "_ANSWER", 0.05)
    proxy.break_open("stall")
    with pytest.raises(OperationTimeoutError, match="did not answer in time"):
        await locker.acquire("a", unasked)
    await locker.aclose()


@pytest.mark.parametrize("failing", ["_TRY_OR_ASK", "_UNLOCK"])
async def test_a_statement_that_fails_leaves_no_lock(
    locker: PostgresLocker, admin: asyncpg.Connection[Any], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The lock may have been taken before it failed; and one that cannot be released ends with the connection."""
    query = _Session.query

    async def fail(self: _Session, sql: str, *values: object, timeout: float) -> Any:
        if sql != vars(postgres)[failing]:
            return await query(self, sql, *values, timeout=timeout)
        if failing == "_TRY_OR_ASK":
            await query(self, sql, *values, timeout=timeout)
        raise BackendError("canceling statement due to user request")

    await (await locker.acquire("b", unasked)).release()
    with monkeypatch.context() as patch:
        patch.setattr(_Session, "query", fail)
        if failing == "_TRY_OR_ASK":
            with pytest.raises(BackendError):
                await locker.acquire("a", unasked)
        else:
            await (await locker.acquire("a", unasked)).release()
    lock = await locker.acquire("a", unasked)
    held = await admin.fetchval(f"SELECT count(*) {LOCKS}")
    await lock.release()
    assert held == 1
    assert not lock.lost


async def test_the_server_ends_the_sessions_of_machines_that_are_gone(locker: PostgresLocker) -> None:
    lock = await locker.acquire("a", unasked)
    assert locker._session is not None
    settings = [
        await locker._session.query(f"SHOW {name}", timeout=5)
        for name in ("tcp_user_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    ]
    await lock.release()
    assert settings == ["20000", "10", "5", "2"]


async def test_a_database_that_is_given_stays_open_and_its_closing_loses_the_locks(postgres_url: str) -> None:
    db = await connect(postgres_url)
    locker = PostgresLocker(db)
    await (await locker.acquire("a", unasked)).release()
    await locker.aclose()
    await db.now()
    locker = PostgresLocker(db)
    held = Held()
    lock = await locker.acquire("a", held)
    await db.aclose()
    await held.asked.wait()
    assert lock.lost
    await lock.release()
    await locker.aclose()


async def test_sqlite_is_refused(tmp_path: object) -> None:
    with pytest.raises(InvalidArgumentError, match="use FileLocker"):
        PostgresLocker(f"sqlite:///{tmp_path}/state.db")
    async with connect(f"sqlite:///{tmp_path}/state.db") as db:
        with pytest.raises(InvalidArgumentError, match="use FileLocker"):
            PostgresLocker(db)
        with pytest.raises(UnsupportedError, match="SQLite has no sessions"):
            await db.session()
    with pytest.raises(InvalidDSNError):
        PostgresLocker("mysql://host/db")


def pooled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pooler makes up the number of the server's process that it tells."""
    monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda _: 12345)


def used_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections have the prepared statements of others."""
    query = _Session.query

    async def prepared(self: _Session, sql: str, *values: object, timeout: float) -> Any:
        await self.connection.execute("PREPARE other AS SELECT 1")
        try:
            await self.connection.execute("PREPARE other AS SELECT 1")
        except asyncpg.DuplicatePreparedStatementError as error:
            raise BackendError("the database failed") from error
        return await query(self, sql, *values, timeout=timeout)

    monkeypatch.setattr(_Session, "query", prepared)


@pytest.mark.parametrize("pooler", [pooled, used_by_others])
async def test_a_pooler_is_refused(
    locker: PostgresLocker, monkeypatch: pytest.MonkeyPatch, pooler: Callable[[pytest.MonkeyPatch], None]
) -> None:
    pooler(monkeypatch)
    with pytest.raises(UnsupportedError, match="URL of the server itself"):
        await locker.acquire("a", unasked)


async def test_a_missing_package_is_named(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "trove_async.database.postgres")
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[postgres\]"):
        PostgresLocker(postgres_url)
