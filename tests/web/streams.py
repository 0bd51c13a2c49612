"""Objects with unusual streams."""

from __future__ import annotations

import asyncio

import trove_async as trove
from trove_async.driver import GetOptions
from trove_async.layers import LayerDriver
from trove_async.reader import ByteStream, ObjectReader


class Endless(ByteStream):
    """A stream that yields small chunks and records whether it was released."""

    def __init__(self, *, stalls: bool = False, breaks: bool = False) -> None:
        self.stalls = stalls
        self.breaks = breaks
        self.reads = 0
        self.ended = False
        self.stalled = asyncio.Event()

    async def read(self, size: int) -> bytes:
        self.reads += 1
        if self.breaks and self.reads > 1:
            raise trove.BackendError("broken")
        if self.stalls and self.reads > 1:
            self.stalled.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return b"x"

    async def seek(self, offset: int) -> None:
        raise AssertionError("the stream cannot be resumed")

    def abort(self) -> None:
        self.ended = True


def streaming(stream: ByteStream) -> type[LayerDriver]:
    class Streaming(LayerDriver):
        async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
            return ObjectReader(trove.ObjectInfo(key, 1_000_000, "etag"), stream)

    return Streaming
