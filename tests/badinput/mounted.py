"""Checks that need their own file system: ``python -m tests.badinput.mounted CHECK FOLDER``.

Run it in a mount namespace, so that the mounts disappear with the process.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.drivers.local_residue import residue_of
from trove_async.errors import AccessDeniedError, StorageFullError, TroveError

KEPT = b"kept" * 1000
METADATA = {"a": "b" * 100}


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "trove-test", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(0, size, 100_000):
        yield b"x" * 100_000


async def prepare(store: trove.Trove) -> None:
    await store.create_bucket("b")
    await store.put("b", "folder/kept", KEPT, metadata=METADATA)


async def assert_kept(store: trove.Trove, root: Path) -> None:
    """Fail unless the old object is complete and there is nothing else."""
    assert await store.read("b", "folder/kept") == KEPT
    assert (await store.head("b", "folder/kept")).metadata == METADATA
    assert [info.key async for info in store.list("b")] == ["folder/kept"]
    assert [bucket.name for bucket in await store.list_buckets()] == ["b"]
    assert os.listdir(root / "b") == ["folder"], "a directory of a refused object is left"
    assert await store.list_multipart_uploads("b") == []
    assert residue_of(root) == []


Write = Callable[[trove.Trove], Awaitable[object]]

WRITES: dict[str, Write] = {
    "put": lambda t: t.put("b", "folder/kept", b"x" * 3_000_000),
    "put new": lambda t: t.put("b", "new/folder/key", b"x" * 3_000_000),
    "put a stream": lambda t: t.put("b", "folder/kept", chunks(3_000_000)),
    "copy": lambda t: t.copy("b", "folder/kept", "b", "copy"),
    "create bucket": lambda t: t.create_bucket("new"),
    "begin upload": lambda t: t.initiate_multipart("b", "key"),
}


async def refused(store: trove.Trove, write: Write, kind: type[TroveError], expected_message: str, code: int) -> None:
    with pytest.raises(kind, match=expected_message) as raised:
        await write(store)
    cause = raised.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == code


async def full(root: Path) -> None:
    """A full disk refuses large objects and keeps stored ones."""
    mount(root, "size=2m")
    async with trove.open(f"local://{root}?min_part_size=1") as store:
        await prepare(store)
        for name in ("put", "put new", "put a stream"):
            await refused(store, WRITES[name], StorageFullError, "free some space", errno.ENOSPC)
            await assert_kept(store, root)
        upload = await store.initiate_multipart("b", "key")
        parts = [await store.upload_part("b", "key", upload, number, b"x" * 600_000) for number in (1, 2)]
        with pytest.raises(StorageFullError):
            await store.upload_part("b", "key", upload, 3, chunks(1_200_000))
        with pytest.raises(StorageFullError):
            await store.complete_multipart("b", "key", upload, parts)
        assert await store.list_parts("b", "key", upload) == parts  # it can be completed when there is space
        await store.abort_multipart("b", "key", upload)
        await assert_kept(store, root)
        fill(root / "filler")
        for write in WRITES.values():
            await refused(store, write, StorageFullError, "free some space", errno.ENOSPC)
            await assert_kept(store, root)
        async with trove.open(f"local://{root}") as other:  # it can be read, and space can be freed in it
            await assert_kept(other, root)
        await store.delete("b", "folder/kept")
        assert await store.list("b").all() == []
        (root / "filler").unlink()
        await store.put("b", "folder/kept", KEPT, metadata=METADATA)
        await assert_kept(store, root)


def fill(path: Path) -> None:
    """Use up all free space."""
    with open(path, "wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with pytest.raises(OSError, match="No space left"):
                _write_on(file, b"x" * size)


def _write_on(file: io.RawIOBase, data: bytes) -> None:
    while True:
        file.write(data)


async def full_of_files(root: Path) -> None:
    """The same on a disk without free inodes; directories need inodes too."""
    mount(root, "size=10m,nr_inodes=40")
    async with trove.open(f"local://{root}") as store:
        await prepare(store)
        with pytest.raises(StorageFullError):
            await store.put("b", "/".join("d" * 40), b"data")
        await assert_kept(store, root)
        fillers = root / ".trove/fillers"
        fillers.mkdir()
        number = 0
        while os.statvfs(root).f_favail:
            (fillers / str(number)).touch()
            number += 1
        for write in WRITES.values():
            await refused(store, write, StorageFullError, "free some space", errno.ENOSPC)
            await assert_kept(store, root)
        await store.delete("b", "folder/kept")
        assert await store.list("b").all() == []


async def read_only(root: Path) -> None:
    """A root that becomes read-only can be read and refuses all else; a read-only root cannot be opened."""
    mount(root, "size=10m")
    async with trove.open(f"local://{root}") as store:
        await prepare(store)
    # Another, which has taken no lock yet: while a file is open for writing, nothing becomes read-only.
    store = await trove.open(f"local://{root}")
    remount(root, "ro")
    changes: list[Write] = [
        lambda t: t.delete("b", "folder/kept"),
        lambda t: t.set_tags("b", "folder/kept", {"a": "b"}),
        lambda t: t.set_versioning("b", True),
        lambda t: t.ping(),
    ]
    for write in (*WRITES.values(), *changes):
        await refused(store, write, AccessDeniedError, "needs to read and write below the root", errno.EROFS)
        await assert_kept(store, root)
    async with trove.open(f"local://{root}") as other:
        await assert_kept(other, root)
        for write in (*WRITES.values(), *changes):
            await refused(other, write, AccessDeniedError, "needs to read and write below the root", errno.EROFS)
        await assert_kept(other, root)
    await store.aclose()
    remount(root, "rw")
    async with trove.open(f"local://{root}") as again:
        assert len(list((root / ".trove/tmp").iterdir())) == 1  # the earlier leftovers were swept now
        await assert_kept(again, root)


CHECKS = {check.__name__: check for check in (full, full_of_files, read_only)}


if __name__ == "__main__":
    asyncio.run(CHECKS[sys.argv[1]](Path(sys.argv[2])))
