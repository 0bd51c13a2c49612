"""Parts that grow over SFTP, and parts that become the object as they are."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.sftp.stores import ServerName, opened, pattern, remote
from trove_async.driver import PartCopyDriver
from trove_async.errors import (
    ConflictError,
    InvalidPartError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    UnsupportedError,
    UploadNotFoundError,
)
from trove_async.testing.proxy import BreakKind, ConnectionFault, FaultProxy
from trove_async.types import ObjectRef, PartInfo

pytestmark = pytest.mark.asyncio

BUCKET = "bucket"


async def stream(data: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def failing(data: bytes) -> AsyncIterator[bytes]:
    async for chunk in stream(data):
        yield chunk
    raise RuntimeError("the client went away")


def part_files(root: Path) -> list[Path]:
    return sorted((root / ".trove/uploads" / BUCKET).glob("*/0*"))


@pytest.mark.parametrize("fsync", [False, True])
async def test_a_part_grows_and_becomes_the_object_without_a_copy(server: ServerName, root: Path, fsync: bool) -> None:
    data = pattern(3_000_000)
    async with opened(server, root, fsync=fsync, min_part_size=1) as store:
        await store.create_bucket(BUCKET)
        before = await store.put(BUCKET, "k", b"old", metadata={"old": "1"})
        upload = await store.initiate_multipart(BUCKET, "k", metadata={"new": "1"}, checksum="sha256")
        with pytest.raises(RuntimeError, match="went away"):
            await store.append_part(BUCKET, "k", upload, 1, 0, failing(data[:1_500_000]))
        [part] = await store.list_parts(BUCKET, "k", upload)
        assert part.size == 1_500_000
        seen = [part]
        for offset, end in ((1_500_000, 2_000_000), (1_000_000, 2_000_000), (2_000_000, 2_000_000), (2_000_000, None)):
            part = await store.append_part(BUCKET, "k", upload, 1, offset, stream(data[offset:end]))
            assert await store.list_parts(BUCKET, "k", upload) == [part]
            seen.append(part)
        assert len({found.etag for found in seen}) == len(seen) - 1  # an empty body at the end changes nothing
        with pytest.raises(InvalidPartError):
            await store.complete_multipart(BUCKET, "k", upload, [seen[1]])
        with pytest.raises(InvalidPartError):
            await store.append_part(BUCKET, "k", upload, 1, len(data) + 1, b"x")
        [file] = part_files(root)
        inode = file.stat().st_ino
        info = await store.complete_multipart(BUCKET, "k", upload, [part])
        assert (root / BUCKET / "k").stat().st_ino == inode
        assert await store.read(BUCKET, "k") == data
        assert await store.head(BUCKET, "k") == info
        assert info.metadata == {"new": "1"}
        assert info.etag != before.etag
        with pytest.raises(UploadNotFoundError):
            await store.append_part(BUCKET, "k", upload, 1, 0, b"x")


async def test_a_part_that_was_uploaded_becomes_the_object_and_one_that_has_grown_is_replaced(
    server: ServerName, root: Path
) -> None:
    async with opened(server, root, min_part_size=1) as store:
        await store.create_bucket(BUCKET)
        upload = await store.initiate_multipart(BUCKET, "k")
        part = await store.upload_part(BUCKET, "k", upload, 1, b"one")
        part = await store.append_part(BUCKET, "k", upload, 1, 3, b", longer")
        part = await store.upload_part(BUCKET, "k", upload, 1, b"another")
        assert await store.list_parts(BUCKET, "k", upload) == [part]
        other = await store.initiate_multipart(BUCKET, "other")
        plain = await store.upload_part(BUCKET, "other", other, 1, b"plain")
        inodes = {file.stat().st_ino for file in part_files(root)}
        assert len(inodes) == 2
        await store.complete_multipart(BUCKET, "k", upload, [part])
        await store.complete_multipart(BUCKET, "other", other, [plain])
        assert {(root / BUCKET / key).stat().st_ino for key in ("k", "other")} == inodes
        assert await store.read(BUCKET, "k") + await store.read(BUCKET, "other") == b"anotherplain"


@pytest.mark.parametrize("after", [0, 400, 20_000, 200_000])
@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_an_append_goes_on_over_a_new_connection(
    server: ServerName, root: Path, network: FaultProxy, kind: BreakKind, after: int
) -> None:
    data = pattern(400_000)
    async with opened(server, root, port=network.port) as store:
        await store.create_bucket(BUCKET)
        upload = await store.initiate_multipart(BUCKET, "k")
        await store.append_part(BUCKET, "k", upload, 1, 0, data[:100])
        network.inject_open(ConnectionFault(**{f"{kind}_up_after": after}))  # type: ignore[arg-type]
        part = await store.append_part(BUCKET, "k", upload, 1, 50, stream(data[50:]))
        assert network.accepted == 2
        await store.complete_multipart(BUCKET, "k", upload, [part])
        assert await store.read(BUCKET, "k") == data


class Stalled:
    """An append whose body waits after its first chunk."""

    def __init__(self, store: trove.Trove, upload: str) -> None:
        self._reached, self._go_on = asyncio.Event(), asyncio.Event()
        self._task = asyncio.ensure_future(store.append_part(BUCKET, "k", upload, 1, 0, self._body()))

    async def _body(self) -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        self._reached.set()
        await self._go_on.wait()
        yield b"late"

    async def reached(self) -> None:
        await self._reached.wait()

    async def end(self) -> PartInfo:
        self._go_on.set()
        return await self._task


async def test_a_part_that_is_being_appended_to_becomes_no_object(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        await one.create_bucket(BUCKET)
        upload = await one.initiate_multipart(BUCKET, "k")
        stalled = Stalled(one, upload)
        await stalled.reached()
        [part] = await two.list_parts(BUCKET, "k", upload)
        assert part.size == 2_000_000
        for store in (one, two):
            with pytest.raises(ConflictError, match="being appended to"):
                await store.complete_multipart(BUCKET, "k", upload, [part])
            with pytest.raises(ConflictError, match="being appended to"):
                await store.append_part(BUCKET, "k", upload, 1, 0, b"y")
        part = await stalled.end()
        assert os.listdir(root / ".trove/leases") == []
        await two.complete_multipart(BUCKET, "k", upload, [part])
        assert await one.read(BUCKET, "k") == b"x" * 2_000_000 + b"late"


async def test_a_client_whose_lease_has_expired_appends_nothing_to_the_object(server: ServerName, root: Path) -> None:
    async with opened(server, root, clean=False) as one, opened(server, root, clean=False) as two:
        await one.create_bucket(BUCKET)
        upload = await one.initiate_multipart(BUCKET, "k")
        stalled = Stalled(one, upload)
        await stalled.reached()
        # Client and server have the same clock here.
        remote(one)._lease._renewed -= 1000
        for lease in (root / ".trove/leases").iterdir():
            os.utime(lease, (time.time() - 1000,) * 2)
        [part] = await two.list_parts(BUCKET, "k", upload)
        info = await two.complete_multipart(BUCKET, "k", upload, [part])
        with pytest.raises(ConflictError, match="lease"):
            await stalled.end()
        assert await two.read(BUCKET, "k") == b"x" * 2_000_000
        assert await two.head(BUCKET, "k") == info


async def test_parts_are_copied_from_ranges(server: ServerName, root: Path) -> None:
    async with opened(server, root, min_part_size=1) as store:
        await store.create_bucket(BUCKET)
        await store.put(BUCKET, "source", b"0123456789")
        source = ObjectRef(BUCKET, "source")
        upload = await store.initiate_multipart(BUCKET, "k")
        if not store.supports(PartCopyDriver):
            with pytest.raises(UnsupportedError):
                await store.copy_part(BUCKET, "k", upload, 1, source, 2, 3)
            await store.abort_multipart(BUCKET, "k", upload)
            return
        parts = [
            await store.copy_part(BUCKET, "k", upload, 1, source, 2, 3),
            await store.copy_part(BUCKET, "k", upload, 2, source, 0, 10),
        ]
        for offset, length in ((0, 11), (10, 1), (9, 2)):
            with pytest.raises(RangeNotSatisfiableError):
                await store.copy_part(BUCKET, "k", upload, 3, source, offset, length)
        with pytest.raises(ObjectNotFoundError):
            await store.copy_part(BUCKET, "k", upload, 3, ObjectRef(BUCKET, "missing"), 0, 1)
        await store.complete_multipart(BUCKET, "k", upload, parts)
        assert await store.read(BUCKET, "k") == b"2340123456789"
