"""Objects and bodies for tests."""

from __future__ import annotations

import random

from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["assert_same_object", "random_bytes", "read_all", "sample_object"]


def sample_object(key: str = "folder/object.txt", data: bytes = b"some content") -> tuple[str, bytes]:
    """Return a key and a body, for ``await t.put(bucket, *sample_object())``."""
    return key, data


def random_bytes(n: int, seed: int = 42) -> bytes:
    """Return ``n`` incompressible bytes; the same for the same seed."""
    return random.Random(seed).randbytes(n)


async def read_all(reader: ObjectReader) -> bytes:
    """Read an object chunk by chunk to its end, and close the reader."""
    async with reader:
        return b"".join([chunk async for chunk in reader])


def assert_same_object(a: ObjectInfo, b: ObjectInfo) -> None:
    """Fail unless two descriptions are of the same object: all fields that both have are equal.

    A listing has no metadata, and a put may not return the time; fields that one of them lacks are not compared.

    Raises:
        AssertionError: names the field that differs.
    """
    for name in ("key", "size", "etag"):
        _assert_equal(name, getattr(a, name), getattr(b, name))
    for name in ("last_modified", "content_type", "version_id", "storage_class", "metadata"):
        left, right = getattr(a, name), getattr(b, name)
        if left and right:
            _assert_equal(name, left, right)


def _assert_equal(name: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"the {name} is {left!r} in one and {right!r} in the other")
