"""A writer and a collector on one database, each with a connection of its own, step by step in every order."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import pytest
import pytest_asyncio
from sqlalchemy import Connection

from tests.managed.dying import Process
from tests.managed.state import BUCKET, check, sha384
from trove_async import Trove
from trove_async.database import Database, connect
from trove_async.errors import NotFoundError, TroveError
from trove_async.managed import (
    ManagedStorage,
    PutResponse,
    ResourceCatalog,
    StoreResourceStorage,
    collect,
    new_put_response,
)
from trove_async.managed.schema import BLOBS

pytestmark = pytest.mark.asyncio

R = TypeVar("R")

CONTENT: Final = b"condemned content"
WRITER, COLLECTOR = "writer", "collector"
AHEAD: Final = 9
STEPS: Final = 5
"""Of the collector: those until it begins to sweep; it looks for what is half done, dooms, deletes, erases, forgets."""


class Turns:
    """Lets two processes take their steps in a given order. When one has ended, the other goes on alone."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self._order = list(order)
        self._changed = asyncio.Condition()

    async def step(self, who: str, work: Callable[[], Awaitable[R]]) -> R:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._order or self._order[0] == who)
        try:
            return await work()
        finally:
            async with self._changed:
                if self._order:
                    self._order.pop(0)
                self._changed.notify_all()

    async def end(self, who: str) -> None:
        async with self._changed:
            self._order = [other for other in self._order if other != who]
            self._changed.notify_all()


class Player(Process):
    """A process that takes its steps in turn, after some that it takes at once."""

    def __init__(self, who: str, turns: Turns, *, ahead: int = 0) -> None:
        super().__init__(0)
        self._who = who
        self._turns = turns
        self._ahead = ahead

    async def step(self, work: Callable[[], Awaitable[R]]) -> R:
        self.places += 1
        if self.places <= self._ahead:
            return await work()
        return await self._turns.step(self._who, work)

    async def lease_step(self, work: Callable[[], Awaitable[R]]) -> R:
        return await work()


def orders(writer: int, most: int | None) -> list[tuple[str, ...]]:
    """Return all orders of a writer's and the collector's steps; of more than ``most`` some, always the same."""
    total = range(writer + STEPS)
    every = [
        tuple(WRITER if place in chosen else COLLECTOR for place in total)
        for chosen in itertools.combinations(total, writer)
    ]
    return every if most is None or len(every) <= most else random.Random(0).sample(every, most)


@pytest_asyncio.fixture
async def second(url: str) -> AsyncIterator[Database]:
    """Another connection to the database."""
    async with connect(url) as database:
        yield database


@pytest.fixture
def views(m: ManagedStorage, second: Database, store: Trove) -> Iterator[tuple[ManagedStorage, ManagedStorage]]:
    """Yield pairs of views, each pair of a new space, and each view with a connection of its own."""

    def view(number: int, database: Database) -> ManagedStorage:
        catalogue = ResourceCatalog(database, f"{m.catalogue.space} {number}")
        return ManagedStorage(catalogue, StoreResourceStorage(store, BUCKET, str(number)))

    return ((view(number, m.catalogue.database), view(number, second)) for number in itertools.count())


async def gc(m: ManagedStorage, player: Player | None = None) -> None:
    view: Any = m if player is None else player.managed(m)
    await collect(view.catalogue, view.storage, grace=3600, dry_run=False, force=True)


async def play(
    order: tuple[str, ...],
    views: tuple[ManagedStorage, ManagedStorage],
    write: Callable[[ManagedStorage], Awaitable[object]],
) -> Exception | None:
    """Let one write while the other collects; return the error of the writer."""
    turns = Turns(order)

    async def writing() -> Exception | None:
        try:
            await write(Player(WRITER, turns).managed(views[0]))
        except TroveError as error:
            return error
        finally:
            await turns.end(WRITER)
        return None

    async def collecting() -> None:
        try:
            await gc(views[1], Player(COLLECTOR, turns, ahead=AHEAD))
        finally:
            await turns.end(COLLECTOR)

    async with asyncio.TaskGroup() as group:
        writer = group.create_task(writing())
        group.create_task(collecting())
    return writer.result()


async def condemn(m: ManagedStorage) -> PutResponse:
    """Condemn content, long ago; return a proof of access to it."""
    await m.put_for_bucket("b", "old", CONTENT)
    await m.put_for_bucket("b", "kept", b"kept")
    request = await m.put_for_bucket_request("b", "new", sha384(CONTENT))
    await m.remove_for_bucket("b", "old")

    def age(connection: Connection) -> None:
        connection.exec_driver_sql(f"UPDATE {BLOBS.name} SET condemned_at = condemned_at - {7200 * 1_000_000}")

    await m.catalogue.database.write(age)
    return await new_put_response(request, CONTENT)


async def verify(m: ManagedStorage, acknowledged: bool) -> None:
    for _ in range(2):
        try:
            async with m.get_for_bucket("b", "new") as reader:
                assert await reader.read() == CONTENT
        except NotFoundError:
            assert not acknowledged
        else:
            assert acknowledged
        await gc(m)
        await check(m)


async def test_a_put_of_content_that_is_being_swept(
    views: Iterator[tuple[ManagedStorage, ManagedStorage]], pytestconfig: pytest.Config
) -> None:
    for order in orders(3, None if pytestconfig.getoption("trove_long") else 20):
        pair = next(views)
        await condemn(pair[0])
        assert await play(order, pair, lambda m: m.put_for_bucket("b", "new", CONTENT)) is None
        await verify(pair[1], acknowledged=True)


async def test_a_proof_of_content_that_is_being_swept(
    views: Iterator[tuple[ManagedStorage, ManagedStorage]], pytestconfig: pytest.Config
) -> None:
    outcomes = set()
    for order in orders(5, None if pytestconfig.getoption("trove_long") else 25):
        pair = next(views)
        answer = await condemn(pair[0])
        error = await play(order, pair, partial(_respond, answer=answer))
        assert error is None or isinstance(error, NotFoundError)
        await verify(pair[1], acknowledged=error is None)
        outcomes.add(type(error))
    assert len(outcomes) == 2  # the writer is faster, or the collector


async def _respond(m: ManagedStorage, answer: PutResponse) -> None:
    await m.proof_of_access_response(answer)
