"""A process that writes to a local store until it is killed, and one that starts such processes quickly.

``python -m tests.drivers.local_victim`` imports everything once and stays single-threaded; with the argument
``named`` its writers give names to temporaries, as they must where unnamed files are not supported. Each line on its
stdin, ``DSN SEED``, makes it fork a writer. It then prints ``pid PID``, and ``dead`` when the writer is gone; the
writer prints ``begin KEY N`` before and ``done KEY N`` after each operation. All output is in one pipe, in order.

Every object identifies itself: its sequence number is in its content, with a digest, and in its metadata.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import trove_async as trove
from trove_async.drivers.local.filesystem import LocalFileSystem
from trove_async.errors import ObjectNotFoundError

BUCKET = "plain"
VERSIONED = "versioned"
PART_SIZE = 1024
KEYS = 4
DELETED = "deleted"
SOURCE = "source"
_DIGEST = 64
_LARGE = 300_000
_TOO_LARGE_FOR_AN_ATTRIBUTE = 20_000


def content(number: str, size: int) -> bytes:
    """Return content that includes its sequence number and a digest."""
    rest = f"{number}\n".encode() + random.Random(number).randbytes(size)
    return hashlib.sha256(rest).hexdigest().encode() + rest


def number_of(data: bytes) -> str:
    """Return the sequence number of content.

    Raises:
        AssertionError: the content is not complete.
    """
    rest = data[_DIGEST:]
    assert hashlib.sha256(rest).hexdigest().encode() == data[:_DIGEST], f"torn after {len(data)} bytes"
    return rest.partition(b"\n")[0].decode()


def say(*words: str) -> None:
    os.write(1, (" ".join(words) + "\n").encode())


class Writer:
    """Writes to its own keys, one operation after the other."""

    def __init__(self, store: trove.Trove, name: str, seed: int) -> None:
        self._store = store
        self._name = name
        self._seed = seed
        self._random = random.Random(f"{seed}-{name}")

    async def run(self) -> None:
        operations = [self.put, self.put, self.replace_metadata, self.copy, self.upload, self.delete, self.drop_version]
        for count in range(10_000):
            bucket = self._random.choice([BUCKET, VERSIONED])
            key = f"{self._name}/{self._random.randrange(KEYS)}"
            if self._random.random() < 0.2:
                key += "/below"  # next to the object whose name its directory needs
            number = f"{self._seed}-{count}"
            operation = self._random.choice(operations)
            says = DELETED if operation == self.delete else number
            say("begin", f"{bucket}/{key}", says)
            if await operation(bucket, key, number):
                say("done", f"{bucket}/{key}", says)

    def _metadata(self, number: str) -> dict[str, str]:
        size = self._random.choice([0, 100, _TOO_LARGE_FOR_AN_ATTRIBUTE])
        return {"number": number, "padding": "x" * size}

    async def put(self, bucket: str, key: str, number: str) -> bool:
        size = self._random.choice([10, 5_000, _LARGE])
        data = content(number, size)

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(data), 70_000):
                yield data[at : at + 70_000]

        body = chunks() if self._random.random() < 0.5 else data
        await self._store.put(bucket, key, body, metadata=self._metadata(number))
        return True

    async def replace_metadata(self, bucket: str, key: str, number: str) -> bool:
        """Tags are stored with the metadata, and change in place."""
        with suppress(ObjectNotFoundError):
            await self._store.set_tags(bucket, key, {"t": "x" * self._random.choice([1, 200])})
        return False

    async def copy(self, bucket: str, key: str, number: str) -> bool:
        await self._store.put(bucket, f"{self._name}/{SOURCE}", content(number, 3_000), metadata=self._metadata(number))
        await self._store.copy(bucket, f"{self._name}/{SOURCE}", bucket, key)
        return True

    async def upload(self, bucket: str, key: str, number: str) -> bool:
        data = content(number, 4 * PART_SIZE)
        upload_id = await self._store.initiate_multipart(bucket, key, metadata=self._metadata(number))
        parts: list[trove.PartInfo] = []
        grows = self._random.random() < 0.5
        for at in range(0, len(data), 2 * PART_SIZE):
            chunk = data[at : at + 2 * PART_SIZE]
            if grows:
                parts = [await self._store.append_part(bucket, key, upload_id, 1, at, chunk)]
            else:
                parts.append(await self._store.upload_part(bucket, key, upload_id, len(parts) + 1, chunk))
        if self._random.random() < 0.2:
            await self._store.abort_multipart(bucket, key, upload_id)
            return False
        await self._store.complete_multipart(bucket, key, upload_id, parts)
        return True

    async def delete(self, bucket: str, key: str, number: str) -> bool:
        await self._store.delete(bucket, key)
        return True

    async def drop_version(self, bucket: str, key: str, number: str) -> bool:
        versions = await self._store.list_versions(VERSIONED, key)
        if len(versions) > 1:  # never the latest, so that the last reported one still exists
            await self._store.delete_version(VERSIONED, key, self._random.choice(versions[1:]).version_id)
        return False


async def write(dsn: str, seed: int) -> None:
    async with trove.open(dsn) as store, asyncio.TaskGroup() as tasks:
        for name in ("one", "two", "three"):
            tasks.create_task(Writer(store, name, seed).run())


def main() -> None:
    if sys.argv[1:] == ["named"]:
        LocalFileSystem._probe_nameless = lambda self: False  # type: ignore[method-assign]
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
