"""Another process on the same root: ``python -m tests.drivers.local_peer COMMAND DSN ARGUMENT…``.

It prints ``ready`` when the store is open, waits for a line on its stdin, does its work and prints the result.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import trove_async as trove
from trove_async.drivers.local import LocalDriver
from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ObjectAlreadyExistsError,
    PreconditionFailedError,
)

BUCKET: Final = "b"
CHUNK: Final = 64 * 1024


async def increment(store: trove.Trove, key: str, times: str) -> None:
    """Increment a number from several tasks by compare-and-swap; print the number of conflicts."""
    failures = 0

    async def add() -> None:
        nonlocal failures
        while True:
            async with store.get(BUCKET, key) as reader:
                number = int(await reader.read())
            try:
                await store.put(BUCKET, key, str(number + 1).encode(), if_match=reader.info.etag)
            except PreconditionFailedError:
                failures += 1
            else:
                return

    async def add_often() -> None:
        for _ in range(int(times) // 4):
            await add()

    await asyncio.gather(*(add_often() for _ in range(4)))
    print("in vain", failures)


async def create(store: trove.Trove, name: str, keys: str) -> None:
    """Print the keys that this process created."""
    won = []
    for number in range(int(keys)):
        try:
            await store.put(BUCKET, f"key-{number}", name.encode(), if_none_match="*")
        except ObjectAlreadyExistsError:
            continue
        won.append(str(number))
    print(*won)


async def churn(store: trove.Trove, name: str, times: str) -> None:
    """Put and delete an object that shares its directories with the other process's; each put must be stored."""
    for number in range(int(times)):
        key = f"shared/{number % 3}/{name}"
        data = f"{name} {number}".encode()
        await store.put(BUCKET, key, data)
        assert await store.read(BUCKET, key) == data
        await store.delete(BUCKET, key)
        assert not await store.exists(BUCKET, key)
    print("done")


async def remake_bucket(store: trove.Trove, bucket: str, times: str) -> None:
    """Delete and create a bucket while the other process puts into it."""
    deleted = refused = 0
    for _ in range(int(times)):
        try:
            await store.delete_bucket(bucket)
            deleted += 1
        except BucketNotEmptyError:
            refused += 1
            continue
        try:
            await store.create_bucket(bucket)
        except BucketAlreadyExistsError:
            raise AssertionError("a put created the bucket") from None
    print(deleted, refused)


async def put_into_bucket(store: trove.Trove, bucket: str, times: str) -> None:
    """Put into a bucket that is deleted and created: either the object is stored, or the bucket was missing."""
    stored = 0
    for number in range(int(times)):
        key, data = f"deep/er/{number}", str(number).encode()
        try:
            await store.put(bucket, key, data)
        except BucketNotFoundError:
            continue
        stored += 1
        # While the object exists the bucket is not empty, and nobody can delete it.
        assert await store.read(bucket, key) == data
        await store.delete(bucket, key)
    print(stored)


async def hold(store: trove.Trove, key: str) -> None:
    """Take the lock of a key and never release it."""
    driver = trove.unwrap(store.driver, LocalDriver)
    stripe = driver._tree.layout.stripe(BUCKET, key)
    async with driver._fs.lock(stripe):
        print("held", flush=True)
        await asyncio.Event().wait()


async def append(store: trove.Trove, key: str, upload_id: str, offset: str) -> None:
    """Append to a part for ever; print after each chunk how many bytes are in its file."""
    size = int(offset)

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal size
        while True:
            yield bytes([size // CHUNK % 256]) * CHUNK
            size += CHUNK
            print(size, flush=True)

    await store.append_part(BUCKET, key, upload_id, 1, size, chunks())


async def hold_part(store: trove.Trove, key: str, upload_id: str) -> None:
    """Append to a part a body that never ends."""

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(CHUNK)
        print("held", flush=True)
        await asyncio.Event().wait()

    await store.append_part(BUCKET, key, upload_id, 1, 0, chunks())


_COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {
    function.__name__: function
    for function in (increment, create, churn, remake_bucket, put_into_bucket, hold, append, hold_part)
}


async def main(command: str, dsn: str, *arguments: str) -> None:
    async with trove.open(dsn) as store:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await _COMMANDS[command](store, *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
