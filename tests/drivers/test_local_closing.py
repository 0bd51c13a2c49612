"""A store that is closed while operations run: they end whole, or as those of a closed store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.cancellation import CleanupWarning
from trove_async.drivers.local import LocalDriver, copying, filesystem
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.pool_size import PoolSize
from trove_async.drivers.local.workers import Workers
from trove_async.errors import ClosedError
from trove_async.tree import Checkpoint, Temporary
from trove_async.tree.filesystem import Reading

pytestmark = pytest.mark.asyncio

BOUND = 30.0


class Stall:
    """Makes an operation wait in its thread until the test lets it go on."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(BOUND)


@pytest.fixture
def stall() -> Stall:
    return Stall()


def stall_copies(monkeypatch: pytest.MonkeyPatch, stall: Stall) -> None:
    original = copying.append_file

    def append_file(
        source: int, target: int, checkpoint: Callable[[], None], reading: Reading, offset: int, length: int | None
    ) -> None:
        stall()
        original(source, target, checkpoint, reading, offset, length)

    monkeypatch.setattr(filesystem, "append_file", append_file)


def stall_commits(monkeypatch: pytest.MonkeyPatch, stall: Stall) -> None:
    original = LocalFileSystem.publish

    async def publish(self: LocalFileSystem, temporary: Temporary, path: str, *, replace: bool) -> None:
        stall()
        await original(self, temporary, path, replace=replace)

    monkeypatch.setattr(LocalFileSystem, "publish", publish)


async def given_up(store: trove.Trove, stall: Stall, call: asyncio.Future[Any]) -> None:
    """Close the store while the call does not get on."""
    assert await asyncio.to_thread(stall.entered.wait, BOUND)
    with pytest.warns(CleanupWarning, match="the local driver"):
        await store.aclose()
    stall.opened.set()
    await asyncio.wait({call}, timeout=BOUND)


def temporaries(root: Path) -> list[Path]:
    return list((root / ".trove/tmp").iterdir())


async def closed_completely(root: Path) -> None:
    """Wait until everything is released that the operation used."""
    async with asyncio.timeout(BOUND):
        while temporaries(root):  # noqa: ASYNC110 - what threads do is no event of the loop
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("named", [False, True])
async def test_a_copy_that_does_not_end_in_time_ends_as_that_of_a_closed_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall: Stall, named: bool
) -> None:
    if named:
        monkeypatch.setattr(LocalFileSystem, "_probe_nameless", lambda self: False)
    store = await trove.open(f"local://{tmp_path}?fsync=0", cleanup_timeout=0.2)
    await store.create_bucket("b")
    await store.put("b", "source", b"data")
    stall_copies(monkeypatch, stall)
    call = asyncio.ensure_future(store.copy("b", "source", "b", "target"))
    await given_up(store, stall, call)
    with pytest.raises(ClosedError):
        await call
    await closed_completely(tmp_path)
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["source"]
    assert residue_of(tmp_path) == []


async def test_a_put_that_is_committing_keeps_its_lock_and_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall: Stall
) -> None:
    store = await trove.open(f"local://{tmp_path}?fsync=0", cleanup_timeout=0.2)
    await store.create_bucket("b")
    driver = trove.unwrap(store.driver, LocalDriver)
    stall_commits(monkeypatch, stall)
    in_place_at_release: list[bool] = []
    call = asyncio.ensure_future(store.put("b", "k", b"data"))
    close = driver._fs.locks.file.close

    def release() -> None:
        in_place_at_release.append((tmp_path / "b/k").exists())
        close()

    monkeypatch.setattr(driver._fs.locks.file, "close", release)
    await given_up(store, stall, call)
    assert (await call).size == 4
    await closed_completely(tmp_path)
    assert (tmp_path / "b/k").read_bytes() == b"data"
    assert in_place_at_release[0]


async def test_a_stream_whose_store_was_closed_between_two_writes_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalFileSystem, "_probe_nameless", lambda self: False)
    store = await trove.open(f"local://{tmp_path}?fsync=0")
    await store.create_bucket("b")
    begun, closed = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await closed.wait()
        yield b"y"

    call = asyncio.ensure_future(store.put("b", "k", body()))
    await begun.wait()
    await store.aclose()
    closed.set()
    with pytest.raises(ClosedError):
        await call
    assert temporaries(tmp_path) == []
    assert list((tmp_path / "b").iterdir()) == []


async def test_operations_that_run_for_long_end_at_their_next_checkpoint() -> None:
    pool = Workers("test-closing", size=PoolSize(1), maximum=1, cleanup_timeout=0.05)
    entered = threading.Event()

    def endless(checkpoint: Checkpoint) -> None:
        entered.set()
        while True:
            checkpoint()

    running, waiting = (asyncio.ensure_future(pool.run(endless)) for _ in range(2))
    assert await asyncio.to_thread(entered.wait, BOUND)
    async with asyncio.timeout(BOUND):
        await pool.aclose()
    for call in (running, waiting):
        with pytest.raises(ClosedError):
            await call


async def test_a_part_whose_flush_does_not_end_in_time_is_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall: Stall
) -> None:
    """The clean-up gave up waiting for it; its descriptor may belong to another file by then."""
    discarded: list[int] = []
    original_sync, original_discard = LocalFileSystem.sync, LocalFileSystem.discard

    async def sync(self: LocalFileSystem, handle: int) -> None:
        stall()
        await original_sync(self, handle)

    async def discard(self: LocalFileSystem, temporary: Temporary) -> None:
        await original_discard(self, temporary)
        discarded.append(temporary.handle)

    async def body() -> AsyncIterator[bytes]:
        yield b"data"

    async with trove.open(f"local://{tmp_path}?fsync=0", cleanup_timeout=0.05) as store:
        await store.create_bucket("b")
        upload = await store.initiate_multipart("b", "k")
        monkeypatch.setattr(LocalFileSystem, "sync", sync)
        monkeypatch.setattr(LocalFileSystem, "discard", discard)
        appending = asyncio.ensure_future(store.append_part("b", "k", upload, 1, 0, body()))
        assert await asyncio.to_thread(stall.entered.wait, BOUND)
        appending.cancel()
        with pytest.warns(CleanupWarning), pytest.raises(asyncio.CancelledError):
            await appending
        assert discarded == []
        stall.opened.set()
        async with asyncio.timeout(BOUND):
            while not discarded:  # noqa: ASYNC110 - what threads do is no event of the loop
                await asyncio.sleep(0.001)
        [part] = await store.list_parts("b", "k", upload)
        await store.complete_multipart("b", "k", upload, [part])
    assert len(discarded) == 2  # and that of the completion
