"""How many requests an upload to S3 takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import trove_async as trove
from tests.payload import pattern
from tests.s3.stores import address
from tests.s3.stores import opened as opened_s3
from tests.uploads.store.stores import bucket_in, chunks
from trove_async.testing.answers import AnsweringProxy
from trove_async.uploads import FileInfo, TroveDataStore

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
SIZE = 32 * MIB


@pytest_asyncio.fixture
async def service() -> AsyncIterator[AnsweringProxy]:
    async with AnsweringProxy(*address("ceph")) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def store(service: AnsweringProxy) -> AsyncIterator[trove.Trove]:
    async with opened_s3("ceph", service.url(), part_size=8 * MIB, min_part_size=None) as opened:
        yield opened


@pytest_asyncio.fixture
async def bucket(store: trove.Trove) -> AsyncIterator[str]:
    async with bucket_in(store) as name:
        yield name


def kinds(service: AnsweringProxy) -> Counter[str]:
    """Count the requests by what they do."""
    found: Counter[str] = Counter()
    for request in service.requests:
        if ".trove-uploads/" in request.target:
            found[f"{request.method} state"] += 1
        elif request.target.endswith("?versioning="):
            continue  # the driver asks Ceph, which honours conditions only in buckets without versions
        elif "partNumber=" in request.target:
            found["part"] += 1
        else:
            found[request.method] += 1
    return found


async def send(uploads: TroveDataStore, service: AnsweringProxy, step: int) -> str:
    """Upload in steps as a server does, which looks at the upload before and after each, and count the requests."""
    data = pattern(SIZE)
    service.requests.clear()
    upload_id = await uploads.new_upload(FileInfo(size=SIZE))
    for start in range(0, SIZE, step):
        assert (await uploads.get_info(upload_id)).offset == start
        await uploads.write_chunk(upload_id, start, chunks(data[start : start + step], 64 * 1024))
    assert (await uploads.get_info(upload_id)).is_complete
    await uploads.finish_upload(upload_id)
    return upload_id


async def test_one_chunk(store: trove.Trove, bucket: str, service: AnsweringProxy) -> None:
    await send(TroveDataStore(store, bucket, shared=False), service, SIZE)
    assert kinds(service) == {"POST": 2, "PUT state": 2, "part": 4, "HEAD": 1}
    assert len(service.requests) <= 4 + 5


async def test_small_chunks(store: trove.Trove, bucket: str, service: AnsweringProxy) -> None:
    await send(TroveDataStore(store, bucket, shared=False), service, MIB)
    # The last tail is a part at once.
    assert kinds(service) == {"POST": 2, "PUT state": 1 + 31 + 1, "part": 4, "HEAD": 1}
    assert len(service.requests) <= 32 + 4 + 8


async def test_a_shared_store_compares_what_it_describes(
    store: trove.Trove, bucket: str, service: AnsweringProxy
) -> None:
    await send(TroveDataStore(store, bucket), service, MIB)
    assert kinds(service)["GET state"] == 32 + 1 + 1  # the last one before the upload is finished
    # No description had to be sent, since it was known; so no tail was read either.
    assert kinds(service)["PUT state"] == 33


async def test_another_process_reads_one_tail(store: trove.Trove, bucket: str, service: AnsweringProxy) -> None:
    first, second = TroveDataStore(store, bucket), TroveDataStore(store, bucket)
    data = pattern(3 * MIB)
    upload_id = await first.new_upload(FileInfo(size=len(data)))
    await first.write_chunk(upload_id, 0, chunks(data[:MIB]))
    service.requests.clear()
    await second.write_chunk(upload_id, MIB, chunks(data[MIB : 2 * MIB]))
    assert kinds(service) == {"GET state": 2, "PUT state": 1}
    await second.write_chunk(upload_id, 2 * MIB, chunks(data[2 * MIB :]))
    await second.finish_upload(upload_id)
    assert await store.read(bucket, upload_id) == data
