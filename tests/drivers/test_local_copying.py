"""Copies if the kernel copies nothing, copies a part, or reports that it cannot copy."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.errors import ObjectNotFoundError

pytestmark = pytest.mark.asyncio

DATA = bytes(range(256)) * 12_000  # several steps of reading and writing

CopyRange = Callable[[int, int, int, int | None, int | None], int]


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with trove.open(f"local://{tmp_path}?fsync=0&min_part_size=1") as t:
        await t.create_bucket("b")
        await t.put("b", "source", DATA, checksum="sha256")
        yield t
        assert residue_of(tmp_path) == []


@pytest.fixture(autouse=True)
def _no_shared_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("fcntl.ioctl", refuse)


def failing(code: int, after: int = 0) -> CopyRange:
    """Return a copy_file_range that copies ``after`` bytes and then fails; with code 0 it returns 0."""
    real = os.copy_file_range

    def copy(source: int, target: int, count: int, offset_src: int | None = None, offset_dst: int | None = None) -> int:
        assert offset_src is not None
        if offset_src < after:
            return real(source, target, min(count, after - offset_src), offset_src, offset_dst)
        if code:
            raise OSError(code, os.strerror(code))
        return 0

    return copy


CODES = ["EXDEV", "EINVAL", "ENOSYS", "EOPNOTSUPP", "EPERM", "EIO", "EBADF", "ETXTBSY", "ENOENT", "EACCES", "EISDIR"]


@pytest.mark.parametrize("after", [0, 1000], ids=["immediately", "later"])
@pytest.mark.parametrize("code", ["zero", *CODES])
async def test_copies_are_complete(store: trove.Trove, monkeypatch: pytest.MonkeyPatch, code: str, after: int) -> None:
    monkeypatch.setattr(os, "copy_file_range", failing(getattr(errno, code, 0), after))
    info = await store.copy("b", "source", "b", "copy")
    assert info.size == len(DATA)
    assert await store.read("b", "copy") == DATA
    await store.move("b", "copy", "b", "moved")
    assert await store.read("b", "moved") == DATA
    upload = await store.initiate_multipart("b", "joined")
    parts = [await store.upload_part("b", "joined", upload, n, body) for n, body in ((1, DATA), (2, b"end"))]
    assert (await store.complete_multipart("b", "joined", upload, parts)).size == len(DATA) + 3
    assert await store.read("b", "joined") == DATA + b"end"


async def test_systems_without_the_call(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "copy_file_range")
    await store.copy("b", "source", "b", "copy")
    assert await store.read("b", "copy") == DATA


async def test_a_file_that_is_truncated_during_the_copy_is_refused(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = failing(0, 1000)

    def copy(source: int, target: int, count: int, offset_src: int | None = None, offset_dst: int | None = None) -> int:
        os.truncate(tmp_path / "b/source", 2000)
        return real(source, target, count, offset_src, offset_dst)

    monkeypatch.setattr(os, "copy_file_range", copy)
    with pytest.raises(trove.CopyError, match=f"^read: .*cut to 2000 of {len(DATA)} bytes") as caught:
        await store.copy("b", "source", "b", "copy")
    assert isinstance(caught.value.__cause__, trove.BackendError)
    with pytest.raises(ObjectNotFoundError):
        await store.head("b", "copy")


async def test_a_disk_that_fills_up_during_the_copy(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(trove.TroveError, match="free some space"):
        await store.copy("b", "source", "b", "copy")


async def test_shared_blocks_of_another_size_are_refused(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.ioctl", lambda target, request, source: 0)
    await store.copy("b", "source", "b", "copy")
    assert await store.read("b", "copy") == DATA
