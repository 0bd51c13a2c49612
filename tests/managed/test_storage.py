"""`StoreResourceStorage`: bytes under paths, as objects of a bucket."""

from __future__ import annotations

import io

import pytest

from tests.managed.state import BUCKET, sha384
from trove_async import Trove
from trove_async.checksums import Checksum
from trove_async.errors import (
    BodySizeError,
    BucketNotFoundError,
    ChecksumError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
)
from trove_async.managed import ResourceStorage, StoreResourceStorage

pytestmark = pytest.mark.asyncio


@pytest.fixture
def storage(store: Trove) -> StoreResourceStorage:
    return StoreResourceStorage(store, BUCKET, "mine")


async def read(storage: ResourceStorage, path: str) -> bytes:
    async with await storage.get(path) as reader:
        return await reader.read()


async def test_put_and_get(storage: StoreResourceStorage, store: Trove) -> None:
    assert await storage.put("a/path", b"data") == (sha384(b"data"), 4)
    assert await read(storage, "a/path") == b"data"
    assert await store.read(BUCKET, "mine/a/path") == b"data"


async def test_put_of_an_unknown_length(storage: StoreResourceStorage) -> None:
    assert (await storage.put("p", iter([b"da", b"ta"]))).length == 4
    assert (await storage.put("q", io.BytesIO(b"data"), 4)).digest == sha384(b"data")


async def test_put_of_other_algorithms(storage: StoreResourceStorage) -> None:
    written = await storage.put("p", b"data", checksum=Checksum("sha256"))
    assert len(written.digest) == 64


async def test_put_that_fails_stores_nothing(storage: StoreResourceStorage) -> None:
    with pytest.raises(BodySizeError):
        await storage.put("p", b"data", 3)
    with pytest.raises(ChecksumError):
        await storage.put("p", b"data", checksum=Checksum("sha384", sha384(b"other")))
    with pytest.raises(ObjectNotFoundError):
        await storage.get("p")


async def test_ranges(storage: StoreResourceStorage) -> None:
    await storage.put("p", b"0123456789")
    async with await storage.get("p", range=(3, 2)) as reader:
        assert await reader.read() == b"34"
    async with await storage.get("p", range=(0, 0)) as reader:
        assert reader.info.size == 10
    assert await storage.read_ranges("p", [(8, 2), (0, 1), (5, 0)]) == [b"89", b"0", b""]
    with pytest.raises(RangeNotSatisfiableError):
        await storage.read_ranges("p", [(10, 1)])


async def test_get_of_nothing(storage: StoreResourceStorage) -> None:
    with pytest.raises(ObjectNotFoundError):
        await storage.get("nothing")
    with pytest.raises(ObjectNotFoundError):
        await storage.get("nothing", range=(0, 0))
    with pytest.raises(ObjectNotFoundError):
        await storage.read_ranges("nothing", [(0, 1)])


async def test_remove(storage: StoreResourceStorage) -> None:
    await storage.put("p", b"data")
    await storage.remove("p")
    await storage.remove("p")
    with pytest.raises(ObjectNotFoundError):
        await storage.get("p")


async def test_namespaces_are_separate(storage: StoreResourceStorage, store: Trove) -> None:
    other = StoreResourceStorage(store, BUCKET)
    await storage.put("p", b"one")
    await other.put("p", b"two")
    await other.remove("p")
    assert await read(storage, "p") == b"one"
    assert (storage.prefix, other.prefix) == ("mine/", "")


async def test_a_bucket_that_does_not_exist(store: Trove) -> None:
    with pytest.raises(BucketNotFoundError):
        await StoreResourceStorage(store, "nothing").put("p", b"")
