"""Doubles that several test modules share."""

from __future__ import annotations

import asyncio

from trove_async.driver import METHODS
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import FrozenDict, ObjectInfo, ObjectRef


class ScriptedStream(ByteStream):
    """The bytes of an object, returned as a script says.

    A step is the maximum number of bytes to return (0: the stream ends early), an exception to raise, or an
    `asyncio.Event` to wait for. After the last step every read returns the requested number of bytes.

    Attributes:
        seeks: the offsets of all seeks.
        open: whether it still holds its resources.
        aborted, closed: how often each was called.
    """

    def __init__(self, data: bytes, script: list[int | BaseException | asyncio.Event] | None = None) -> None:
        self.data = data
        self.script = list(script or [])
        self.position = 0
        self.seeks: list[int] = []
        self.seek_errors: list[BaseException] = []
        self.open = True
        self.aborted = 0
        self.closed = 0

    async def read(self, size: int) -> bytes:
        assert self.open
        assert size > 0
        limit = size
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            else:
                limit = step
        chunk = self.data[self.position : self.position + min(size, limit)]
        self.position += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        self.seeks.append(offset)
        if self.seek_errors:
            raise self.seek_errors.pop(0)
        self.position = offset
        self.open = True

    def abort(self) -> None:
        self.aborted += 1
        self.open = False

    async def aclose(self) -> None:
        self.closed += 1
        self.open = False


def info_of(data: bytes, key: str = "k", **checksums: str) -> ObjectInfo:
    return ObjectInfo(key, len(data), etag="e", checksums=FrozenDict(checksums))


def scripted(
    data: bytes, *script: int | BaseException | asyncio.Event, **checksums: str
) -> tuple[ObjectReader, ScriptedStream]:
    """Return a reader of all of an object, and its stream."""
    stream = ScriptedStream(data, list(script))
    return ObjectReader(info_of(data, **checksums), stream), stream


def arguments_of(method: str) -> list[object]:
    """Return arguments for a method of a driver that does not look at them."""
    return [
        ObjectRef("b", "k") if parameter in ("src", "dst") else parameter for parameter in METHODS[method].parameters
    ]
