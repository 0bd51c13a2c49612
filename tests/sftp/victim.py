"""A process that writes to a store over SFTP until it is killed, and one that starts such processes quickly.

``python -m tests.sftp.victim`` imports everything once and stays single-threaded. Each line on its stdin, ``DSN SEED``,
makes it fork a writer, which prints what it does in the format of `tests.drivers.local_victim`.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import trove_async as trove
import trove_async.drivers.sftp
from tests.drivers.local_victim import DELETED, SOURCE, content, say

BUCKET = "plain"
KEYS = 4
PART_SIZE = 1024
_LARGE = 300_000
_LONG = 20_000


class Writer:
    """Writes to its own keys, one operation after the other."""

    def __init__(self, store: trove.Trove, name: str, seed: int) -> None:
        self._store = store
        self._name = name
        self._seed = seed
        self._random = random.Random(f"{seed}-{name}")

    async def run(self) -> None:
        operations = [self.put, self.put, self.create, self.replace_tags, self.copy, self.upload, self.delete]
        for count in range(10_000):
            key = f"{self._name}/{self._random.randrange(KEYS)}"
            if self._random.random() < 0.2:
                key += "/below"  # next to the object whose name its directory needs
            number = f"{self._seed}-{count}"
            operation = self._random.choice(operations)
            says = DELETED if operation == self.delete else number
            say("begin", f"{BUCKET}/{key}", says)
            if await operation(key, number):
                say("done", f"{BUCKET}/{key}", says)

    def _metadata(self, number: str) -> dict[str, str]:
        return {"number": number, "padding": "x" * self._random.choice([0, 100, _LONG])}

    async def put(self, key: str, number: str) -> bool:
        data = content(number, self._random.choice([10, 5_000, _LARGE]))

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 70_000):
                yield data[at : at + 70_000]

        body = chunks() if self._random.random() < 0.5 else data
        await self._store.put(BUCKET, key, body, metadata=self._metadata(number))
        return True

    async def create(self, key: str, number: str) -> bool:
        try:
            await self._store.put(
                BUCKET, key, content(number, 3_000), metadata=self._metadata(number), if_none_match="*"
            )
        except trove.ObjectAlreadyExistsError:
            return False
        return True

    async def replace_tags(self, key: str, number: str) -> bool:
        with suppress(trove.ObjectNotFoundError):
            await self._store.set_tags(BUCKET, key, {"t": "x" * self._random.choice([1, 200])})
        return False

    async def copy(self, key: str, number: str) -> bool:
        source = f"{self._name}/{SOURCE}"
        await self._store.put(BUCKET, source, content(number, 3_000), metadata=self._metadata(number))
        await self._store.copy(BUCKET, source, BUCKET, key)
        return True

    async def upload(self, key: str, number: str) -> bool:
        data = content(number, 4 * PART_SIZE)
        upload_id = await self._store.initiate_multipart(BUCKET, key, metadata=self._metadata(number))
        parts: list[trove.PartInfo] = []
        grows = self._random.random() < 0.5
        for at in range(0, len(data), 2 * PART_SIZE):
            chunk = data[at : at + 2 * PART_SIZE]
            if grows:
                parts = [await self._store.append_part(BUCKET, key, upload_id, 1, at, chunk)]
            else:
                parts.append(await self._store.upload_part(BUCKET, key, upload_id, len(parts) + 1, chunk))
        await self._store.complete_multipart(BUCKET, key, upload_id, parts)
        return True

    async def delete(self, key: str, number: str) -> bool:
        await self._store.delete(BUCKET, key)
        return True


async def write(dsn: str, seed: int) -> None:
    async with trove.open(dsn) as store, asyncio.TaskGroup() as tasks:
        for name in ("one", "two", "three"):
            tasks.create_task(Writer(store, name, seed).run())


def main() -> None:
    for line in sys.stdin:
        dsn, seed = line.split()
        child = os.fork()
        if child == 0:
            # Whatever happens, the child must not continue as its parent.
            try:
                asyncio.run(write(dsn, int(seed)))
            finally:
                os._exit(1)
        say("pid", str(child))
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
