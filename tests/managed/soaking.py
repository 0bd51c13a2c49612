"""A process that puts, reads, removes and collects.

It is run as ``python -m tests.managed.soaking DSN DATABASE SPACE SEED SECONDS``, and begins when it reads a line. All
processes use the same contents, each under names of its own. At the end it prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from contextlib import suppress

import trove_async
from tests.managed.state import BUCKET
from trove_async.errors import ConflictError, TransientError, TroveError
from trove_async.managed import ManagedStorage, collect
from trove_async.managed import open as open_managed

CONTENTS = [b"content %d" % number * (1 + number * 100) for number in range(12)]
GRACE = 0.1
WRITERS = 6


class Soak:
    """What one process does, and what it has seen."""

    def __init__(self, m: ManagedStorage, name: str) -> None:
        self._m = m
        self._name = name
        self.counts: Counter[str] = Counter()
        self.lost: list[str] = []

    async def write(self, number: int, ends_at: float) -> None:
        """Put, read and remove names that nobody else has, and compare what they have with what was acknowledged."""
        chosen = random.Random(f"{self._name} {number}")
        loop, names = asyncio.get_running_loop(), dict[str, bytes]()
        while loop.time() < ends_at:
            path = f"{self._name}/{number}/{chosen.randrange(3)}"
            with suppress(TransientError):  # nothing was acknowledged
                if chosen.random() < 0.35 and path in names:
                    content = names.pop(path)
                    try:
                        await self._m.remove_for_bucket("b", path)
                    except TransientError:
                        names[path] = content
                        raise
                    self.counts["removed"] += 1
                else:
                    content = chosen.choice(CONTENTS)
                    await self._m.put_for_bucket("b", path, content)
                    names[path] = content
                    self.counts["put"] += 1
            await self._verify(path, names)
        for path in names:
            await self._verify(path, names)

    async def _verify(self, path: str, names: dict[str, bytes]) -> None:
        if path not in names:
            return
        try:
            async with self._m.get_for_bucket("b", path) as reader:
                found = await reader.read()
        except TransientError:
            return
        except TroveError as error:
            self.lost.append(f"{path}: {error}")
            return
        if found != names[path]:
            self.lost.append(f"{path}: other content")

    async def collect(self, ends_at: float) -> None:
        """Collect again and again."""
        loop = asyncio.get_running_loop()
        while loop.time() < ends_at:
            with suppress(ConflictError, TransientError):
                report = await collect(self._m.catalogue, self._m.storage, grace=GRACE, dry_run=False, force=True)  # type: ignore[arg-type]
                self.counts["collected"] += report.deleted
            await asyncio.sleep(0)


async def main(dsn: str, database: str, space: str, seed: str, seconds: float) -> None:
    async with (
        trove_async.open(dsn) as store,
        open_managed(store, database=database, bucket=BUCKET, space=space) as m,
    ):
        soak = Soak(m, seed)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        ends_at = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(soak.write(number, ends_at))
            group.create_task(soak.collect(ends_at))
    print(json.dumps({"counts": soak.counts, "lost": soak.lost}))


if __name__ == "__main__":
    dsn, database, space, seed, seconds = sys.argv[1:]
    asyncio.run(main(dsn, database, space, seed, float(seconds)))
