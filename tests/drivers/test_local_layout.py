"""The place of objects on disk, and files that people put there."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.errors import (
    BackendError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.tree.placement import Placement

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    root = tmp_path / "root"
    root.mkdir()
    async with trove.open(f"local://{root}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        yield t
        assert residue_of(root) == []


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "root/b"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


async def keys(store: trove.Trove) -> list[str]:
    return [info.key async for info in store.list("b")]


# Conflicting keys


async def test_an_object_is_stored_under_the_path_of_its_key(store: trove.Trove, bucket: Path) -> None:
    await store.put("b", "photos/2024/a.jpg", b"data")
    assert (bucket / "photos/2024/a.jpg").read_bytes() == b"data"
    await store.delete("b", "photos/2024/a.jpg")
    assert list(bucket.iterdir()) == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["a", "a/b"], ["a", "a%D/b"]),
        (["a/b", "a"], ["a%F", "a/b"]),
        (["a/", "a"], ["a%F", "a/%E"]),
        (["a", "a/"], ["a", "a%D/%E"]),
        (["a", "a/b", "a/b/c"], ["a", "a%D/b", "a%D/b%D/c"]),
        (["a/b/c", "a/b", "a"], ["a%F", "a/b%F", "a/b/c"]),
        (["a%D", "a%F", "a/b", "a"], ["a%25D", "a%25F", "a%F", "a/b"]),
    ],
)
async def test_no_file_moves_because_of_another_key(
    store: trove.Trove, bucket: Path, order: list[str], expected: list[str]
) -> None:
    for key in order:
        await store.put("b", key, key.encode(), metadata={"key": key})
    assert files(bucket) == sorted(expected)
    assert await keys(store) == sorted(order)
    for key in order:
        async with store.get("b", key) as reader:
            assert await reader.read() == key.encode()
            assert reader.info.metadata == {"key": key}
        await store.put("b", key, b"again")
    assert files(bucket) == sorted(expected)
    for at, key in enumerate(order):
        await store.delete("b", key)
        assert await keys(store) == sorted(order[at + 1 :])
    assert list(bucket.iterdir()) == []


@pytest.mark.parametrize("removable", [True, False], ids=["removable", "not removable"])
async def test_directories_created_for_a_place_that_changed_are_removed(
    store: trove.Trove, bucket: Path, monkeypatch: pytest.MonkeyPatch, removable: bool
) -> None:
    """A put of ``a/c/d`` creates ``a%D/c`` because of the file ``a``, which another process deletes at that moment.

    The object is then stored, and the put succeeds, whether the directories can be removed or not.
    """
    await store.put("b", "a", b"a file")
    make_parents = Placement._make_parents

    async def and_delete(self: Placement, name: str, path: str, made: list[str]) -> None:
        await make_parents(self, name, path, made)
        if (bucket / "a").is_file():
            assert (bucket / "a%D" / "c").is_dir()
            (bucket / "a").unlink()

    async def refuse(self: LocalFileSystem, path: str) -> bool:
        raise PermissionError(path)

    monkeypatch.setattr(Placement, "_make_parents", and_delete)
    if not removable:
        monkeypatch.setattr(LocalFileSystem, "rmdir", refuse)
    await store.put("b", "a/c/d", b"data")
    assert (bucket / "a" / "c" / "d").read_bytes() == b"data"
    assert sorted(os.listdir(bucket)) == (["a"] if removable else ["a", "a%D"])


async def test_two_directories_may_represent_one(store: trove.Trove, bucket: Path) -> None:
    await store.put("b", "a", b"")
    await store.put("b", "a/1", b"1")
    await store.delete("b", "a")
    await store.put("b", "a/2", b"2")
    assert files(bucket) == ["a%D/1", "a/2"]
    assert await keys(store) == ["a/1", "a/2"]
    assert [await store.read("b", key) for key in ("a/1", "a/2")] == [b"1", b"2"]
    assert [info.key async for info in store.list("b", prefix="a/", page_size=1)] == ["a/1", "a/2"]
    groups = await store.list("b", delimiter="/").all()
    assert groups == [trove.Prefix("a/")]
    await store.put("b", "a", b"")
    assert files(bucket) == ["a%D/1", "a%F", "a/2"]
    assert await keys(store) == ["a", "a/1", "a/2"]


async def test_a_path_may_be_longer_than_the_system_accepts_in_one_call(tmp_path: Path) -> None:
    """The longest key is about 3,100 bytes long as a path; a root may leave less of the 4,096 that Linux permits."""
    root = tmp_path
    while len(str(root)) < 3_300:
        root = root / ("d" * 200)
    async with trove.open(f"local://{root}?fsync=0&create=1") as store:
        await store.create_bucket("b")
        await store.put("b", "fits", b"data")
        keys = ["/".join("d" for _ in range(512)), "\n" * 1024, "fits"]
        for key in keys:
            await store.put("b", key, b"data")
            assert await store.read("b", key) == b"data"
        assert [info.key async for info in store.list("b")] == sorted(keys)
        for key in keys:
            await store.delete("b", key)
        assert os.listdir(root / "b") == []
    assert residue_of(root) == []


async def test_bucket_names_of_any_length(store: trove.Trove) -> None:
    name = "n" * 255
    await store.create_bucket(name)
    await store.set_versioning(name, True)
    await store.put(name, "k", b"1")
    await store.put(name, "k", b"2")
    assert len(await store.list_versions(name, "k")) == 2
    assert [found.name for found in await store.list_buckets()] == ["b", name]


async def test_files_have_the_mode_of_the_umask(store: trove.Trove, bucket: Path) -> None:
    mask = os.umask(0o027)
    try:
        await store.put("b", "folder/k", b"data")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((bucket / "folder/k").stat().st_mode) == 0o640
    assert stat.S_IMODE((bucket / "folder").stat().st_mode) == 0o750


async def test_the_key_of_signed_urls_is_created_once_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    dsn = f"local://{tmp_path}?presign_url=http://objects.test/"
    path = tmp_path / ".trove/presign.key"
    async with trove.open(dsn) as store:
        await store.create_bucket("b")
        content = path.read_bytes()
        assert len(content) == 32
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await store.presign_get("b", "k")
    async with trove.open(dsn):
        assert path.read_bytes() == content
    assert [name for name in os.listdir(tmp_path / ".trove") if "presign" in name] == ["presign.key"]


# Files that were placed by hand


async def test_a_file_placed_by_hand_is_an_object_with_default_metadata(store: trove.Trove, bucket: Path) -> None:
    (bucket / "photos").mkdir()
    (bucket / "photos/a.png").write_bytes(b"image")
    (listed,) = await store.list("b").all()
    info = await store.head("b", "photos/a.png")
    assert (info.size, info.content_type, info.metadata, info.version_id) == (5, "image/png", {}, None)
    assert (listed.key, listed.size, listed.etag) == (info.key, info.size, info.etag)
    assert listed.last_modified == info.last_modified
    assert await store.get_tags("b", "photos/a.png") == {}
    await store.put("b", "photos/a.png", b"new", if_match=info.etag)
    await store.set_tags("b", "photos/a.png", {"a": "b"})
    await store.delete("b", "photos/a.png")
    assert list(bucket.iterdir()) == []


async def test_an_edited_file_is_another_object(store: trove.Trove, bucket: Path) -> None:
    info = await store.put("b", "k", b"data", metadata={"a": "b"}, content_type="text/plain", tags={"t": "v"})
    with open(bucket / "k", "ab") as file:
        file.write(b" and more")
    edited = await store.head("b", "k")
    assert edited.etag != info.etag
    assert (edited.size, edited.metadata, edited.content_type) == (13, {}, "application/octet-stream")
    assert await store.get_tags("b", "k") == {}
    with pytest.raises(PreconditionFailedError):
        await store.put("b", "k", b"", if_match=info.etag)
    # Also with the same size.
    (bucket / "k").write_bytes(b"same in size!")
    assert (await store.head("b", "k")).etag not in (info.etag, edited.etag)


async def copy_whole(source: Path, target: Path) -> None:
    process = await asyncio.create_subprocess_exec("cp", "-a", source, target)
    assert await process.wait() == 0


async def test_a_copy_with_its_attributes_keeps_the_metadata(store: trove.Trove, bucket: Path, tmp_path: Path) -> None:
    info = await store.put("b", "k", b"data", metadata={"a": "b"}, tags={"t": "v"})
    await copy_whole(bucket, tmp_path / "backup")
    await store.delete("b", "k")
    await copy_whole(tmp_path / "backup/k", bucket / "k")
    restored = await store.head("b", "k")
    assert restored.metadata == {"a": "b"}
    assert restored.last_modified == info.last_modified
    assert await store.get_tags("b", "k") == {"t": "v"}


async def test_directories_created_by_hand(store: trove.Trove, bucket: Path) -> None:
    (bucket.parent / "by-hand/empty/deeper").mkdir(parents=True)
    assert [found.name for found in await store.list_buckets()] == ["b", "by-hand"]
    assert await store.list("by-hand").all() == []
    await store.put("by-hand", "k", b"")
    with pytest.raises(BucketNotEmptyError):
        await store.delete_bucket("by-hand")
    assert (bucket.parent / "by-hand/empty/deeper").is_dir()
    await store.delete("by-hand", "k")
    await store.delete_bucket("by-hand")
    assert not (bucket.parent / "by-hand").exists()


async def test_files_whose_names_represent_no_key_are_ignored(store: trove.Trove, bucket: Path) -> None:
    for name in ("a%2f", "new\nline", "%"):
        (bucket / name).touch()
    with open(os.fsencode(bucket) + b"/\xff", "wb"):
        pass
    await store.put("b", "a", b"")
    await store.put("b", "a/b", b"")
    assert await keys(store) == ["a", "a/b"]
    await store.delete_many("b", ["a", "a/b"])
    assert await keys(store) == []
    with pytest.raises(BucketNotEmptyError):
        await store.delete_bucket("b")
    assert len(list(bucket.iterdir())) == 4


async def test_a_foreign_file_with_a_reserved_name_is_reported(store: trove.Trove, bucket: Path) -> None:
    (bucket / "file").touch()
    (bucket / "file%D").touch()
    with pytest.raises(BackendError, match="file%D' is in the way"):
        await store.put("b", "file/below", b"data")
    (bucket / "folder/x").mkdir(parents=True)
    (bucket / "folder%F").mkdir()
    with pytest.raises(BackendError, match="folder%F' is in the way"):
        await store.put("b", "folder", b"data")
    assert await keys(store) == ["file"]


# Symbolic links are not followed


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    return folder


def unharmed(outside: Path) -> bool:
    return files(outside) == ["secret"] and (outside / "secret").read_bytes() == b"secret"


async def test_a_link_to_a_file_is_not_an_object(store: trove.Trove, bucket: Path, outside: Path) -> None:
    (bucket / "link").symlink_to(outside / "secret")
    with pytest.raises(ObjectNotFoundError):
        await store.read("b", "link")
    with pytest.raises(ObjectNotFoundError):
        await store.head("b", "link")
    with pytest.raises(ObjectNotFoundError):
        await store.copy("b", "link", "b", "copy")
    assert await keys(store) == []
    await store.delete("b", "link")
    assert (bucket / "link").is_symlink()
    await store.put("b", "link", b"data")  # it replaces the link, and does not write through it
    assert await store.read("b", "link") == b"data"
    assert unharmed(outside)


async def test_a_link_to_a_directory_is_not_entered(store: trove.Trove, bucket: Path, outside: Path) -> None:
    (bucket / "link").symlink_to(outside)
    with pytest.raises(ObjectNotFoundError):
        await store.read("b", "link/secret")
    with pytest.raises(ObjectNotFoundError):
        await store.copy("b", "link/secret", "b", "copy")
    await store.delete("b", "link/secret")
    assert await keys(store) == []
    assert await store.list("b", prefix="link/").all() == []
    assert await store.list("b", delimiter="/").all() == []
    await store.put("b", "link/secret", b"mine")
    await store.put("b", "source", b"copied")
    await store.copy("b", "source", "b", "link/new")
    upload = await store.initiate_multipart("b", "link/parts")
    part = await store.upload_part("b", "link/parts", upload, 1, b"part")
    await store.complete_multipart("b", "link/parts", upload, [part])
    assert unharmed(outside)
    assert await store.read("b", "link/secret") == b"mine"
    assert await keys(store) == ["link/new", "link/parts", "link/secret", "source"]
    with pytest.raises(BucketNotEmptyError):
        await store.delete_bucket("b")
    assert unharmed(outside)


async def test_a_link_is_not_a_bucket(store: trove.Trove, bucket: Path, outside: Path) -> None:
    (bucket.parent / "link").symlink_to(outside)
    (outside / "folder").mkdir()
    await store.put("b", "k", b"data")
    with pytest.raises(BucketNotFoundError):
        await store.read("link", "secret")
    with pytest.raises(BucketNotFoundError):
        await store.head("link", "secret")
    with pytest.raises(BucketNotFoundError):
        await store.list("link").all()
    for key in ("new", "secret", "folder/new"):
        with pytest.raises(BucketNotFoundError):
            await store.put("link", key, b"data")
        with pytest.raises(BucketNotFoundError):
            await store.delete("link", key)
        with pytest.raises(BucketNotFoundError):
            await store.copy("b", "k", "link", key)
    with pytest.raises(BucketNotFoundError):
        await store.delete_bucket("link")
    with pytest.raises(BucketNotFoundError):
        await store.initiate_multipart("link", "k")
    with pytest.raises(BucketNotFoundError):
        await store.set_versioning("link", True)
    assert [found.name for found in await store.list_buckets()] == ["b"]
    assert unharmed(outside)


async def test_a_directory_that_becomes_a_link_hides_its_objects(
    store: trove.Trove, bucket: Path, outside: Path
) -> None:
    await store.put("b", "folder/secret", b"mine")
    shutil.move(bucket / "folder", outside.parent / "moved")
    (bucket / "folder").symlink_to(outside)
    with pytest.raises(ObjectNotFoundError):
        await store.read("b", "folder/secret")
    await store.put("b", "folder/secret", b"new")
    assert await store.read("b", "folder/secret") == b"new"
    assert unharmed(outside)


async def test_a_bucket_that_reuses_a_name_is_empty(store: trove.Trove, bucket: Path) -> None:
    """Also if its deletion was interrupted after the directory was removed."""
    await store.set_versioning("b", True)
    await store.put("b", "k", b"1")
    await store.put("b", "k", b"2", metadata={"a": "x" * 20_000})
    await store.initiate_multipart("b", "k")
    shutil.rmtree(bucket)
    await store.create_bucket("b")
    assert await store.list_versions("b", "k") == []
    assert await store.list_multipart_uploads("b") == []
    assert (await store.put("b", "k", b"3")).version_id is None
