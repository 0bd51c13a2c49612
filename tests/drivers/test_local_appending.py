"""Parts that grow, and parts that become the object as they are: nothing is lost, and no object changes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import trove_async as trove
from tests.drivers.local_peer import BUCKET, CHUNK
from tests.drivers.local_residue import residue_of
from tests.drivers.odd_file_systems import KINDS
from tests.drivers.test_local_deletion import Faults, Killed
from tests.drivers.test_local_locks import open_files
from tests.drivers.test_local_processes import BOUND, peer
from trove_async.checksums import Checksum
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local import copying as local_copying
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.drivers.local.workers import Workers
from trove_async.errors import (
    BackendError,
    ConflictError,
    InvalidPartError,
    ObjectNotFoundError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    StorageFullError,
    UploadNotFoundError,
)
from trove_async.types import ObjectRef, PartInfo

pytestmark = pytest.mark.asyncio

OLD = b"the object before"
FIRST = b"first half, "
REST = b"second half"


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"local://{tmp_path}?fsync=0&min_part_size=1"


@pytest_asyncio.fixture
async def store(tmp_path: Path, dsn: str) -> AsyncIterator[trove.Trove]:
    async with trove.open(dsn) as opened:
        await opened.create_bucket(BUCKET)
        yield opened
        await sweep(opened)
        assert residue_of(tmp_path) == []


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    found = Faults(monkeypatch)
    yield found
    found.stop()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def failing(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise RuntimeError("the client went away")


async def grown(store: trove.Trove, key: str = "k", **attributes: Any) -> tuple[str, PartInfo]:
    """Begin an upload with a part that has grown twice."""
    upload = await store.initiate_multipart(BUCKET, key, **attributes)
    await store.append_part(BUCKET, key, upload, 1, 0, FIRST)
    part = await store.append_part(BUCKET, key, upload, 1, len(FIRST), stream(REST))
    return upload, part


async def sweep(store: trove.Trove) -> None:
    await trove.unwrap(store.driver, LocalDriver).sweep()


def part_files(root: Path) -> list[Path]:
    return sorted((root / ".trove/uploads" / BUCKET).glob("*/0*"))


def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("bytes were copied")

    monkeypatch.setattr(local_copying, "_copy_in_kernel", refuse)
    monkeypatch.setattr(local_copying, "_share_blocks", refuse)


# What list_parts and the completion see


@pytest.fixture(params=list(KINDS)[:-1])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    KINDS[request.param](monkeypatch)


async def test_every_content_of_a_part_has_its_own_etag(
    kind: None, store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await store.initiate_multipart(BUCKET, "k", metadata={"m": "1"})
    seen: list[PartInfo] = []
    content = b""
    part = PartInfo(1, "", 0)
    for offset, data in ((0, b"abc"), (3, b"def"), (6, b""), (4, b"EF"), (4, b"ef"), (0, b""), (0, b"abc"), (3, b"x")):
        part = await store.append_part(BUCKET, "k", upload, 1, offset, stream(data))
        content = content[:offset] + data
        assert part.size == len(content)
        assert await store.list_parts(BUCKET, "k", upload) == [part]
        for before in seen:
            if (before.etag, before.size) != (part.etag, part.size):
                with pytest.raises(InvalidPartError):
                    await store.complete_multipart(BUCKET, "k", upload, [before])
        seen.append(part)
    assert len({part.etag for part in seen}) == len(seen) - 1  # an empty body at the end changes nothing
    no_copies(monkeypatch)
    info = await store.complete_multipart(BUCKET, "k", upload, [part])
    assert await store.read(BUCKET, "k") == content == b"abcx"
    assert await store.head(BUCKET, "k") == info
    assert info.metadata == {"m": "1"}


async def test_a_part_that_was_uploaded_grows_and_one_that_has_grown_is_replaced(
    kind: None, store: trove.Trove, tmp_path: Path
) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    one = await store.upload_part(BUCKET, "k", upload, 1, b"one")
    two = await store.upload_part(BUCKET, "k", upload, 2, b"two")
    longer = await store.append_part(BUCKET, "k", upload, 1, 3, b", longer")
    assert longer.etag != one.etag
    assert await store.list_parts(BUCKET, "k", upload) == [longer, two]
    replaced = await store.upload_part(BUCKET, "k", upload, 1, b"another")
    assert await store.list_parts(BUCKET, "k", upload) == [replaced, two]
    assert len(part_files(tmp_path)) == 2
    await store.complete_multipart(BUCKET, "k", upload, [replaced, two])
    assert await store.read(BUCKET, "k") == b"anothertwo"


async def test_an_append_beyond_the_end_and_to_no_upload_is_refused(store: trove.Trove) -> None:
    upload, part = await grown(store)
    for number, offset in ((1, part.size + 1), (2, 1)):
        with pytest.raises(InvalidPartError, match="nothing can be appended"):
            await store.append_part(BUCKET, "k", upload, number, offset, b"x")
    assert await store.list_parts(BUCKET, "k", upload) == [part]
    await store.abort_multipart(BUCKET, "k", upload)
    for body in (b"x", stream(b"x")):
        with pytest.raises(UploadNotFoundError):
            await store.append_part(BUCKET, "k", upload, 1, 0, body)


@pytest.mark.parametrize("fsync", [0, 1])
async def test_what_arrived_before_a_failure_stays(tmp_path: Path, fsync: int) -> None:
    async with trove.open(f"local://{tmp_path}?fsync={fsync}") as store:
        await store.create_bucket(BUCKET)
        upload = await store.initiate_multipart(BUCKET, "k")
        sizes = [100, CHUNK, 1000, 1, 40_000, 7]
        chunks = [random.Random(size).randbytes(size) for size in sizes]
        with pytest.raises(RuntimeError, match="went away"):
            await store.append_part(BUCKET, "k", upload, 1, 0, failing(*chunks))
        [part] = await store.list_parts(BUCKET, "k", upload)
        assert part.size == sum(sizes)
        part = await store.append_part(BUCKET, "k", upload, 1, part.size, b"end")
        await store.complete_multipart(BUCKET, "k", upload, [part])
        assert await store.read(BUCKET, "k") == b"".join(chunks) + b"end"
    assert residue_of(tmp_path) == []


async def test_a_full_disk_keeps_what_fits(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, part = await grown(store)
    original = os.writev
    free = [10_000]

    def writev(handle: int, chunks: Any) -> int:
        room = free[0]
        free[0] = 0
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(handle, [bytes(chunks[0])[:room]])

    def write(handle: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", writev)
        patched.setattr(os, "write", write)
        with pytest.raises(StorageFullError):
            await store.append_part(BUCKET, "k", upload, 1, part.size, stream(b"x" * CHUNK, b"y" * CHUNK))
    [fits] = await store.list_parts(BUCKET, "k", upload)
    assert fits.size == part.size + 10_000
    done = await store.append_part(BUCKET, "k", upload, 1, fits.size, b"z")
    await store.complete_multipart(BUCKET, "k", upload, [done])
    assert await store.read(BUCKET, "k") == FIRST + REST + b"x" * 10_000 + b"z"


# Cost


async def test_a_chunk_takes_one_call_in_a_thread_and_stays_in_memory_alone(
    store: trove.Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    calls = 0
    original = Workers.run

    async def run(self: Workers, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await original(self, *args, **options)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(CHUNK)

    monkeypatch.setattr(Workers, "run", run)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        part = await store.append_part(BUCKET, "k", upload, 1, 0, chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert part.size == 64 * CHUNK
    assert calls == 64 + 2
    assert peak - before < 150 * 1024


async def test_small_chunks_take_two_calls_with_the_flush(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    calls = 0
    original = Workers.run

    async def run(self: Workers, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await original(self, *args, **options)

    monkeypatch.setattr(Workers, "run", run)
    part = await store.append_part(BUCKET, "k", upload, 1, 0, stream(FIRST, REST))
    assert (part.size, calls) == (len(FIRST + REST), 2)


async def test_the_manifest_is_read_again_only_if_it_has_changed(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    read: list[str] = []
    original = LocalFileSystem.read_file

    async def read_file(self: LocalFileSystem, path: str) -> bytes | None:
        read.append(path)
        return await original(self, path)

    monkeypatch.setattr(LocalFileSystem, "read_file", read_file)
    manifest = tmp_path / f".trove/uploads/{BUCKET}/{upload}/manifest"
    for offset in range(3):
        await store.append_part(BUCKET, "k", upload, 1, offset, b"x")
    assert read.count(str(manifest)) == 1
    manifest.write_bytes(b"garbage")
    with pytest.raises(BackendError, match="is damaged"):
        await store.append_part(BUCKET, "k", upload, 1, 3, b"x")


async def test_small_chunks_that_wait_are_written_together(store: trove.Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    writes = 0
    original = os.writev

    def writev(handle: int, chunks: Any) -> int:
        nonlocal writes
        writes += 1
        return original(handle, chunks)

    monkeypatch.setattr(os, "writev", writev)
    data = random.Random(1).randbytes(100_000)
    chunks = [data[at : at + 100] for at in range(0, len(data), 100)]
    part = await store.append_part(BUCKET, "k", upload, 1, 0, stream(*chunks))
    assert writes < 100
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert await store.read(BUCKET, "k") == data


# The part becomes the object


@pytest.mark.parametrize("how", ["appended", "uploaded"])
@pytest.mark.parametrize("versioned", [False, True])
async def test_the_only_part_becomes_the_object_without_a_copy(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, versioned: bool
) -> None:
    await store.set_versioning(BUCKET, versioned)
    before = await store.put(BUCKET, "k", OLD)
    os.chmod(tmp_path / BUCKET / "k", 0o440)
    data = FIRST + REST
    digest = hashlib.sha256(data).hexdigest()
    wanted: dict[str, Any] = {"checksum": Checksum("sha256", digest), "metadata": {"m": "y" * 30_000}}
    if how == "appended":
        upload, part = await grown(store, **wanted)
    else:
        upload = await store.initiate_multipart(BUCKET, "k", **wanted)
        part = await store.upload_part(BUCKET, "k", upload, 1, data)
    [file] = part_files(tmp_path)
    assert file.stat().st_mode & 0o077 == 0o040
    inode = file.stat().st_ino
    no_copies(monkeypatch)
    for condition in ({"if_match": "another"}, {"if_none_match": "*"}):
        with pytest.raises(PreconditionFailedError):
            await store.complete_multipart(BUCKET, "k", upload, [part], **condition)
        assert await store.list_parts(BUCKET, "k", upload) == [part]
        assert await store.read(BUCKET, "k") == OLD
    info = await store.complete_multipart(BUCKET, "k", upload, [part], if_match=before.etag)
    status = (tmp_path / BUCKET / "k").stat()
    assert (status.st_ino, status.st_mode & 0o777, status.st_nlink) == (inode, 0o440, 1)
    assert await store.read(BUCKET, "k") == data
    assert await store.head(BUCKET, "k") == info
    assert info.metadata == wanted["metadata"]
    assert info.checksums == {"sha256": digest}
    assert info.last_modified is not None
    assert before.last_modified is not None
    assert info.last_modified > before.last_modified
    assert len(await store.list_versions(BUCKET, "k")) == 1 + versioned
    assert await store.list_multipart_uploads(BUCKET) == []
    with pytest.raises(UploadNotFoundError):
        await store.append_part(BUCKET, "k", upload, 1, part.size, b"more")


async def test_a_new_object_has_the_mode_of_new_files(store: trove.Trove, tmp_path: Path) -> None:
    await store.put(BUCKET, "k", OLD)
    new = (tmp_path / BUCKET / "k").stat().st_mode
    os.chmod(tmp_path / BUCKET / "k", 0o400)
    upload, part = await grown(store)
    await store.delete(BUCKET, "k")
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert (tmp_path / BUCKET / "k").stat().st_mode == new


async def test_a_part_of_another_user_is_copied(
    store: trove.Trove, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, part = await grown(store)
    [file] = part_files(tmp_path)
    inode = file.stat().st_ino
    monkeypatch.setattr(LocalFileSystem, "owns", lambda self, status: False)
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert (tmp_path / BUCKET / "k").stat().st_ino != inode
    assert await store.read(BUCKET, "k") == FIRST + REST


async def test_of_several_completions_one_succeeds(store: trove.Trove) -> None:
    upload, part = await grown(store)
    completing = [store.complete_multipart(BUCKET, "k", upload, [part]) for _ in range(6)]
    outcomes = await asyncio.gather(*completing, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ObjectInfo"] + ["UploadNotFoundError"] * 5


async def test_a_part_that_is_being_appended_to_becomes_no_object(store: trove.Trove) -> None:
    upload, part = await grown(store)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        reached.set()
        await go_on.wait()
        yield b", more"

    appending = asyncio.ensure_future(store.append_part(BUCKET, "k", upload, 1, part.size, body()))
    await reached.wait()
    with pytest.raises(ConflictError, match="being appended to"):
        await store.complete_multipart(BUCKET, "k", upload, [part])
    with pytest.raises(ConflictError, match="being appended to"):
        await store.append_part(BUCKET, "k", upload, 1, 0, b"x")
    go_on.set()
    part = await appending
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert await store.read(BUCKET, "k") == FIRST + REST + b", more"


@pytest.mark.parametrize("end", ["abort", "replace"])
async def test_an_append_to_a_part_that_is_gone_is_refused(store: trove.Trove, end: str) -> None:
    upload, part = await grown(store)

    async def body() -> AsyncIterator[bytes]:
        yield b"more"
        if end == "abort":
            await store.abort_multipart(BUCKET, "k", upload)
        else:
            await store.upload_part(BUCKET, "k", upload, 1, b"replaced")
        yield b"lost"

    with pytest.raises(UploadNotFoundError if end == "abort" else ConflictError):
        await store.append_part(BUCKET, "k", upload, 1, part.size, body())
    if end == "replace":
        [part] = await store.list_parts(BUCKET, "k", upload)
        await store.complete_multipart(BUCKET, "k", upload, [part])
        assert await store.read(BUCKET, "k") == b"replaced"


async def test_closing_ends_an_append_and_keeps_its_bytes(dsn: str, store: trove.Trove) -> None:
    other = await trove.open(dsn)
    upload = await other.initiate_multipart(BUCKET, "k")
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield bytes(CHUNK)
        reached.set()
        await go_on.wait()
        yield b"late"

    appending = asyncio.ensure_future(other.append_part(BUCKET, "k", upload, 1, 0, body()))
    await reached.wait()
    await other.aclose()
    go_on.set()
    with pytest.raises(trove.ClosedError):
        await appending
    [part] = await store.list_parts(BUCKET, "k", upload)
    assert part.size == CHUNK
    await store.complete_multipart(BUCKET, "k", upload, [part])


async def test_a_forked_child_holds_no_part(store: trove.Trove, tmp_path: Path) -> None:
    """Otherwise the part would stay locked after its writer is killed."""
    upload = await store.initiate_multipart(BUCKET, "k")
    seen = b""

    async def body() -> AsyncIterator[bytes]:
        nonlocal seen
        yield bytes(CHUNK)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, repr([name for name in open_files() if name.startswith(str(tmp_path))]).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            seen = pipe.read()
        await asyncio.to_thread(os.waitpid, child, 0)

    part = await store.append_part(BUCKET, "k", upload, 1, 0, body())
    assert seen == b"[]"
    await store.complete_multipart(BUCKET, "k", upload, [part])


# Copies of ranges


async def test_a_part_is_copied_from_a_range_of_an_object_or_a_version(store: trove.Trove) -> None:
    await store.set_versioning(BUCKET, True)
    first = await store.put(BUCKET, "source", b"0123456789")
    await store.put(BUCKET, "source", b"abcdefghij")
    upload = await store.initiate_multipart(BUCKET, "k")
    source = ObjectRef(BUCKET, "source")
    parts = [
        await store.copy_part(BUCKET, "k", upload, 1, source, 2, 3),
        await store.copy_part(BUCKET, "k", upload, 2, ObjectRef(BUCKET, "source", first.version_id), 0, 10),
        await store.append_part(BUCKET, "k", upload, 3, 0, b"!"),
    ]
    assert await store.list_parts(BUCKET, "k", upload) == parts
    for offset, length in ((0, 11), (10, 1), (9, 2)):
        with pytest.raises(RangeNotSatisfiableError):
            await store.copy_part(BUCKET, "k", upload, 4, source, offset, length)
    with pytest.raises(ObjectNotFoundError):
        await store.copy_part(BUCKET, "k", upload, 4, ObjectRef(BUCKET, "missing"), 0, 1)
    await store.complete_multipart(BUCKET, "k", upload, parts)
    assert await store.read(BUCKET, "k") == b"cde0123456789!"


# Processes that are killed


async def test_bytes_of_a_killed_process_are_in_the_part(store: trove.Trove, dsn: str) -> None:
    chance = random.Random(0)
    upload = await store.initiate_multipart(BUCKET, "k")
    size = 0
    for _ in range(3):
        async with peer("append", dsn, "k", upload, str(size)) as process, asyncio.timeout(BOUND):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            for _ in range(chance.randrange(1, 40)):
                told = int(await process.stdout.readline())
            process.kill()
            told = max([told, *map(int, (await process.stdout.read()).split())])
            await process.wait()
        [part] = await store.list_parts(BUCKET, "k", upload)
        assert part.size >= told
        size = told
    part = await store.append_part(BUCKET, "k", upload, 1, size, b"end")
    await store.complete_multipart(BUCKET, "k", upload, [part])
    data = await store.read(BUCKET, "k")
    assert data == b"".join(bytes([number % 256]) * CHUNK for number in range(size // CHUNK)) + b"end"


async def test_a_part_that_another_process_appends_to_is_free_once_that_is_killed(store: trove.Trove, dsn: str) -> None:
    upload = await store.initiate_multipart(BUCKET, "k")
    async with peer("hold_part", dsn, "k", upload) as process, asyncio.timeout(BOUND):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        assert await process.stdout.readline() == b"held\n"
        [part] = await store.list_parts(BUCKET, "k", upload)
        for attempt in (
            store.complete_multipart(BUCKET, "k", upload, [part]),
            store.append_part(BUCKET, "k", upload, 1, 0, b"x"),
        ):
            with pytest.raises(ConflictError):
                await attempt
        process.kill()
        await process.wait()
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert await store.read(BUCKET, "k") == bytes(CHUNK)


@pytest.mark.parametrize("fsync", [0, 1])
@pytest.mark.parametrize("how", ["appended", "uploaded"])
@pytest.mark.parametrize("fatal", [True, False])
async def test_a_completion_that_is_interrupted_at_any_call(
    store: trove.Trove, tmp_path: Path, faults: Faults, how: str, fsync: int, fatal: bool
) -> None:
    """The object is the old one, and the upload whole; or it is the new one, and the upload has ended."""
    outcomes: list[bool] = []
    at = 0
    while True:
        at += 1
        await store.put(BUCKET, "k", OLD)
        if how == "appended":
            upload, part = await grown(store, metadata={"m": "y" * 30_000})
        else:
            upload = await store.initiate_multipart(BUCKET, "k", metadata={"m": "y" * 30_000})
            part = await store.upload_part(BUCKET, "k", upload, 1, FIRST + REST)
        victim = await trove.open(f"local://{tmp_path}?min_part_size=1&fsync={fsync}")
        faults.start(at, fatal=fatal)
        try:
            await victim.complete_multipart(BUCKET, "k", upload, [part])
        except (Killed, trove.TroveError):
            pass
        finally:
            reached = faults.reached
            faults.stop()
            await victim.aclose()
        outcomes.append(await _settled(store, upload, part, at))
        await sweep(store)
        assert residue_of(tmp_path) == []
        assert list((tmp_path / ".trove/uploads" / BUCKET).iterdir()) == []
        if not reached:
            break
    assert outcomes[-1]
    if fatal:
        assert outcomes == sorted(outcomes)
        assert outcomes.count(False) > 3
        assert outcomes.count(True) > 3


async def _settled(store: trove.Trove, upload: str, part: PartInfo, at: int) -> bool:
    """Check what an interrupted completion has left, go on from there, and return whether the object was new."""
    content = await store.read(BUCKET, "k")
    head = await store.head(BUCKET, "k")
    if content == FIRST + REST:
        assert head.metadata == {"m": "y" * 30_000}
        assert await store.list_multipart_uploads(BUCKET) == []
        for attempt in (
            store.append_part(BUCKET, "k", upload, 1, 0, b"x"),
            store.upload_part(BUCKET, "k", upload, 1, b"x"),
            store.list_parts(BUCKET, "k", upload),
            store.complete_multipart(BUCKET, "k", upload, [part]),
        ):
            with pytest.raises(UploadNotFoundError):
                await attempt
        assert await store.read(BUCKET, "k") == FIRST + REST
        assert await store.head(BUCKET, "k") == head
        return True
    assert content == OLD
    assert [found.upload_id for found in await store.list_multipart_uploads(BUCKET)] == [upload]
    assert await store.list_parts(BUCKET, "k", upload) == [part]
    if at % 3 == 0:
        part = await store.append_part(BUCKET, "k", upload, 1, 5, FIRST[5:] + REST)
    elif at % 3 == 1:
        part = await store.upload_part(BUCKET, "k", upload, 1, FIRST + REST)
    await sweep(store)
    assert await store.list_parts(BUCKET, "k", upload) == [part]
    await store.complete_multipart(BUCKET, "k", upload, [part])
    assert await store.read(BUCKET, "k") == FIRST + REST
    return False


@pytest.mark.parametrize("fsync", [0, 1])
@pytest.mark.parametrize(
    ("before", "offset"), [("nothing", 0), ("appended", 0), ("appended", 5), ("uploaded", 0), ("uploaded", 5)]
)
async def test_an_append_that_is_killed_at_any_call(
    store: trove.Trove, tmp_path: Path, faults: Faults, before: str, offset: int, fsync: int
) -> None:
    """The part has a prefix of its old or of its new content, the cut-off bytes included, and the upload goes on."""
    at = 0
    while True:
        at += 1
        upload = await store.initiate_multipart(BUCKET, "k")
        old = b""
        if before != "nothing":
            old = FIRST + REST
            if before == "appended":
                await store.append_part(BUCKET, "k", upload, 1, 0, old)
            else:
                await store.upload_part(BUCKET, "k", upload, 1, old)
        new = old[:offset] + b"0123456789"
        victim = await trove.open(f"local://{tmp_path}?min_part_size=1&fsync={fsync}")
        faults.start(at, fatal=True)
        try:
            await victim.append_part(BUCKET, "k", upload, 1, offset, stream(b"01234", b"56789"))
        except Killed:
            pass
        finally:
            reached = faults.reached
            faults.stop()
            await victim.aclose()
        parts = await store.list_parts(BUCKET, "k", upload)
        size = parts[0].size if parts else 0
        assert reached or size == len(new)
        part = await store.append_part(BUCKET, "k", upload, 1, size, b"!")
        await store.complete_multipart(BUCKET, "k", upload, [part])
        content = await store.read(BUCKET, "k")
        assert content == old + b"!" or (size >= offset and content == new[:size] + b"!")
        await sweep(store)
        assert residue_of(tmp_path) == []
        if not reached:
            break
    assert at > 4
