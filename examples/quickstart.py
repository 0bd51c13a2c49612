"""The quick start of the README, as a program: ``python -m examples.quickstart``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import trove_async as trove


async def quickstart(dsn: str) -> None:
    async with trove.open(dsn) as t:
        photos = await t.create_bucket("photos")

        # Put bytes, a path, a binary file, or an (async) iterable of bytes. Readers never see a partial object.
        info = await photos.put("2024/beach.jpg", b"not really a photo", metadata={"camera": "X100"})
        print("stored", info.key, info.size, info.content_type)

        # Read all of it, a range, or chunk by chunk.
        print("read", await photos.read("2024/beach.jpg", range=(0, 10)))
        async with photos.get("2024/beach.jpg") as reader:
            async for chunk in reader:
                print("streamed", len(chunk), "bytes of", reader.info.metadata)

        # Replace the object only if it is still the one you have seen.
        await photos.put("2024/beach.jpg", b"a better one", if_match=info.etag)
        try:
            await photos.put("2024/beach.jpg", b"a late one", if_match=info.etag)
        except trove.PreconditionFailedError:
            print("refused: someone else was faster")

        # Write in pieces; leaving the block commits, and after an exception in it nothing is stored.
        async with photos.writer("2024/album.txt") as writer:
            await writer.write(b"beach.jpg\n")

        async for item in photos.list("2024/"):
            print("listed", item.key, item.size)
        print("deleted", await photos.delete_many(["2024/beach.jpg", "2024/album.txt"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for dsn in ("memory://", f"local://{Path(folder)}"):
            print(f"-- {dsn.partition(':')[0]}")
            asyncio.run(quickstart(dsn))


if __name__ == "__main__":
    main()
