"""A process that writes to a mirror until it is killed: ``python -m tests.mirror.victim FOLDER SEED``."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import trove_async
from trove_async import Mirror

KEYS = [f"k{number}" for number in range(4)]


def mirror(folder: Path) -> Mirror:
    members = [f"local://{folder}/{name}?fsync=0" for name in ("one", "two", "three")]
    return Mirror(members, queue=f"sqlite:///{folder}/queue.db", claim_seconds=0.5, repair_every=None)


def content(mark: int) -> bytes:
    return b"%08d" % mark * (1 + mark % 5000)


async def write(folder: Path, seed: int) -> None:
    choose = random.Random(seed)

    async def work(key: str, first: int) -> None:
        for mark in range(first, first + 10_000_000, 4):
            print(f"began {key} {mark}", flush=True)
            if choose.random() < 0.2:
                await t.delete("b", key)
                print(f"done {key} -", flush=True)
                continue
            data = content(mark)

            async def chunks(data: bytes = data) -> AsyncIterator[bytes]:
                for at in range(0, len(data), 8192):
                    yield data[at : at + 8192]

            await t.put("b", key, chunks() if choose.random() < 0.5 else data)
            print(f"done {key} {mark}", flush=True)

    async with trove_async.open(mirror(folder)) as t:
        await t.create_bucket("b", exist_ok=True)
        start = choose.randrange(1, 1000) * 4
        await asyncio.gather(*(work(key, start + number) for number, key in enumerate(KEYS)))


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
