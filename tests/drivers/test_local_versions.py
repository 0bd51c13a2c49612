"""Versions, lifecycle rules and uploads on disk: after a crash between two steps, and with age."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.errors import ObjectNotFoundError, StorageFullError, UploadNotFoundError, VersionNotFoundError
from trove_async.tree import DirEntry
from trove_async.tree.filesystem import Stat
from trove_async.tree.versions import StoredVersion, Versions
from trove_async.types import LifecycleReport, LifecycleRule, VersionInfo

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        await t.set_versioning("b", True)
        yield t
        assert residue_of(tmp_path) == []


@pytest.fixture
def driver(store: trove.Trove) -> LocalDriver:
    return trove.unwrap(store.driver, LocalDriver)


async def put(store: trove.Trove, data: bytes, key: str = "k") -> str:
    version_id = (await store.put("b", key, data)).version_id
    assert version_id is not None
    return version_id


async def history(store: trove.Trove, key: str = "k") -> list[bytes | None]:
    """Return the contents of the versions, newest first; None for a delete marker."""
    found: list[bytes | None] = []
    for version in await store.list_versions("b", key):
        if version.is_delete_marker:
            found.append(None)
        else:
            found.append(await store.read("b", key, version_id=version.version_id))
    return found


def stored(root: Path, key: str = "k") -> Path:
    """Return the directory of the noncurrent versions of a key."""
    (found,) = [path.parent for path in (root / ".trove/versions").rglob("key") if path.read_text() == key]
    return found


# After a crash


async def test_an_interrupted_put_creates_no_version(store: trove.Trove, tmp_path: Path) -> None:
    """The latest version was linked among the others, and the new one was not put in place."""
    first = await put(store, b"1")
    latest = await put(store, b"2")
    os.link(tmp_path / "b/k", stored(tmp_path) / latest)
    assert await history(store) == [b"2", b"1"]
    assert [version.is_latest for version in await store.list_versions("b", "k")] == [True, False]
    assert await store.read("b", "k", version_id=latest) == b"2"
    await put(store, b"3")
    assert await history(store) == [b"3", b"2", b"1"]
    await store.delete_version("b", "k", first)
    assert await history(store) == [b"3", b"2"]


async def test_a_version_that_was_linked_before_a_crash_is_deleted_permanently(
    store: trove.Trove, tmp_path: Path
) -> None:
    await put(store, b"1")
    latest = await put(store, b"2")
    os.link(tmp_path / "b/k", stored(tmp_path) / latest)
    await store.delete_version("b", "k", latest)
    assert await history(store) == [b"1"]
    assert await store.read("b", "k") == b"1"
    with pytest.raises(VersionNotFoundError):
        await store.read("b", "k", version_id=latest)


async def test_a_deletion_interrupted_before_its_marker_is_a_deletion(store: trove.Trove, tmp_path: Path) -> None:
    """The latest version was linked and removed, and the marker was not written."""
    await put(store, b"1")
    latest = await put(store, b"2")
    os.rename(tmp_path / "b/k", stored(tmp_path) / latest)
    with pytest.raises(ObjectNotFoundError):
        await store.read("b", "k")
    assert await history(store) == [b"2", b"1"]
    assert not any(version.is_latest for version in await store.list_versions("b", "k"))
    await store.restore_version("b", "k", latest)
    assert await store.read("b", "k") == b"2"


async def test_a_leftover_marker_of_a_restored_object(store: trove.Trove, tmp_path: Path) -> None:
    """The version below a marker was put in place, and the marker was not removed."""
    version = await put(store, b"1")
    await store.delete("b", "k")
    os.rename(stored(tmp_path) / version, tmp_path / "b/k")
    assert await store.read("b", "k") == b"1"
    assert await history(store) == [b"1", None]
    marker = (await store.list_versions("b", "k"))[1]
    assert not marker.is_latest
    await store.delete_version("b", "k", marker.version_id)
    assert await history(store) == [b"1"]


# Deleting versions


async def test_deleting_the_latest_version_makes_the_previous_one_the_latest(
    store: trove.Trove, tmp_path: Path
) -> None:
    first, second = await put(store, b"1"), await put(store, b"2")
    before = (await store.list_versions("b", "k"))[1]
    await store.delete_version("b", "k", second)
    info = await store.head("b", "k")
    assert (info.version_id, info.last_modified, info.etag) == (first, before.last_modified, before.etag)
    await store.delete_version("b", "k", first)
    assert not await store.exists("b", "k")
    assert await history(store) == []
    assert [path for path in (tmp_path / ".trove/versions/b").rglob("*") if path.is_file()] == []
    await store.delete_bucket("b")


async def test_deleting_the_latest_marker_brings_back_the_object(store: trove.Trove) -> None:
    await put(store, b"1")
    await store.delete("b", "k")
    await store.delete("b", "k")
    markers = [version for version in await store.list_versions("b", "k") if version.is_delete_marker]
    assert [marker.is_latest for marker in markers] == [True, False]
    await store.delete_version("b", "k", markers[0].version_id)
    assert not await store.exists("b", "k")
    await store.delete_version("b", "k", markers[1].version_id)
    assert await store.read("b", "k") == b"1"
    assert await history(store) == [b"1"]


async def test_deleting_a_marker_that_is_not_the_latest_changes_no_object(store: trove.Trove) -> None:
    await put(store, b"1")
    await store.delete("b", "k")
    (marker,) = [version for version in await store.list_versions("b", "k") if version.is_delete_marker]
    await put(store, b"2")
    await store.delete_version("b", "k", marker.version_id)
    assert await history(store) == [b"2", b"1"]


async def test_deleting_a_missing_version_is_success(store: trove.Trove) -> None:
    await put(store, b"1")
    await store.delete_version("b", "k", "0000000000000000deadbeef")
    await store.delete_version("b", "k", "../../k")
    await store.delete_version("b", "never", "null")
    assert await history(store) == [b"1"]


async def test_a_version_is_found_while_it_becomes_the_latest(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Right after another version was found to be the latest, that one is deleted."""
    first, second = await put(store, b"1"), await put(store, b"2")
    original = Versions.find
    deleting: list[bool] = []

    async def find_later(self: Versions, bucket: str, key: str, version_id: str) -> StoredVersion | None:
        if not deleting:
            deleting.append(True)
            task = asyncio.run_coroutine_threadsafe(store.delete_version("b", "k", second), loop)
            task.result(30)
        return await original(self, bucket, key, version_id)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(Versions, "find", find_later)
    assert await store.read("b", "k", version_id=first) == b"1"
    assert deleting


