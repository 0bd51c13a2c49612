"""Metadata in extended attributes, and in sidecars if it does not fit."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.driver import OpenOptions
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.dsn import parse_dsn
from trove_async.errors import StorageFullError
from trove_async.tree import Temporary

pytestmark = pytest.mark.asyncio

# On most file systems an extended attribute holds one block, 4 KiB; larger metadata needs a sidecar.
LIMIT = 4096
SMALL = {"a": "b"}
LARGE = {"a": "x" * 10_000, "b": "☃" * 5_000}
LARGEST = {"a": "x" * 60_000}


@pytest.fixture(params=["attributes", "attributes of 4 KiB", "no attributes", "no nameless files"])
def attributes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let files hold attributes as here, up to 4 KiB as on ext4, or not at all; or require names for temporaries."""
    kind: str = request.param
    original = LocalFileSystem.set_attribute

    async def set_attribute(self: LocalFileSystem, handle: int, value: bytes) -> bool:
        assert kind != "no attributes"
        return len(value) <= LIMIT and await original(self, handle, value)

    if "attributes " in kind or kind == "no attributes":
        monkeypatch.setattr(LocalFileSystem, "set_attribute", set_attribute)
    if kind == "no nameless files":
        monkeypatch.setattr(LocalFileSystem, "_probe_nameless", lambda self: False)
    if kind == "no attributes":
        monkeypatch.setattr(LocalFileSystem, "_probe_attributes", lambda self: False)
    return kind


