"""`Dedup`: what is stored in the inner store, and what is asked of it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from sqlalchemy import Connection, insert, select

import trove_async
from tests.managed.state import lose
from trove_async import (
    AccessDeniedError,
    BackendError,
    InvalidArgumentError,
    InvalidCursorError,
    ObjectNotFoundError,
    ObjectRef,
    PreconditionFailedError,
    Trove,
    UnavailableError,
    UploadNotFoundError,
    VersionNotFoundError,
)
from trove_async.cancellation import CleanupWarning, to_the_end
from trove_async.database import Database
from trove_async.driver import DeleteOptions, Driver, ListOptions, VersionListOptions
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.managed import Dedup, ResourceCatalog
from trove_async.managed.dedup import storing
from trove_async.managed.dedup.driver import DedupDriver
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.schema import PARTS
from trove_async.managed.dedup.storing import Storing
from trove_async.managed.schema import BLOBS, State
from trove_async.version_listing import VersionMark

pytestmark = pytest.mark.asyncio

R = TypeVar("R")

DATA = bytes(range(256)) * 40


class Counting(LayerDriver):
    """Counts the operations on the inner store, and the bytes that are sent to it."""

    calls: Counter[str]
    sent: int

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.calls, self.sent = Counter(), 0

    async def around(self, operation: Operation, call: Call[R]) -> R:
        self.calls[operation.name] += 1
        result = await call()
        if operation.body is not None:
            self.sent += operation.body.taken
        return result

    def clear(self) -> None:
        self.calls.clear()
        self.sent = 0


@pytest_asyncio.fixture
async def store(url: str, space: str) -> AsyncIterator[Trove]:
    dedup = Dedup(url, bucket="blobs", space=space)
    async with trove_async.open("memory://", layers=[Counting, dedup]) as opened:
        for name in ("one", "two"):
            await opened.create_bucket(name)
        yield opened


@pytest.fixture
def inner(store: Trove) -> Counting:
    found = trove_async.unwrap(store.driver, Counting)
    found.clear()
    return found


async def states(db: Database, space: str) -> Counter[State]:
    wanted = select(BLOBS.c.state).where(BLOBS.c.space == space)
    return Counter(await db.read(lambda connection: [State(one) for one in connection.scalars(wanted)]))


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


async def test_the_same_content_is_stored_once(store: Trove, inner: Counting, db: Database, space: str) -> None:
    await store.put("one", "a", DATA)
    await store.put("one", "b", DATA, content_type="image/png")
    await store.put("two", "c", chunks(DATA), checksum="md5")
    assert await states(db, space) == {State.STORED: 1}
    assert [await store.read(bucket, key) for bucket, key in (("one", "a"), ("one", "b"), ("two", "c"))] == [DATA] * 3
    assert (await store.head("one", "b")).content_type == "image/png"
    assert (await store.head("two", "c")).checksums == {"md5": hashlib.md5(DATA).hexdigest()}
    assert inner.calls["put"] - inner.calls["delete"] == 1


async def test_bytes_in_memory_that_are_known_are_not_sent(store: Trove, inner: Counting) -> None:
    await store.put("one", "a", DATA)
    inner.clear()
    seen: list[int] = []
    info = await store.put("two", "b", DATA, checksum="sha256", on_progress=lambda done, _: seen.append(done))
    assert inner.sent == 0
    assert inner.calls == {"head": 1}
    assert seen[-1] == info.size == len(DATA)
    assert info.checksums == {"sha256": hashlib.sha256(DATA).hexdigest()}


async def test_head_list_copy_and_move_ask_nothing_of_the_inner_store(store: Trove, inner: Counting) -> None:
    put = await store.put("one", "a", DATA, metadata={"by": "me"}, tags={"kind": "x"})
    inner.clear()
    assert await store.head("one", "a") == put
    assert [(one.key, one.size, one.etag) for one in await store.list("one").all()] == [("a", len(DATA), put.etag)]
    copy = await store.copy("one", "a", "two", "b")
    await store.move("two", "b", "two", "c")
    assert await store.get_tags("two", "c") == {"kind": "x"}
    assert (copy.size, copy.metadata) == (len(DATA), {"by": "me"})
    assert not inner.calls


async def test_content_is_condemned_with_its_last_object(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("one", "a", DATA)
    await store.copy("one", "a", "two", "b")
    await store.put("one", "a", b"other")
    assert await states(db, space) == {State.STORED: 2}
    await store.delete("two", "b")
    assert await states(db, space) == {State.STORED: 1, State.CONDEMNED: 1}
    assert not inner.calls["delete"]  # the sweep does that


async def test_an_upload_refers_to_its_parts(store: Trove, inner: Counting, db: Database, space: str) -> None:
    await store.put("one", "first", DATA)
    upload = await store.initiate_multipart("one", "whole")
    parts = [
        await store.upload_part("one", "whole", upload, 1, DATA),
        await store.copy_part("one", "whole", upload, 2, ObjectRef("one", "first"), 100, 50),
        await store.upload_part("one", "whole", upload, 3, b"end"),
    ]
    inner.clear()
    info = await store.complete_multipart("one", "whole", upload, parts)
    assert not inner.calls
    whole = DATA + DATA[100:150] + b"end"
    assert info.size == len(whole)
    assert await states(db, space) == {State.STORED: 2}
    assert await store.read("one", "whole") == whole
    for offset, length in ((0, 10), (len(DATA) - 5, 10), (len(DATA) - 5, 60), (len(DATA) + 49, 4), (len(whole) - 1, 1)):
        assert await store.read("one", "whole", range=(offset, length)) == whole[offset : offset + length]
    async with await store.get("one", "whole") as reader:
        await reader.seek(len(DATA) + 10)
        assert await reader.read(45) == whole[len(DATA) + 10 :][:45]


async def test_a_checksum_of_an_upload_is_that_of_the_whole(store: Trove) -> None:
    upload = await store.initiate_multipart("one", "whole", checksum="sha256")
    parts = [await store.upload_part("one", "whole", upload, n, DATA) for n in (1, 2)]
    info = await store.complete_multipart("one", "whole", upload, parts)
    assert info.checksums == {"sha256": hashlib.sha256(DATA * 2).hexdigest()}


async def test_a_refused_write_sends_nothing_and_keeps_nothing(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    info = await store.put("one", "a", DATA)
    inner.clear()
    with pytest.raises(PreconditionFailedError):
        await store.put("one", "a", b"other", if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        await store.put("one", "a", chunks(b"another"), if_match="old")
    assert not inner.calls
    assert await store.head("one", "a") == info


async def test_of_many_who_store_the_same_one_blob_is_left(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await asyncio.gather(*(store.put("one", f"{n:03}", chunks(DATA)) for n in range(100)))
    assert await states(db, space) == {State.STORED: 1}
    assert len(await store.list("one").all()) == 100
    assert inner.calls["put"] == inner.calls["delete"] + 1


async def test_of_many_who_write_one_key_the_last_is_left(store: Trove, db: Database, space: str) -> None:
    await asyncio.gather(*(store.put("one", "a", b"%d" % (n % 7)) for n in range(50)))
    assert await states(db, space) == {State.STORED: 1, State.CONDEMNED: (await states(db, space))[State.CONDEMNED]}
    counts = select(BLOBS.c.refs).where(BLOBS.c.space == space, BLOBS.c.state == State.CONDEMNED)
    assert set(await db.read(lambda connection: [*connection.scalars(counts)])) == {0}


async def test_of_many_who_only_create_one_wins(store: Trove, db: Database, space: str) -> None:
    bodies = [b"%d" % n for n in range(50)]
    puts = (store.put("one", "a", body, if_none_match="*") for body in bodies)
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert await states(db, space) == {State.STORED: 1}


async def test_bytes_that_were_lost_are_stored_again(store: Trove, inner: Counting) -> None:
    await store.put("one", "a", DATA)
    await store.put("one", "b", DATA)
    for info in (await inner.list_page("blobs", ListOptions())).objects:
        await inner.delete("blobs", info.key, DeleteOptions())
    with pytest.raises(BackendError, match="missing or too short"):
        await store.read("one", "a")
    await store.put("two", "c", DATA)
    # All who have the content have it again.
    assert [await store.read(bucket, key) for bucket, key in (("one", "a"), ("one", "b"), ("two", "c"))] == [DATA] * 3


async def test_bytes_that_are_known_to_be_wrong_are_not_read(
    store: Trove, inner: Counting, db: Database, space: str
) -> None:
    await store.put("one", "a", DATA)
    await lose(ResourceCatalog(db, space), hashlib.sha256(DATA).hexdigest())
    inner.clear()
    with pytest.raises(BackendError, match="were lost"):
        await store.read("one", "a")
    assert not inner.calls
    await store.copy("one", "a", "one", "b")
    await store.put("two", "c", DATA)
    assert [await store.read(bucket, key) for bucket, key in (("one", "a"), ("one", "b"), ("two", "c"))] == [DATA] * 3


async def test_a_put_that_is_cancelled_while_it_commits_keeps_the_bytes_that_others_have_again(
    store: Trove, db: Database, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("one", "a", DATA)
    await lose(ResourceCatalog(db, space), hashlib.sha256(DATA).hexdigest())
    write = Storing._change_each

    def cancelling(self: Storing, connection: Connection, items: Sequence[Any]) -> Any:
        outcomes = write(self, connection, items)
        loop.call_soon_threadsafe(putting.cancel)
        return outcomes

    monkeypatch.setattr(Storing, "_change_each", cancelling)
    loop = asyncio.get_running_loop()
    putting = asyncio.create_task(store.put("one", "b", DATA))
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert [await store.read("one", key) for key in ("a", "b")] == [DATA] * 2


async def test_a_commit_that_happens_after_an_ambiguous_error_has_its_bytes(
    store: Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("one", "a", b"old")
    write = Database.write
    late: list[Callable[[], Awaitable[object]]] = []

    async def lose(database: Database, unit: Any) -> Any:
        late.append(lambda: write(database, unit))
        raise UnavailableError("the answer was lost", ambiguous=True)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", lose)
        with pytest.raises(UnavailableError, match="the answer was lost"):
            await store.put("one", "a", DATA)
    await late[-1]()
    assert await store.read("one", "a") == DATA


async def test_a_commit_that_outlives_the_cancellation_of_its_put_has_its_bytes(
    sqlite_url: str, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_each = Storing._change_each
    begun, commit = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(self: Storing, connection: Connection, items: Sequence[Any]) -> Any:
        outcomes = change_each(self, connection, items)
        loop.call_soon_threadsafe(begun.set)
        commit.wait(60)
        return outcomes

    async def impatient(work: Any, *, timeout: float, **options: Any) -> Any:
        return await to_the_end(work, timeout=0, **options)

    dedup = Dedup(sqlite_url, bucket="blobs", space=space)
    async with trove_async.open("memory://", layers=[dedup]) as store:
        await store.create_bucket("one")
        with monkeypatch.context() as patch:
            patch.setattr(Storing, "_change_each", slow)
            patch.setattr(storing, "to_the_end", impatient)
            putting = asyncio.create_task(store.put("one", "a", DATA))
            await begun.wait()
            putting.cancel()
            try:
                with pytest.warns(CleanupWarning), pytest.raises(asyncio.CancelledError):
                    await putting
            finally:
                commit.set()
        await store.put("one", "next", b"waits for the transaction")
        assert await store.read("one", "a") == DATA


@pytest.mark.parametrize("odd", ["\0", "\ud800", "", "x" * 10_000])
async def test_ids_that_no_database_can_have_are_not_found(store: Trove, odd: str) -> None:
    bucket = store.bucket("one")
    await bucket.put("k", DATA)
    for upload in (bucket.list_parts("k", odd), bucket.upload_part("k", odd, 1, DATA)):
        with pytest.raises(UploadNotFoundError):
            await upload
    await bucket.abort_multipart("k", odd)
    with pytest.raises(VersionNotFoundError):
        await bucket.get("k", version_id=odd)
    await bucket.delete("k", version_id=odd)
    with pytest.raises(PreconditionFailedError):
        await bucket.delete("k", version_id=odd, if_match="etag")
    assert await bucket.read("k") == DATA


@pytest.mark.parametrize("odd", ["\0", "\ud800"])
async def test_cursors_that_no_database_can_have_are_refused(store: Trove, odd: str) -> None:
    driver = trove_async.unwrap(store.driver, DedupDriver)
    for cursor in (f"k{odd}", f"p{odd}"):
        with pytest.raises(InvalidCursorError):
            await driver.list_page("one", ListOptions(cursor=cursor))
    mark = VersionMark(odd, "null", None).encode()
    with pytest.raises(InvalidCursorError):
        await driver.list_versions_page("one", VersionListOptions(cursor=mark))


async def test_a_deleted_bucket_releases_its_uploads(store: Trove, db: Database, space: str) -> None:
    await store.create_bucket("three")
    upload = await store.initiate_multipart("three", "a")
    await store.upload_part("three", "a", upload, 1, DATA)
    await store.delete_bucket("three")
    assert await states(db, space) == {State.CONDEMNED: 1}


async def test_a_bucket_with_more_parts_than_a_statement_has_parameters(store: Trove, db: Database, space: str) -> None:
    await store.create_bucket("three")
    upload = await store.initiate_multipart("three", "a")
    await store.upload_part("three", "a", upload, 1, DATA)
    parts = [{"upload": upload, "number": number, "id": f"{upload}{number}", "size": 0} for number in range(2, 33_000)]
    await db.write(lambda connection: connection.execute(insert(PARTS), parts).close())
    await store.delete_bucket("three")
    assert await states(db, space) == {State.CONDEMNED: 1}


async def test_spaces_and_namespaces_keep_stores_apart(url: str, space: str) -> None:
    async with (
        trove_async.open(f"memory://{space}", layers=[Dedup(url, space=f"{space}1", namespace="1")]) as first,
        trove_async.open(f"memory://{space}", layers=[Dedup(url, space=f"{space}2", namespace="2")]) as second,
        trove_async.open(f"memory://{space}") as plain,
    ):
        for store in (first, second):
            await store.create_bucket("one")
            await store.put("one", "a", DATA)
        found = [info.key.split("/")[0] async for info in plain.list("trove-dedup")]
        assert sorted(found) == ["1", "2"]


async def test_one_database_serves_several_stores(store: Trove, url: str, space: str, db: Database) -> None:
    async with trove_async.open("memory://", layers=[Dedup(db, space=f"{space}x")]) as other:
        assert await other.list_buckets() == []
    await db.now()  # it stays open


@pytest.mark.parametrize(
    "wrong",
    [
        {"database": 7},
        {"algorithm": "md5"},
        {"algorithm": "crc32c"},
        {"bucket": "a/b"},
        {"bucket": ""},
        {"space": ""},
        {"namespace": "a\0b"},
        {"database": "mysql://host/db"},
    ],
)
async def test_malformed_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Dedup(**{"database": "sqlite:///a.db", **wrong})


async def test_it_is_not_put_around_itself(tmp_path: Path) -> None:
    layers = [Dedup(f"sqlite:///{tmp_path}/a.db"), Dedup(f"sqlite:///{tmp_path}/b.db")]
    with pytest.raises(InvalidArgumentError, match="Dedup must not be around Dedup"):
        await trove_async.open("memory://", layers=layers)


class Named(LayerDriver):
    """Has a bucket, as a DSN such as ``s3://region/assets`` gives it."""

    @property
    def default_bucket(self) -> str:  # type: ignore[override]
        return "assets"


