"""A quota around drivers that lack something, around other layers, and books that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import text

import trove_async as trove
from tests.quota.truth import AMPLE, expire_leases, held, layers, quota_of, reserved, used
from trove_async.database import Database, connect
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.layers.quota.books import Work
from trove_async.layers.quota.database.ledger import DatabaseLedger
from trove_async.layers.quota.layer import QuotaDriver
from trove_async.layers.quota.limits import Scope

pytestmark = pytest.mark.asyncio

R = TypeVar("R")


def lacking(*what: type | str) -> Callable[[Any], LayerDriver]:
    class Lacking(LayerDriver):
        drops: Mapping[type | str, str] = dict.fromkeys(what, "as some backends")  # type: ignore[misc]

    return Lacking


CONDITIONS = ("put_if_match", "put_if_none_match", "get", "delete", "copy", "complete")


@pytest.mark.parametrize(
    "lacks",
    [
        (trove.VersioningDriver, trove.VersionListingDriver),
        (trove.VersionListingDriver,),
        (trove.MultipartDriver,),
        CONDITIONS,
    ],
)
async def test_around_a_driver_that_lacks_something(lacks: tuple[Any, ...], tmp_path: Path) -> None:
    dsn = f"memory://{tmp_path.name}?min_part_size=1"
    stack = [lacking(*lacks), *layers({"b": AMPLE}, None)]
    async with trove.open(dsn) as plain, trove.open(dsn, layers=stack) as t:
        await t.create_bucket("b")
        if trove.VersioningDriver not in lacks:
            await t.set_versioning("b", True)
        for size in (10, 20):
            await t.put("b", "a", b"x" * size)
        await t.copy("b", "a", "b", "c")
        await asyncio.gather(*(t.put("b", "d", b"x" * size) for size in (30, 40, 50)))
        await t.delete("b", "c")
        assert await used(t) == await held(plain)
        await quota_of(t).recount()
        assert await used(t) == await held(plain)


async def test_a_cache_beneath_is_not_asked_for_sizes(tmp_path: Path) -> None:
    """What another program has written since the cache has looked is what is counted."""
    dsn = f"memory://{tmp_path.name}"
    stack: list[trove.Layer] = [trove.Cache(ttl=3600), *layers({"b": trove.QuotaLimit(bytes=1000)}, None)]
    async with trove.open(dsn) as plain, trove.open(dsn, layers=stack) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 10)
        assert len(await t.read("b", "a")) == 10
        await plain.put("b", "a", b"x" * 300)
        assert (await t.head("b", "a")).size == 10
        assert (await t.copy("b", "a", "b", "c")).size == 300
        assert await used(t) == (310, 2)
        await quota_of(t).recount()
        assert await used(t) == (600, 2)


async def test_a_source_that_is_replaced_while_it_is_copied(tmp_path: Path) -> None:
    """The copy is made again, of the new source, and charged its size."""
    replacements = [b"x" * 20, b"x" * 70]

    class Replaces(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            if operation.name == "copy" and replacements:
                await plain.put("b", "a", replacements.pop())
            return await call()

    dsn = f"memory://{tmp_path.name}"
    stack = [Replaces, *layers({"b": trove.QuotaLimit(bytes=1000)}, None)]
    async with trove.open(dsn) as plain, trove.open(dsn, layers=stack) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 10)
        assert (await t.copy("b", "a", "b", "c")).size == 20
        assert await used(t) == (30, 2)
        replacements.extend([b"x", b"xx"] * 5)
        with pytest.raises(trove.ConflictError, match="the source of the copy was replaced again and again"):
            await t.copy("b", "a", "b", "c")
        replacements.clear()
        with pytest.raises(trove.PreconditionFailedError):
            await t.copy("b", "a", "b", "c", if_none_match="*")


async def test_an_outcome_that_is_not_known_is_looked_up(tmp_path: Path) -> None:
    stored: list[bool] = []

    class Loses(LayerDriver):
        """Loses the answers of puts, some of which are carried out."""

        async def around(self, operation: Operation, call: Call[R]) -> R:
            if operation.name == "put" and stored:
                if stored.pop():
                    await call()
                raise trove.UnavailableError("the connection broke", ambiguous=True)
            return await call()

    stack = [Loses, *layers({"b": trove.QuotaLimit(bytes=100)}, None)]
    async with trove.open("memory://", layers=stack) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 10)
        for carried_out in (False, True):
            stored.append(carried_out)
            with pytest.raises(trove.UnavailableError):
                await t.put("b", "a", b"x" * 50)
            assert await used(t) == (50 if carried_out else 10, 1) == await held(t)


class Failing(DatabaseLedger):
    """Books whose database cannot be reached for some time."""

    failures = 0
    transactions = 0

    async def write(self, work: Work[R]) -> R:
        self.transactions += 1
        if self.failures and self.transactions > 1:
            self.failures -= 1
            raise trove.UnavailableError("the database cannot be reached")
        return await super().write(work)


async def test_a_write_that_cannot_be_recorded_is_recorded_later(sqlite_url: str) -> None:
    async with connect(sqlite_url) as db:
        ledger = Failing(db, 0.05)
        layer = [lambda driver: QuotaDriver(driver, {Scope("b", ""): trove.QuotaLimit(bytes=100)}, ledger)]
        async with trove.open("memory://", layers=layer) as t:
            await t.create_bucket("b")
            await t.put("b", "other", b"")
            ledger.transactions, ledger.failures = 0, 2
            await t.put("b", "a", b"x" * 30)
            assert (await t.head("b", "a")).size == 30
            while await reserved(db):  # noqa: ASYNC110 - the books are kept by a task
                await asyncio.sleep(0.01)
            assert await used(t) == (30, 2)


async def test_writes_that_wait_share_a_transaction(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transactions = 0
    write = Database.write

    async def counted(self: Database, unit: Callable[[Any], R]) -> R:
        nonlocal transactions
        transactions += 1
        return await write(self, unit)

    async with trove.open("memory://", layers=layers({"b": trove.QuotaLimit(objects=60)}, sqlite_url)) as t:
        await t.create_bucket("b")
        await t.put("b", "0", b"")
        monkeypatch.setattr(Database, "write", counted)
        done = await asyncio.gather(*(t.put("b", str(n), b"x") for n in range(100)), return_exceptions=True)
        assert sum(isinstance(one, trove.QuotaExceededError) for one in done) == 40
        assert await used(t) == (60, 60) or await used(t) == await held(t)
        assert transactions < 30


async def test_accounts_of_deleted_objects_are_forgotten(sqlite_url: str) -> None:
    async with connect(sqlite_url) as db:

        async def accounts() -> list[str]:
            query = text("SELECT key FROM trove_quota_accounts WHERE key != ''")
            rows = await db.read(lambda connection: connection.execute(query).scalars().all())
            return [*rows]

        ledger = DatabaseLedger(db, 30)
        layer = [lambda driver: QuotaDriver(driver, {Scope("b", ""): AMPLE}, ledger)]
        async with trove.open("memory://", layers=layer) as t:
            await t.create_bucket("b")
            for key in ("a", "c"):
                await t.put("b", key, b"x")
            await t.delete("b", "a")
            await ledger.keep()
            assert await accounts() == ["a", "c"]  # a listing that is under way may still have the object
            await db.write(lambda connection: connection.execute(text("UPDATE trove_quota_accounts SET touched = 0")))
            await ledger.keep()
            assert await accounts() == ["c"]
            assert await used(t) == (1, 1)


async def test_what_is_not_known_is_looked_up_before_a_write_is_refused(dsn: str, database: str | None) -> None:
    """A put fails, and the backend cannot be asked what has become of it: until then the larger size counts."""
    is_down = False

    class Down(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            if is_down:
                raise trove.UnavailableError("the connection broke", ambiguous=operation.name == "put")
            return await call()

    async with trove.open(dsn, layers=[Down, *layers({"b": trove.QuotaLimit(bytes=100)}, database)]) as t:
        await t.create_bucket("b")
        await t.put("b", "a", b"x" * 10)
        is_down = True
        with pytest.raises(trove.UnavailableError):
            await t.put("b", "a", b"x" * 90)
        assert await used(t) == (90, 1)
        with pytest.raises(trove.QuotaExceededError):
            await t.put("b", "c", b"x" * 50)
        is_down = False
        await t.put("b", "c", b"x" * 50)
        assert await used(t) == (60, 2) == await held(t)


async def test_a_store_whose_backend_is_down_can_be_opened(sqlite_url: str, tmp_path: Path) -> None:
    """What a dead process has left is settled when the backend is there again."""
    is_down = False

    class Down(LayerDriver):
        async def around(self, operation: Operation, call: Call[R]) -> R:
            if is_down:
                raise trove.UnavailableError("the connection broke")
            return await call()

    dsn, limits = f"memory://{tmp_path.name}", {"b": trove.QuotaLimit(bytes=100)}
    begun = asyncio.Event()

    async def endless() -> Any:
        begun.set()
        await asyncio.Event().wait()
        yield b""

    async with connect(sqlite_url) as db, trove.open(dsn, layers=layers(limits, db)) as dying:
        await dying.create_bucket("b")
        writing = asyncio.create_task(dying.put("b", "a", endless(), size=80))
        await begun.wait()
        await expire_leases(db)
        is_down = True
        async with trove.open(dsn, layers=[Down, *layers(limits, db)]) as t:
            assert await reserved(db) == 0
            assert await used(t) == (80, 1)
            is_down = False
            assert await used(t) == (0, 0)
        writing.cancel()
        await asyncio.wait({writing})
