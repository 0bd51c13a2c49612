"""The local driver's files, beyond the conformance suite."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.handles import Handles
from trove_async.errors import ClosedError, ObjectChangedError

pytestmark = pytest.mark.asyncio

LARGE = b"0123456789abcdef" * 40_000  # more than one hop reads


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        yield t
        assert residue_of(tmp_path) == []


def open_files(below: Path) -> list[str]:
    """Return the files below a directory that this process has open, except locks."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue  # that of the listing itself
        if target.startswith(f"{below}/") and not target.endswith(("/.trove/locks", "/.trove/tmp")):
            found.append(target)
    return sorted(found)


def objects_open(root: Path) -> list[str]:
    return [name for name in open_files(root) if not os.path.isdir(name)]


async def test_no_file_stays_open(store: trove.Trove, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield LARGE
        raise RuntimeError("mine")

    await store.put("b", "k", LARGE, metadata={"a": "x" * 10_000})
    await store.copy("b", "k", "b", "copy")
    with pytest.raises(RuntimeError, match="mine"):
        await store.put("b", "k", broken())
    async with store.get("b", "k") as reader:
        await reader.read(10)
        assert len(objects_open(tmp_path)) == 1
    assert len(await store.read("b", "copy")) == len(LARGE)
    await store.set_tags("b", "k", {"a": "b"})
    await store.get_tags("b", "k")
    upload = await store.initiate_multipart("b", "k")
    part = await store.upload_part("b", "k", upload, 1, LARGE)
    await store.complete_multipart("b", "k", upload, [part])
    await store.list("b").all()
    await store.delete("b", "k")
    assert objects_open(tmp_path) == []


async def test_closing_closes_every_file(tmp_path: Path) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        for number in range(100):
            await store.put("b", f"key-{number}", b"")
    assert [name for name in map(_target, os.listdir("/proc/self/fd")) if name.startswith(f"{tmp_path}/")] == []


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""


async def test_closing_during_a_put_leaves_nothing(tmp_path: Path) -> None:
    store = await trove.open(f"local://{tmp_path}?fsync=0")
    await store.create_bucket("b")
    await store.put("b", "k", b"old")
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE + LARGE
        waiting.set()
        await go_on.wait()
        yield b"more"

    putting = asyncio.ensure_future(store.put("b", "k", chunks()))
    await waiting.wait()
    await store.aclose()
    go_on.set()
    with pytest.raises(ClosedError):
        await putting
    assert (tmp_path / "b/k").read_bytes() == b"old"
    assert residue_of(tmp_path) == []
    assert open_files(tmp_path) == []


async def test_closing_while_a_thread_reads_does_not_reuse_the_descriptor(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is closed while a thread reads could be reused for the next file that is opened."""
    await store.put("b", "k", LARGE)
    reading, go_on = threading.Event(), threading.Event()
    original = LocalFileSystem.read

    async def read(self: LocalFileSystem, handle: int, offset: int, size: int) -> bytes:
        reading.set()
        assert go_on.wait(30)
        return await original(self, handle, offset, size)

    monkeypatch.setattr(LocalFileSystem, "read", read)
    other = await trove.open(f"local://{tmp_path}?fsync=0")
    reader = await other.get("b", "k")
    task = asyncio.ensure_future(reader.read())
    await asyncio.to_thread(reading.wait, 30)
    closing = asyncio.ensure_future(other.aclose())
    await asyncio.sleep(0)
    assert objects_open(tmp_path) == [f"{tmp_path}/b/k"]
    go_on.set()
    await closing
    with pytest.raises(ClosedError):
        await task
    assert objects_open(tmp_path) == []


async def test_closing_while_a_reader_opens_its_file_again(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "k", LARGE)
    other = await trove.open(f"local://{tmp_path}?fsync=0")
    reader = await other.get("b", "k")
    await reader.read()
    assert objects_open(tmp_path) == []
    opened, go_on = threading.Event(), threading.Event()
    original = LocalFileSystem.open

    async def open_slowly(self: LocalFileSystem, path: str) -> tuple[int, os.stat_result] | None:
        found = await original(self, path)
        opened.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr(LocalFileSystem, "open", open_slowly)
    seeking = asyncio.ensure_future(reader.seek(0))
    await asyncio.to_thread(opened.wait, 30)
    closing = asyncio.ensure_future(other.aclose())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    with pytest.raises(ClosedError):
        await seeking
    assert objects_open(tmp_path) == []


@pytest.mark.parametrize("change", ["overwrite", "delete"])
async def test_an_open_reader_reads_the_object_that_it_opened(store: trove.Trove, change: str) -> None:
    await store.put("b", "k", LARGE)
    async with store.get("b", "k") as reader:
        assert await reader.read(16) == LARGE[:16]
        if change == "overwrite":
            await store.put("b", "k", b"x" * len(LARGE))
        else:
            await store.delete("b", "k")
        assert await reader.read() == LARGE[16:]
        # At the end it has closed the file, and no other file is the same object.
        with pytest.raises(ObjectChangedError):
            await reader.seek(0)


async def test_a_cancelled_copy_stops_and_leaves_the_old_object(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "source", LARGE)
    await store.put("b", "k", b"old")
    copying, go_on = threading.Event(), threading.Event()
    original = LocalFileSystem.sync

    async def sync(self: LocalFileSystem, handle: int) -> None:
        copying.set()
        assert go_on.wait(30)
        await original(self, handle)

    monkeypatch.setattr(LocalFileSystem, "sync", sync)
    task = asyncio.ensure_future(store.copy("b", "source", "b", "k"))
    await asyncio.to_thread(copying.wait, 30)
    task.cancel()
    await asyncio.sleep(0.01)  # the task has received the cancellation
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.read("b", "k") == b"old"
    assert residue_of(tmp_path) == []


async def test_a_cancelled_initiation_leaves_no_upload(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread has created the upload when the caller, who alone would know its id, is gone."""
    renamed, go_on = threading.Event(), threading.Event()
    original = LocalFileSystem.rename

    async def rename(self: LocalFileSystem, source: str, target: str) -> None:
        await original(self, source, target)
        renamed.set()
        assert go_on.wait(30)

    monkeypatch.setattr(LocalFileSystem, "rename", rename)
    task = asyncio.ensure_future(store.initiate_multipart("b", "k"))
    await asyncio.to_thread(renamed.wait, 30)
    task.cancel()
    await asyncio.sleep(0.01)  # the task has received the cancellation
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.list_multipart_uploads("b") == []
    assert list((tmp_path / ".trove/uploads/b").iterdir()) == []


async def test_writes_are_durable_by_default_and_fsync_turns_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def counting(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counting)
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        synced.clear()
        await store.put("b", "new/folder/k", b"data")
        # The file before it is renamed, then every directory that has a new entry.
        assert "/.trove/tmp/" in synced[0]
        assert synced[1:] == [f"{tmp_path}/b", f"{tmp_path}/b/new", f"{tmp_path}/b/new/folder"]
        synced.clear()
        await store.set_tags("b", "new/folder/k", {"a": "b"})
        assert synced == [f"{tmp_path}/b/new/folder/k"]
        synced.clear()
        await store.delete("b", "new/folder/k")
        assert synced[0] == f"{tmp_path}/b/new/folder"
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        synced.clear()
        await store.put("b", "new/folder/k", b"data")
        await store.set_tags("b", "new/folder/k", {"a": "b"})
        await store.delete("b", "new/folder/k")
        assert synced == []


async def test_a_driver_that_was_not_opened_can_be_closed(tmp_path: Path) -> None:
    driver = LocalDriver()
    await driver.close()
    with pytest.raises(ClosedError):
        await driver.ping()


async def test_operations_that_wait_together_check_their_bucket_once(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "k", b"data")
    looks: list[str] = []
    original = Handles.open

    def open_directory(self: Handles, path: str, flags: int = 0) -> int:
        looks.append(path)
        return original(self, path, flags)

    monkeypatch.setattr(Handles, "open", open_directory)
    assert await asyncio.gather(*(store.read("b", "k") for _ in range(50))) == [b"data"] * 50
    assert 1 <= len(looks) < 50
    # A later operation checks again.
    await store.delete("b", "k")
    await store.delete_bucket("b")
    with pytest.raises(trove.BucketNotFoundError):
        await store.read("b", "k")


async def test_watch_without_its_extra_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.drivers.local.core.find_spec", lambda name: None)
    async with trove.open(f"local://{tmp_path}") as t:
        assert not t.supports("watch")
        with pytest.raises(trove.UnsupportedError, match=r"pip install 'trove-async\[local\]'"):
            t.watch("b")


@pytest.mark.parametrize(("path", "words"), [("b", "the bucket 'b'"), ("b/photos", "that begin with 'photos/'")])
@pytest.mark.parametrize("create", ["", "?create=1"])
async def test_a_directory_in_a_bucket_is_no_store_of_its_own(
    tmp_path: Path, path: str, words: str, create: str
) -> None:
    async with trove.open(f"local://{tmp_path}") as t:
        await t.create_bucket("b")
        await t.put("b", "photos/a", b"x")
    with pytest.raises(trove.InvalidDSNError, match=f"write local://{tmp_path}, and .*{words}"):
        await trove.open(f"local://{tmp_path}/{path}{create}")
    assert not (tmp_path / "b/.trove").exists()


async def test_a_store_may_be_below_another_where_that_made_no_bucket(tmp_path: Path) -> None:
    """Somebody else may open a directory above at any time, such as ``/tmp``."""
    (tmp_path / "data").mkdir()
    async with trove.open(f"local://{tmp_path}"), trove.open(f"local://{tmp_path}/data/own?create=1") as t:
        await t.create_bucket("b")
    async with trove.open(f"local://{tmp_path}"), trove.open(f"local://{tmp_path}/data/own") as t:
        assert [bucket.name for bucket in await t.list_buckets()] == ["b"]
