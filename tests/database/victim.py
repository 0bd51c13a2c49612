"""Processes that work with a database until they are killed: ``python -m tests.database.victim WHAT URL``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from sqlalchemy import Connection, insert, update

from tests.database.counter import COUNTER, WORDS, count
from trove_async.database import Database, connect

REPOSITORY = Path(__file__).parents[2]


class Victim:
    """Such a process; it is killed at the end of the context."""

    def __init__(self, what: str, url: str) -> None:
        command = [sys.executable, "-m", "tests.database.victim", what, url]
        self._process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.kill()

    async def line(self) -> str:
        """Return the next line that it prints; an empty one if it has ended."""
        assert self._process.stdout is not None
        return (await asyncio.to_thread(self._process.stdout.readline)).strip()

    def kill(self) -> list[str]:
        """Kill it (SIGKILL), and return the lines that it had printed and nobody read."""
        self._process.kill()
        return self._process.communicate()[0].splitlines()


def count_in_two_places(connection: Connection) -> int:
    """Count, in two tables that must agree."""
    n = count(connection) + 1
    connection.execute(insert(WORDS).values(word=f"{n:06}"))
    connection.execute(update(COUNTER).values(n=n))
    return n


async def write(db: Database) -> None:
    async def one_after_the_other() -> None:
        while True:
            print(await db.write(count_in_two_places), flush=True)

    await asyncio.gather(*(one_after_the_other() for _ in range(8)))


async def hold_lease(db: Database) -> None:
    lease = await db.leases.acquire("gc", owner="victim", seconds=3600)
    assert lease is not None
    print(lease.generation, flush=True)
    await asyncio.sleep(600)


async def hold_lock(db: Database) -> None:
    async with db.lock("one"):
        print("locked", flush=True)
        await asyncio.sleep(600)


async def migrate(db: Database) -> None:
    await db.migrate("growing", "tests.database.growing")
    print("migrated", flush=True)


async def _main(what: str, url: str) -> None:
    works = {work.__name__: work for work in (write, hold_lease, hold_lock, migrate)}
    async with asyncio.timeout(300), connect(url) as db:
        await works[what](db)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
