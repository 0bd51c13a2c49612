"""Deleting a bucket: whatever interrupts it, one that exists has lost nothing, and a later one inherits nothing."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.errors import BucketAlreadyExistsError, BucketNotEmptyError, BucketNotFoundError, TroveError
from trove_async.types import LifecycleRule, VersioningStatus

pytestmark = pytest.mark.asyncio

RULE = LifecycleRule(id="r", prefix="", enabled=True, expiration_days=3)
CALLS = (
    *("rename", "rmdir", "unlink", "mkdir", "link", "write", "writev", "fsync", "utime", "open"),
    *("ftruncate", "fchmod", "setxattr"),
)
NOT_REACHED = 1_000_000


class Killed(BaseException):
    """The process is dead."""


class Faults:
    """Counts the calls that change something, and lets one of them, or that and all later ones, fail.

    Attributes:
        at: the number of the first call that fails.
        reached: whether it was.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = NOT_REACHED
        self.fatal = True
        self.reached = False
        self._count = 0
        for name in CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name), opens=name == "open"))

    def _counted(self, original: Callable[..., Any], *, opens: bool) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if not opens or args[1] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                self._count += 1
                if self._count == self.at or (self.fatal and self._count > self.at):
                    self.reached = True
                    raise Killed if self.fatal else OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*args, **options)

        return call

    def start(self, at: int, *, fatal: bool) -> None:
        self._count, self.at, self.fatal, self.reached = 0, at, fatal, False

    def stop(self) -> None:
        self.at = NOT_REACHED


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    found = Faults(monkeypatch)
    yield found
    found.stop()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    """A store that is open all the time, as that of another process."""
    async with trove.open(dsn_of(tmp_path)) as opened:
        yield opened


def dsn_of(root: Path, *, fsync: int = 0) -> str:
    return f"local://{root}?min_part_size=1&fsync={fsync}"


async def prepare(store: trove.Trove, root: Path) -> str:
    """Make a bucket that has everything but objects; return the id of its upload."""
    await store.create_bucket("b")
    await store.set_versioning("b", True)
    info = await store.put("b", "k", b"data")
    assert info.version_id is not None
    await store.delete_version("b", "k", info.version_id)
    await store.set_lifecycle("b", [RULE])
    upload_id = await store.initiate_multipart("b", "u")
    await store.upload_part("b", "u", upload_id, 1, b"part")
    (root / "b/empty/below").mkdir(parents=True)
    return upload_id


async def sweep(store: trove.Trove) -> int:
    return (await trove.unwrap(store.driver, LocalDriver).sweep()).buckets


def records(root: Path) -> list[str]:
    folders = ("buckets", "uploads", "meta", "versions", "deleted")
    return [str(path) for folder in folders for path in (root / ".trove" / folder).glob("*")]


async def has_all(store: trove.Trove, upload_id: str) -> None:
    assert await store.get_versioning("b") is VersioningStatus.ENABLED
    assert list(await store.get_lifecycle("b")) == [RULE]
    assert [upload.upload_id for upload in await store.list_multipart_uploads("b")] == [upload_id]
    assert [info.name for info in await store.list_buckets()] == ["b"]


async def has_nothing(store: trove.Trove, upload_id: str) -> None:
    assert await store.get_versioning("b") is VersioningStatus.UNVERSIONED
    assert list(await store.get_lifecycle("b")) == []
    with pytest.raises(trove.UploadNotFoundError):
        await store.complete_multipart("b", "u", upload_id, [trove.PartInfo(1, "etag", 4)])
    assert await store.list_multipart_uploads("b") == []
    assert (await store.put("b", "k", b"new")).version_id is None
    await store.delete("b", "k")
    assert await store.list_versions("b", "k") == []


async def check(stores: list[trove.Trove], root: Path, upload_id: str) -> bool:
    """Check what an interrupted deletion has left; return whether the bucket exists."""
    exists = (root / "b").exists()
    if not exists:
        (root / "b").mkdir()
        for store in stores:
            await has_nothing(store, upload_id)
        upload_id = await stores[0].initiate_multipart("b", "new")
        await sweep(stores[-1])
        assert [upload.upload_id for upload in await stores[-1].list_multipart_uploads("b")] == [upload_id]
    else:
        for store in stores:
            await has_all(store, upload_id)
        await sweep(stores[-1])
        await has_all(stores[0], upload_id)
    await stores[0].delete_bucket("b")
    assert records(root) == []
    return exists


