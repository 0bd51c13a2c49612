"""Readers and writers of a local store that are dropped without being closed, in any thread."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of

pytestmark = pytest.mark.asyncio

LARGE = b"x" * 1_000_000  # more than is read or gathered in one call


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0") as t:
        await t.create_bucket("b")
        await t.put("b", "k", LARGE)
        yield t


def names_open() -> list[str]:
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def objects_open(root: Path) -> list[str]:
    return [
        name
        for name in names_open()
        if name.startswith((f"{root}/b/", f"{root}/.trove/tmp/")) and not os.path.isdir(name)
    ]


def drop(held: list[object], where: str) -> list[str]:
    """Drop what a list holds, here or in another thread; return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if where == "here":
            held.clear()
        else:
            thread = threading.Thread(target=held.clear)
            thread.start()
            thread.join()
        gc.collect()
    return [str(warning.message) for warning in caught if warning.category is ResourceWarning]


@pytest.mark.parametrize("where", ["here", "in another thread"])
@pytest.mark.parametrize("kind", ["reader", "writer"])
async def test_one_warning_says_where_it_was_opened_and_nothing_stays_open(
    store: trove.Trove, tmp_path: Path, kind: str, where: str
) -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["message"]))
    before = asyncio.all_tasks()
    if kind == "reader":
        reader = await store.get("b", "k")
        await reader.read(10)
        held: list[object] = [reader]
        del reader
    else:
        writer = store.writer("b", "new")
        await writer.__aenter__()
        await writer.write(LARGE)
        held = [writer]
        del writer
    assert len(objects_open(tmp_path)) == 1
    (said,) = drop(held, where)
    assert f"opened at {__file__}:" in said
    while running := asyncio.all_tasks() - before:
        await asyncio.wait(running)
    await store.exists("b", "k")
    assert objects_open(tmp_path) == []
    assert reported == []
    assert not await store.exists("b", "new")
    assert residue_of(tmp_path) == []


async def test_errors_that_are_kept_keep_no_directory_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{number}/k" for number in range(80)]
    unlink = os.unlink

    def refuse(path: str, **options: int) -> None:
        if path == "k":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **options)

    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        for key in keys:
            await store.put("b", key, b"data")
        before = directories_open(tmp_path)
        monkeypatch.setattr(os, "unlink", refuse)
        kept = [*await asyncio.gather(*(store.delete("b", key) for key in keys), return_exceptions=True)]
        with pytest.raises(trove.BulkError) as caught:
            await store.delete_many("b", keys)
        monkeypatch.undo()
        assert all(isinstance(error, trove.BackendError) for error in kept)
        assert len(caught.value.failed) == len(keys)
        assert directories_open(tmp_path) <= before + 4  # those that the store keeps for the next operation
    assert directories_open(tmp_path) == 0


def directories_open(root: Path) -> int:
    return len([name for name in names_open() if name.startswith(f"{root}") and os.path.isdir(name)])
