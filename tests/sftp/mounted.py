"""The behaviour on a server with a full disk: ``python -m tests.sftp.mounted FOLDER``.

Run it in a mount namespace, so that the mount disappears with the process, and with ``TROVE_SERVERS`` set to a new
folder, so that the server is started inside the namespace and sees the mount.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

import trove_async as trove
from tests.badinput.mounted import KEPT, Write, fill, mount
from tests.badinput.mounted import WRITES as LOCAL_WRITES
from tests.sftp.stores import opened
from trove_async.errors import StorageFullError

# The writes of the local check that always need space, and one that needs a file for the metadata.
WRITES: list[Write] = [
    *(LOCAL_WRITES[name] for name in ("put", "put new", "put a stream")),
    lambda t: t.put("b", "new/folder/key", b"x" * 3_000_000, metadata={"a": "b"}),
]


async def assert_kept(store: trove.Trove, root: Path) -> None:
    """Fail unless the old object is complete and there is nothing else."""
    assert await store.read("b", "folder/kept") == KEPT
    assert [info.key async for info in store.list("b")] == ["folder/kept"]
    assert [path.name for path in (root / "b").iterdir()] == ["folder"]


async def full(root: Path) -> None:
    """Writes are refused with the reason, stored objects stay, and writes succeed when there is space again."""
    mount(root, "size=2m")
    async with opened("sshd", root) as store:
        await store.create_bucket("b")
        await store.put("b", "folder/kept", KEPT)
        for write in WRITES:
            with pytest.raises(StorageFullError, match="free some space"):
                await write(store)
            await assert_kept(store, root)
        fill(root / "filler")
        for write in WRITES:
            with pytest.raises(StorageFullError):
                await write(store)
            await assert_kept(store, root)
        (root / "filler").unlink()
        await store.put("b", "folder/kept", b"new")
        assert await store.read("b", "folder/kept") == b"new"


if __name__ == "__main__":
    asyncio.run(full(Path(sys.argv[1])))
