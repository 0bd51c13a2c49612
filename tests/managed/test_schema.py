"""The migrations make the tables that the code describes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event, inspect

from trove_async.database import Database, connect
from trove_async.driver.options import ObjectAttributes
from trove_async.managed import ManagedResource
from trove_async.managed.dedup import schema as dedup
from trove_async.managed.dedup.objects import Bucket, Buckets, create_bucket
from trove_async.managed.dedup.segments import Segment
from trove_async.managed.links import Link, Put, find, link, unlink
from trove_async.managed.schema import BLOBS
from trove_async.managed.transitions import Blobs, Content
from trove_async.types import VersioningStatus

pytestmark = pytest.mark.asyncio


async def test_the_tables_are_those_that_the_code_describes(db: Database) -> None:
    def unit(connection: Connection) -> None:
        inspector = inspect(connection)
        tables = BLOBS.metadata.tables
        found = {name for name in inspector.get_table_names() if name.startswith("trove_managed_")}
        assert found - {"trove_managed_version"} == {*tables}
        for name, table in tables.items():
            columns = {column["name"]: bool(column["nullable"]) for column in inspector.get_columns(name)}
            assert columns == {column.name: bool(column.nullable) for column in table.columns}
            primary = inspector.get_pk_constraint(name)["constrained_columns"]
            assert primary == [column.name for column in table.primary_key]
            unique = {index["name"] for index in inspector.get_indexes(name) if index["unique"]}
            assert unique == {index.name for index in table.indexes if index.unique}

    await db.read(unit)


def explain(connection: Connection) -> list[str]:
    """Return the plans of SQLite for all statements of a connection from now on."""
    plans: list[str] = []
    raw: Any = connection.connection.dbapi_connection

    @event.listens_for(connection, "before_cursor_execute")
    def note(_: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        values = parameters[0] if many else parameters
        plans.extend(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    return plans


async def test_every_lookup_of_a_put_uses_an_index(sqlite_url: str) -> None:
    """Otherwise SQLite would read all names, or all contents, for each."""
    async with connect(sqlite_url) as db:

        def unit(connection: Connection) -> list[str]:
            plans = explain(connection)
            for path in ("p", "q", "p"):
                one = Link(ManagedResource("b", "", path), "text/plain")
                link(connection, "s", [Put(one, Content(path, "sha384", path, path, 1))])
            unlink(connection, "s", ManagedResource("b", "", "p"))
            find(connection, "s", ManagedResource("b", "", "p"))
            Blobs(connection, "s").condemned("sha384", "q")
            return plans

        plans = await db.write(unit)
    assert any("trove_managed_links USING INDEX" in plan and "path=?" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith("SCAN trove")] == []
    assert [plan for plan in plans if plan.endswith("(space=?)")] == []


async def test_every_lookup_of_a_put_of_dedup_uses_an_index(sqlite_url: str) -> None:
    """Otherwise SQLite would read all objects of a bucket, or all contents, for each."""
    async with connect(sqlite_url) as db:
        await db.migrate(dedup.COMPONENT, dedup.MIGRATIONS)

        def unit(connection: Connection) -> list[str]:
            create_bucket(connection, "s", "b")
            plans = explain(connection)
            for status in VersioningStatus:
                Bucket(connection, "s", "b").change(versioning=status)
                buckets = Buckets(connection, "s", [("b", "p"), ("b", "q")])
                blob = buckets.references.blobs.store(Content("i", "sha384", "d", "k", 1))
                for key in ("p", "q", "p"):
                    buckets.get("b").write(key, [Segment(blob.id, 0, 1)], ObjectAttributes())
                buckets.flush()
            return plans

        plans = await db.write(unit)
    assert any("USING INDEX trove_dedup_objects_version (bucket=? AND key=?)" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith("SCAN trove")] == []
    assert [plan for plan in plans if plan.endswith(("(space=?)", "(bucket=?)"))] == []
