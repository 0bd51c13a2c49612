"""Two processes on one root."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_peer import BUCKET
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import LocalDriver

pytestmark = pytest.mark.asyncio

REPOSITORY = Path(__file__).parents[2]
BOUND = 60.0


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"local://{tmp_path}?fsync=0"


@pytest_asyncio.fixture
async def store(dsn: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(dsn) as t:
        await t.create_bucket(BUCKET)
        yield t


@asynccontextmanager
async def peer(command: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a `local_peer` until the end of the block; it has opened the store and waits for a line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.drivers.local_peer", command, *arguments,
        cwd=REPOSITORY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(BOUND):
            first = await process.stdout.readline()
            assert first == b"ready\n", (await process.communicate())[1].decode()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def together(*commands: tuple[str, ...]) -> list[str]:
    """Run several peers that begin at the same time, and return the output of each."""
    async with AsyncExitStack() as stack, asyncio.timeout(BOUND):
        processes = [await stack.enter_async_context(peer(*command)) for command in commands]
        outputs = []
        for out, errors in await asyncio.gather(*(process.communicate(b"\n") for process in processes)):
            assert errors == b"", errors.decode()
            outputs.append(out.decode().strip())
        assert [process.returncode for process in processes] == [0] * len(processes)
        return outputs


async def test_compare_and_swap_loses_no_increment(store: trove.Trove, dsn: str, tmp_path: Path) -> None:
    await store.put(BUCKET, "counter", b"0")
    outputs = await together(*[("increment", dsn, "counter", "400")] * 2)
    assert await store.read(BUCKET, "counter") == b"800"
    assert any(line != "in vain 0" for line in outputs), "the processes did not conflict"
    assert residue_of(tmp_path) == []


async def test_one_creates_and_the_other_does_not(store: trove.Trove, dsn: str) -> None:
    one, other = await together(("create", dsn, "one", "300"), ("create", dsn, "other", "300"))
    assert sorted([*one.split(), *other.split()], key=int) == [str(number) for number in range(300)]
    for name, keys in (("one", one), ("other", other)):
        for number in keys.split():
            assert await store.read(BUCKET, f"key-{number}") == name.encode()


async def test_no_put_is_lost_to_a_concurrent_deletion(store: trove.Trove, dsn: str, tmp_path: Path) -> None:
    assert await together(("churn", dsn, "one", "600"), ("churn", dsn, "other", "600")) == ["done", "done"]
    assert list((tmp_path / BUCKET).iterdir()) == []


async def test_a_bucket_with_an_object_is_not_deleted(store: trove.Trove, dsn: str, tmp_path: Path) -> None:
    outputs = await together(("remake_bucket", dsn, BUCKET, "600"), ("put_into_bucket", dsn, BUCKET, "600"))
    deleted, _ = map(int, outputs[0].split())
    assert deleted
    assert int(outputs[1])
    assert residue_of(tmp_path) == []


async def test_a_killed_process_holds_no_lock(store: trove.Trove, dsn: str) -> None:
    await store.put(BUCKET, "other", b"")
    async with peer("hold", dsn, "key") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        async with asyncio.timeout(BOUND):
            assert await process.stdout.readline() == b"held\n"
            putting = asyncio.ensure_future(store.put(BUCKET, "key", b"data"))
            for _ in range(20):
                await store.read(BUCKET, "other")
            assert not putting.done()
            process.kill()
            await putting
    assert await store.read(BUCKET, "key") == b"data"


async def test_temporaries_of_living_processes_are_not_swept(store: trove.Trove, dsn: str, tmp_path: Path) -> None:
    driver = trove.unwrap(store.driver, LocalDriver)
    folders = tmp_path / ".trove/tmp"
    (ours,) = folders.iterdir()
    async with peer("hold", dsn, "key") as process:
        (theirs,) = set(folders.iterdir()) - {ours}
        (theirs / "being-written").touch()
        (theirs / "draft").mkdir()
        assert (await driver.sweep()).temporaries == 0
        assert (theirs / "being-written").exists()
        process.kill()
        await process.wait()
        assert (await driver.sweep()).temporaries == 1
        assert set(folders.iterdir()) == {ours}


async def test_many_stores_open_and_sweep_concurrently(tmp_path: Path, dsn: str) -> None:
    """A folder of temporaries that is swept before it is locked is created again."""

    async def open_often() -> None:
        for _ in range(15):
            async with trove.open(dsn) as store:
                await store.ping()

    async with asyncio.timeout(BOUND):
        await asyncio.gather(*(open_often() for _ in range(8)))
    assert list((tmp_path / ".trove/tmp").iterdir()) == []


async def test_a_folder_that_is_swept_before_it_is_locked_is_created_again(
    tmp_path: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir
    swept: list[str] = []

    def swept_at_once(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        if path.startswith(f"{os.getpid()}.") and len(swept) < 2:
            swept.append(path)
            os.rmdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swept_at_once)
    async with trove.open(dsn) as store:
        await store.ping()
    assert len(swept) == 2


async def test_changes_of_a_bucket_by_another_process_are_seen(store: trove.Trove, dsn: str) -> None:
    async with trove.open(dsn) as other:
        await other.set_versioning(BUCKET, True)
        first = await store.put(BUCKET, "key", b"1")
        await other.put(BUCKET, "key", b"2")
        assert first.version_id is not None
        assert len(await store.list_versions(BUCKET, "key")) == 2
        await other.set_versioning(BUCKET, False)
        assert (await store.put(BUCKET, "key", b"3")).version_id is None
