"""A backup as docs/managed.md describes it, with a put between its two steps, is restored after all was lost."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

import trove_async
from tests.database.conftest import new_database
from tests.managed.state import BUCKET
from tests.servers import Postgres
from trove_async import managed
from trove_async.errors import ObjectNotFoundError
from trove_async.managed import ManagedStorage, ProblemKind, StoreResourceStorage, collect, fsck

pytestmark = pytest.mark.asyncio

CONTENTS = {f"{number}.bin": bytes([number]) * 1000 for number in range(20)}
Save = Callable[[], Awaitable[None]]


async def run_program(*command: str | Path) -> None:
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)


async def backup_and_lose(tmp_path: Path, url: str, save: Save) -> None:
    """Save the catalogue and then the bytes, with a put in between and one after, and lose the bytes."""
    dsn = f"local://{tmp_path}/store"
    async with trove_async.open(f"{dsn}?create=1") as store:
        await store.create_bucket(BUCKET)
    async with managed.open(dsn, database=url, bucket=BUCKET) as m:
        for path, content in CONTENTS.items():
            await m.put_for_user("anna", path, content)
        await m.put_for_user("bert", "same.bin", CONTENTS["7.bin"])
        await m.remove_for_user("anna", "3.bin")
        await save()
        await m.put_for_user("anna", "younger.bin", b"stored after the catalogue was saved")
        await asyncio.to_thread(shutil.copytree, tmp_path / "store", tmp_path / "saved")
        await m.put_for_user("anna", "lost.bin", b"stored after the backup")
    await asyncio.to_thread(shutil.rmtree, tmp_path / "store")


async def restore_bytes(tmp_path: Path) -> None:
    await asyncio.to_thread(shutil.copytree, tmp_path / "saved", tmp_path / "store")


async def check_restored(tmp_path: Path, url: str) -> None:
    """Look for damage, collect, and read every name that was in the backup."""
    async with managed.open(f"local://{tmp_path}/store", database=url, bucket=BUCKET) as m:
        assert isinstance(m.storage, StoreResourceStorage)
        found = await fsck(m.catalogue, m.storage, depth="heads", repair=True, grace=0)
        assert [problem.kind for problem in found.problems] == [ProblemKind.ORPHAN]  # the younger bytes
        assert found.clean
        collected = await collect(m.catalogue, m.storage, grace=0, dry_run=False, force=True)
        assert collected.deleted == 2  # what was removed before the backup, and the orphan
        assert (await fsck(m.catalogue, m.storage, depth="bytes", grace=0)).problems == ()
        assert await contents_of(m, "anna") == {path: CONTENTS[path] for path in CONTENTS if path != "3.bin"}
        assert await contents_of(m, "bert") == {"same.bin": CONTENTS["7.bin"]}
        for path in ("younger.bin", "lost.bin"):
            with pytest.raises(ObjectNotFoundError):
                await m.stat_for_user("anna", path)


async def contents_of(m: ManagedStorage, user: str) -> dict[str, bytes]:
    found = {}
    async for info in m.list_for_user(user):
        async with m.get_for_user(user, info.resource.path) as reader:
            found[info.resource.path] = await reader.read()
    return found


def back_up(database: Path, copy: Path) -> None:
    """Do what ``sqlite3 DATABASE ".backup 'COPY'"`` does."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


async def test_sqlite(tmp_path: Path) -> None:
    database = tmp_path / "data.db"
    copy = tmp_path / "copy.db"
    url = f"sqlite:///{database}"

    await backup_and_lose(tmp_path, url, lambda: asyncio.to_thread(back_up, database, copy))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)

    copy.rename(database)
    await restore_bytes(tmp_path)
    await check_restored(tmp_path, url)


async def test_postgres(tmp_path: Path, postgres: Postgres) -> None:
    dump = tmp_path / "catalogue.dump"

    with new_database(postgres) as lost:
        await backup_and_lose(tmp_path, lost, lambda: run_program("pg_dump", "--format=custom", f"--file={dump}", lost))

    with new_database(postgres) as url:
        await run_program("pg_restore", f"--dbname={url}", "--no-owner", "--exit-on-error", dump)
        await restore_bytes(tmp_path)
        await check_restored(tmp_path, url)
