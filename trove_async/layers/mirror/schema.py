"""The tables of a repair queue."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Dialect, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeDecorator

from trove_async.database import Timestamp

__all__ = ["INTENTS", "MEMBERS", "REPAIRS"]


class _Key(TypeDecorator[str]):
    """The type of a column for the key of an object: its UTF-8 bytes, so that every database orders as listings do."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode()


_metadata: Final = MetaData()

MEMBERS: Final = Table(
    "trove_repair_members",
    _metadata,
    Column("store", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("identity", Text, nullable=False),
)
"""Which store each name of a member stands for."""

INTENTS: Final = Table(
    "trove_repair_intents",
    _metadata,
    Column("store", Text, primary_key=True),
    Column("bucket", Text, primary_key=True),
    Column("key", _Key, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("token", Text, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
)
"""The writes that are under way, at most one for each key; one that has expired is to be settled."""

REPAIRS: Final = Table(
    "trove_repairs",
    _metadata,
    Column("store", Text, primary_key=True),
    Column("bucket", Text, primary_key=True),
    Column("key", _Key, primary_key=True),
    Column("member", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("generation", Text, nullable=False),
    Column("queued_at", Timestamp, nullable=False),
    Column("due_at", Timestamp, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("error", Text, nullable=False),
)
"""The copies that are not what they should be."""
