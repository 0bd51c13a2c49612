"""Copies whose answer was lost: whether they were made."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, cast

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import TaggingDriver
from trove_async.driver.conditions import check_read
from trove_async.driver.copy_errors import CopyEnd, is_conditional
from trove_async.driver.options import CopyOptions, GetOptions, HeadOptions, ObjectAttributes
from trove_async.errors import TransientError, TroveError
from trove_async.types import ObjectInfo

__all__ = ["COMPARED", "has_tags", "is_described", "settle_copy"]

COMPARED: Final = 64 * 1024 * 1024
"""Bytes of the largest object that is read to find out whether it is a copy."""

_CHUNK: Final = 1024 * 1024
_HEAD: Final = HeadOptions()
_GET: Final = GetOptions()


async def settle_copy(error: Exception, source: CopyEnd, target: CopyEnd, options: CopyOptions) -> ObjectInfo | None:
    """Return the destination if a copy that failed was certainly made; None if that cannot be known.

    Only a `TransientError` stands for a lost answer. Another ambiguous error is an answer, which a look does not
    refute: a disk that could not be flushed may lose what can be seen now.

    Without a condition, it does not matter who made it. That it was not made is never certain: a request may still be
    under way behind a proxy that has answered for its server.
    """
    if not isinstance(error, TransientError) or not error.ambiguous or is_conditional(options):
        return None
    try:
        return await _made(source, target, options)
    except (TroveError, OSError):
        return None  # the error of the copy says more


async def _made(source: CopyEnd, target: CopyEnd, options: CopyOptions) -> ObjectInfo | None:
    wanted = HeadOptions(version_id=options.source_version_id)
    found = await target.driver.head(*target.place, _HEAD)
    original = await source.driver.head(*source.place, wanted)
    check_read(original, HeadOptions(if_match=options.source_if_match))
    if found.size != original.size or not is_described(found, options.replace or ObjectAttributes.of(original)):
        return None
    if has_tags(target.driver):
        if options.replace is not None:
            tags = options.replace.tags
        elif options.source_version_id is None:
            tags = await cast(TaggingDriver, source.driver).get_tags(*source.place)
        else:
            return None  # the tags of a version cannot be read
        if await cast(TaggingDriver, target.driver).get_tags(*target.place) != tags:
            return None
    common = found.checksums.keys() & original.checksums.keys()
    if common:
        same = all(found.checksums[name] == original.checksums[name] for name in common)
    else:
        same = await _same_bytes(source, wanted, original, target, found)
    return found if same else None


def is_described(found: ObjectInfo, wanted: ObjectAttributes) -> bool:
    """Tell whether an object has attributes; its tags are compared elsewhere."""
    attributes = ObjectAttributes.of(found, wanted.tags)
    if wanted.storage_class is None:
        attributes = replace(attributes, storage_class=None)
    return attributes == wanted


async def _same_bytes(
    source: CopyEnd, version: HeadOptions, original: ObjectInfo, target: CopyEnd, found: ObjectInfo
) -> bool:
    """Compare the bytes of two objects, unless they are large or were replaced since they were looked at."""
    if found.size > COMPARED:
        return False
    async with (
        await source.driver.get(*source.place, GetOptions(version_id=version.version_id)) as one,
        await target.driver.get(*target.place, _GET) as other,
    ):
        if (one.info.etag, other.info.etag) != (original.etag, found.etag):
            return False
        while chunk := await one.read(_CHUNK):
            if chunk != await other.read(_CHUNK):
                return False
    return True


def has_tags(driver: Driver) -> bool:
    """Tell whether the objects of a driver have tags."""
    return TaggingDriver in driver.features.protocols
