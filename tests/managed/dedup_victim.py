"""A process that changes a store with a `Dedup`, and prints what was acknowledged, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import trove_async
from trove_async import ObjectNotFoundError
from trove_async.managed import Dedup

TASKS = 8
BUCKET = "bucket"


def content(number: int) -> bytes:
    """Return the content of a number; every 13th is the same."""
    return b"%d" % (number % 13) * 2000


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data[:1000]
    yield data[1000:]


async def main(store: str, database: str) -> None:
    async with trove_async.open(store, layers=[Dedup(database)]) as t:
        numbers = iter(range(10**9))

        async def work() -> None:
            for number in numbers:
                key = f"{number % 40:02}"
                data = content(number)
                await t.put(BUCKET, key, data if number % 2 else chunks(data))
                print(f"put {number}", flush=True)
                if number % 5 == 0:
                    with suppress(ObjectNotFoundError):  # another task has deleted it
                        await t.copy(BUCKET, key, BUCKET, f"copy-{number}")
                        print(f"copied {number}", flush=True)
                if number % 7 == 0:
                    await t.delete(BUCKET, f"{(number + 11) % 40:02}")

        await asyncio.gather(*(work() for _ in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