async def test_what_a_version_costs_does_not_depend_on_how_many_there_are(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading or deleting one by its id, and putting into a bucket whose versioning is suspended."""
    looked = 0
    lstat, scan = LocalFileSystem.lstat, LocalFileSystem.scan

    async def counted_lstat(self: LocalFileSystem, path: str) -> Stat | None:
        nonlocal looked
        looked += 1
        return await lstat(self, path)

    async def counted_scan(self: LocalFileSystem, path: str) -> AsyncGenerator[DirEntry]:
        nonlocal looked
        async with aclosing(scan(self, path)) as entries:
            async for entry in entries:
                looked += 1
                yield entry

    monkeypatch.setattr(LocalFileSystem, "lstat", counted_lstat)
    monkeypatch.setattr(LocalFileSystem, "scan", counted_scan)

    async def costs() -> list[int]:
        found = []
        oldest, *_ = versions
        for work in (
            lambda: store.read("b", "k", version_id=oldest),
            lambda: store.read("b", "k", version_id="null"),
            lambda: store.delete_version("b", "k", versions.pop()),
            lambda: store.set_versioning("b", False),
            lambda: store.put("b", "k", b"suspended"),
            lambda: store.put("b", "k", b"suspended"),
            lambda: store.set_versioning("b", True),
        ):
            before = looked
            await work()
            found.append(looked - before)
        return found

    await store.set_versioning("b", False)
    await store.put("b", "k", b"null")
    await store.set_versioning("b", True)
    versions = [await put(store, b"%d" % number) for number in range(4)]
    await put(store, b"latest")
    few = await costs()
    versions += [await put(store, b"%d" % number) for number in range(60)]
    await put(store, b"latest")
    # Whether an entry that is no version comes before the first one is for the file system to say.
    many = await costs()
    assert all(later <= sooner + 2 for later, sooner in zip(many, few, strict=True)), (few, many)


# Suspended


async def test_a_suspended_bucket_has_one_version_without_an_id(store: trove.Trove) -> None:
    first = await put(store, b"1")
    await store.set_versioning("b", False)
    await store.put("b", "k", b"2")
    await store.put("b", "k", b"3")
    versions = await store.list_versions("b", "k")
    assert [version.version_id for version in versions] == ["null", first]
    assert await history(store) == [b"3", b"1"]
    await store.set_versioning("b", True)
    await put(store, b"4")
    assert await history(store) == [b"4", b"3", b"1"]
    assert await store.read("b", "k", version_id="null") == b"3"


async def test_a_deletion_in_a_suspended_bucket_leaves_the_null_marker(store: trove.Trove) -> None:
    first = await put(store, b"1")
    await store.set_versioning("b", False)
    await store.put("b", "k", b"2")
    await store.delete("b", "k")
    await store.delete("b", "k")
    versions = await store.list_versions("b", "k")
    assert [(version.version_id, version.is_delete_marker) for version in versions] == [("null", True), (first, False)]
    await store.put("b", "k", b"3")
    assert await history(store) == [b"3", b"1"]


@pytest.mark.parametrize("operation", ["put", "delete"])
async def test_a_write_to_a_suspended_bucket_that_fails_leaves_the_null_version(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    await store.set_versioning("b", False)
    await store.put("b", "k", b"null")
    await store.set_versioning("b", True)
    await put(store, b"1")
    await store.set_versioning("b", False)

    async def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full_disk:
        full_disk.setattr(Versions, "keep", fail)
        with pytest.raises(StorageFullError):
            await (store.put("b", "k", b"2") if operation == "put" else store.delete("b", "k"))
    assert await history(store) == [b"1", b"null"]
    await store.put("b", "k", b"3")
    assert await history(store) == [b"3", b"1"]


async def test_an_object_from_before_versioning(store: trove.Trove, tmp_path: Path) -> None:
    (tmp_path / "b/k").write_bytes(b"by hand")
    await put(store, b"1")
    assert await history(store) == [b"1", b"by hand"]
    assert await store.read("b", "k", version_id="null") == b"by hand"


# Age


def after(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


async def test_objects_expire(store: trove.Trove) -> None:
    await store.set_versioning("b", False)
    for key in ("logs/1", "logs/2", "other"):
        await store.put("b", key, b"")
    await store.set_lifecycle("b", [LifecycleRule("r", prefix="logs/", expiration_days=7)])
    assert await store.apply_lifecycle("b", now=after(6.9)) == LifecycleReport()
    assert await store.apply_lifecycle("b", now=after(7.1)) == LifecycleReport(expired=2)
    assert [info.key async for info in store.list("b")] == ["other"]


@pytest.mark.parametrize("days", [3_000_000, 10**10], ids=["year 10240", "beyond timedelta"])
async def test_rules_may_mean_never(store: trove.Trove, days: int) -> None:
    for body in (b"1", b"2"):
        await put(store, body)
    await store.initiate_multipart("b", "k")
    rule = LifecycleRule("r", expiration_days=days, noncurrent_expiration_days=days, abort_incomplete_days=days)
    await store.set_lifecycle("b", [rule])
    assert await store.apply_lifecycle("b") == LifecycleReport()


async def test_a_transition_changes_only_the_class(store: trove.Trove) -> None:
    info = await store.put("b", "k", b"data", metadata={"a": "x" * 10_000}, tags={"t": "v"})
    before = await store.head("b", "k")
    rule = LifecycleRule("r", transition_days=30, transition_storage="GLACIER")
    await store.set_lifecycle("b", [rule])
    assert await store.apply_lifecycle("b", now=after(29)) == LifecycleReport()
    assert await store.apply_lifecycle("b", now=after(31)) == LifecycleReport(transitioned=1)
    assert await store.apply_lifecycle("b", now=after(32)) == LifecycleReport()
    moved = await store.head("b", "k")
    assert moved.storage_class == "GLACIER"
    assert (moved.etag, moved.last_modified, moved.metadata) == (info.etag, before.last_modified, before.metadata)
    assert await store.get_tags("b", "k") == {"t": "v"}
    assert [version.version_id for version in await store.list_versions("b", "k")] == [info.version_id]


async def test_versions_expire_by_the_time_of_their_replacement(store: trove.Trove) -> None:
    for key in ("k", "deleted"):
        for number in range(3):
            await put(store, str(number).encode(), key)
    await store.delete("b", "deleted")
    await store.set_lifecycle("b", [LifecycleRule("r", noncurrent_expiration_days=1)])
    assert await store.apply_lifecycle("b", now=after(0.9)) == LifecycleReport()
    assert await store.apply_lifecycle("b", now=after(1.1)) == LifecycleReport(noncurrent_expired=5)
    assert await history(store) == [b"2"]
    assert await history(store, "deleted") == [None]


async def test_incomplete_uploads_are_aborted(store: trove.Trove, tmp_path: Path) -> None:
    upload = await store.initiate_multipart("b", "k")
    await store.upload_part("b", "k", upload, 1, b"part")
    await store.set_lifecycle("b", [LifecycleRule("r", abort_incomplete_days=2)])
    assert await store.apply_lifecycle("b", now=after(1)) == LifecycleReport()
    assert await store.apply_lifecycle("b", now=after(3)) == LifecycleReport(uploads_aborted=1)
    assert await store.list_multipart_uploads("b") == []
    assert list((tmp_path / ".trove/uploads/b").iterdir()) == []


async def test_rules_outlive_the_store(store: trove.Trove, tmp_path: Path) -> None:
    rules = [LifecycleRule("r", "logs/", False, 30, 7, "COLD", 3, 1), LifecycleRule("s", expiration_days=1)]
    await store.set_lifecycle("b", rules)
    async with trove.open(f"local://{tmp_path}") as other:
        assert await other.get_lifecycle("b") == rules
        await other.delete_lifecycle("b")
    assert await store.get_lifecycle("b") == []


# Uploads


async def test_a_sweep_removes_uploads_without_a_manifest(
    store: trove.Trove, driver: LocalDriver, tmp_path: Path
) -> None:
    open_upload = await store.initiate_multipart("b", "k")
    ended = await store.initiate_multipart("b", "k")
    await store.upload_part("b", "k", ended, 1, b"part")
    (tmp_path / f".trove/uploads/b/{ended}/manifest").unlink()
    assert [upload.upload_id for upload in await store.list_multipart_uploads("b")] == [open_upload]
    with pytest.raises(UploadNotFoundError):
        await store.list_parts("b", "k", ended)
    assert (await driver.sweep()).uploads == 1
    assert [path.name for path in (tmp_path / ".trove/uploads/b").iterdir()] == [open_upload]


async def test_an_upload_is_completed_once(store: trove.Trove) -> None:
    upload = await store.initiate_multipart("b", "k")
    parts = [await store.upload_part("b", "k", upload, number, b"part" * 1000) for number in range(1, 20)]
    completing = [store.complete_multipart("b", "k", upload, parts) for _ in range(6)]
    outcomes = await asyncio.gather(*completing, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ObjectInfo"] + ["UploadNotFoundError"] * 5
    versions: list[VersionInfo] = await store.list_versions("b", "k")
    assert len(versions) == 1


async def test_parts_that_arrive_while_an_upload_is_aborted_leave_nothing(store: trove.Trove, tmp_path: Path) -> None:
    for _ in range(30):
        upload = await store.initiate_multipart("b", "k")
        sending = [store.upload_part("b", "k", upload, number, b"part") for number in range(1, 9)]
        *sent, aborted = await asyncio.gather(*sending, store.abort_multipart("b", "k", upload), return_exceptions=True)
        assert aborted is None
        for outcome in sent:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, UploadNotFoundError)
        assert list((tmp_path / ".trove/uploads/b").iterdir()) == []


async def test_an_upload_that_cannot_be_initiated_leaves_nothing(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def rename(self: LocalFileSystem, source: str, target: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(LocalFileSystem, "rename", rename)
    with pytest.raises(trove.BackendError):
        await store.initiate_multipart("b", "k")
    assert await store.list_multipart_uploads("b") == []
    assert residue_of(tmp_path) == []


async def test_upload_ids_cannot_leave_the_folder(store: trove.Trove) -> None:
    for upload_id in ("../../b", "..", "", "0" * 32, "A" * 32):
        with pytest.raises(UploadNotFoundError):
            await store.upload_part("b", "k", upload_id, 1, b"part")
        await store.abort_multipart("b", "k", upload_id)


async def test_all_versions_of_a_bucket_read_each_key_once(
    store: trove.Trove, driver: LocalDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are in files, in directories that are named by hashes; a page keeps only as many keys as it needs."""
    keys = [f"{number:03}" for number in range(60)]
    for key in keys:
        await put(store, b"1", key)
        await store.delete("b", key)
    reads: list[str] = []
    read_file = LocalFileSystem.read_file

    async def counted(self: LocalFileSystem, path: str) -> bytes | None:
        reads.append(path)
        return await read_file(self, path)

    monkeypatch.setattr(LocalFileSystem, "read_file", counted)
    found = await store.list_all_versions("b", page_size=7).all()
    assert [(v.key, v.is_delete_marker) for v in found] == [(key, marker) for key in keys for marker in (True, False)]
    assert len([path for path in reads if path.endswith("/key")]) <= len(keys)


async def test_a_bucket_whose_keys_were_all_deleted_can_be_emptied(store: trove.Trove) -> None:
    for key in ("a", "a/b", "c"):
        await put(store, b"1", key)
        await store.delete("b", key)
    assert await store.list("b").all() == []
    with pytest.raises(trove.BucketNotEmptyError):
        await store.delete_bucket("b")
    assert await store.empty_bucket("b", versions=True) == 6
    await store.delete_bucket("b")


async def test_a_delete_marker_whose_directory_another_program_removes_is_deleted(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, b"1")
    await store.delete("b", "k")
    marker, _ = await store.list_versions("b", "k")
    find = Versions.find

    async def found(self: Versions, bucket: str, key: str, version_id: str) -> StoredVersion | None:
        version = await find(self, bucket, key, version_id)
        shutil.rmtree(stored(tmp_path))
        return version

    monkeypatch.setattr(Versions, "find", found)
    await store.delete("b", "k", version_id=marker.version_id)
    assert await store.list_versions("b", "k") == []
