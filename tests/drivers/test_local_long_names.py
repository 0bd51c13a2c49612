"""Components near the limit of a file's name, in keys and in files placed by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from trove_async.types import ObjectInfo, Prefix

pytestmark = pytest.mark.asyncio

LENGTHS = [239, 240, 241, 242, 243, 253, 254, 255]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        yield t


async def keys(store: trove.Trove, prefix: str = "") -> list[str]:
    return [info.key async for info in store.list("b", prefix=prefix)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("conflict", ["", "directory first", "file first"])
async def test_keys_of_any_length(store: trove.Trove, length: int, conflict: str) -> None:
    name = "n" * length
    wanted = [name, f"{name}/below", f"above/{name}", f"above/{name}/below"]
    if conflict == "directory first":
        wanted.reverse()
    for key in wanted:
        await store.put("b", key, key.encode())
    assert await keys(store) == sorted(wanted)
    assert await keys(store, f"{name}/") == [f"{name}/below"]
    for key in wanted:
        assert await store.read("b", key) == key.encode()
        await store.delete("b", key)
    assert await keys(store) == []
    await store.delete_bucket("b")


@pytest.mark.parametrize("length", LENGTHS)
async def test_files_placed_by_hand(store: trove.Trove, tmp_path: Path, length: int) -> None:
    name = "n" * length
    (tmp_path / "b/folder" / name).mkdir(parents=True)
    files = [name + "", f"folder/{name}/{name}", f"folder/{name}/short"]
    for file in files:
        (tmp_path / "b" / file).write_bytes(file.encode())
    assert await keys(store) == sorted(files)
    assert await keys(store, f"folder/{name}/s") == [f"folder/{name}/short"]
    grouped = await store.list("b", prefix="folder/", delimiter="/").all()
    assert grouped == [Prefix(f"folder/{name}/")]
    for file in files:
        listed = [info for info in await store.list("b", prefix=file).all() if info.key == file]
        head = await store.head("b", file)
        assert [(info.etag, info.size) for info in listed] == [(head.etag, head.size)]
        assert await store.read("b", file) == file.encode()
        await store.put("b", file, b"new", if_match=head.etag)
        await store.set_tags("b", file, {"a": "b"})
        assert (tmp_path / "b" / file).read_bytes() == b"new", "the file is replaced where it is"
        await store.delete("b", file)
        assert not await store.exists("b", file)
    assert await keys(store) == []
    await store.delete_bucket("b")


async def test_a_key_with_two_files_is_listed_once(store: trove.Trove, tmp_path: Path) -> None:
    """Both files stand for the key if one was placed by hand after the library had stored the other."""
    for character in ("!", "n"):  # one sorts before the mark of a component that continues, the other after it
        key = f"folder/{character * 250}"
        stored = await store.put("b", key, b"stored")
        (tmp_path / "b" / key).write_bytes(b"placed by hand")
        (found,) = [info for info in await store.list("b", prefix=key).all() if isinstance(info, ObjectInfo)]
        assert found.etag == stored.etag == (await store.head("b", key)).etag
        assert await store.read("b", key) == b"stored"


async def test_objects_below_a_long_directory_that_was_made_by_hand(store: trove.Trove, tmp_path: Path) -> None:
    name = "n" * 250
    (tmp_path / "b" / name).mkdir()
    (tmp_path / "b" / name / "by-hand").write_bytes(b"by hand")
    await store.put("b", f"{name}/stored", b"stored")
    await store.put("b", name, b"beside")
    assert await keys(store) == [name, f"{name}/by-hand", f"{name}/stored"]
    assert await keys(store, f"{name}/") == [f"{name}/by-hand", f"{name}/stored"]
    assert await store.read("b", f"{name}/by-hand") == b"by hand"
    assert await store.read("b", f"{name}/stored") == b"stored"
    assert await store.read("b", name) == b"beside"


async def test_versions_of_a_long_name_that_was_placed_by_hand(store: trove.Trove, tmp_path: Path) -> None:
    name = "é" * 127
    await store.set_versioning("b", True)
    (tmp_path / "b" / name).write_bytes(b"by hand")
    await store.put("b", name, b"new")
    versions = await store.list_versions("b", name)
    assert [await store.read("b", name, version_id=v.version_id) for v in versions] == [b"new", b"by hand"]
