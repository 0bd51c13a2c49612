"""A table with a number in it, and units of work that count."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select, update

METADATA = MetaData()
COUNTER = Table("counter", METADATA, Column("id", Integer, primary_key=True), Column("n", Integer, nullable=False))
WORDS = Table("words", METADATA, Column("word", Text, primary_key=True))


def create(connection: Connection) -> None:
    METADATA.create_all(connection)
    connection.execute(insert(COUNTER).values(id=1, n=0))


def count(connection: Connection) -> int:
    n: int = connection.execute(select(COUNTER.c.n)).scalar_one()
    return n


def increment(connection: Connection) -> int:
    """Read, then write: another writer in between would be lost."""
    n = count(connection) + 1
    connection.execute(update(COUNTER).values(n=n))
    return n


def add(word: str) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        connection.execute(insert(WORDS).values(word=word))

    return unit


def words(connection: Connection) -> list[str]:
    return list(connection.scalars(select(WORDS.c.word).order_by(WORDS.c.word)))
