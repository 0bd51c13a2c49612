"""`cas`: content by its digest."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import blake3
import pytest
import pytest_asyncio

import trove_async
from tests.managed.state import BUCKET, lose
from trove_async import Trove
from trove_async.database import Database
from trove_async.errors import (
    BodySizeError,
    BucketNotFoundError,
    ChecksumError,
    InvalidArgumentError,
    MissingDependencyError,
    NotFoundError,
)
from trove_async.managed import ContentStore, cas

pytestmark = pytest.mark.asyncio

DATA = b"some content"
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@pytest_asyncio.fixture
async def c(store: Trove, db: Database, space: str) -> AsyncIterator[ContentStore]:
    async with cas(store, BUCKET, database=db, space=space) as opened:
        yield opened


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), 5):
        yield data[offset : offset + 5]


async def read(c: ContentStore, digest: str) -> bytes:
    async with c.retrieve(digest) as reader:
        return await reader.read()


async def read_in_chunks(c: ContentStore, digest: str) -> None:
    async with c.retrieve(digest) as reader:
        async for _ in reader:
            pass


async def keys(c: ContentStore) -> list[str]:
    return [info.key async for info in c.storage.store.list(BUCKET)]


async def collect(c: ContentStore) -> int:
    return (await c.gc(grace=0, dry_run=False, force=True)).deleted


async def test_content_is_found_by_its_digest(c: ContentStore) -> None:
    assert await c.store(DATA) == DIGEST
    assert await c.exists(DIGEST)
    assert await read(c, DIGEST) == await read(c, DIGEST.upper()) == DATA
    async with c.retrieve(DIGEST, range=(5, None)) as reader:
        assert await reader.read() == DATA[5:]


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 3_000_000])
async def test_any_length_is_stored_once_however_it_comes(c: ContentStore, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    digests = {
        await c.store(content),
        await c.store(bytearray(content), length=len(content)),
        await c.store(tmp_path / "file"),
        await c.store(chunks(content) if len(content) < 100 else memoryview(content)),
    }
    (digest,) = digests
    assert digest == hashlib.sha256(content).hexdigest()
    assert await read(c, digest) == content
    (key,) = await keys(c)
    assert key.startswith("blobs/")
    assert key.count("/") == 3
    found = await c.stats()
    assert (found.blobs, found.bytes, found.references) == (1, len(content), 4)
    assert found.logical_bytes == 4 * len(content)


async def test_bytes_in_memory_that_are_stored_are_not_sent_again(
    c: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await c.store(DATA)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("sent")

    monkeypatch.setattr(type(c.storage), "put", refuse)
    await c.store(DATA)
    assert (await c.stats()).references == 2


async def test_what_is_unknown_is_not_found(c: ContentStore) -> None:
    assert not await c.exists(OTHER)
    for call in (c.retrieve(OTHER), c.release(OTHER), c.pin(OTHER), c.unpin(OTHER)):
        with pytest.raises(NotFoundError, match="not stored"):
            await call


async def test_every_store_is_a_reference_that_release_ends(c: ContentStore) -> None:
    await c.store(DATA)
    await c.store(DATA)
    await c.release(DIGEST)
    assert await collect(c) == 0
    assert await read(c, DIGEST) == DATA
    await c.release(DIGEST)
    assert not await c.exists(DIGEST)
    with pytest.raises(NotFoundError):
        await c.release(DIGEST)
    assert (await c.stats()).condemned == 1
    assert await collect(c) == 1
    assert await keys(c) == []


async def test_a_pin_survives_gc(c: ContentStore) -> None:
    await c.store(DATA)
    await c.pin(DIGEST)
    await c.pin(DIGEST)
    await c.release(DIGEST)
    assert (await c.stats()).pinned == 1
    assert await collect(c) == 0
    assert await read(c, DIGEST) == DATA
    with pytest.raises(NotFoundError):
        await c.release(DIGEST)
    await c.unpin(DIGEST)
    assert await collect(c) == 1


async def test_gc_is_dry_unless_it_is_asked_to_delete(c: ContentStore) -> None:
    await c.store(DATA)
    await c.release(DIGEST)
    assert (await c.gc(grace=0, force=True)).deleted == 1
    assert len(await keys(c)) == 1


async def test_content_is_stored_again_within_the_grace_and_after_it(c: ContentStore) -> None:
    for _ in range(2):
        await c.store(DATA)
        await c.release(DIGEST)
        await c.store(DATA)
        await collect(c)
        assert await read(c, DIGEST) == DATA
        await c.release(DIGEST)
        await collect(c)


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_bytes_that_were_changed_are_no_content(c: ContentStore, size: int) -> None:
    data = b"x" * size
    digest = await c.store(data)
    (key,) = await keys(c)
    await c.storage.store.put(BUCKET, key, b"y" + data[1:], checksum="sha256")
    with pytest.raises(ChecksumError, match=digest):
        await read(c, digest)
    with pytest.raises(ChecksumError):
        await read_in_chunks(c, digest)
    await c.storage.store.put(BUCKET, key, data[1:])
    with pytest.raises(ChecksumError, match=f"{size} were stored"):
        await read(c, digest)
    await c.store(data)  # which is no proof that the bytes are there
    assert await read(c, digest) == data


async def test_a_missing_bucket_is_no_missing_content(c: ContentStore, store: Trove) -> None:
    await c.store(DATA)
    await store.delete_many(BUCKET, await keys(c))
    await store.delete_bucket(BUCKET)
    with pytest.raises(BucketNotFoundError):
        await c.retrieve(DIGEST)


async def test_bytes_that_are_known_to_be_wrong_are_not_read(c: ContentStore) -> None:
    await c.store(DATA)
    await lose(c.catalogue, DIGEST)
    with pytest.raises(NotFoundError):
        await c.retrieve(DIGEST, range=(0, 4))
    await c.store(DATA)
    assert await read(c, DIGEST) == DATA


async def test_bytes_that_are_missing_are_stored_again(c: ContentStore) -> None:
    await c.store(DATA)
    await c.storage.remove(*await keys(c))
    with pytest.raises(NotFoundError, match="store it again"):
        await read(c, DIGEST)
    await c.store(DATA)
    assert await read(c, DIGEST) == DATA
    assert (await c.stats()).references == 2
    assert (await c.fsck(depth="bytes", grace=0)).clean


async def test_what_was_declared_is_compared(c: ContentStore) -> None:
    for data in (DATA, chunks(DATA)):
        with pytest.raises(ChecksumError):
            await c.store(data, digest=OTHER)
    for data in (DATA, chunks(DATA)):
        with pytest.raises(BodySizeError):
            await c.store(data, length=3)
    assert await keys(c) == []
    assert await c.store(DATA, digest=DIGEST.upper(), length=len(DATA)) == DIGEST


@pytest.mark.parametrize("digest", ["", "xyz", DIGEST[:-1], "../" + DIGEST, 5, None])
async def test_what_is_no_digest_is_refused(c: ContentStore, digest: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        c.retrieve(digest)
    with pytest.raises(InvalidArgumentError):
        await c.exists(digest)


@pytest.mark.parametrize("algorithm", ["blake3", "sha384", "sha512"])
async def test_other_algorithms(store: Trove, db: Database, space: str, algorithm: str) -> None:
    async with cas(store, BUCKET, database=db, algorithm=algorithm, space=space) as c:
        expected = blake3.blake3(DATA) if algorithm == "blake3" else hashlib.new(algorithm, DATA)
        assert await c.store(chunks(DATA)) == await c.store(DATA) == expected.hexdigest()
        assert await read(c, expected.hexdigest()) == DATA
        assert (await c.fsck(depth="bytes", grace=0)).clean


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "crc32", "crc32c", "blake2b", "xxhash", "", None])
async def test_what_does_not_resist_collisions_is_refused(store: Trove, algorithm: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="the algorithm is one of sha256, blake3"):
        cas(store, BUCKET, database="sqlite:///x.db", algorithm=algorithm)


async def test_blake3_without_its_package_names_the_extra(store: Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blake3", None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[blake3\]"):
        cas(store, BUCKET, database="sqlite:///x.db", algorithm="blake3")


async def test_buckets_and_namespaces_in_one_database_are_apart(store: Trove, sqlite_url: str) -> None:
    await store.create_bucket("another")
    async with (
        cas(store, BUCKET, database=sqlite_url) as one,
        cas(store, "another", database=sqlite_url) as two,
        cas(store, BUCKET, database=sqlite_url, namespace="n") as three,
    ):
        await one.store(DATA)
        for other in (two, three):
            assert not await other.exists(DIGEST)
            await other.store(DATA)
            await other.release(DIGEST)
            assert await collect(other) == 1
        assert await read(one, DIGEST) == DATA


async def test_contents_outlive_the_process(store: Trove, sqlite_url: str) -> None:
    async with cas(store, BUCKET, database=sqlite_url) as c:
        await c.store(DATA)
    async with cas(store, BUCKET, database=sqlite_url) as c:
        assert await read(c, DIGEST) == DATA
    with pytest.raises(trove_async.ClosedError):
        await c.exists(DIGEST)
