"""Puts whose answer was lost: whether they were carried out, before they are sent again."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Final, cast

from trove_async.body import Body, Chunk
from trove_async.checksums import new_hasher, update
from trove_async.driver.base import Driver
from trove_async.driver.capabilities import TaggingDriver
from trove_async.driver.copy_settling import COMPARED, has_tags, is_described
from trove_async.driver.options import GetOptions, HeadOptions, PutOptions
from trove_async.errors import NotFoundError, ObjectChangedError, TroveError, UnsupportedError
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["Find", "Settling", "find_for", "find_put", "holds_once", "settle_put", "sha256_of"]

Find = Callable[[], Awaitable[ObjectInfo | None]]
"""Returns the object if it is what was to be written, and None if it is another one or missing.

It raises if that cannot be known.
"""

_HEAD: Final = HeadOptions()
_GET: Final = GetOptions()


def holds_once(if_match: str | None, if_none_match: str | None) -> bool:
    """Tell whether a write has a condition that cannot hold a second time, so that it can be sent again.

    Two conditions hold after the write too: that the object exists, and that its ETag is not a given one.
    """
    return if_match not in (None, "*") or if_none_match == "*"


def find_for(if_match: str | None, if_none_match: str | None, find: Find) -> Find | None:
    """Return what settles a write with these conditions; None if it can be sent again without a look.

    Args:
        if_match, if_none_match: of the write.
        find: what settles it if it has no condition.
    """
    if if_match is None and if_none_match is None:
        return find
    return None if holds_once(if_match, if_none_match) else _cannot_be_found


async def _cannot_be_found() -> ObjectInfo | None:
    raise UnsupportedError("an object that was there before may look the same, and the condition may hold again")


async def settle_put(error: TroveError, find: Find) -> ObjectInfo | None:
    """Look whether a put of unknown outcome was carried out; it does not matter by which writer.

    Args:
        error: of the put.
        find: looks.

    Returns:
        The object if the put was carried out; None if it was not, so that it may be sent again.

    Raises:
        TroveError: ``error`` itself, since it cannot be known; it is ``exhausted``.
    """
    try:
        return await find()
    except NotFoundError:
        return None
    except (TroveError, OSError) as failure:
        reason = str(failure)
    if error.retryable:
        error.exhausted = True
        error.message += f"; it is not known whether the object was stored, and a look at it failed: {reason}"
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame


class Settling:
    """Settles the attempts of one request that may have been carried out.

    Args:
        find: looks.

    Attributes:
        made: the object, once it was found.
    """

    __slots__ = ("_find", "made")

    def __init__(self, find: Find) -> None:
        self._find = find
        self.made: ObjectInfo | None = None

    async def look(self, error: TroveError) -> bool:
        """Tell whether the write was carried out; errors are those of `settle_put`."""
        self.made = await settle_put(error, self._find)
        return self.made is not None


async def find_put(driver: Driver, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo | None:
    """Return the object if it is what a put was to store, with the same size, description, tags and bytes.

    The bytes are those of the body if a checksum of both is the same: one that the object was stored with, or an MD5
    digest that is its ETag. Otherwise the object is read, up to 64 MiB.

    Args:
        driver: of the put.
        bucket, key, options: of the put.
        body: of the put; it is read again from its first byte.

    Raises:
        TroveError: it cannot be known.
    """
    found = await driver.head(bucket, key, _HEAD)
    if body.size not in (None, found.size) or not is_described(found, options.attributes):
        return None
    tags = options.attributes.tags
    if has_tags(driver) and await cast(TaggingDriver, driver).get_tags(bucket, key) != tags:
        return None
    await body.rewind()
    sha256, md5 = new_hasher("sha256"), new_hasher("md5")
    async for chunk in body:
        await update(sha256, chunk)
        await update(md5, chunk)
    if body.taken != found.size:
        return None
    for algorithm, value in body.checksums.items():
        if algorithm in found.checksums:
            return found if found.checksums[algorithm] == value else None
    if found.etag == md5.hexdigest():
        return found
    if found.size > COMPARED:
        raise UnsupportedError("an object of this size is not read for a comparison")
    async with await driver.get(bucket, key, _GET) as reader:
        return found if await sha256_of(reader, found) == sha256.hexdigest() else None


async def sha256_of(reader: ObjectReader, found: ObjectInfo) -> str:
    """Return the SHA-256 digest of an object that was looked at.

    Raises:
        ObjectChangedError: it was replaced since.
    """
    if reader.info.etag != found.etag:
        raise ObjectChangedError("the object was replaced while it was looked at")
    hasher = new_hasher("sha256")
    async for chunk in cast(AsyncIterable[Chunk], reader):
        await update(hasher, chunk)
    return hasher.hexdigest()
