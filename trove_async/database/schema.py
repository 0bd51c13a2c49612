"""What tables of components share: points in time, and the database's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.types import TypeDecorator

__all__ = ["Timestamp", "now"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


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


class now(ColumnElement[datetime]):  # noqa: N801 - it is written like a function of SQL
    """The database's time when the statement runs, or so many seconds after it, as an expression of SQL.

    All who share a database share its clock, so that a deadline means the same to all of them. With SQLite it is the
    clock of the machine, in milliseconds.
    """

    inherit_cache = False
    type = Timestamp()

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.offset = round(seconds * 1_000_000)


@compiles(now, "sqlite")
def _now_of_sqlite(element: now, compiler: Any, **options: Any) -> str:
    milliseconds = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"
    return f"({milliseconds} * 1000 + {element.offset:d})"


@compiles(now, "postgresql")
def _now_of_postgres(element: now, compiler: Any, **options: Any) -> str:
    # now() of PostgreSQL is the time at which the transaction began, which may be long ago.
    return f"(CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) + {element.offset:d})"