@pytest_asyncio.fixture
async def store(tmp_path: Path, attributes: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        yield t
        assert residue_of(tmp_path) == []


def sidecars(root: Path) -> list[Path]:
    return [path for path in (root / ".trove/meta").rglob("*") if path.is_file()]


async def metadata(store: trove.Trove, key: str = "k", version_id: str | None = None) -> dict[str, str]:
    async with store.get("b", key, version_id=version_id) as reader:
        head = await store.head("b", key, version_id=version_id)
        assert head == reader.info
        return dict(head.metadata)


@pytest.mark.parametrize("given", [{}, SMALL, LARGE, LARGEST], ids=["none", "small", "large", "largest"])
async def test_metadata_of_any_size(store: trove.Trove, tmp_path: Path, given: dict[str, str]) -> None:
    for size in (10, 300_000):
        await store.put("b", "k", b"x" * size, metadata=given)
        assert await metadata(store) == given
    await store.copy("b", "k", "b", "copy")
    assert await metadata(store, "copy") == given
    await store.delete("b", "k")
    await store.delete("b", "copy")
    assert sidecars(tmp_path) == []


async def test_replaced_and_deleted_metadata_is_removed(store: trove.Trove, tmp_path: Path) -> None:
    for given in (LARGE, SMALL, LARGE, {}, LARGEST, LARGE):
        await store.put("b", "k", b"data", metadata=given)
        assert await metadata(store) == given
        assert residue_of(tmp_path) == []
        assert len(sidecars(tmp_path)) <= 1
    await store.delete_many("b", ["k"])
    assert sidecars(tmp_path) == []


async def test_tags_and_metadata_are_kept_together(store: trove.Trove) -> None:
    info = await store.put(
        "b", "k", b"data", metadata=LARGE, tags={"a": "b"}, content_type="text/x", cache_control="no-store"
    )
    await store.set_tags("b", "k", {"c": "d" * 200})
    head = await store.head("b", "k")
    assert (head.metadata, head.content_type, head.cache_control) == (LARGE, "text/x", "no-store")
    assert (head.etag, head.last_modified) == (info.etag, head.last_modified)
    assert await store.get_tags("b", "k") == {"c": "d" * 200}
    await store.delete_tags("b", "k")
    assert await store.get_tags("b", "k") == {}
    assert await metadata(store) == LARGE


async def test_tags_may_grow_beyond_an_attribute_and_shrink_again(store: trove.Trove, tmp_path: Path) -> None:
    near = {"a": "x" * (LIMIT - 200)}
    await store.put("b", "k", b"data", metadata=near)
    tags = {f"key-{number}": "v" * 256 for number in range(10)}
    await store.set_tags("b", "k", tags)
    assert await store.get_tags("b", "k") == tags
    assert await metadata(store) == near
    await store.set_tags("b", "k", {"one": "1"})
    assert await store.get_tags("b", "k") == {"one": "1"}
    assert await metadata(store) == near
    assert residue_of(tmp_path) == []


async def test_uploads_carry_metadata_of_any_size(store: trove.Trove) -> None:
    for given in (SMALL, LARGE):
        upload = await store.initiate_multipart("b", "k", metadata=given, tags={"t": "v"}, content_type="text/plain")
        parts = [await store.upload_part("b", "k", upload, number, b"part") for number in (1, 2)]
        await store.complete_multipart("b", "k", upload, parts)
        assert await metadata(store) == given
        assert await store.get_tags("b", "k") == {"t": "v"}
        assert (await store.head("b", "k")).content_type == "text/plain"


async def test_versions_keep_their_own_metadata(store: trove.Trove, tmp_path: Path) -> None:
    await store.put("b", "k", b"before", metadata={"n": "0", **LARGE})
    await store.set_versioning("b", True)
    ids = ["null"]
    for number in (1, 2, 3):
        info = await store.put("b", "k", b"data", metadata={"n": str(number), **(LARGE if number % 2 else SMALL)})
        assert info.version_id is not None
        ids.append(info.version_id)
    await store.delete("b", "k")
    for number, version_id in enumerate(ids):
        assert (await metadata(store, "k", version_id))["n"] == str(number)
    await store.restore_version("b", "k", ids[1])
    assert (await metadata(store))["n"] == "1"
    for version in await store.list_versions("b", "k"):
        await store.delete_version("b", "k", version.version_id)
        assert residue_of(tmp_path) == []
    assert sidecars(tmp_path) == []
    assert await store.list_versions("b", "k") == []


async def test_the_null_version_takes_its_metadata_with_it(store: trove.Trove, tmp_path: Path) -> None:
    await store.put("b", "k", b"1", metadata=LARGE)
    await store.set_versioning("b", True)
    await store.put("b", "k", b"2", metadata=LARGE)
    await store.set_versioning("b", False)
    await store.put("b", "k", b"3", metadata=LARGE)
    await store.put("b", "k", b"4", metadata=LARGE)
    assert len(sidecars(tmp_path)) in (0, 2)
    assert residue_of(tmp_path) == []
    assert [version.version_id == "null" for version in await store.list_versions("b", "k")] == [True, False]


async def test_an_edited_file_has_no_metadata(store: trove.Trove, tmp_path: Path) -> None:
    await store.put("b", "k", b"data", metadata=LARGE)
    (tmp_path / "b/k").write_bytes(b"edited")
    assert await metadata(store) == {}
    driver = trove.unwrap(store.driver, LocalDriver)
    await driver.sweep()
    assert sidecars(tmp_path) == []


async def test_a_sweep_removes_sidecars_without_an_object(store: trove.Trove, tmp_path: Path, attributes: str) -> None:
    driver = trove.unwrap(store.driver, LocalDriver)
    await store.set_versioning("b", True)
    await store.put("b", "k", b"1", metadata=LARGE)
    await store.put("b", "k", b"2", metadata=LARGE)
    kept = sidecars(tmp_path)
    assert (await driver.sweep()).sidecars == 0
    for path in kept:
        orphan = path.with_name(path.name + "0")
        orphan.write_bytes(path.read_bytes())
    assert (await driver.sweep()).sidecars == len(kept)
    assert sorted(sidecars(tmp_path)) == sorted(kept)
    for version in await store.list_versions("b", "k"):
        assert await metadata(store, "k", version.version_id) == LARGE


async def test_readers_see_content_and_metadata_of_one_write(store: trove.Trove) -> None:
    """Also if the sidecar is removed between opening the file and reading its metadata."""
    writing = True

    async def write() -> None:
        for number in range(150):
            await store.put("b", "k", str(number).encode(), metadata={"n": str(number), **LARGE})
        nonlocal writing
        writing = False

    async def read() -> int:
        reads = 0
        while writing:
            async with store.get("b", "k") as reader:
                assert reader.info.metadata["n"] == (await reader.read()).decode()
            reads += 1
        return reads

    async def tag() -> None:
        number = 0
        while writing:
            number += 1
            await store.set_tags("b", "k", {"t": "x" * (number % 200)})

    await store.put("b", "k", b"first", metadata={"n": "first", **LARGE})
    _, _, *reads = await asyncio.gather(write(), tag(), *(read() for _ in range(4)))
    assert all(reads)


async def test_a_sidecar_that_is_removed_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the object after a reader has opened it and before it reads the metadata."""
    monkeypatch.setattr(LocalFileSystem, "_probe_attributes", lambda self: False)
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"old", metadata={"n": "old"})
        original = LocalFileSystem.open
        opened, replaced = threading.Event(), threading.Event()

        async def open_slowly(self: LocalFileSystem, path: str) -> tuple[int, os.stat_result] | None:
            found = await original(self, path)
            if not opened.is_set():
                opened.set()
                assert replaced.wait(30)
            return found

        monkeypatch.setattr(LocalFileSystem, "open", open_slowly)
        reading = asyncio.ensure_future(store.get("b", "k"))
        await asyncio.to_thread(opened.wait, 30)
        await store.put("b", "k", b"new", metadata={"n": "new"})
        replaced.set()
        async with await reading as reader:
            assert (await reader.read(), reader.info.metadata["n"]) == (b"new", "new")


async def test_a_put_that_fails_leaves_no_sidecar(
    store: trove.Trove, tmp_path: Path, attributes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("b", "k", b"old", metadata=LARGE)
    before = sidecars(tmp_path)

    async def publish(self: LocalFileSystem, temporary: Temporary, path: str, *, replace: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "publish", publish)
    for key in ("k", "new/deep/key"):
        with pytest.raises(StorageFullError):
            await store.put("b", key, b"new", metadata=LARGEST)
    assert sidecars(tmp_path) == before
    assert residue_of(tmp_path) == []
    assert await store.read("b", "k") == b"old"
    assert await metadata(store) == LARGE


async def test_tags_that_no_longer_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"data")

        async def set_attribute(self: LocalFileSystem, handle: int, value: bytes) -> bool:
            return False

        monkeypatch.setattr(LocalFileSystem, "set_attribute", set_attribute)
        with pytest.raises(StorageFullError):
            await store.set_tags("b", "k", {"a": "b"})
        assert await store.get_tags("b", "k") == {}
        with pytest.raises(StorageFullError):
            await store.put("b", "k", b"new", tags={"a": "b"})
        assert await store.read("b", "k") == b"data"


async def test_a_full_disk_does_not_hide_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no attribute can be written when a store is opened, existing attributes are read nevertheless."""
    dsn = f"local://{tmp_path}?fsync=0"
    async with trove.open(dsn) as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"data", metadata=SMALL)

    def setxattr(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "setxattr", setxattr)
    async with trove.open(dsn) as store:
        assert await metadata(store) == SMALL


