"""Directories that cannot be flushed, and those whose flush fails."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import trove_async as trove
from trove_async.drivers.local import descriptors
from trove_async.drivers.local.handles import DIRECTORY, Handles
from trove_async.errors import BackendError

pytestmark = pytest.mark.asyncio


def failing_on_directories(code: int, calls: list[int]) -> Callable[[int], None]:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            calls.append(descriptor)
            raise OSError(code, os.strerror(code))
        real(descriptor)

    return fsync


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
async def test_a_directory_that_cannot_be_flushed_is_left_to_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", failing_on_directories(code, calls))
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        await store.put("b", "new/folder/k", b"data")
        await store.put("b", "new/folder/k", b"more")
        assert await store.read("b", "new/folder/k") == b"more"
        await store.delete("b", "new/folder/k")
    assert len(calls) == 1, "it is remembered"


async def test_a_flush_that_fails_leaves_it_open_whether_the_object_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"old")
        monkeypatch.setattr(os, "fsync", failing_on_directories(errno.EIO, []))
        for change in (store.put("b", "k", b"new"), store.copy("b", "k", "b", "copy"), store.delete("b", "k")):
            with pytest.raises((BackendError, trove.CopyError), match="Input/output error") as raised:
                await change
            assert raised.value.ambiguous
        monkeypatch.undo()
        assert not await store.exists("b", "k")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ENOMEM])
async def test_a_directory_that_cannot_be_opened_leaves_it_open_whether_the_object_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(descriptors, "_LONGEST", 0.0)
    real, bucket = Handles.open, str(tmp_path / "b")

    def refuse(handles: Handles, path: str, flags: int = DIRECTORY) -> int:
        if path == bucket and flags == DIRECTORY:
            raise OSError(code, os.strerror(code))
        return real(handles, path, flags)

    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")
        monkeypatch.setattr(Handles, "open", refuse)
        for change in (store.put("b", "k", b"new"), store.delete("b", "k")):
            with pytest.raises(trove.TroveError, match=os.strerror(code)) as raised:
                await change
            assert raised.value.ambiguous
        with pytest.raises(trove.TroveError, match=os.strerror(code)) as raised:
            await store.put("b", "folder/k", b"new")
        assert not raised.value.ambiguous
        assert list((tmp_path / "b").iterdir()) == []
