"""What users are told when the system refuses something."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.drivers.local.errors import translated
from trove_async.drivers.local.handles import Handles
from trove_async.errors import AccessDeniedError, BackendError, UnsupportedError

pytestmark = pytest.mark.asyncio


def failing(code: int) -> Callable[..., Any]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


async def test_a_directory_that_cannot_be_read_is_named_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        for key in ("a", "secret/k", "z"):
            await store.put("b", key, b"data")
    real = Handles.open

    def refusing(self: Handles, path: str, *flags: int) -> int:
        if path.endswith("/secret"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, path, *flags)

    monkeypatch.setattr(Handles, "open", refusing)
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        with pytest.raises(AccessDeniedError, match=r"the directory '.*/b/secret' cannot be read"):
            await store.list("b").all()
    async with trove.open(f"local://{tmp_path}?fsync=0&skip_unreadable=1") as store:
        assert [info.key async for info in store.list("b")] == ["a", "z"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
async def test_a_file_system_that_cannot_lock_is_refused_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(code))
    with pytest.raises(UnsupportedError, match=r"cannot lock files .* local_lock=all"):
        await trove.open(f"local://{tmp_path}")


async def test_a_file_system_that_cannot_flush_files_needs_a_store_that_is_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    async with trove.open(f"local://{tmp_path}") as store:
        with pytest.raises(BackendError, match=r"add \?fsync=0"):
            await store.create_bucket("b")
        assert await store.list_buckets() == []
    async with trove.open(f"local://{tmp_path}?fsync=0") as store:
        await store.create_bucket("b")
        await store.put("b", "k", b"data")


async def test_a_directory_whose_making_cannot_be_flushed_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    async with trove.open(f"local://{tmp_path}") as store:
        await store.create_bucket("b")

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(BackendError) as raised:
            await store.put("b", "new/folder/k", b"data")
        assert not raised.value.ambiguous
        assert os.listdir(tmp_path / "b") == []
        monkeypatch.undo()
    assert residue_of(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EXDEV, "one file system"),
        (errno.ENOLCK, "lock service"),
        (errno.EPERM, "immutable files"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "needs to read and write"),
        (errno.ELOOP, "symbolic link"),
    ],
)
async def test_errors_say_what_to_do(code: int, said: str) -> None:
    error = translated(OSError(code, os.strerror(code)))
    assert os.strerror(code) in str(error)
    assert said in str(error)
