from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.database.conftest import new_schema, postgres, postgres_url  # noqa: F401 - fixtures
from tests.quota.truth import layers

LIMIT = trove.QuotaLimit(bytes=1000, objects=20)


@pytest.fixture(params=["memory process", "memory sqlite", "local process"])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The driver, and where the quota counts."""
    driver, _, books = request.param.partition(" ")
    return driver, books


@pytest.fixture
def dsn(place: tuple[str, str], tmp_path: Path) -> str:
    if place[0] == "memory":
        return f"memory://{tmp_path.name}?min_part_size=1&presign_url=http://files.test"
    (tmp_path / "root").mkdir()
    return f"local://{tmp_path}/root?min_part_size=1&fsync=0&presign_url=http://files.test"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the tables, which takes Alembic some time to make."""
    path = tmp_path_factory.mktemp("quota") / "quota.db"

    async def make() -> None:
        async with trove.open("memory://", layers=layers({"b": LIMIT}, f"sqlite:///{path}")):
            pass

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM trove_quota_limits")
        connection.commit()
    return path


@pytest.fixture
def sqlite_url(migrated: Path, tmp_path: Path) -> str:
    shutil.copy(migrated, tmp_path / "quota.db")
    return f"sqlite:///{tmp_path}/quota.db?synchronous=0"


@pytest.fixture
def database(request: pytest.FixtureRequest, place: tuple[str, str]) -> str | None:
    if place[1] == "process":
        return None
    url: str = request.getfixturevalue("sqlite_url")
    return url


@pytest_asyncio.fixture
async def store(dsn: str, database: str | None) -> AsyncIterator[trove.Trove]:
    """A store whose bucket ``b`` may have 1,000 bytes and 20 objects."""
    async with trove.open(dsn, layers=layers({"b": LIMIT}, database)) as opened:
        await opened.create_bucket("b")
        yield opened
