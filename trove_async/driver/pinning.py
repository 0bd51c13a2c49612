"""`pinned`: more bytes of an object that is being read, and of no other that has replaced it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trove_async.driver.base import Driver
from trove_async.driver.options import GetOptions
from trove_async.errors import PreconditionFailedError
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["OpenRange", "pinned"]

OpenRange = Callable[[int, int], Awaitable[ObjectReader]]
"""Opens the bytes of an object from one offset to another."""


def pinned(
    driver: Driver, bucket: str, key: str, version_id: str | None, info: ObjectInfo, part_of: str | None = None
) -> OpenRange:
    """Return a function that opens ranges of an object, if it is still the same object.

    Args:
        driver: to ask.
        bucket, key, version_id: of the object.
        info: its description.
        part_of: as in `GetOptions`.

    Raises (when the function is awaited):
        PreconditionFailedError: it is another object, whether the driver honours ``if_match`` or not.
    """
    condition = info.etag if "get" in driver.features.conditions else None

    async def open_range(start: int, stop: int) -> ObjectReader:
        wanted = ByteRange(start, stop - start)
        options = GetOptions(range=wanted, version_id=version_id, if_match=condition, part_of=part_of)
        reader = await driver.get(bucket, key, options)
        if reader.info.etag != info.etag or (reader.start, reader.stop) != (start, stop):
            reader.abort()
            raise PreconditionFailedError(f"the object's ETag is {reader.info.etag!r}, not {info.etag!r}")
        return reader

    return open_range
