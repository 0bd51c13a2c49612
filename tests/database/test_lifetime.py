"""A database belongs to the loop and the process that connected it, until it is closed."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tests.database.counter import count, create, increment
from trove_async.database import Database, connect
from trove_async.errors import ClosedError, ForkedError, LifetimeError, UnavailableError, WrongLoopError


async def refusals(db: Database) -> list[LifetimeError]:
    found: list[LifetimeError] = []
    for call in (db.now, lambda: db.write(count), lambda: db.read(count), lambda: db.migrate("a", "b"), db.aclose):
        try:
            await call()
        except LifetimeError as error:
            found.append(error)
    return found


@pytest.mark.asyncio
async def test_use_after_close_is_refused(db: Database) -> None:
    await db.aclose()
    found = await refusals(db)
    assert [type(error) for error in found] == [ClosedError] * 4  # closing again is nothing
    with pytest.raises(ClosedError):
        db.listen("jobs")
    with pytest.raises(ClosedError):
        await db.leases.acquire("gc", owner="o", seconds=1)


@pytest.mark.asyncio
async def test_closing_finishes_what_waits(url: str) -> None:
    async with connect(url) as db:
        await db.write(create)
        tasks = [asyncio.create_task(db.write(increment)) for _ in range(30)]
        await asyncio.sleep(0)
    assert sorted(await asyncio.gather(*tasks)) == list(range(1, 31))
    async with connect(url) as db:
        assert await db.read(count) == 30


@pytest.mark.asyncio
async def test_closing_sqlite_commits_units_that_were_given(sqlite: Database, tmp_path: Path) -> None:
    began, end = threading.Event(), threading.Event()

    def unit(connection: Connection) -> int:
        began.set()
        assert end.wait(60)
        return increment(connection)

    task = asyncio.create_task(sqlite.write(unit))
    await asyncio.to_thread(began.wait, 60)
    closing = asyncio.create_task(sqlite.aclose())
    await asyncio.sleep(0)
    end.set()
    await closing
    assert await task == 1


@pytest.mark.asyncio
async def test_use_on_another_loop_is_refused(db: Database) -> None:
    found = await asyncio.to_thread(asyncio.run, refusals(db))
    assert [type(error) for error in found] == [WrongLoopError] * 5
    assert "connect once for each loop" in str(found[0])


@pytest.mark.asyncio
async def test_use_in_a_forked_process_is_refused(db: Database) -> None:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads, since Python 3.12
        pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        try:
            db._check_usable()
        except BaseException as error:  # noqa: BLE001
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.read(reading, 100).decode() == ForkedError.__name__
    os.close(reading)
    assert await db.write(increment) == 1


@pytest.mark.asyncio
async def test_a_database_that_is_not_closed_warns_and_ends_its_threads(tmp_path: Path) -> None:
    db = await connect(f"sqlite:///{tmp_path}/state.db")
    vars(db)["itself"] = db  # only the collector ends it
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("trove-database")]
    assert threads
    del db
    with pytest.warns(ResourceWarning, match="unclosed <Database sqlite"):
        gc.collect()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)


@pytest.mark.asyncio
async def test_a_server_that_closed_the_pooled_connections_is_reconnected(new_schema: Callable[[], str]) -> None:
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    url = new_schema()
    async with connect(url) as db, connect(url) as other:
        await db.write(create)
        await other.read(lambda connection: connection.execute(kill).all())
        assert await db.write(increment) == 1


@pytest.mark.asyncio
async def test_a_connection_that_breaks_in_every_attempt_is_unavailable(new_schema: Callable[[], str]) -> None:
    attempts = 0

    def unit(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with connect(new_schema()) as db:
        with pytest.raises(UnavailableError) as caught:
            await db.write(unit)
    assert not caught.value.ambiguous
    assert attempts > 1
