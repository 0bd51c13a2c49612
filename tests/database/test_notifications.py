"""Notifications of committed units wake those who listen."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, text

from tests.database.counter import increment
from trove_async.database import Database, connect, notifications, notify
from trove_async.errors import ClosedError, InvalidArgumentError, UnavailableError, WatchOverflowError

pytestmark = pytest.mark.asyncio


async def test_what_was_notified_after_listening_arrives_in_order(db: Database) -> None:
    await db.notify("jobs", "before")
    async with db.listen("jobs") as one, db.listen("jobs") as two, db.listen("others") as others:
        for payload in ("a", "", "ü"):
            await db.notify("jobs", payload)
        await db.notify("others", "x")
        for events in (one, two):
            assert [await anext(events) for _ in range(3)] == ["a", "", "ü"]
        assert await anext(others) == "x"


async def test_a_unit_notifies_when_it_is_committed(db: Database) -> None:
    def fail(connection: Connection) -> None:
        notify(connection, "jobs", "undone")
        increment(connection)
        raise ZeroDivisionError

    def succeed(connection: Connection) -> None:
        increment(connection)
        notify(connection, "jobs", "done")

    async with db.listen("jobs") as events:
        with pytest.raises(ZeroDivisionError):
            await db.write(fail)
        await db.write(succeed)
        assert await anext(events) == "done"


async def test_too_many_that_wait_are_an_overflow(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "_CAPACITY", 10)

    def flood(connection: Connection) -> None:
        for n in range(11):
            notify(connection, "jobs", str(n))

    async with db.listen("jobs") as events:
        await db.write(flood)
        with pytest.raises(WatchOverflowError):
            async for _ in events:
                pass


async def test_closing_the_database_ends_listening(url: str) -> None:
    db = await connect(url)
    async with db.listen("jobs") as events:
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        await db.aclose()
        with pytest.raises(ClosedError, match="the database was closed"):
            await waiting


@pytest.mark.parametrize("channel", ["", "A", "a-b", "1a", "a" * 64, "ü", 'a"; DROP TABLE counter; --'])
async def test_malformed_channels_are_refused(db: Database, channel: str) -> None:
    with pytest.raises(InvalidArgumentError, match="channel"):
        db.listen(channel)
    with pytest.raises(InvalidArgumentError, match="channel"):
        await db.notify(channel)


@pytest.mark.parametrize("payload", ["x" * 8000, "ü" * 4000, "\0"])
async def test_payloads_that_do_not_fit_are_refused(db: Database, payload: str) -> None:
    with pytest.raises(InvalidArgumentError, match="7999 bytes"):
        await db.notify("jobs", payload)


async def test_a_payload_that_is_no_text_is_refused(db: Database) -> None:
    with pytest.raises(InvalidArgumentError, match="lone surrogate at position 1"):
        await db.notify("jobs", "a\ud800")


async def test_the_longest_payload_arrives(db: Database) -> None:
    async with db.listen("j" * 63) as events:
        await db.notify("j" * 63, "x" * 7999)
        assert await anext(events) == "x" * 7999


async def test_postgresql_reaches_other_processes(postgres_url: str) -> None:
    async with connect(postgres_url) as db, connect(postgres_url) as other, db.listen("jobs") as events:
        await other.notify("jobs", "x")
        assert await anext(events) == "x"


async def test_sqlite_reaches_only_the_same_object(sqlite: Database, tmp_path: object) -> None:
    async with connect(f"sqlite:///{tmp_path}/state.db") as other, sqlite.listen("jobs") as events:
        await other.notify("jobs", "unheard")
        await sqlite.notify("jobs", "heard")
        assert await anext(events) == "heard"


async def test_a_listener_whose_connection_breaks_learns_of_it(postgres_url: str) -> None:
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' "
        "AND datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with connect(postgres_url) as db, db.listen("jobs") as events:
        await db.read(lambda connection: connection.execute(kill).all())
        with pytest.raises(UnavailableError, match="connection to the database broke"):
            await anext(events)
