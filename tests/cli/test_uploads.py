"""``uploads``."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

import trove_async
from tests.cli.conftest import Run
from tests.cli.shell import Shell
from trove_async.uploads import Destination, FileInfo, FileLocker, MetaData, TroveDataStore

LONG_AGO = datetime.now(UTC) - timedelta(days=30)


async def _bytes(count: int) -> AsyncIterator[bytes]:
    yield b"x" * count


def _prepare(shell: Shell, work: Callable[[trove_async.Trove], Awaitable[None]]) -> None:
    async def run() -> None:
        async with trove_async.open(shell.dsn) as t:
            await t.create_bucket("b", exist_ok=True)
            await work(t)

    asyncio.run(run())


@pytest.fixture
def uploads(shell: Shell) -> None:
    """An upload that is open, a finished one, a partial one and one that has expired."""

    async def work(t: trove_async.Trove) -> None:
        store = TroveDataStore(t, "b", expires=None)
        named = MetaData({"filename": "holiday\n1.jpg"})
        await store.new_upload(FileInfo(id="a-open", size=10, metadata=named, destination=Destination("b", "k/1")))
        await store.write_chunk("a-open", 0, _bytes(4))
        await store.new_upload(FileInfo(id="b-finished", size=3))
        await store.write_chunk("b-finished", 0, _bytes(3))
        await store.finish_upload("b-finished")
        await store.new_upload(FileInfo(id="c-partial", is_partial=True))
        old = TroveDataStore(t, "b", expires=60, now=lambda: LONG_AGO)
        await old.new_upload(FileInfo(id="d-expired", size=5))

    _prepare(shell, work)


def test_ls(trove: Run, uploads: None) -> None:
    lines = [" ".join(line.split()[1:]) for line in trove("uploads", "ls", "b").lines]
    assert lines[:3] == [
        r"4/10 open - a-open b/k/1 holiday\n1.jpg",
        "3/3 finished - b-finished b/b-finished",
        "0/? partial open - c-partial -",
    ]
    assert lines[3].startswith("0/5 expired ")
    first, _, third, last = trove("uploads", "ls", "b", "--json").records
    assert first.pop("created_at") is not None
    assert first == {
        "type": "upload",
        "id": "a-open",
        "status": "open",
        "offset": 4,
        "size": 10,
        "is_partial": False,
        "is_final": False,
        "partial_ids": [],
        "bucket": "b",
        "key": "k/1",
        "owner": "",
        "filename": "holiday\n1.jpg",
        "metadata": "filename aG9saWRheQoxLmpwZw==",
        "expires_at": None,
    }
    assert (third["status"], third["size"], third["key"]) == ("open", None, None)
    assert (last["status"], last["expires_at"]) == ("expired", (LONG_AGO + timedelta(seconds=60)).isoformat())


def test_state_elsewhere(shell: Shell, trove: Run) -> None:
    async def work(t: trove_async.Trove) -> None:
        await t.create_bucket("s")
        await TroveDataStore(t, "b", state="s/web/").new_upload(FileInfo(id="one", size=1))

    _prepare(shell, work)
    assert trove("uploads", "ls", "b").lines == []
    assert [record["id"] for record in trove("uploads", "ls", "b", "--state", "s/web/", "--json").records] == ["one"]
    assert trove("uploads", "rm", "b", "one", "--state", "s/web/", "--yes").code == 0
    assert trove("uploads", "ls", "b", "--state", "s/web/").lines == []


def test_rm(trove: Run, uploads: None) -> None:
    done = trove("uploads", "rm", "b", "a-open")
    assert (done.code, done.err) == (
        2,
        "trove: a server may be writing to the uploads: give its locks by --database or --lock-folder, or add --yes\n",
    )
    done = trove("uploads", "rm", "b", "a-open", "missing", "b-finished", "--yes", "--json")
    assert (done.code, done.err) == (3, "trove: missing: there is no upload 'missing'\n")
    assert [record["id"] for record in done.records] == ["a-open", "b-finished"]
    assert [record["id"] for record in trove("uploads", "ls", "b", "--json").records] == ["c-partial", "d-expired"]
    assert trove("cat", "b/b-finished").out == b"xxx"
    assert trove("uploads", "rm", "b", "../x", "--yes").code == 3


def test_rm_with_the_locks_of_the_servers(shell: Shell, trove: Run, uploads: None) -> None:
    folder = str(shell.folder / "locks")
    done = trove("uploads", "rm", "b", "a-open", "--lock-folder", folder)
    assert (done.code, "there is no folder of locks" in done.err) == (2, True)
    locker = FileLocker(folder)
    assert trove("uploads", "rm", "b", "a-open", "--lock-folder", folder).code == 0
    assert trove("uploads", "rm", "b", "c-partial", "--database", "sqlite:///locks.db").code == 2
    asyncio.run(locker.aclose())


def test_rm_stops_a_request_that_writes(shell: Shell, trove: Run, uploads: None) -> None:
    folder = str(shell.folder / "locks")
    held, released = threading.Event(), threading.Event()

    async def write() -> None:
        """Do what a server does while a request writes to the upload, until it is asked to stop."""
        locker, stop = FileLocker(folder), asyncio.Event()
        lock = await locker.acquire("a-open", stop.set)
        held.set()
        await stop.wait()
        released.set()
        await lock.release()
        await locker.aclose()

    server = threading.Thread(target=lambda: asyncio.run(write()))
    server.start()
    assert held.wait(60)
    assert trove("uploads", "rm", "b", "a-open", "--lock-folder", folder).code == 0
    assert released.is_set()
    server.join()
    assert "a-open" not in trove("uploads", "ls", "b").text


def test_sweep(shell: Shell, trove: Run, uploads: None) -> None:
    async def work(t: trove_async.Trove) -> None:
        await t.initiate_multipart("b", "orphan")

    _prepare(shell, work)
    done = trove("uploads", "sweep", "b", "--dry-run")
    assert (done.code, done.lines) == (0, ["would remove: the expired upload d-expired"])
    assert trove("uploads", "sweep", "b", "--keep-orphans", "--orphans", "0").lines == [
        "removed: the expired upload d-expired"
    ]
    (record,) = trove("uploads", "sweep", "b", "--orphans", "0", "--dry-run", "--json").records
    assert record == {"type": "removal", "kind": "aborted", "name": "orphan", "outcome": "would remove"}
    assert trove("uploads", "sweep", "b", "--orphans", "0").lines == [
        "removed: the orphaned multipart upload of orphan"
    ]
    assert trove("uploads", "sweep", "b", "--orphans", "0").lines == []
    assert len(trove("uploads", "ls", "b").lines) == 3


def test_what_does_not_exist(trove: Run) -> None:
    done = trove("uploads", "ls", "missing")
    assert (done.code, done.lines) == (3, [])
    assert trove("uploads", "sweep", "missing").code == 3
    assert trove("uploads", "ls", "b/key").code == 2
    assert trove("uploads", "sweep", "b", "--orphans", "soon").code == 2
