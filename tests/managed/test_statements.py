"""Changes that wait at the same time share the statements of a transaction, however many they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Engine, event

import trove_async
from tests.managed.state import BUCKET
from trove_async import BucketNotFoundError, ObjectInfo, PreconditionFailedError, Trove, VersioningStatus, managed
from trove_async.database import Database
from trove_async.managed import ContentStore, Dedup, ManagedStorage

pytestmark = pytest.mark.asyncio

Put = Callable[[str, bytes], Awaitable[object]]
Transactions = list[list[str]]

SOME, MANY = 20, 100


@pytest.fixture
def transactions() -> Iterator[Transactions]:
    """The statements of each transaction with any database."""
    found: Transactions = []

    def begin(_: Any) -> None:
        found.append([])

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        found[-1].append(statement)

    event.listen(Engine, "begin", begin)
    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)
    event.remove(Engine, "begin", begin)


@pytest_asyncio.fixture
async def dedup(url: str, space: str) -> AsyncIterator[Trove]:
    async with trove_async.open("memory://", layers=[Dedup(url, bucket="blobs", space=space)]) as opened:
        await opened.create_bucket("one")
        await opened.put("one", "first", b"first")  # reads where the blobs are
        yield opened


@pytest_asyncio.fixture
async def cas(store: Trove, db: Database, space: str) -> AsyncIterator[ContentStore]:
    async with managed.cas(store, BUCKET, database=db, namespace=space) as opened:
        yield opened


async def cost(transactions: Transactions, put: Put, number: int, mark: str) -> set[tuple[str, ...]]:
    """Return the kinds of transactions that a number of puts at the same time take, each with content of its own."""
    transactions.clear()
    await asyncio.gather(*(put(f"{number}/{n:03}", f"{mark} {number} {n}".encode()) for n in range(number)))
    assert len(transactions) < SOME / 2  # most puts share theirs
    return {*map(tuple, transactions)}


async def check_costs(transactions: Transactions, put: Put) -> None:
    """Check that many puts cost what some do: of new names, of names that exist, and of content that is known."""
    for mark in ("new", "other", "new"):
        some = await cost(transactions, put, SOME, mark)
        assert await cost(transactions, put, MANY, mark) == some


async def versioned(dedup: Trove, status: VersioningStatus) -> None:
    if status is not VersioningStatus.UNVERSIONED:
        await dedup.bucket("one").set_versioning(True)
    if status is VersioningStatus.SUSPENDED:
        await dedup.bucket("one").set_versioning(False)


@pytest.mark.parametrize("status", VersioningStatus)
async def test_puts_of_dedup(dedup: Trove, transactions: Transactions, status: VersioningStatus) -> None:
    await versioned(dedup, status)
    await check_costs(transactions, lambda key, data: dedup.put("one", key, data))


async def test_puts_of_dedup_over_versions_that_are_kept(dedup: Trove, transactions: Transactions) -> None:
    await versioned(dedup, VersioningStatus.ENABLED)
    for number in (SOME, MANY):
        await cost(transactions, lambda key, data: dedup.put("one", key, data), number, "kept")
    await dedup.bucket("one").set_versioning(False)
    await check_costs(transactions, lambda key, data: dedup.put("one", key, data))


async def test_puts_of_dedup_with_conditions(dedup: Trove, transactions: Transactions) -> None:
    async def put(key: str, data: bytes) -> None:
        await dedup.put("one", key, data, if_none_match="*")

    some = await cost(transactions, put, SOME, "new")
    assert await cost(transactions, put, MANY, "new") == some


async def test_deletions_of_many_of_dedup(dedup: Trove, transactions: Transactions) -> None:
    costs = []
    for number in (SOME, MANY):
        keys = [f"{number}/{n:03}" for n in range(number)]
        await asyncio.gather(*(dedup.put("one", key, key.encode()) for key in keys))
        transactions.clear()
        await dedup.delete_many("one", keys)
        costs.append({*map(tuple, transactions)})
    assert costs[0] == costs[1]
    assert [info.key for info in await dedup.list("one").all()] == ["first"]


async def test_puts_of_managed_storage(m: ManagedStorage, transactions: Transactions) -> None:
    await m.put_for_bucket("tenant", "first", b"first")
    await check_costs(transactions, lambda key, data: m.put_for_bucket("tenant", key, data))


async def test_contents_of_a_content_store(cas: ContentStore, transactions: Transactions) -> None:
    await cas.store(b"first")
    await check_costs(transactions, lambda key, data: cas.store(data))


async def writes(store: Trove, key: str, number: int) -> None:
    """Put contents to one key at the same time, so that they share transactions."""
    await asyncio.gather(*(store.put("one", key, b"%d" % n) for n in range(number)))


async def check_references(db: Database, space: str) -> None:
    async with trove_async.open("memory://") as empty:
        await empty.create_bucket("blobs")
        catalogue = managed.ResourceCatalog(db, space)
        report = await managed.fsck(catalogue, managed.StoreResourceStorage(empty, "blobs"), depth="rows")
    assert report.clean, report


@pytest.mark.parametrize(
    ("status", "kept"),
    [(VersioningStatus.UNVERSIONED, 1), (VersioningStatus.ENABLED, 31), (VersioningStatus.SUSPENDED, 2)],
)
async def test_puts_of_one_key_at_the_same_time(
    dedup: Trove, db: Database, space: str, status: VersioningStatus, kept: int
) -> None:
    bucket = dedup.bucket("one")
    if status is VersioningStatus.SUSPENDED:
        await bucket.set_versioning(True)
        await bucket.put("a", b"kept")
    await versioned(dedup, status)
    if status is not VersioningStatus.SUSPENDED:
        await bucket.put("a", b"before")
    await writes(dedup, "a", 30)
    last = await bucket.read("a")
    assert last in {b"%d" % n for n in range(30)}
    if status is not VersioningStatus.UNVERSIONED:
        versions = await bucket.list_versions("a")
        assert len(versions) == len({version.version_id for version in versions}) == kept
        assert [version.is_latest for version in versions] == [True] + [False] * (kept - 1)
        assert await bucket.read("a", version_id=versions[0].version_id) == last
        times = [version.last_modified for version in versions if version.last_modified is not None]
        assert times == sorted(times, reverse=True)
    assert [info.key for info in await bucket.list().all()] == ["a", "first"]
    await check_references(db, space)


async def test_of_many_who_replace_one_version_one_wins(dedup: Trove, db: Database, space: str) -> None:
    before = await dedup.put("one", "a", b"before")
    puts = [dedup.put("one", "a", b"%d" % n, if_match=before.etag) for n in range(30)]
    results = await asyncio.gather(*puts, return_exceptions=True)
    [won] = [result for result in results if isinstance(result, ObjectInfo)]
    assert all(isinstance(one, PreconditionFailedError) for one in results if one is not won)
    assert (await dedup.head("one", "a")).etag == won.etag
    await check_references(db, space)


async def test_a_missing_bucket_fails_its_own_puts(dedup: Trove) -> None:
    puts = [dedup.put(name, name, name.encode()) for name in ("one", "missing", "one")]
    first, missing, last = await asyncio.gather(*puts, return_exceptions=True)
    assert isinstance(missing, BucketNotFoundError)
    assert isinstance(first, ObjectInfo)
    assert isinstance(last, ObjectInfo)


@pytest.mark.parametrize("status", VersioningStatus)
async def test_several_processes_that_write_the_same_keys(
    url: str, db: Database, space: str, tmp_path: Path, status: VersioningStatus
) -> None:
    def opening() -> Any:
        layers = [Dedup(url, bucket="blobs", space=space)]
        return trove_async.open(f"local://{tmp_path}/store?create=1&fsync=0", layers=layers)

    async with opening() as one, opening() as two:
        await one.create_bucket("one")
        await versioned(one, status)
        keys = [f"{n:02}" for n in range(10)]
        puts = [
            store.put("one", key, f"{name} {key} {n}".encode())
            for n in range(5)
            for key in keys
            for name, store in (("one", one), ("two", two))
        ]
        infos = await asyncio.gather(*puts)
        assert [info.key for info in await one.list("one").all()] == keys
        for key in keys:
            current = await two.head("one", key)
            assert current.etag in {info.etag for info in infos if info.key == key}
            if status is VersioningStatus.ENABLED:
                assert len(await one.bucket("one").list_versions(key)) == 10
        await check_references(db, space)
