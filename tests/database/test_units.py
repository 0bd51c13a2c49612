"""Units of work behave the same on every database."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Column, Connection, MetaData, Select, Table, Text, bindparam, insert, select, text
from sqlalchemy.dialects import postgresql

from tests.database.counter import COUNTER, WORDS, add, count, increment, words
from trove_async.database import Database, Timestamp, connect, insert_into, now
from trove_async.database.schema import among, begins_with
from trove_async.errors import BackendError, InvalidArgumentError, PreconditionFailedError

pytestmark = pytest.mark.asyncio


KEY = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class MyError(Exception):
    pass


async def test_a_unit_returns_its_result_and_is_committed(db: Database, url: str) -> None:
    assert await db.write(increment) == 1
    async with connect(url) as other:
        assert await other.read(count) == 1


async def test_concurrent_increments_are_exact(db: Database) -> None:
    counted = await asyncio.gather(*(db.write(increment) for _ in range(100)))
    assert sorted(counted) == list(range(1, 101))


async def test_increments_of_two_connected_databases_are_exact(db: Database, url: str) -> None:
    async with connect(url) as other:
        await asyncio.gather(*(one.write(increment) for one in [db, other] * 25))
    assert await db.read(count) == 50


async def test_a_unit_that_raises_is_undone_and_the_error_is_its_own(db: Database) -> None:
    def unit(connection: Connection) -> None:
        increment(connection)
        raise MyError("mine")

    with pytest.raises(MyError, match="mine") as caught:
        await db.write(unit)
    assert caught.value.__cause__ is None
    assert await db.read(count) == 0


async def test_a_unit_that_fails_does_not_disturb_those_beside_it(db: Database) -> None:
    units = [add(word) for word in ("a", "b", "a", "c")]
    results = await asyncio.gather(*(db.write(unit) for unit in units), return_exceptions=True)
    assert [type(result) for result in results].count(PreconditionFailedError) == 1
    assert await db.read(words) == ["a", "b", "c"]


async def test_errors_have_no_values_in_them(db: Database) -> None:
    await db.write(add("a"))
    with pytest.raises(PreconditionFailedError, match="a constraint of the database does not hold") as caught:
        await db.write(lambda c: c.execute(insert(WORDS).values(word="a")))
    assert "INSERT" not in str(caught.value)
    with pytest.raises(BackendError, match="no_such_table"):
        await db.read(lambda c: c.execute(text("SELECT * FROM no_such_table")).all())


async def test_a_read_must_not_write(db: Database) -> None:
    with pytest.raises(InvalidArgumentError, match="give it to `write`"):
        await db.read(increment)
    assert await db.write(increment) == 1


async def test_a_read_sees_one_snapshot(db: Database, url: str) -> None:
    async def increment_elsewhere() -> None:
        async with connect(url) as other:
            await other.write(increment)

    def unit(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, increment_elsewhere()).result(60)
        return before, count(connection)

    assert await db.read(unit) == (0, 0)
    assert await db.read(count) == 1


@pytest.mark.parametrize("end", [Connection.commit, Connection.rollback, lambda c: c.begin_nested()])
async def test_a_unit_must_not_end_the_transaction(db: Database, end: object) -> None:
    def unit(connection: Connection) -> None:
        increment(connection)
        end(connection)  # type: ignore[operator]

    results = await asyncio.gather(db.write(increment), db.write(unit), db.write(increment), return_exceptions=True)
    assert isinstance(results[1], InvalidArgumentError)
    assert await db.read(count) == 2


async def test_a_unit_may_use_savepoints(db: Database) -> None:
    def unit(connection: Connection) -> None:
        increment(connection)
        savepoint = connection.begin_nested()
        increment(connection)
        savepoint.rollback()

    await db.write(unit)
    assert await db.read(count) == 1


async def test_a_result_whose_rows_were_not_fetched_is_refused(db: Database) -> None:
    for call in (db.read, db.write):
        with pytest.raises(InvalidArgumentError, match=r"result\.all"):
            await call(lambda connection: connection.execute(select(WORDS)))


async def test_a_unit_that_raises_stop_iteration_fails(db: Database) -> None:
    def unit(connection: Connection) -> None:
        increment(connection)
        next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await db.write(unit)
    assert await db.read(count) == 0


async def test_an_insert_may_find_the_row(db: Database) -> None:
    def unit(connection: Connection) -> list[int]:
        rows = insert_into(connection, COUNTER).values([{"id": 1, "n": 5}, {"id": 2, "n": 6}])
        connection.execute(rows.on_conflict_do_update(index_elements=["id"], set_={"n": COUNTER.c.n + rows.excluded.n}))
        connection.execute(insert_into(connection, COUNTER).values(id=2, n=7).on_conflict_do_nothing())
        return list(connection.scalars(select(COUNTER.c.n).order_by(COUNTER.c.id)))

    await db.write(increment)
    assert await db.write(unit) == [6, 6]


async def test_the_time_of_the_database_is_this_machines_here(db: Database) -> None:
    before = datetime.now(UTC)
    time = await db.now()
    assert before - timedelta(milliseconds=2) <= time <= datetime.now(UTC) + timedelta(milliseconds=2)


async def test_times_are_stored_to_the_microsecond_and_compared_by_the_database(db: Database) -> None:
    table = Table("times", MetaData(), Column("at", Timestamp, nullable=True))
    times = [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC), datetime(2100, 1, 1, 0, 0, 0, 1, UTC), None]

    def unit(connection: Connection) -> list[datetime | None]:
        table.create(connection)
        connection.execute(insert(table), [{"at": at} for at in times])
        connection.execute(insert(table).values(at=now(seconds=-3600)))
        past = connection.scalars(select(table.c.at).where(table.c.at <= now(seconds=-60)).order_by(table.c.at))
        return [*past, *connection.scalars(select(table.c.at).where(table.c.at > now()))]

    first, hour_ago, last = await db.write(unit)
    assert [first, last] == times[:2]
    assert hour_ago is not None
    assert timedelta(minutes=59) < await db.now() - hour_ago < timedelta(minutes=61)


@pytest.mark.parametrize("prefix", ["", "a", "ab", "a\ud7ff", "\U0010ffff", "\U0010ffff\U0010ffff", "none"])
async def test_keys_below_a_prefix(db: Database, prefix: str) -> None:
    table = Table("keys", MetaData(), Column("key", KEY, primary_key=True))
    keys = [
        "Z",
        "a",
        "a/b",
        "ab",
        "abc",
        "ac",
        "a\ud7ff",
        "a\ud7ffb",
        "a\ue000",
        "b",
        "\U0010ffff",
        "\U0010ffff\U0010ffffz",
    ]

    def unit(connection: Connection) -> list[str]:
        table.create(connection)
        connection.execute(insert(table), [{"key": key} for key in keys])
        return [*connection.scalars(select(table.c.key).where(begins_with(table.c.key, prefix)))]

    assert sorted(await db.write(unit)) == sorted(key for key in keys if key.startswith(prefix))


@pytest.mark.parametrize("others", [0, 1, 40_000])
async def test_any_number_of_texts_is_one_parameter(db: Database, others: int) -> None:
    odd = ["it's", 'a "b"', "{a,b}", "\\", "é", ""]
    for word in odd:
        await db.write(add(word))
    texts = [*(f"missing {n}" for n in range(others)), *odd[1:]]
    for found in (
        select(WORDS.c.word).where(among(WORDS.c.word, texts)),
        select(WORDS.c.word).where(among(WORDS.c.word, bindparam("texts"))),
    ):
        assert set(await db.read(partial(_scalars, statement=found, texts=texts))) == {*odd[1:]}


def _scalars(connection: Connection, statement: Select[tuple[str]], texts: list[str]) -> list[str]:
    return [*connection.scalars(statement, {"texts": texts})]
