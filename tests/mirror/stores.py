"""Mirrors for tests: members in memory whose failures the test controls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import trove_async
from trove_async import Member, Mirror, Trove
from trove_async.errors import UnavailableError
from trove_async.layers.mirror.driver import MirrorDriver
from trove_async.testing.faults import Fault, Faults

__all__ = ["Members", "driver_of", "repaired"]


class Members:
    """Some stores in memory, and a queue in a file: what outlives a mirror.

    Attributes:
        faults: of each member, by its name.
    """

    def __init__(self, folder: Path, count: int = 3) -> None:
        mark = uuid4().hex
        self.names = [str(number) for number in range(count)]
        self.dsns = {name: f"memory://{mark}-{name}" for name in self.names}
        self.faults = {name: Faults() for name in self.names}
        self.queue = f"sqlite:///{folder}/queue.db?synchronous=0"

    def mirror(self, **arguments: Any) -> Mirror:
        members = {name: Member(self.dsns[name], layers=[self.faults[name]]) for name in self.names}
        return Mirror(members, queue=self.queue, **{"repair_every": None, "test_every": 0.02, **arguments})

    @asynccontextmanager
    async def opened(self, **arguments: Any) -> AsyncIterator[Trove]:
        """Open a mirror, with the bucket ``b``, and keep the members in memory."""
        async with trove_async.open(self.mirror(**arguments)) as t:
            await t.create_bucket("b", exist_ok=True)
            yield t

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[Trove]:
        """Open one member by itself, without its faults."""
        async with trove_async.open(self.dsns[name]) as t:
            yield t

    async def copies(self, key: str = "k") -> list[bytes | None]:
        """Return what each member has under a key."""
        found: list[bytes | None] = []
        for name in self.names:
            async with self.alone(name) as t:
                found.append(await t.read("b", key) if await t.exists("b", key) else None)
        return found

    def stop(self, *names: str) -> None:
        """Let members fail at everything."""
        for name in names:
            self.faults[name].add(Fault("*", error=UnavailableError("the member is down"), times=None))

    def start(self, *names: str) -> None:
        """Let members work again."""
        for name in names:
            self.faults[name].clear()


def driver_of(t: Trove) -> MirrorDriver:
    return trove_async.unwrap(t.driver, MirrorDriver)


async def repaired(t: Trove) -> None:
    """Repair until nothing waits, which takes until the members that were down are found to be up."""
    driver = driver_of(t)
    for _ in range(500):
        await driver.repair()
        if not await driver.status():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"repairs still wait: {await driver.status()}")


def rot(file: Path) -> None:
    """Change a byte of a file as a bad disk does: nothing else tells of it."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[0] ^= 0xFF
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
