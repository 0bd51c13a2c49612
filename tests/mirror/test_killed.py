"""A process that dies at any step of a write: the next one finds out what happened, and all members agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from sqlalchemy import func, select, update

import trove_async
from tests.mirror.stores import Members, driver_of
from trove_async import Member, Mirror, Trove
from trove_async.database import Database, connect, now
from trove_async.driver import Driver
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.layers.mirror.schema import INTENTS

pytestmark = pytest.mark.asyncio

R = TypeVar("R")
Write = Callable[[Trove, str], Awaitable[object]]


class Killed(BaseException):
    """The process is dead: nothing that it would do takes place any more."""


class Life:
    """Counts the steps of a process, and ends it at one of them."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    async def step(self) -> None:
        if self.left <= 0:
            raise Killed
        self.left -= 1

    def __call__(self, driver: Driver) -> Driver:
        return _Mortal(driver, self)


class _Mortal(LayerDriver):
    """Dies before an operation is carried out, or after it, so that nobody learns of it."""

    def __init__(self, inner: Driver, life: Life) -> None:
        super().__init__(inner)
        self._life = life

    async def around(self, operation: Operation, call: Call[R]) -> R:
        await self._life.step()
        result = await call()
        await self._life.step()
        return result


class _MortalDatabase:
    """The same for the database of the queue."""

    def __init__(self, database: Database, life: Life) -> None:
        self._database = database
        self._life = life

    async def write(self, unit: Callable[[Any], R]) -> R:
        await self._life.step()
        result = await self._database.write(unit)
        await self._life.step()
        return result

    async def read(self, unit: Callable[[Any], R]) -> R:
        return await self._database.read(unit)

    async def migrate(self, component: str, package: str) -> None:
        await self._database.migrate(component, package)


async def put(t: Trove, key: str) -> object:
    return await t.put("b", key, b"new")


async def put_stream(t: Trove, key: str) -> object:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"n"
        yield b"ew"

    return await t.put("b", key, chunks())


async def put_if_match(t: Trove, key: str) -> object:
    return await t.put("b", key, b"new", if_match="*")


async def delete(t: Trove, key: str) -> None:
    await t.delete("b", key)


async def delete_if_match(t: Trove, key: str) -> None:
    await t.delete("b", key, if_match=(await t.head("b", key)).etag)


async def set_tags(t: Trove, key: str) -> None:
    await t.set_tags("b", key, {"new": "1"})


async def repair(t: Trove, key: str) -> object:
    return await driver_of(t).repair()


def mirror(members: Members, database: Database, life: Life) -> Mirror:
    stores = {name: Member(members.dsns[name], layers=[members.faults[name], life]) for name in members.names}
    queue = cast(Database, _MortalDatabase(database, life))
    return Mirror(stores, queue=queue, repair_every=None, test_every=0.02)


async def state(members: Members, key: str) -> list[object]:
    """Return what each member has: the content, the generation and the tags."""
    found: list[object] = []
    for name in members.names:
        async with members.alone(name) as t:
            if not await t.exists("b", key):
                found.append(None)
                continue
            info = await t.head("b", key)
            content = await t.read("b", key)
            found.append((content, info.metadata["trove-mirror"], tuple((await t.get_tags("b", key)).items())))
    return found


async def expire(database: Database) -> None:
    """Let the time pass after which the claims of a dead process expire."""
    expired = update(INTENTS).values(expires_at=now())
    await database.write(lambda connection: [connection.execute(expired), None][1])


@pytest.mark.parametrize("behind", [False, True], ids=["whole", "behind"])
@pytest.mark.parametrize("write", [put, put_stream, put_if_match, delete, delete_if_match, set_tags, repair])
async def test_a_write_of_a_process_that_dies_is_settled(tmp_path: Path, write: Write, behind: bool) -> None:
    members = Members(tmp_path)
    database = await connect(members.queue)
    try:
        async with trove_async.open(mirror(members, database, Life(10**9))) as t:
            await t.create_bucket("b")
        for steps in range(1000):
            if await _survives(members, database, write, behind, steps):
                assert steps > 5 or (write is repair and not behind)
                return
    finally:
        await database.aclose()


async def _survives(members: Members, database: Database, write: Write, behind: bool, steps: int) -> bool:
    key, life = f"k{steps}", Life(10**9)
    t = await trove_async.open(mirror(members, database, life))
    try:
        await t.put("b", key, b"older")
        if behind:  # a member has missed the last write before
            members.stop("0")
        await t.put("b", key, b"old")
        members.start("0")
        old = (await t.head("b", key)).etag
        life.left = steps
        try:
            await write(t, key)
        except Killed:
            survived = False
        else:
            survived = True
    finally:
        life.left = 0
        await t.aclose()
    left = [found for found in await state(members, key) if found is not None]
    await expire(database)
    async with trove_async.open(mirror(members, database, Life(10**9))) as t:
        visible = await t.read("b", key) if await t.exists("b", key) else None
        await driver_of(t).repair()
        assert await driver_of(t).status() == {}
        after = await state(members, key)
        assert after == after[:1] * 3
        if survived:
            assert visible == (await t.read("b", key) if await t.exists("b", key) else None)
        _check(write, after[0], left, old, survived)
    intents = select(func.count()).select_from(INTENTS)
    assert await database.read(lambda connection: connection.scalar(intents)) == 0
    return survived


def _check(write: Write, after: Any, left: list[Any], old: str, survived: bool) -> None:
    """Check what all members have in the end, by what they had when the process died."""
    if write in (delete, delete_if_match):
        assert after is None or (after[1] == old and not survived)
        assert after is None or len([found for found in left if found[1] == old]) >= 2
    elif write in (put, put_stream, put_if_match):
        committed = any(found[1] > old for found in left)
        assert after[0] == (b"new" if committed else b"old")
        assert committed or not survived
    elif write is set_tags:
        committed = any(found[2] for found in left)
        assert after[2] == ((("new", "1"),) if committed else ())
    else:
        assert after[:2] == (b"old", old)
