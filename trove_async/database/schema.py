"""What tables of components share: points in time, the database's clock, lists of texts, prefixes, and inserts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Dialect,
    Table,
    Text,
    and_,
    literal,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from trove_async.keys import successor

__all__ = ["ORDERED_TEXT", "Timestamp", "among", "begins_with", "insert_into", "now"]

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


class _Texts(TypeDecorator[list[str]]):
    """The type of a parameter that is a list of texts: an array of PostgreSQL, a JSON array of SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that the database has."""
        return postgresql.ARRAY(Text()) if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        """Return the list as the database takes it."""
        return value if dialect.name == "postgresql" else json.dumps(value)


class _among(FunctionElement[Any]):  # noqa: N801 - it is compiled like a function of SQL
    """The condition that the first clause is in the list that the second one is.

    It has no type: SQLAlchemy would compare a Boolean with 1 on SQLite, which no index serves.
    """

    inherit_cache = True


@compiles(_among, "sqlite")
def _among_of_sqlite(element: _among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(_among, "postgresql")
def _among_of_postgres(element: _among, compiler: Any, **options: Any) -> str:
    column, values = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY ({values})"


def among(column: ColumnElement[str], values: Iterable[str] | BindParameter[Any]) -> ColumnElement[bool]:
    """Return the condition that a column has one of some texts, however many they are.

    They are one parameter of the statement; ``IN`` takes one for each, and a statement has at most 32,766.

    Args:
        column: of texts.
        values: the texts, or the parameter whose value is a list of them.
    """
    given = values if isinstance(values, BindParameter) else literal([*values], _Texts())
    return _among(column, type_coerce(given, _Texts()))


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
