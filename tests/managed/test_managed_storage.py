"""`ManagedStorage`: content under names of buckets, of users, and of all."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import trove_async
from tests.managed.state import BUCKET, check, live, rows, sha384, stored
from trove_async import Trove, managed
from trove_async.errors import (
    BodySizeError,
    BodyTypeError,
    ChecksumError,
    NotFoundError,
    ObjectNotFoundError,
    RangeNotSatisfiableError,
    ResourceDeletedError,
    UnavailableError,
)
from trove_async.managed import ManagedInfo, ManagedResource, ManagedStorage
from trove_async.managed.schema import State

pytestmark = pytest.mark.asyncio

OWNERS = ["bucket", "user", "all"]


class Verbs:
    """The methods for one kind of owner, called alike."""

    def __init__(self, m: ManagedStorage, owner: str) -> None:
        self._m = m
        self._owner = owner
        self._first = () if owner == "all" else (f"a {owner}",)
        self.resource = ManagedResource(
            *{"bucket": ("a bucket", ""), "user": ("", "a user"), "all": ("", "")}[owner], "p"
        )

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._m, name.replace("OWNER", self._owner))
        return lambda *args, **kwargs: method(*self._first, *args, **kwargs)


@pytest.fixture(params=OWNERS)
def verbs(m: ManagedStorage, request: pytest.FixtureRequest) -> Verbs:
    return Verbs(m, request.param)


async def read(m: ManagedStorage, path: str, bucket: str = "b", **kwargs: Any) -> bytes:
    async with m.get_for_bucket(bucket, path, **kwargs) as reader:
        return await reader.read()


async def test_every_verb_for_every_owner(verbs: Verbs, m: ManagedStorage) -> None:
    info = await verbs.put_for_OWNER("p", b"data", 4, content_type="text/css", metadata={"A": "ü"})
    assert info == ManagedInfo(verbs.resource, 4, sha384(b"data"), "text/css", {"a": "ü"})
    async with verbs.get_for_OWNER("p") as reader:
        assert await reader.read() == b"data"
    assert (reader.info.key, reader.info.size, reader.info.etag) == ("p", 4, sha384(b"data"))
    assert (reader.info.content_type, reader.info.metadata) == ("text/css", {"a": "ü"})
    found = await verbs.stat_for_OWNER("p")
    assert (found.resource, found.length, found.metadata) == (verbs.resource, 4, {"a": "ü"})
    assert found.created_at == reader.info.last_modified
    assert [one async for one in verbs.list_for_OWNER()] == [found]
    await verbs.put_for_OWNER_and_check_hash("q", b"data", 4, sha384(b"data"))
    request = await verbs.put_for_OWNER_request("r", sha384(b"data"))
    await m.proof_of_access_response(await managed.new_put_response(request, b"data"))
    assert [one.resource.path async for one in verbs.list_for_OWNER()] == ["p", "q", "r"]
    assert [blob.refs for blob in await live(m)] == [3]
    for path in "pqr":
        await verbs.remove_for_OWNER(path)
        with pytest.raises(ObjectNotFoundError):
            await verbs.get_for_OWNER(path)
    await check(m)


async def test_owners_are_separate(m: ManagedStorage) -> None:
    await m.put_for_bucket("x", "p", b"bucket")
    await m.put_for_user("x", "p", b"user")
    await m.put_for_all("p", b"all")
    await m.put_for_bucket("y", "p", b"other")
    assert await (await m.get_for_bucket("x", "p")).read() == b"bucket"
    assert await (await m.get_for_user("x", "p")).read() == b"user"
    assert await (await m.get_for_all("p")).read() == b"all"
    await m.remove_for_user("x", "p")
    assert [one.resource async for one in m.list_for_bucket("x")] == [ManagedResource("x", "", "p")]
    assert [one async for one in m.list_for_user("x")] == []


async def test_the_same_path_gets_other_content(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", b"one", metadata={"a": "1"})
    await m.put_for_bucket("b", "p", b"two!")
    assert await read(m, "p") == b"two!"
    assert (await m.stat_for_bucket("b", "p")).metadata == {}
    assert [blob.digest for blob in await live(m)] == [sha384(b"two!")]
    await check(m)  # what the path had before is condemned


async def test_the_same_path_gets_the_same_content(m: ManagedStorage) -> None:
    for _ in range(3):
        await m.put_for_bucket("b", "p", b"same")
    assert [(blob.refs, blob.state) for blob in (await rows(m)).blobs] == [(1, State.STORED)]
    assert len(await stored(m)) == 1
    await check(m)


async def test_several_paths_share_their_content(m: ManagedStorage) -> None:
    for path in "abc":
        await m.put_for_bucket("b", path, b"shared")
    assert len(await stored(m)) == 1
    await m.remove_for_bucket("b", "a")
    await m.remove_for_bucket("b", "b")
    assert await read(m, "c") == b"shared"
    assert [blob.refs for blob in await live(m)] == [1]
    await m.remove_for_bucket("b", "c")
    assert await live(m) == []
    assert len(await stored(m)) == 1  # the sweep deletes it
    await check(m)


async def test_condemned_content_is_stored_once_more(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", b"data")
    await m.remove_for_bucket("b", "p")
    await m.put_for_bucket("b", "p", b"data")
    condemned, fresh = sorted((await rows(m)).blobs, key=lambda blob: bool(blob.state == State.STORED))
    assert (condemned.state, fresh.state) == (State.CONDEMNED, State.STORED)
    assert condemned.key != fresh.key
    await check(m)


async def test_a_put_completes_pending_content(m: ManagedStorage) -> None:
    id, _ = await m.catalogue.put(sha384(b"data"), 4)
    await m.put_for_bucket("b", "p", b"data")
    assert (await m.catalogue.get(id)).path in await stored(m)
    assert [(blob.refs, blob.held) for blob in await live(m)] == [(2, 1)]
    await check(m)


@pytest.mark.parametrize("length", [0, 3, 5, 2**40])
@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_wrong_length_stores_nothing(m: ManagedStorage, length: int, as_stream: bool) -> None:
    data = io.BytesIO(b"data") if as_stream else b"data"
    await m.put_for_bucket("b", "p", b"old")
    with pytest.raises(BodySizeError) as caught:
        await m.put_for_bucket("b", "p", data, length)
    assert (caught.value.operation, caught.value.bucket, caught.value.key) == ("put", "b", "p")
    assert await read(m, "p") == b"old"
    await check(m)


@pytest.mark.parametrize("length", [None, -1])
async def test_an_unknown_length(m: ManagedStorage, length: int | None) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"da"
        yield b"ta"

    assert (await m.put_for_bucket("b", "p", chunks(), length)).length == 4
    assert await read(m, "p") == b"data"


async def test_the_right_hash(m: ManagedStorage) -> None:
    await m.put_for_bucket_and_check_hash("b", "p", b"data", 4, sha384(b"data").upper())
    await m.put_for_bucket_and_check_hash("b", "q", b"data", None, "")
    await check(m)


async def test_the_wrong_hash_stores_nothing(m: ManagedStorage) -> None:
    with pytest.raises(ChecksumError) as caught:
        await m.put_for_bucket_and_check_hash("b", "p", io.BytesIO(b"data"), -1, sha384(b"other"))
    assert caught.value.key == "p"
    assert await stored(m) == {}
    assert (await rows(m)).blobs == []


async def test_a_check_of_the_hash_always_reads_its_source(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "secret", b"data")
    with pytest.raises(ChecksumError):  # knowing the hash is not enough
        await m.put_for_bucket_and_check_hash("b", "mine", b"", 0, sha384(b"data"))
    with pytest.raises(NotFoundError):
        await m.stat_for_bucket("b", "mine")


async def test_a_source_that_fails_stores_nothing(m: ManagedStorage) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError

    await m.put_for_bucket("b", "p", b"old")
    with pytest.raises(ZeroDivisionError):
        await m.put_for_bucket("b", "p", chunks())
    assert await read(m, "p") == b"old"
    await check(m)


async def test_a_put_that_fails_leaves_the_content_of_others_alone(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await m.put_for_bucket("b", "p", b"shared")

    async def refuse(unit: object) -> None:
        raise UnavailableError("the database is down")

    with monkeypatch.context() as patch:
        patch.setattr(m.catalogue.database, "write", refuse)
        with pytest.raises(UnavailableError):
            await m.put_for_bucket("b", "q", b"shared")
    assert await read(m, "p") == b"shared"
    await check(m)


async def test_text_is_no_content(m: ManagedStorage) -> None:
    with pytest.raises(BodyTypeError):
        await m.put_for_bucket("b", "p", "text")  # type: ignore[arg-type]


async def test_large_content_streams(m: ManagedStorage, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "large").write_bytes(data)
    await m.put_for_bucket("b", "p", tmp_path / "large")
    assert await read(m, "p") == data
    await check(m)


async def test_empty_content(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", b"")
    await m.put_for_bucket("b", "q", b"", 0)
    assert await read(m, "p") == b""
    assert [blob.refs for blob in await live(m)] == [2]
    await check(m)


async def test_ranges(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", b"0123456789")
    assert await read(m, "p", range=(2, 3)) == b"234"
    assert await read(m, "p", range=(8, None)) == b"89"
    assert await read(m, "p", range=(-3, None)) == b"789"
    assert await read(m, "p", range=(8, 100)) == b"89"
    assert await read(m, "p", range=(3, 0)) == b""
    with pytest.raises(RangeNotSatisfiableError) as caught:
        await m.get_for_bucket("b", "p", range=(10, 1))
    assert caught.value.key == "p"


async def test_the_content_type_comes_from_the_path(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "a.css", b"")
    await m.put_for_bucket("b", "a", b"", content_type="text/css; charset=utf-8")
    await m.put_for_bucket("b", "a.unknown", b"")
    types = [one.content_type async for one in m.list_for_bucket("b")]
    assert types == ["text/css; charset=utf-8", "text/css", "application/octet-stream"]


@pytest.mark.parametrize("call", ["get", "stat", "remove"])
async def test_nothing_is_there(m: ManagedStorage, call: str) -> None:
    await m.put_for_bucket("b", "p/q", b"")
    method: Callable[[str, str], Awaitable[object]] = getattr(m, f"{call}_for_bucket")
    with pytest.raises(ObjectNotFoundError, match=f"{call} 'b/p': there is nothing at this path"):
        await method("b", "p")


async def test_the_list_is_in_the_order_of_utf8_bytes(m: ManagedStorage) -> None:
    paths = ["a", "a/", "a/b", "a0", "b", "z", "é", "\uffff", "\U0001f600"]
    for path in reversed(paths):
        await m.put_for_bucket("b", path, path.encode())
    for page_size in (1, 2, 1000):
        assert [one.resource.path async for one in m.list_for_bucket("b", page_size=page_size)] == paths
    assert [one.resource.path async for one in m.list_for_bucket("b", "a/")] == ["a/", "a/b"]
    assert [one.resource.path async for one in m.list_for_bucket("b", "a", start_after="a/")] == ["a/b", "a0"]
    assert [one.resource.path async for one in m.list_for_bucket("b", start_after="é")] == ["\uffff", "\U0001f600"]
    assert [one async for one in m.list_for_bucket("c")] == []


async def test_paths_are_opaque_and_stay_in_their_bucket(m: ManagedStorage) -> None:
    paths = ["..", "../c/p", "/", "//", "a//b", "a/./b", "%2F", "buckets/c/p", "x" * 1024, "blobs/ab/cd", "\n", " "]
    await m.put_for_bucket("c", "p", b"untouched")
    for path in paths:
        await m.put_for_bucket("b", path, path.encode())
    assert {one.resource.path async for one in m.list_for_bucket("b")} == {*paths}
    for path in paths:
        assert await read(m, path) == path.encode()
        await m.remove_for_bucket("b", path)
    assert await read(m, "p", "c") == b"untouched"
    assert all(key.startswith("blobs/") for key in await stored(m))
    await check(m)


async def test_a_namespace_is_part_of_each_key(m: ManagedStorage, store: Trove) -> None:
    storage = managed.StoreResourceStorage(store, BUCKET, "mine")
    other = ManagedStorage(m.catalogue, storage)
    await other.put_for_bucket("b", "p", b"data")
    await store.put(BUCKET, "blobs/foreign", b"")
    (path,) = await stored(other)
    assert await store.read(BUCKET, f"mine/{path}") == b"data"


async def test_open_closes_what_it_has_opened(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "root" / "files").mkdir(parents=True)
    dsn = f"local://{tmp_path}/root?fsync=0"
    async with managed.open(dsn, database=sqlite_url, bucket="files") as m:
        await m.put_for_all("p", b"data")
    async with managed.open(dsn, database=sqlite_url, bucket="files") as m:
        assert await (await m.get_for_all("p")).read() == b"data"
    with pytest.raises(trove_async.ClosedError):
        await m.stat_for_all("p")
    await m.aclose()


async def test_open_leaves_open_what_it_was_given(store: Trove, sqlite_url: str) -> None:
    async with trove_async.database.connect(sqlite_url) as db:
        async with managed.open(store, database=db, bucket=BUCKET) as m:
            await m.put_for_all("p", b"data")
        assert await store.exists(BUCKET, next(iter(await stored(m))))
        await db.now()


@pytest.mark.parametrize("left", [None, b"dat"])
async def test_content_whose_bytes_were_lost_is_stored_again(
    m: ManagedStorage, store: Trove, left: bytes | None
) -> None:
    await m.put_for_bucket("b", "p", b"data")
    (key,) = await stored(m)
    await store.delete(BUCKET, key)
    if left is not None:
        await store.put(BUCKET, key, left)
    with pytest.raises(ResourceDeletedError, match="missing or incomplete"):
        await m.get_for_bucket("b", "p")
    await m.put_for_bucket("b", "q", b"data")
    assert await read(m, "p") == b"data"
    assert await read(m, "q") == b"data"
    await check(m, strays=0 if left is None else 1)


async def test_a_read_follows_content_that_moves(m: ManagedStorage) -> None:
    """Between the look at the catalogue and the read, the path gets other content, and the old one is swept."""
    await m.put_for_bucket("b", "p", b"old")
    inner = m.storage

    class Swept:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        async def get(self, path: str, **kwargs: Any) -> Any:
            if not swept:
                swept.append(path)
                await m.put_for_bucket("b", "p", b"new!")
                await inner.remove(path)
            return await inner.get(path, **kwargs)

    swept: list[str] = []
    assert await read(ManagedStorage(m.catalogue, Swept()), "p") == b"new!"


async def test_a_put_and_its_removal_at_the_same_time(m: ManagedStorage) -> None:
    for _ in range(10):
        await m.put_for_bucket("b", "p", b"data")
        await asyncio.gather(
            m.put_for_bucket("b", "q", b"data"), m.remove_for_bucket("b", "p"), m.put_for_bucket("b", "r", b"data")
        )
        await m.remove_for_bucket("b", "q")
        assert await read(m, "r") == b"data"
        await check(m)


async def test_of_many_removals_one_succeeds(m: ManagedStorage) -> None:
    await m.put_for_bucket("b", "p", b"data")
    outcomes = await asyncio.gather(*(m.remove_for_bucket("b", "p") for _ in range(20)), return_exceptions=True)
    assert [outcome for outcome in outcomes if outcome is None] == [None]
    await check(m)


async def test_many_puts_of_the_same_content(m: ManagedStorage, open_managed: Callable[[], ManagedStorage]) -> None:
    """Of two processes."""
    both = [m, open_managed()]
    await asyncio.gather(*(both[n % 2].put_for_bucket("b", str(n), b"same") for n in range(100)))
    assert [blob.refs for blob in (await rows(m)).blobs] == [100]
    assert len(await stored(m)) == 1
    await check(m)


async def test_many_puts_at_the_same_path(m: ManagedStorage, open_managed: Callable[[], ManagedStorage]) -> None:
    both = [m, open_managed()]
    await asyncio.gather(*(both[n % 2].put_for_bucket("b", "p", b"%d" % (n % 7)) for n in range(50)))
    assert await read(m, "p") in [b"%d" % n for n in range(7)]
    assert [blob.refs for blob in await live(m)] == [1]
    await check(m)
