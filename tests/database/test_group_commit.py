"""Writes to SQLite that wait at the same time share one commit, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, insert, text

from tests.database.counter import WORDS, add, count, increment, words
from trove_async.database import Database, Unit, connect, notify
from trove_async.errors import PreconditionFailedError, StorageFullError, TransientError

pytestmark = pytest.mark.asyncio


@pytest.fixture
def commits() -> Iterator[list[str]]:
    """The commits of all threads that write."""
    made: list[str] = []

    def record(connection: Connection) -> None:
        if threading.current_thread().name == "trove-database-writer":
            made.append("COMMIT")

    event.listen(Engine, "commit", record)
    yield made
    event.remove(Engine, "commit", record)


@asynccontextmanager
async def busy(db: Database) -> AsyncIterator[None]:
    """Keep the writer busy meanwhile, so that writes wait."""
    began, end = threading.Event(), threading.Event()

    def unit(connection: Connection) -> None:
        began.set()
        assert end.wait(60)

    task = asyncio.create_task(db.write(unit))
    await asyncio.to_thread(began.wait, 60)
    try:
        yield
    finally:
        end.set()
        await task


async def queued(*writes: asyncio.Task[object]) -> None:
    """Let the tasks give their units to the writer."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_writes_that_wait_share_one_commit(sqlite: Database, commits: list[str]) -> None:
    commits.clear()
    async with busy(sqlite):
        tasks = [asyncio.create_task(sqlite.write(increment)) for _ in range(100)]
        await queued()
        assert commits == []
    assert await asyncio.gather(*tasks) == list(range(1, 101))
    assert len(commits) == 2  # the busy one's, and that of the hundred


async def test_writes_one_by_one_commit_each(sqlite: Database, commits: list[str]) -> None:
    commits.clear()
    for _ in range(5):
        await sqlite.write(increment)
    assert len(commits) == 5


async def test_a_write_is_answered_after_its_commit(sqlite: Database, tmp_path: Path) -> None:
    async with busy(sqlite):
        task = asyncio.create_task(sqlite.write(increment))
        await queued()
    await task
    with sqlite3.connect(tmp_path / "state.db") as other:
        assert other.execute("SELECT n FROM counter").fetchone() == (1,)
    other.close()


async def test_one_that_fails_is_undone_alone(sqlite: Database, commits: list[str]) -> None:
    await sqlite.write(add("taken"))
    commits.clear()
    async with busy(sqlite):
        tasks = [asyncio.create_task(sqlite.write(add(word))) for word in ("a", "taken", "b")]
        await queued()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), PreconditionFailedError, type(None)]
    assert await sqlite.read(words) == ["a", "b", "taken"]
    assert len(commits) == 2


async def test_one_that_fills_the_disk_fails_alone(sqlite: Database) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
        connection.execute(insert(WORDS).values(word="x" * 100_000))

    async with busy(sqlite):
        tasks = [asyncio.create_task(sqlite.write(unit)) for unit in (add("a"), fill, add("b"))]
        await queued()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), StorageFullError, type(None)]
    assert await sqlite.read(words) == ["a", "b"]


async def test_a_commit_that_one_of_several_breaks_is_made_without_it(sqlite: Database) -> None:
    def add_child_of_nobody(connection: Connection) -> None:
        connection.execute(text("INSERT INTO child VALUES ('nobody')"))
        notify(connection, "children", "undone")

    def increment_and_tell(connection: Connection) -> int:
        notify(connection, "children", "done")
        return increment(connection)

    await sqlite.write(
        lambda c: c.execute(
            text("CREATE TABLE child (parent TEXT REFERENCES words (word) DEFERRABLE INITIALLY DEFERRED)")
        )
    )
    units: list[Unit[object]] = [add("a"), add_child_of_nobody, add("b"), increment_and_tell]
    async with sqlite.listen("children") as events:
        async with busy(sqlite):
            tasks = [asyncio.create_task(sqlite.write(unit)) for unit in units]
            await queued()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert await anext(events) == "done"
    assert [type(result) for result in results] == [type(None), PreconditionFailedError, type(None), int]
    assert await sqlite.read(words) == ["a", "b"]
    assert await sqlite.read(count) == 1


async def test_one_that_is_cancelled_before_it_began_never_begins(sqlite: Database) -> None:
    began: list[Connection] = []
    async with busy(sqlite):
        task = asyncio.create_task(sqlite.write(began.append))
        kept = asyncio.create_task(sqlite.write(increment))
        await queued()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await kept == 1
    assert began == []


async def test_one_that_is_cancelled_while_it_runs_is_undone_before_the_call_ends(sqlite: Database) -> None:
    began, cancelled = threading.Event(), threading.Event()

    def unit(connection: Connection) -> None:
        began.set()
        assert cancelled.wait(60)
        increment(connection)

    task = asyncio.create_task(sqlite.write(unit))
    await asyncio.to_thread(began.wait, 60)
    task.cancel()
    await queued()
    assert not task.done()
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sqlite.read(count) == 0
    assert await sqlite.write(increment) == 1


async def test_another_process_that_writes_for_too_long_is_a_transient_error(sqlite: Database, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    async with connect(f"sqlite:///{tmp_path}/state.db?busy_timeout=0.01") as impatient:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TransientError, match="locked"):
            await impatient.write(increment)
        assert await impatient.read(count) == 0
        other.execute("COMMIT")
        assert await impatient.write(increment) == 1
    other.close()


async def test_a_commit_waits_for_the_disk_unless_this_is_turned_off(sqlite: Database, tmp_path: Path) -> None:
    def synchronous(connection: Connection) -> object:
        return connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    async with connect(f"sqlite:///{tmp_path}/state.db?synchronous=0") as fast:
        assert (await sqlite.write(synchronous), await fast.write(synchronous)) == (2, 1)