@pytest.mark.parametrize("attributes", ["attributes", "attributes of 4 KiB"], indirect=True)
async def test_foreign_attributes_are_not_metadata(store: trove.Trove, tmp_path: Path) -> None:
    path = tmp_path / "b/k"
    for value in (b"\xff\xfe", b"[1]", b"{}", b'{"":[1]}', b'"text"', b"sidecar"):
        path.write_bytes(b"data")
        os.setxattr(path, "user.trove", value)
        assert await metadata(store) == {}
        assert await store.read("b", "k") == b"data"


async def test_metadata_is_stored_as_json(store: trove.Trove, tmp_path: Path, attributes: str) -> None:
    await store.put("b", "k", b"data", metadata={"a": "naïve ☃"})
    if attributes == "no attributes":
        (path,) = sidecars(tmp_path)
        raw = path.read_bytes()
    else:
        raw = os.getxattr(tmp_path / "b/k", "user.trove")
    assert json.loads(raw)["m"] == {"a": "naïve ☃"}


async def test_the_driver_detects_support_for_attributes(tmp_path: Path) -> None:
    driver = LocalDriver()
    await driver.open(parse_dsn(f"local://{tmp_path}"), OpenOptions())
    probe = tmp_path / "probe"
    probe.touch()
    assert driver._fs.has_attributes == _takes_attributes(probe)
    await driver.close()


def _takes_attributes(path: Path) -> bool:
    try:
        os.setxattr(path, "user.test", b"1")
    except OSError:
        return False
    return True
