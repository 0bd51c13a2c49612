"""A file of SQLite that is damaged, locked or of another version: a clear error, and nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.managed.state import BUCKET, check, stored
from trove_async import Trove, managed
from trove_async.database import connect
from trove_async.errors import BackendError, SchemaVersionError, TransientError
from trove_async.managed import ManagedStorage, StoreResourceStorage
from trove_async.managed.dedup import migrations

pytestmark = pytest.mark.asyncio

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "half of it": lambda whole: whole[: len(whole) // 2],
    "a part of a page": lambda whole: whole[: len(whole) // 2 + 100],
    "the first page": lambda whole: whole[:4096],
    "less than a page": lambda whole: whole[:1000],
    "garbage behind the first page": lambda whole: whole[:4096] + b"\xff" * (len(whole) - 4096),
    "zeros behind the first page": lambda whole: whole[:4096] + bytes(len(whole) - 4096),
    "text": lambda whole: b"no database" * 1000,
}


@pytest.fixture
def file(sqlite_url: str, tmp_path: Path) -> Path:
    return tmp_path / "managed.db"


async def fill(store: Trove, url: str) -> dict[str, bytes]:
    """Store contents, and return the bytes in the bucket."""
    async with managed.open(store, database=url, bucket=BUCKET) as m:
        for number in range(20):
            await m.put_for_bucket("b", str(number), b"%d" % number)
        return await stored(m)


async def works(store: Trove, url: str, before: dict[str, bytes]) -> None:
    async with managed.open(store, database=url, bucket=BUCKET) as m:
        assert await stored(m) == before
        assert isinstance(m.storage, StoreResourceStorage)
        assert (await managed.fsck(m.catalogue, m.storage, depth="bytes")).clean
        await m.put_for_bucket("b", "new", b"new")
        await check(m)


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_file_that_is_damaged(store: Trove, sqlite_url: str, file: Path, damage: str) -> None:
    before = await fill(store, sqlite_url)
    whole = file.read_bytes()
    damaged = DAMAGE[damage](whole)
    file.write_bytes(damaged)
    with pytest.raises(BackendError, match=r"the file of the database is damaged; restore|no SQLite database"):
        await managed.open(store, database=sqlite_url, bucket=BUCKET)
    assert file.read_bytes() == damaged
    file.write_bytes(whole)
    await works(store, sqlite_url, before)


async def test_an_empty_file_is_another_catalogue(store: Trove, sqlite_url: str, file: Path) -> None:
    """It has a folder of its own, so that its collector and its repairs leave the bytes of the lost one alone."""
    before = await fill(store, sqlite_url)
    whole = file.read_bytes()
    file.write_bytes(b"")
    async with managed.open(store, database=sqlite_url, bucket=BUCKET) as m:
        assert isinstance(m.storage, StoreResourceStorage)
        assert (await managed.fsck(m.catalogue, m.storage, depth="bytes", repair=True, grace=0)).problems == ()
        assert (await managed.collect(m.catalogue, m.storage, grace=0, dry_run=False, force=True)).deleted == 0
    file.write_bytes(whole)
    await works(store, sqlite_url, before)


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Let another process write to a database all the time."""
    command = [sys.executable, "-c", LOCK, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield
        other.communicate("")


async def test_another_process_writes_for_too_long(store: Trove, sqlite_url: str, file: Path) -> None:
    before = await fill(store, sqlite_url)
    impatient = f"{sqlite_url}&busy_timeout=0.01"
    async with managed.open(store, database=impatient, bucket=BUCKET) as m:
        with locked(file):
            for call in (
                m.put_for_bucket("b", "new", b"new"),
                m.put_for_bucket("b", "known", b"1"),
                m.remove_for_bucket("b", "1"),
                collect(m),
                managed.open(store, database=impatient, bucket=BUCKET),
            ):
                with pytest.raises(TransientError, match="another process kept the database locked for too long"):
                    await call
            assert await (await m.get_for_bucket("b", "1")).read() == b"1"
            assert await stored(m) == before
        await check(m)
    await works(store, sqlite_url, before)


async def collect(m: ManagedStorage) -> None:
    assert isinstance(m.storage, StoreResourceStorage)
    await managed.collect(m.catalogue, m.storage, grace=0, dry_run=False, force=True)


def execute(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"local://{tmp_path}/store?create=1"


@pytest.mark.parametrize("component", ["managed", "dedup"])
async def test_a_newer_schema_is_refused(dsn: str, sqlite_url: str, file: Path, component: str) -> None:
    dedup = managed.Dedup(sqlite_url, bucket=BUCKET)
    async with trove_async.open(dsn, layers=[dedup]) as t:
        await t.create_bucket("one")
        await t.put("one", "a", b"data")
    execute(file, f"UPDATE trove_{component}_version SET version_num = version_num + 9000")
    before = file.read_bytes()
    with pytest.raises(SchemaVersionError, match=rf"'9\d\d\d' of '{component}'"):
        await trove_async.open(dsn, layers=[dedup])
    if component == "managed":
        with pytest.raises(SchemaVersionError):
            await managed.open(dsn, database=sqlite_url, bucket=BUCKET)
    assert file.read_bytes() == before
    execute(file, f"UPDATE trove_{component}_version SET version_num = printf('%04d', version_num - 9000)")
    async with trove_async.open(dsn, layers=[dedup]) as t:
        assert await t.read("one", "a") == b"data"


REVISIONS = sorted(Path(migrations.__file__).parent.glob("r*.py"))


@pytest.mark.parametrize("count", range(1, len(REVISIONS)))
async def test_an_older_schema_is_brought_up_to_date(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    older = tmp_path / f"older_{count}"
    older.mkdir()
    (older / "__init__.py").touch()
    for revision in REVISIONS[:count]:
        shutil.copy(revision, older)
    monkeypatch.syspath_prepend(tmp_path)
    async with connect(f"sqlite:///{tmp_path}/older.db") as db:
        await db.migrate("managed", "trove_async.managed.migrations")
        await db.migrate("dedup", older.name)
    schemas: list[list[Any]] = []
    for name in ("older", "new"):
        dedup = managed.Dedup(f"sqlite:///{tmp_path}/{name}.db", bucket=name)
        async with trove_async.open(dsn, layers=[dedup]) as t:
            await t.create_bucket("one")
            await t.put("one", "a", b"data")
            assert await t.read("one", "a") == b"data"
        schemas.append(execute(tmp_path / f"{name}.db", "SELECT name, sql FROM sqlite_schema ORDER BY name"))
    assert schemas[0] == schemas[1]
