from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from tests.database.counter import create
from tests.servers import Postgres, running
from trove_async.database import Database, connect

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def postgres() -> Postgres:
    return running("postgres")


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a database for this process alone."""
    with new_database(postgres) as url:
        yield url


@contextmanager
def new_database(postgres: Postgres, options: str = "") -> Iterator[str]:
    """Create a database, with options of ``CREATE DATABASE``, and drop it at the end."""
    name = f"trove_{uuid.uuid4().hex}"
    execute(postgres.url, f"CREATE DATABASE {name} {options}")
    try:
        yield postgres.url.rpartition("/")[0] + f"/{name}"
    finally:
        execute(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")


def execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # the caller may have a loop of its own
        thread.submit(lambda: asyncio.run(run())).result(60)


@pytest.fixture
def new_schema(postgres_url: str) -> Callable[[], str]:
    """Make URLs of empty schemas."""

    def make() -> str:
        name = f"s_{uuid.uuid4().hex}"
        execute(postgres_url, f"CREATE SCHEMA {name}")
        return f"{postgres_url}?search_path={name}"

    return make


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/state.db"
    new: Callable[[], str] = request.getfixturevalue("new_schema")
    return new()


@pytest_asyncio.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """A database of each kind, with the table of `tests.database.counter`."""
    async with connect(url) as database:
        await database.write(create)
        yield database


@pytest_asyncio.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    """A database of SQLite, with the table of `tests.database.counter`."""
    async with connect(f"sqlite:///{tmp_path}/state.db") as database:
        await database.write(create)
        yield database


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("trove-database")]
    assert left == []
