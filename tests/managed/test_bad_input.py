"""Names, hashes and lengths that are none, and databases that cannot be used: a clear error, and nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import trove_async
from tests.database.conftest import execute, new_database
from tests.managed.state import BUCKET, check, rows, sha384, stored
from tests.servers import Postgres
from trove_async import Trove, managed
from trove_async.database import Database
from trove_async.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidMetadataError,
    NotFoundError,
    SchemaVersionError,
    StorageFullError,
    TroveError,
    UnavailableError,
)
from trove_async.managed import ManagedStorage
from trove_async.testing.faults import Fault, Faults

pytestmark = pytest.mark.asyncio

BAD_OWNERS: list[Any] = ["", "a/b", "/", "..//", "a\0b", "\ud800", "é" * 128, None, 5, b"bytes"]
BAD_PATHS: list[Any] = ["", "a\0b", "\ud800", "x" * 1025, None, 5, b"bytes"]
ODD_OWNERS = ["..", ".", ".trove", "a\\b", " ", "\n", "é" * 127, "%2F"]

Call = Callable[[ManagedStorage, Any, Any], Awaitable[object]]


async def listed(m: ManagedStorage, owner: Any) -> list[object]:
    return [info async for info in m.list_for_bucket(owner)]


CALLS: dict[str, Call] = {
    "get": lambda m, owner, path: _got(m.get_for_bucket(owner, path)),
    "put": lambda m, owner, path: m.put_for_bucket(owner, path, b"data"),
    "put_and_check_hash": lambda m, owner, path: m.put_for_bucket_and_check_hash(owner, path, b"", 0, sha384(b"")),
    "remove": lambda m, owner, path: m.remove_for_bucket(owner, path),
    "stat": lambda m, owner, path: m.stat_for_bucket(owner, path),
    "put_request": lambda m, owner, path: m.put_for_bucket_request(owner, path, sha384(b"x")),
}


async def _got(opening: Awaitable[object]) -> None:
    await opening


@pytest.mark.parametrize("owner", BAD_OWNERS)
@pytest.mark.parametrize("call", CALLS)
async def test_buckets_that_are_none(on_sqlite: ManagedStorage, call: str, owner: Any) -> None:
    with pytest.raises(InvalidBucketNameError):
        await CALLS[call](on_sqlite, owner, "p")
    assert await stored(on_sqlite) == {}


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("call", CALLS)
async def test_paths_that_are_none(on_sqlite: ManagedStorage, call: str, path: Any) -> None:
    with pytest.raises(InvalidKeyError):
        await CALLS[call](on_sqlite, "b", path)
    assert await stored(on_sqlite) == {}


@pytest.mark.parametrize("owner", BAD_OWNERS)
async def test_users_that_are_none(on_sqlite: ManagedStorage, owner: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="user"):
        await on_sqlite.put_for_user(owner, "p", b"")
    with pytest.raises(InvalidArgumentError, match="user"):
        on_sqlite.list_for_user(owner)


async def test_owners_that_look_odd(m: ManagedStorage) -> None:
    for owner in ODD_OWNERS:
        await m.put_for_bucket(owner, "p", owner.encode())
        await m.put_for_user(owner, "p", owner.encode())
    for owner in ODD_OWNERS:
        assert await (await m.get_for_bucket(owner, "p")).read() == owner.encode()
        assert len(await listed(m, owner)) == 1
    await check(m)


async def test_listings_that_are_none(on_sqlite: ManagedStorage) -> None:
    bad: list[dict[str, Any]] = [
        *({"prefix": "\0"}, {"prefix": None}, {"start_after": "\ud800"}),
        *({"page_size": 0}, {"page_size": 1001}, {"page_size": "1"}),
    ]
    for arguments in bad:
        with pytest.raises(InvalidArgumentError):
            on_sqlite.list_for_bucket("b", **arguments)


@pytest.mark.parametrize("digest", ["abc", "x" * 96, None, b"0" * 96, 5])
async def test_hashes_that_are_none(on_sqlite: ManagedStorage, digest: Any) -> None:
    if digest is not None:
        with pytest.raises(InvalidArgumentError, match="sha384"):
            await on_sqlite.put_for_bucket_and_check_hash("b", "p", b"", 0, digest)
    with pytest.raises(InvalidArgumentError, match="sha384"):
        await on_sqlite.put_for_bucket_request("b", "p", digest)


@pytest.mark.parametrize("length", [1.5, True, "4", b"4"])
async def test_lengths_that_are_none(on_sqlite: ManagedStorage, length: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="length"):
        await on_sqlite.put_for_bucket("b", "p", b"data", length)
    assert await stored(on_sqlite) == {}


async def test_descriptions_that_are_none(on_sqlite: ManagedStorage) -> None:
    bad: list[dict[str, Any]] = [
        {"content_type": "none"},
        {"content_type": 5},
        {"metadata": {"a b": "c"}},
        {"metadata": 5},
    ]
    for arguments in bad:
        with pytest.raises(InvalidMetadataError):
            await on_sqlite.put_for_bucket("b", "p", b"data", **arguments)
        with pytest.raises(InvalidMetadataError):
            await on_sqlite.put_for_bucket_request("b", "p", sha384(b""), **arguments)
    assert await stored(on_sqlite) == {}


@pytest.mark.parametrize("space", ["", "\0", None])
async def test_spaces_that_are_none(store: Trove, sqlite_url: str, space: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="space"):
        await managed.open(store, database=sqlite_url, bucket=BUCKET, space=space)


async def test_a_namespace_that_is_none(store: Trove, sqlite_url: str) -> None:
    with pytest.raises(InvalidKeyError):
        await managed.open(store, database=sqlite_url, bucket=BUCKET, namespace="\0")


async def test_a_database_that_is_none(store: Trove, tmp_path: Path) -> None:
    with pytest.raises(InvalidDSNError):
        await managed.open(store, database="nothing", bucket=BUCKET)
    with pytest.raises(NotFoundError):
        await managed.open(store, database=f"sqlite:///{tmp_path}/no/folder/x.db", bucket=BUCKET)


@pytest.mark.parametrize("database", [None, 5, b"sqlite:///x.db", object()])
async def test_a_database_of_another_type(store: Trove, database: Any) -> None:
    for opening in (
        managed.open(store, database=database, bucket=BUCKET),
        managed.cas(store, BUCKET, database=database),
    ):
        with pytest.raises(InvalidArgumentError, match="the database is a URL or a Database, not"):
            await opening


NO_HASHES: list[Any] = [5, b"0" * 96, "", "0" * 95, "0" * 97, " " + "0" * 95, "0" * 95 + "\n", "\ud800" * 96, "٠" * 96]


@pytest.mark.parametrize("digest", NO_HASHES)
async def test_digests_that_are_none(on_sqlite: ManagedStorage, sqlite_url: str, digest: Any) -> None:
    catalogue, storage = on_sqlite.catalogue, on_sqlite.storage
    assert isinstance(storage, managed.StoreResourceStorage)
    async with managed.cas(storage.store, BUCKET, database=sqlite_url, algorithm="sha384") as c:
        calls: list[Callable[[], Any]] = [
            lambda: c.store(b"x", digest=digest),
            lambda: c.retrieve(digest),
            lambda: c.exists(digest),
            lambda: c.release(digest),
            lambda: c.pin(digest),
            lambda: c.unpin(digest),
            lambda: catalogue.find(digest),
            lambda: catalogue.put(digest, 1),
            lambda: on_sqlite.put_for_all_request("p", digest),
        ]
        for call in calls:
            with pytest.raises(InvalidArgumentError, match=r"a (digest|sha384 checksum) is"):
                await call()
    assert await stored(on_sqlite) == {}
    assert (await rows(on_sqlite)).blobs == []


@pytest.mark.parametrize("length", [True, 1.5, float("nan"), "1", b"1"])
async def test_lengths_of_content_that_are_none(on_sqlite: ManagedStorage, sqlite_url: str, length: Any) -> None:
    storage = on_sqlite.storage
    assert isinstance(storage, managed.StoreResourceStorage)
    async with managed.cas(storage.store, BUCKET, database=sqlite_url) as c:
        for call in (c.store(b"x", length=length), on_sqlite.catalogue.put(sha384(b"x"), length)):
            with pytest.raises(InvalidArgumentError, match="a length is a whole number"):
                await call
    assert await stored(on_sqlite) == {}


async def test_a_store_that_is_none(sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await managed.open(f"local://{tmp_path}/nothing", database=sqlite_url, bucket=BUCKET)
    with pytest.raises(InvalidBucketNameError, match="no bucket"):
        await managed.open("memory://", database=sqlite_url)


async def test_a_bucket_that_does_not_exist(store: Trove, sqlite_url: str) -> None:
    for opening in (
        managed.open(store, database=sqlite_url, bucket="nothing"),
        managed.cas(store, "nothing", database=sqlite_url),
    ):
        with pytest.raises(BucketNotFoundError) as caught:
            await opening
        assert caught.value.bucket == "nothing"


async def test_credentials_that_may_not_look_for_the_bucket(sqlite_url: str) -> None:
    faults = Faults([Fault("get", error=AccessDeniedError())])
    async with trove_async.open("memory://", layers=[faults]) as store:
        await store.create_bucket(BUCKET)
        async with managed.open(store, database=sqlite_url, bucket=BUCKET) as m:
            await m.put_for_bucket("b", "p", b"data")
        assert len(faults.injected) == 1


async def collected(m: ManagedStorage) -> managed.CollectionReport:
    storage = m.storage
    assert isinstance(storage, managed.StoreResourceStorage)
    return await managed.collect(m.catalogue, storage, grace=0, dry_run=False, force=True)


def incompressible(size: int) -> str:
    """Return text that an index of PostgreSQL does not compress."""
    return secrets.token_hex(size)[:size]


async def test_the_longest_names_fit_into_the_indexes(store: Trove, db: Database) -> None:
    space, caller, bucket, path = (incompressible(size) for size in (1024, 1024, 255, 1024))
    async with managed.open(store, database=db, bucket=BUCKET, space=space) as m:
        await m.put_for_bucket(bucket, path, b"data")
        request = await m.put_for_bucket_request(bucket, f"{path[1:]}2", sha384(b"data"), caller=caller)
        await m.proof_of_access_response(await managed.new_put_response(request, b"data"), caller=caller)
        assert (await collected(m)).deleted == 0
        assert len(await listed(m, bucket)) == 2


async def test_names_that_no_index_can_have(m: ManagedStorage, store: Trove, db: Database) -> None:
    await m.put_for_bucket("b", "p", b"data")
    with pytest.raises(InvalidArgumentError, match="a caller has at most 1024 bytes"):
        await m.put_for_bucket_request("b", "q", sha384(b"data"), caller="é" * 513)
    with pytest.raises(InvalidArgumentError, match="a space has at most 1024 bytes"):
        await managed.open(store, database=db, bucket=BUCKET, space="x" * 1025)
    with pytest.raises(InvalidArgumentError, match="a space has at most 1024 bytes"):
        managed.Dedup(db, space="x" * 1025)


async def test_lengths_whose_sum_is_too_large_for_a_database(m: ManagedStorage) -> None:
    largest = 2**63 - 1
    for n in range(3):
        id, _ = await m.catalogue.put(sha384(b"%d" % n), largest)
        await m.catalogue.upload_complete(id, f"elsewhere/{n}")
        await m.catalogue.put(sha384(b"%d" % n), largest)
    found = await managed.statistics(m.catalogue)
    assert (found.bytes, found.logical_bytes) == (3 * 2**63, 6 * 2**63)
    for n in range(3):
        id = await m.catalogue.find(sha384(b"%d" % n))
        assert [await m.catalogue.remove(id) for _ in range(2)] == [(False, f"elsewhere/{n}"), (True, f"elsewhere/{n}")]
    assert (await managed.statistics(m.catalogue)).condemned_bytes == 3 * 2**63
    report = await collected(m)
    assert (report.deleted, report.bytes) == (3, 3 * largest)


async def test_a_newer_schema(store: Trove, sqlite_url: str, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "managed.db")) as connection:
        connection.execute("UPDATE trove_managed_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(SchemaVersionError):
        await managed.open(store, database=sqlite_url, bucket=BUCKET)


async def test_a_database_that_is_down(store: Trove) -> None:
    with pytest.raises(UnavailableError):
        await managed.open(store, database="postgresql://u@127.0.0.1:1/x", bucket=BUCKET)


async def fail(m: ManagedStorage, error: type[TroveError]) -> None:
    """Check that nothing changes while the database cannot be written."""
    before = await stored(m)
    for call in (
        m.put_for_bucket("b", "p", b"new"),
        m.put_for_bucket("b", "q", b"data"),
        m.remove_for_bucket("b", "p"),
        m.put_for_bucket_request("b", "q", sha384(b"data")),
        m.catalogue.put(sha384(b"x"), 1),
    ):
        with pytest.raises(error):
            await call
    assert await (await m.get_for_bucket("b", "p")).read() == b"data"
    assert await stored(m) == before
    await check(m)


async def test_a_database_that_is_full(on_sqlite: ManagedStorage) -> None:
    m = on_sqlite
    await m.put_for_bucket("b", "p", b"data")

    def unit(connection: Connection) -> None:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))

    await m.catalogue.database.write(unit)
    count = 0
    with suppress(StorageFullError):
        while count < 1000:
            await m.put_for_bucket("b", f"{count}", b"%d" % count, metadata={"a": "b" * 500})
            count += 1
    assert count < 1000
    assert await (await m.get_for_bucket("b", "p")).read() == b"data"
    assert len(await listed(m, "b")) == count + 1
    await check(m)


@pytest.mark.parametrize("error", [UnavailableError, AccessDeniedError, StorageFullError])
async def test_a_database_that_cannot_be_written(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch, error: type[TroveError]
) -> None:
    await m.put_for_bucket("b", "p", b"data")

    async def refuse(unit: object) -> None:
        raise error("the database cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(m.catalogue.database, "write", refuse)
        await fail(m, error)


async def test_a_commit_whose_outcome_is_unknown_deletes_no_bytes(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await m.catalogue.folder()
    write = m.catalogue.database.write

    async def lose(unit: Any) -> None:
        await write(unit)
        raise UnavailableError("the answer was lost", ambiguous=True)

    with monkeypatch.context() as patch:
        patch.setattr(m.catalogue.database, "write", lose)
        with pytest.raises(UnavailableError) as caught:
            await m.put_for_bucket("b", "p", b"data")
    assert caught.value.ambiguous
    assert await (await m.get_for_bucket("b", "p")).read() == b"data"
    await check(m)


async def test_one_bad_put_does_not_fail_those_that_share_its_transaction(
    m: ManagedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await m.catalogue.folder()
    write = m.catalogue.database.write
    failures = iter([True])

    async def once(unit: Any) -> Any:
        if next(failures, False):
            raise InvalidArgumentError("one of them is bad")
        return await write(unit)

    monkeypatch.setattr(m.catalogue.database, "write", once)
    await asyncio.gather(*(m.put_for_bucket("b", str(n), b"%d" % n) for n in range(10)))
    await check(m)
    assert len((await rows(m)).links) == 10


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails(sqlite_url: str, when: Any) -> None:
    faults = Faults([])
    async with trove_async.open("memory://", layers=[faults]) as store:
        await store.create_bucket(BUCKET)
        async with managed.open(store, database=sqlite_url, bucket=BUCKET) as m:
            await m.put_for_bucket("b", "p", b"data")
            faults.add(Fault("put", error=UnavailableError(), when=when))
            with pytest.raises(UnavailableError):
                await m.put_for_bucket("b", "p", b"new")
            await check(m)  # the bytes of a put whose answer was lost are deleted
            faults.add(Fault("head", error=UnavailableError(), times=None))
            faults.add(Fault("delete", error=UnavailableError(), times=None))
            with pytest.raises(UnavailableError):  # whether the bytes are there is not known
                await m.put_for_bucket("b", "q", b"data")
            assert len(await listed(m, "b")) == 1
            await check(m, strays=1)


async def test_a_role_that_may_not_do_what_is_asked(store: Trove, postgres: Postgres) -> None:
    role = f"trove_{secrets.token_hex(8)}"
    with new_database(postgres) as url:
        as_role = url.replace(f"{postgres.user}:{postgres.password}@", f"{role}:secret@")
        async with managed.open(store, database=url, bucket=BUCKET) as m:
            await m.put_for_bucket("b", "p", b"data")
            execute(url, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
            try:
                with pytest.raises(AccessDeniedError, match="not allowed"):  # nor to see the tables
                    await managed.open(store, database=as_role, bucket=BUCKET)
                execute(url, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
                async with managed.open(store, database=as_role, bucket=BUCKET) as reader:
                    await fail(reader, AccessDeniedError)
                execute(url, f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
                async with managed.open(store, database=as_role, bucket=BUCKET) as writer:
                    await writer.put_for_bucket("b", "q", b"data")
            finally:
                execute(url, f"DROP OWNED BY {role}; DROP ROLE {role}")
            await check(m)
