"""What is wrong with a URL or a server is said before anything else, and no secret with it."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.database.conftest import new_database
from tests.servers import Postgres
from trove_async.database import connect
from trove_async.errors import (
    BackendError,
    InvalidDSNError,
    NotFoundError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)

SECRET = "se-cr-et"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://localhost/db", "'mysql' is not the scheme of a database.*sqlite:///.*postgresql://"),
        ("postgres://localhost/db", "'postgres' is not the scheme"),
        ("state.db", "has a scheme; write 'sqlite:///"),
        ("sqlite://state.db", "three slashes"),
        ("sqlite://", "names a file"),
        ("sqlite:///", "names a file"),
        ("sqlite:///:memory:", "outlive"),
        ("sqlite:///folder/", "names a file"),
        ("sqlite:///a%00.db", "names a file"),
        ("sqlite:///a.db?reader=4", "is it 'readers'"),
        ("sqlite:///a.db?readers=0", "readers must be at least 1"),
        ("sqlite:///a.db?busy_timeout=x", "busy_timeout must be a number"),
        ("postgresql://localhost", "names a database"),
        ("postgresql://localhost:x/db", "port"),
        ("postgresql://localhost/db?poolsize=4", "is it 'pool_size'"),
        ("postgresql://localhost/db?sslmode=on", "sslmode must be one of disable, allow, .*, verify-full, not 'on'"),
        ("postgresql://localhost/db?target_session_attrs=main", "target_session_attrs must be one of any, primary"),
    ],
)
def test_a_malformed_url_is_refused_before_any_io(url: str, message: str) -> None:
    with pytest.raises(InvalidDSNError, match=message):
        connect(url)


@pytest.mark.asyncio
async def test_a_relative_path_is_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with connect("sqlite:///state%3F.db") as db:
        await db.now()
        assert repr(db) == "<Database sqlite:///state%3F.db>"
    assert (tmp_path / "state?.db").exists()
    assert repr(db).endswith("closed>")


@pytest.mark.asyncio
async def test_a_folder_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"'{re.escape(str(tmp_path))}/none/state.db': .*does its folder exist"):
        await connect(f"sqlite:///{tmp_path}/none/state.db")
    assert not (tmp_path / "none").exists()


@pytest.mark.asyncio
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(b"not a database, but long enough to be one" * 100)
    with pytest.raises(BackendError, match="no SQLite database"):
        await connect(f"sqlite:///{file}")
    assert file.read_bytes().startswith(b"not a database")


DENIED = "Permission denied"
WRITE = """
import asyncio, sys
from trove_async.database import connect
from trove_async.errors import TroveError

async def main():
    for path in sys.argv[1:]:
        try:
            async with connect(f"sqlite:///{path}") as db:
                await db.write(lambda connection: connection.exec_driver_sql("CREATE TABLE t (n)").close())
            print("written")
        except TroveError as error:
            print(type(error).__name__, error)

asyncio.run(main())
"""


def test_a_file_that_cannot_be_opened_or_written_is_denied(tmp_path: Path) -> None:
    for name, mode in (("fine", 0o600), ("read-only", 0o400), ("secret", 0)):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.executescript("PRAGMA journal_mode=WAL; CREATE TABLE old (n)")
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir()
    (tmp_path / "closed").mkdir(mode=0o500)
    paths = [str(tmp_path / name) for name in ("fine", "read-only", "secret", "folder", "closed/new")]
    # Root may write everywhere. Without this capability, it may do what the modes of its files say.
    ordinary = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    command = [*ordinary, sys.executable, "-c", WRITE, *paths]
    fine, *denied = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    assert fine == "written"
    reasons = ("cannot be written to", *(f"cannot be opened: {why}" for why in (DENIED, "Is a directory", DENIED)))
    for line, reason in zip(denied, reasons, strict=True):
        assert line.startswith("AccessDeniedError")
        assert f"the file of the database {reason}" in line
    assert not (tmp_path / "closed" / "new").exists()


async def failure_of(url: str) -> TroveError:
    with pytest.raises(TroveError) as caught:
        await connect(url)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__
    return caught.value


@pytest.mark.asyncio
async def test_failures_to_connect_have_their_classes_and_no_password(postgres: Postgres) -> None:
    at = f"{postgres.host}:{postgres.port}"
    wrong = await failure_of(f"postgresql://{postgres.user}:{SECRET}@{at}/postgres")
    assert isinstance(wrong, UnauthenticatedError)
    missing = await failure_of(f"{postgres.url}_none")
    assert isinstance(missing, NotFoundError)
    assert "does not exist" in str(missing)
    with pytest.raises(NotFoundError, match="no schema of search_path exists; create it"):
        async with connect(f"{postgres.url}?search_path=nowhere") as db:
            await db.migrate("database", "trove_async.database.migrations")
    refused = await failure_of(f"postgresql://u:{SECRET}@{postgres.host}:1/postgres")
    assert isinstance(refused, UnavailableError)
    assert refused.driver == "postgresql"
    assert isinstance(await failure_of(f"postgresql://u:{SECRET}@{at}/postgres?sslmode=nonsense"), InvalidDSNError)
    assert isinstance(await failure_of(f"postgresql://u:{SECRET}@{at}/postgres?sslmode=require"), UnavailableError)


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_keep_every_name_is_refused(postgres: Postgres, encoding: str) -> None:
    with (
        new_database(postgres, f"TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'") as url,
        pytest.raises(UnsupportedError, match=f"the encoding of the database is {encoding}.*ENCODING 'UTF8'"),
    ):
        async with connect(url):
            pass


@pytest.mark.asyncio
async def test_a_database_has_no_password_in_its_repr(postgres: Postgres) -> None:
    async with connect(postgres.url) as db:
        assert postgres.password not in repr(db)
        assert repr(db) == f"<Database postgresql://{postgres.user}:***@{postgres.host}:{postgres.port}/postgres>"


@pytest.mark.parametrize(
    ("missing", "url", "extra"),
    [
        ("sqlalchemy", "sqlite:///x.db", "database"),
        ("alembic", "sqlite:///x.db", "database"),
        ("asyncpg", "postgresql://localhost/x", "postgres"),
        ("greenlet", "postgresql://localhost/x", "postgres"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing: str, url: str, extra: str, tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
sys.modules[{missing!r}] = None
from trove_async.errors import MissingDependencyError
try:
    from trove_async.database import connect
    asyncio.run(connect({url!r}).__aenter__())
except MissingDependencyError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert repr(missing) in done.stdout, done.stderr
    assert f"pip install 'trove-async[{extra}]'" in done.stdout
