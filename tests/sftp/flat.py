"""Put and get 200 MB over SFTP as a stream, and print the growth of the process's memory in bytes."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import AsyncIterator

from tests.sftp.stores import opened

CHUNK = 1_000_000
COUNT = 200


async def main(server: str, root: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(COUNT):
            yield bytes(CHUNK)

    async with opened(server, root) as store:  # type: ignore[arg-type]
        await store.put("bucket", "small", bytes(CHUNK))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await store.put("bucket", "large", chunks())
        size = 0
        async with store.get("bucket", "large") as reader:
            async for chunk in reader:
                size += len(chunk)
        assert size == COUNT * CHUNK
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
