"""Roots that are missing, not permitted, full, or not directories: each has its error and is left unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import trove_async as trove
from tests.badinput.mounted import CHECKS
from tests.badinput.namespace import run_in_namespace
from trove_async.errors import BackendError, BucketNotFoundError, RootNotFoundError

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("check", CHECKS)
async def test_a_file_system_that_refuses(tmp_path: Path, check: str) -> None:
    await run_in_namespace("tests.badinput.mounted", check, tmp_path)


async def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(RootNotFoundError, match=r"does not exist; make the directory, or add \?create=1") as raised:
        await trove.open(f"local://{tmp_path}/missing/root")
    assert isinstance(raised.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []
    async with trove.open(f"local://{tmp_path}/missing/root?create=1") as store:
        await store.ping()
    async with trove.open(f"local://{tmp_path}/missing/root", create=True) as store:
        assert await store.list_buckets() == []


@pytest.mark.parametrize("create", [0, 1])
@pytest.mark.parametrize("below", ["", "/below", "/below/it"])
async def test_a_root_that_is_not_a_directory(tmp_path: Path, below: str, create: int) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(RootNotFoundError, match="is not a directory"):
        await trove.open(f"local://{tmp_path}/file{below}?create={create}")
    assert (tmp_path / "file").read_bytes() == b"data"


async def test_a_root_whose_name_is_too_long(tmp_path: Path) -> None:
    for create in (0, 1):
        with pytest.raises(trove.TroveError, match="too long"):
            await trove.open(f"local://{tmp_path}/{'x' * 300}?create={create}")


async def test_a_root_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with trove.open(f"local://{tmp_path}/link/../link/") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"data")
    assert (tmp_path / "real/b/k").read_bytes() == b"data"


async def test_a_root_that_is_removed_while_the_store_is_open(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = await trove.open(f"local://{root}?create=1")
    await store.create_bucket("b")
    await store.put("b", "k", b"data")
    shutil.rmtree(root)
    with pytest.raises(RootNotFoundError, match="was removed while the store was open"):
        await store.put("b", "k", b"data")
    with pytest.raises(RootNotFoundError):
        await store.ping()
    with pytest.raises(BucketNotFoundError):
        await store.read("b", "k")
    await store.aclose()
    assert not root.exists()


async def test_a_root_that_is_moved_or_replaced_while_the_store_is_open(tmp_path: Path) -> None:
    root = tmp_path / "root"
    async with trove.open(f"local://{root}?create=1") as store:
        assert await store.list_buckets() == []
        root.rename(tmp_path / "moved")
        for _ in range(2):
            with pytest.raises(RootNotFoundError, match="removed, moved or mounted over"):
                await store.ping()
            with pytest.raises(RootNotFoundError):
                await store.list_buckets()
            root.mkdir(exist_ok=True)  # another directory, as after mounting a file system
        root.rmdir()
        (tmp_path / "moved").rename(root)
        await store.ping()
        assert await store.list_buckets() == []


async def test_a_reserved_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / ".trove").write_bytes(b"not ours")
    with pytest.raises(BackendError):
        await trove.open(f"local://{tmp_path}")
    assert (tmp_path / ".trove").read_bytes() == b"not ours"