@pytest.mark.parametrize("fsync", [0, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("ask_before_sweep", [True, False])
async def test_a_process_that_is_killed_at_any_call(
    store: trove.Trove, tmp_path: Path, faults: Faults, ask_before_sweep: bool, fsync: int
) -> None:
    outcomes: list[bool] = []
    at = 0
    while True:
        at += 1
        upload_id = await prepare(store, tmp_path)
        victim = await trove.open(dsn_of(tmp_path, fsync=fsync))
        faults.start(at, fatal=True)
        try:
            await victim.delete_bucket("b")
        except Killed:
            pass
        finally:
            killed = faults.reached
            faults.stop()
            await victim.aclose()
        if not ask_before_sweep:
            await sweep(store)
        async with trove.open(dsn_of(tmp_path)) as fresh:
            outcomes.append(await check([store, fresh], tmp_path, upload_id))
        if not killed:
            break
    # At first the bucket exists, and from one call on it does not.
    assert outcomes == sorted(outcomes, reverse=True)
    assert outcomes.count(True) > 3
    assert outcomes.count(False) > 3


async def test_a_call_that_fails(store: trove.Trove, tmp_path: Path, faults: Faults) -> None:
    at = 0
    while True:
        at += 1
        upload_id = await prepare(store, tmp_path)
        faults.start(at, fatal=False)
        try:
            await store.delete_bucket("b")
        except BucketNotEmptyError:
            raise
        except TroveError:
            pass
        reached = faults.reached
        faults.stop()
        async with trove.open(dsn_of(tmp_path)) as fresh:
            await check([store, fresh], tmp_path, upload_id)
        if not reached:
            break
    assert at > 10


async def test_a_deletion_can_be_repeated(store: trove.Trove, tmp_path: Path, faults: Faults) -> None:
    """After an error, the bucket is deleted by the next call, or it is gone."""
    for at in range(1, 40):
        await prepare(store, tmp_path)
        faults.start(at, fatal=False)
        try:
            await store.delete_bucket("b")
        except TroveError:
            faults.stop()
            try:
                await store.delete_bucket("b")
            except BucketNotFoundError:
                await sweep(store)
        faults.stop()
        assert not (tmp_path / "b").exists()
        await sweep(store)
        assert records(tmp_path) == []


async def test_a_sweep_removes_what_is_left(store: trove.Trove, tmp_path: Path, faults: Faults) -> None:
    await prepare(store, tmp_path)
    await moved_away(tmp_path, faults)
    assert len(records(tmp_path)) >= 3
    assert await sweep(store) == 1
    assert records(tmp_path) == []


async def moved_away(root: Path, faults: Faults) -> Path:
    """Kill a process that has moved the directory of the bucket, and return where it is."""
    victim = await trove.open(dsn_of(root))
    for at in range(1, 100):
        faults.start(at, fatal=True)
        try:
            await victim.delete_bucket("b")
        except Killed:
            if not (root / "b").exists():
                break
        finally:
            faults.stop()
    await victim.aclose()
    (moved,) = (path for path in (root / ".trove/deleted").glob("b.*") if path.suffix not in (".next", ".gone"))
    return moved


async def test_an_object_that_is_stored_in_a_directory_which_was_moved_away_is_brought_back(
    store: trove.Trove, tmp_path: Path, faults: Faults
) -> None:
    """An operation that has opened the directory before may store something there once the locks are free."""
    upload_id = await prepare(store, tmp_path)
    moved = await moved_away(tmp_path, faults)
    (moved / "k").write_bytes(b"stored")
    with pytest.raises(BucketAlreadyExistsError):
        await store.create_bucket("b")
    await has_all(store, upload_id)
    assert await store.read("b", "k") == b"stored"
    assert list((tmp_path / ".trove/deleted").iterdir()) == []


async def test_an_object_in_a_directory_that_was_moved_away_is_not_removed_for_a_new_bucket(
    store: trove.Trove, tmp_path: Path, faults: Faults
) -> None:
    upload_id = await prepare(store, tmp_path)
    moved = await moved_away(tmp_path, faults)
    (moved / "k").write_bytes(b"stored")
    (tmp_path / "b").mkdir()
    await has_nothing(store, upload_id)
    await sweep(store)
    await has_nothing(store, upload_id)
    assert (moved / "k").read_bytes() == b"stored"


async def test_a_file_that_is_placed_during_the_deletion_keeps_the_bucket(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await prepare(store, tmp_path)
    original = LocalFileSystem.rename

    async def rename(self: LocalFileSystem, source: str, target: str) -> None:
        if source == str(tmp_path / "b"):
            (tmp_path / "b/empty/by-hand").write_bytes(b"precious")
        await original(self, source, target)

    monkeypatch.setattr(LocalFileSystem, "rename", rename)
    with pytest.raises(BucketNotEmptyError, match="empty_bucket deletes its objects"):
        await store.delete_bucket("b")
    assert await store.read("b", "empty/by-hand") == b"precious"
    await has_all(store, upload_id)
    assert list((tmp_path / ".trove/deleted").iterdir()) == []


@pytest.mark.parametrize("call", ["write_file", "rename"])
async def test_a_bucket_is_deleted_where_its_directory_cannot_be_moved(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """For example on a full disk, or if the process may not write to it."""
    await prepare(store, tmp_path)
    original = getattr(LocalFileSystem, call)

    async def fail(self: LocalFileSystem, *args: Any) -> None:
        if call == "rename" and args[0] != str(tmp_path / "b"):
            await original(self, *args)
            return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFileSystem, call, fail)
    await store.delete_bucket("b")
    assert not (tmp_path / "b").exists()
    assert records(tmp_path) == []


@pytest.mark.parametrize("inodes", [0, 1, 2, 3])
async def test_a_bucket_is_deleted_when_few_directories_can_be_made(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inodes: int
) -> None:
    await prepare(store, tmp_path)
    original = LocalFileSystem.mkdir
    made: list[str] = []

    async def mkdir(self: LocalFileSystem, path: str) -> None:
        if len(made) == inodes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made.append(path)
        await original(self, path)

    monkeypatch.setattr(LocalFileSystem, "mkdir", mkdir)
    await store.delete_bucket("b")
    assert not (tmp_path / "b").exists()
    assert records(tmp_path) == []


# What stands in the way


async def test_the_error_names_what_no_listing_shows(store: trove.Trove, tmp_path: Path) -> None:
    await store.create_bucket("b")
    (tmp_path / "b/dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "b/pipe")
    with pytest.raises(BucketNotEmptyError) as caught:
        await store.delete_bucket("b")
    text = str(caught.value)
    assert "'dangling' (a symbolic link)" in text
    assert "'pipe' (a FIFO)" in text
    assert "remove that by hand" in text
    assert repr(str(tmp_path / "b")) in text
    assert "empty_bucket" not in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"caf\xe9", r"b'caf\xe9' (a file with a name that no key has)"),
        (b"50%", "'50%' (a file with a name that no key has)"),
        (b"50%/below/file", "'50%' (a directory with a name that no key has)"),
        (b"a/b/50%", "'a/b/50%' (a file with a name that no key has)"),
    ],
)
async def test_the_error_names_files_with_names_of_no_key(
    store: trove.Trove, tmp_path: Path, name: bytes, shown: str
) -> None:
    await store.create_bucket("b")
    path = os.fsencode(tmp_path / "b") + b"/" + name
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(BucketNotEmptyError) as caught:
        await store.delete_bucket("b")
    assert shown in str(caught.value)


async def test_the_error_names_a_socket(store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.create_bucket("b")
    monkeypatch.chdir(tmp_path / "b")  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
    with pytest.raises(BucketNotEmptyError, match=r"'s' \(a socket\)"):
        await store.delete_bucket("b")


async def test_the_error_names_only_some(store: trove.Trove, tmp_path: Path) -> None:
    await store.create_bucket("b")
    for number in range(100):
        (tmp_path / f"b/link-{number}").symlink_to("nowhere")
    with pytest.raises(BucketNotEmptyError, match="and others") as caught:
        await store.delete_bucket("b")
    assert str(caught.value).count("link-") == 3


async def test_objects_come_first_in_the_error(store: trove.Trove, tmp_path: Path) -> None:
    await store.create_bucket("b")
    (tmp_path / "b/dangling").symlink_to("nowhere")
    await store.put("b", "a/k", b"data")
    with pytest.raises(BucketNotEmptyError, match="empty_bucket deletes its objects"):
        await store.delete_bucket("b")
    await store.empty_bucket("b")
    with pytest.raises(BucketNotEmptyError, match="dangling"):
        await store.delete_bucket("b")