async def test_the_bucket_of_the_dsn_has_the_blobs_and_is_the_default(url: str, space: str) -> None:
    async with trove_async.open("memory://", layers=[Counting, Named, Dedup(url, space=space)]) as store:
        await store.bucket().put("a", DATA)
        assert [bucket.name for bucket in await store.list_buckets()] == ["assets"]
        assert [info.key for info in await store.list("assets").all()] == ["a"]
        inner = trove_async.unwrap(store.driver, Counting)
        page = await inner.list_page("assets", ListOptions())
        assert [info.size for info in page.objects] == [len(DATA)]


async def test_the_bucket_of_the_blobs_may_be_one_that_others_have_created(url: str, space: str) -> None:
    class Denying(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            if operation.name == "create_bucket":
                raise AccessDeniedError
            return await call()

    async with trove_async.open(f"memory://{space}") as plain:
        with pytest.raises(AccessDeniedError):
            await trove_async.open(f"memory://{space}", layers=[Denying, Dedup(url, bucket="blobs", space=space)])
        await plain.create_bucket("blobs")
        async with trove_async.open(
            f"memory://{space}", layers=[Denying, Dedup(url, bucket="blobs", space=space)]
        ) as t:
            await t.create_bucket("one")
            await t.put("one", "a", DATA)
            assert await t.read("one", "a") == DATA


async def test_errors_of_the_inner_store_name_the_object(url: str, space: str) -> None:
    class Broken(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            if operation.name == "put":
                raise UnavailableError("the store is down", bucket=operation.bucket, key=operation.key)
            return await call()

    async with trove_async.open("memory://", layers=[Broken, Dedup(url, space=space)]) as store:
        await store.create_bucket("one")
        with pytest.raises(UnavailableError) as caught:
            await store.put("one", "a", DATA)
        assert (caught.value.bucket, caught.value.key) == ("one", "a")
        assert await store.list("one").all() == []


async def test_ranges_of_a_blob_are_in_order_and_an_error_is_no_group(store: Trove, inner: Counting) -> None:
    storage = InnerStorage(inner, "blobs", "there")
    await storage.put("path", DATA)
    assert await storage.read_ranges("path", [(20, 3), (0, 0), (5, 2)]) == [DATA[20:23], b"", DATA[5:7]]
    with pytest.raises(ObjectNotFoundError):
        await storage.read_ranges("missing", [(0, 1), (5, 1)])


async def test_uploads_of_a_key_are_in_the_order_in_which_they_began(store: Trove) -> None:
    """Also if they begin at the same time, of a clock as coarse as that of SQLite."""
    begun = [await store.initiate_multipart("one", "key") for _ in range(20)]
    found = await store.list_multipart_uploads("one")
    assert [one.upload_id for one in found] == begun
    assert len({one.initiated_at for one in found}) == 20
