"""Migrations run once and whole, whoever asks for them at the same time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, text

from tests.database.conftest import execute, new_database
from tests.database.victim import Victim
from tests.servers import Postgres
from trove_async.database import Database, connect
from trove_async.errors import BackendError, InvalidArgumentError, PreconditionFailedError, SchemaVersionError

pytestmark = pytest.mark.asyncio

GROWING = "tests.database.growing"


async def tables(db: Database) -> set[str]:
    return set(await db.read(lambda connection: inspect(connection).get_table_names()))


async def plants(db: Database) -> list[tuple[object, ...]]:
    return await db.read(lambda c: [tuple(row) for row in c.execute(text("SELECT name, height FROM plants"))])


async def test_components_have_a_version_table_each(db: Database) -> None:
    await db.migrate("growing", GROWING)
    await db.migrate("growing_too", "trove_async.database.migrations")
    assert {"trove_growing_version", "trove_growing_too_version", "plants", "trove_leases"} <= await tables(db)
    assert await plants(db) == [("oak", 7)]


async def test_a_migration_runs_once(db: Database, url: str) -> None:
    async with connect(url) as other:
        await asyncio.gather(*(one.migrate("growing", GROWING) for one in [db, other] * 3))
        await other.migrate("growing", GROWING)
        assert await plants(other) == [("oak", 7)]


async def test_a_table_that_is_altered_keeps_the_rows_that_refer_to_it(db: Database) -> None:
    await db.migrate("growing", GROWING)
    assert await db.read(lambda c: c.execute(text("SELECT plant FROM leaves")).scalars().all()) == ["oak"]
    with pytest.raises(PreconditionFailedError):
        await db.write(lambda c: c.execute(text("INSERT INTO leaves VALUES ('no plant')")))


async def test_a_migration_that_leaves_rows_without_those_they_refer_to_is_undone(db: Database) -> None:
    await db.migrate("growing", GROWING)
    with pytest.raises(PreconditionFailedError):
        await db.migrate("orphaning", "tests.database.orphaning")
    assert await plants(db) == [("oak", 7)]


async def test_a_migration_that_has_nothing_to_do_does_not_read_all_rows(tmp_path: Path) -> None:
    checks: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "foreign_key_check" in statement:
            checks.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        async with connect(f"sqlite:///{tmp_path}/data.db") as db:
            for _ in range(3):
                await db.migrate("growing", GROWING)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(checks) == 1


async def test_processes_migrate_at_the_same_moment(db: Database, url: str) -> None:
    with Victim("migrate", url) as one, Victim("migrate", url) as two:
        assert [await one.line(), await two.line()] == ["migrated", "migrated"]
    assert await plants(db) == [("oak", 7)]


@pytest.mark.parametrize("isolation", ["read uncommitted", "repeatable read", "serializable"])
async def test_processes_migrate_at_the_same_moment_whatever_isolation_is_the_default(
    postgres: Postgres, isolation: str
) -> None:
    with new_database(postgres) as url:
        execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET default_transaction_isolation = '{isolation}'")
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(connect(url)) for _ in range(6)]
            await asyncio.gather(*(one.migrate("growing", GROWING) for one in opened))
            assert await plants(opened[0]) == [("oak", 7)]


async def test_a_migration_that_fails_leaves_nothing(db: Database) -> None:
    before = await tables(db)
    with pytest.raises(BackendError, match="no_such_table"):
        await db.migrate("failing", "tests.database.failing")
    assert await tables(db) == before


async def test_a_database_that_is_newer_than_the_code_is_refused(db: Database) -> None:
    await db.migrate("growing", GROWING)
    await db.write(lambda c: c.execute(text("UPDATE trove_growing_version SET version_num = 'g3'")))
    with pytest.raises(SchemaVersionError, match=r"'g3' of 'growing'.*newer.*Upgrade the library"):
        await db.migrate("growing", GROWING)
    assert await plants(db) == [("oak", 7)]


@pytest.mark.parametrize("component", ["", "A", "a-b", "1a", "a" * 41, 'x"; DROP TABLE counter; --'])
async def test_malformed_names_are_refused(db: Database, component: str) -> None:
    with pytest.raises(InvalidArgumentError, match="component"):
        await db.migrate(component, GROWING)


@pytest.mark.parametrize("package", ["", "tests.no_such", "no_such.migrations", "tests.database.counter"])
async def test_a_package_that_does_not_exist_is_named(db: Database, package: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no package"):
        await db.migrate("growing", package)


async def test_writes_wait_for_a_migration_and_go_on(db: Database) -> None:
    await asyncio.gather(
        db.migrate("growing", GROWING),
        *(db.write(lambda c: c.execute(text("UPDATE counter SET n = n + 1"))) for _ in range(10)),
    )
    assert await db.read(lambda c: c.scalar(text("SELECT n FROM counter"))) == 10
