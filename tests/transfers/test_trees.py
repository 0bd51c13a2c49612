"""The members of a tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import trove_async
from trove_async.transfers import files_below, objects_below

pytestmark = pytest.mark.asyncio


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


async def test_files_are_in_the_order_of_their_keys(tmp_path: Path) -> None:
    names = ["a.txt", "a/b", "a0", "b/c/d", "b/c.d", "z/é", "z/ü", "ü"]
    make(tmp_path, *names)
    (tmp_path / "empty").mkdir()
    found = [member async for member in files_below(str(tmp_path))]
    assert [member.name for member in found] == sorted(names)
    assert [member.size for member in found] == [len(name.encode()) for name in sorted(names)]


async def test_only_regular_files_are_members(tmp_path: Path) -> None:
    make(tmp_path / "tree", "file")
    make(tmp_path, "outside/secret")
    (tmp_path / "tree" / "up").symlink_to(tmp_path)
    (tmp_path / "tree" / "secret").symlink_to(tmp_path / "outside" / "secret")
    (tmp_path / "tree" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "tree" / "pipe")
    skipped: list[str] = []
    found = [member.name async for member in files_below(str(tmp_path / "tree"), on_skip=skipped.append)]
    assert found == ["file"]
    assert sorted(os.path.basename(path) for path in skipped) == ["dangling", "pipe", "secret", "up"]


async def test_a_directory_that_disappears_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    make(tmp_path, "a/1", "b/2", "c/3")
    errors: list[str] = []
    found = []
    async for member in files_below(str(tmp_path), on_error=lambda path, _: errors.append(path)):
        found.append(member.name)
        if member.name == "a/1":
            (tmp_path / "b" / "2").unlink()
            (tmp_path / "b").rmdir()
    assert (found, errors) == (["a/1", "c/3"], [str(tmp_path / "b")])
    with pytest.raises(FileNotFoundError):
        [member async for member in files_below(str(tmp_path / "missing"))]


async def test_objects_are_named_relative_to_their_prefix() -> None:
    async with trove_async.open("memory://") as store:
        await store.create_bucket("b")
        for key in ("p/", "p/a", "p//b", "p/c/d", "px"):
            await store.put("b", key, b"1")
        assert [member.name async for member in objects_below(store, "b", "p/")] == ["", "/b", "a", "c/d"]
        assert len([member async for member in objects_below(store, "b", "")]) == 5
