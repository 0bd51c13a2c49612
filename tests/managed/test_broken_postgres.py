"""A server of PostgreSQL that stops, dies, is full or has no connection left: a clear error, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import asyncpg
import pytest
import pytest_asyncio

from tests.database.conftest import execute, new_database
from tests.database.own_postgres import CONNECTIONS, OwnPostgres
from tests.managed.state import BUCKET, check, stored
from trove_async import Trove, managed
from trove_async.errors import StorageFullError, ThrottledError, TroveError, UnavailableError
from trove_async.managed import ManagedStorage

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    own = OwnPostgres(tmp_path_factory.mktemp("postgres"))
    own.start()
    try:
        yield own
    finally:
        own.remove()


@pytest.fixture
def url(server: OwnPostgres) -> Iterator[str]:
    with new_database(server.handle) as url:
        yield url


@pytest_asyncio.fixture
async def m(store: Trove, url: str) -> AsyncIterator[ManagedStorage]:
    async with managed.open(store, database=url, bucket=BUCKET) as opened:
        await opened.put_for_bucket("b", "before", b"data")
        yield opened


async def fails(m: ManagedStorage, error: type[TroveError]) -> None:
    before = await stored(m)
    for call in (
        m.put_for_bucket("b", "new", b"new"),
        m.put_for_bucket("b", "known", b"data"),
        m.remove_for_bucket("b", "before"),
        m.get_for_bucket("b", "before"),
        managed.statistics(m.catalogue),
    ):
        with pytest.raises(error):
            await call
    assert await stored(m) == before


async def works(m: ManagedStorage, *names: str) -> None:
    """Check that there are these names and no others, that nothing is damaged, and that one can put and remove."""
    found = [info.resource.path async for info in m.list_for_bucket("b")]
    assert found == sorted(["before", *names])
    for name in names:
        assert await (await m.get_for_bucket("b", name)).read() == name.encode()
    storage = m.storage
    assert isinstance(storage, managed.StoreResourceStorage)
    assert (await managed.fsck(m.catalogue, storage, depth="bytes")).clean
    await m.put_for_bucket("b", "after", b"after")
    await m.remove_for_bucket("b", "after")


async def test_a_server_that_was_stopped(server: OwnPostgres, m: ManagedStorage, store: Trove, url: str) -> None:
    server.stop()
    try:
        await fails(m, UnavailableError)
        with pytest.raises(UnavailableError):
            await managed.open(store, database=url, bucket=BUCKET)
    finally:
        server.start()
    await works(m)
    await check(m)


async def test_a_server_that_is_killed_while_it_works(server: OwnPostgres, m: ManagedStorage) -> None:
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def put(task: int) -> None:
        number = 0
        while True:
            name = f"{task}/{number}"
            await m.put_for_bucket("b", name, name.encode())
            acknowledged.append(name)
            number += 1
            if len(acknowledged) >= 50:
                enough.set()

    tasks = [asyncio.create_task(put(task)) for task in range(8)]
    await enough.wait()
    server.kill()
    try:
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        server.start()
    assert {type(error) for error in errors} == {UnavailableError}
    found = {info.resource.path async for info in m.list_for_bucket("b")}
    assert found >= {*acknowledged, "before"}
    assert len(found) <= len(acknowledged) + 1 + len(tasks)  # what was not acknowledged may have been committed
    await works(m, *(found - {"before"}))
    await check(m, strays=None)


async def test_no_connection_is_left(server: OwnPostgres, m: ManagedStorage, store: Trove, url: str) -> None:
    async with AsyncExitStack() as stack:
        with suppress(asyncpg.TooManyConnectionsError):
            for _ in range(CONNECTIONS + 1):
                connection = await asyncpg.connect(url)
                stack.push_async_callback(connection.close)
        with pytest.raises(ThrottledError, match="has too many connections"):
            await managed.open(store, database=url, bucket=BUCKET)
        looks = await asyncio.gather(*(m.stat_for_bucket("b", "before") for _ in range(10)), return_exceptions=True)
        assert {type(one) for one in looks} == {managed.ManagedInfo, ThrottledError}  # there is one connection
        names = [str(number) for number in range(10)]
        await asyncio.gather(*(m.put_for_bucket("b", name, name.encode()) for name in names))  # in one transaction
        await check(m)
    await works(m, *names)


async def test_a_disk_that_is_full(server: OwnPostgres, store: Trove) -> None:
    with small_tablespace(server) as (options, fill, free), new_database(server.handle, options) as url:
        async with managed.open(store, database=url, bucket=BUCKET) as m:
            await m.put_for_bucket("b", "before", b"data")
            execute(url, fill)
            names: list[str] = []

            async def put_many() -> None:
                for number in range(1000):
                    await m.put_for_bucket("b", str(number), b"%d" % number, metadata={"a": "b" * 1000})
                    names.append(str(number))

            with pytest.raises(StorageFullError, match="the disk of the database is full"):
                await put_many()
            assert await (await m.get_for_bucket("b", "before")).read() == b"data"
            await check(m)
            execute(url, free)
            await works(m, *names)
            await check(m)


@contextmanager
def small_tablespace(server: OwnPostgres) -> Iterator[tuple[str, str, str]]:
    """Yield options for a database, and the statements that fill its disk and free it.

    Where no small disk can be mounted, a trigger answers as the server does when its disk is full.
    """
    if server.disk is None:
        refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END'"
        trigger = "CREATE TRIGGER filler BEFORE INSERT ON trove_managed_links EXECUTE FUNCTION refuse()"
        yield "", f"{refuse}; {trigger}", "DROP FUNCTION refuse CASCADE"
        return
    execute(server.handle.url, f"CREATE TABLESPACE small LOCATION '{server.disk}'")
    try:
        insert = "INSERT INTO filler SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 200)"
        fill = f"DO $$BEGIN LOOP BEGIN {insert}; EXCEPTION WHEN disk_full THEN EXIT; END; END LOOP; END$$"
        yield "TABLESPACE small", f"CREATE TABLE filler (text text); {fill}", "DROP TABLE filler"
    finally:
        execute(server.handle.url, "DROP TABLESPACE small")
