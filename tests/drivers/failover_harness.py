"""A `Failover` in the conformance suite: what is read goes through one whose first member fails again and again.

The suite has to write too: what changes something goes to the store directly.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar, cast

from tests.drivers.memory_harness import MemoryHarness
from trove_async import Budget, Failover, Member, UnavailableError
from trove_async.driver import Driver, OpenOptions
from trove_async.layers import READS, Call, LayerDriver, Operation
from trove_async.testing.conformance import Harness, HTTPClient
from trove_async.testing.conformance.stacks import PLAIN

R = TypeVar("R")

_OF_WRITES = frozenset({"list_parts", "list_multipart_uploads", "get_lifecycle", "list_noncurrent"})
"""Reads of what a `Failover` does not have."""


class _Flaky(LayerDriver):
    """Fails every other operation, except to continue a listing that no other member can continue."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self._numbers = count()

    async def around(self, operation: Operation, call: Call[R]) -> R:
        bound = operation.name == "list_versions_page" and operation["options"].cursor is not None
        if next(self._numbers) % 2 == 0 and not bound:
            raise UnavailableError("the first member is down")
        return await call()


class _Reading(LayerDriver):
    """Reads through a `Failover`, and writes to the store."""

    def __init__(self, inner: Driver, failover: Driver) -> None:
        super().__init__(inner)
        self._failover = failover

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name not in READS - _OF_WRITES:
            return await call()
        answer = operation.on(self._failover)
        return cast(R, answer if operation.name == "watch" else await answer)

    async def close(self) -> None:
        await self._failover.close()
        await super().close()


class FailoverHarness(Harness):
    name = "failover"
    outlives_process = False
    stores_in_process = True
    bulk_objects = 2_000
    await_point_step = 5
    stacks = (PLAIN,)

    def __init__(self) -> None:
        self._memory = MemoryHarness()
        self.part_size = self._memory.part_size

    async def driver(self) -> Driver:
        members: list[str | Member] = [Member(self._memory.dsn(), layers=[_Flaky]), self._memory.dsn()]
        failover = Failover(members, open_for=1e-9, budget=Budget(math.inf))
        return _Reading(await self._memory.driver(), await failover.open(OpenOptions()))

    @asynccontextmanager
    async def http(self, driver: Driver) -> AsyncIterator[HTTPClient]:
        async with self._memory.http(driver) as client:
            yield client


harness = FailoverHarness()
