"""What tables of components share: points in time, the database's clock, keys below a prefix, and inserts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import BigInteger, ColumnElement, Connection, Dialect, Table, Text, and_, literal, type_coerce
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from trove_async.keys import successor

__all__ = ["ORDERED_TEXT", "Timestamp", "begins_with", "insert_into", "now"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

ORDERED_TEXT: Final = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""The type of a column for keys, which sorts by their UTF-8 bytes, as listings do; SQLite does that by itself."""


class Timestamp(TypeDecorator[datetime]):
    """The type of a column for a point in time: an aware `datetime` in UTC.

    It is stored in microseconds since 1970 on every database, so that the same SQL compares them everywhere.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the number for a time."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the time for a number."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class _clock(FunctionElement[int]):  # noqa: N801 - it is compiled like a function of SQL
    """The microseconds since 1970 when the statement runs."""

    inherit_cache = True
    type = BigInteger()


@compiles(_clock, "sqlite")
def _clock_of_sqlite(element: _clock, compiler: Any, **options: Any) -> str:
    return "(CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000)"


@compiles(_clock, "postgresql")
def _clock_of_postgres(element: _clock, compiler: Any, **options: Any) -> str:
    # now() of PostgreSQL is the time at which the transaction began, which may be long ago.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"


def now(*, seconds: float = 0.0) -> ColumnElement[datetime]:
    """Return the database's time when the statement runs, or a number of seconds after it, as an expression of SQL.

    All who share a database share its clock, so that a deadline means the same to all of them. With SQLite it is the
    clock of the machine, in milliseconds.
    """
    return type_coerce(_clock() + literal(round(seconds * 1_000_000), BigInteger()), Timestamp())


def begins_with(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    """Return the condition that a key begins with a prefix, as a range that an index on the column finds.

    Args:
        column: a column without nulls that sorts by UTF-8 bytes.
        prefix: may be empty.
    """
    end = successor(prefix)
    begun = column >= prefix
    return begun if end is None else and_(begun, column < end)


def insert_into(connection: Connection, table: Table) -> postgresql.Insert:
    """Return an ``INSERT`` that can have ``on_conflict_do_nothing`` or ``on_conflict_do_update``, as both databases do.

    Args:
        connection: that of the unit, which knows the database.
        table: where to insert.
    """
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return cast("postgresql.Insert", sqlite.insert(table))  # it has the same methods
