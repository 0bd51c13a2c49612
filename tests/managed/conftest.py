from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async
from tests.database.conftest import new_schema, postgres, postgres_url  # noqa: F401 - fixtures
from tests.managed.state import BUCKET
from trove_async import Trove, managed
from trove_async.database import Database, connect
from trove_async.managed import ManagedStorage
from trove_async.managed.schema import COMPONENT, MIGRATIONS

KINDS = ["sqlite", "postgresql"]


def migrate(url: str) -> None:
    async def run() -> None:
        async with connect(url) as database:
            await database.migrate(COMPONENT, MIGRATIONS)

    asyncio.run(run())


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the tables, which takes Alembic some time to make."""
    path = tmp_path_factory.mktemp("managed") / "managed.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> str:  # noqa: F811
    """The URL of a database with the tables; each test has a space of its own in it."""
    migrate(postgres_url)
    return postgres_url


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """The URL of a database for one test."""
    shutil.copy(migrated_sqlite, tmp_path / "managed.db")
    return f"sqlite:///{tmp_path}/managed.db?synchronous=0"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of each kind."""
    kind: str = request.param
    name = "sqlite_url" if kind == "sqlite" else "migrated_postgres"
    found: str = request.getfixturevalue(name)
    return found


@pytest.fixture
def space() -> str:
    """Separates the tests that share a database."""
    return uuid.uuid4().hex


@pytest_asyncio.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """A database of each kind."""
    async with connect(url) as database:
        yield database


@pytest_asyncio.fixture
async def store() -> AsyncIterator[Trove]:
    """A store with a bucket for bytes."""
    async with trove_async.open("memory://") as opened:
        await opened.create_bucket(BUCKET)
        yield opened


@pytest.fixture
def open_managed(store: Trove, db: Database, space: str) -> Callable[[], managed.ManagedStorage]:
    """Make managed storage as another process would, on the same store and database."""

    def make() -> ManagedStorage:
        catalogue = managed.ResourceCatalog(db, space)
        return ManagedStorage(catalogue, managed.StoreResourceStorage(store, BUCKET))

    return make


@pytest.fixture
def m(open_managed: Callable[[], ManagedStorage]) -> ManagedStorage:
    """Managed storage on a database of each kind."""
    return open_managed()


@pytest_asyncio.fixture
async def on_sqlite(store: Trove, sqlite_url: str, space: str) -> AsyncIterator[ManagedStorage]:
    """Managed storage on SQLite."""
    async with managed.open(store, database=sqlite_url, bucket=BUCKET, space=space) as opened:
        yield opened
