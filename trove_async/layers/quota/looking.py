"""`Looker`: asks the backend what is there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, cast

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import MultipartDriver, VersioningDriver, VersionListingDriver
from trove_async.driver.options import HeadOptions, ListOptions, VersionListOptions
from trove_async.errors import AccessDeniedError, BucketNotFoundError, NotFoundError, NotModifiedError, UnsupportedError
from trove_async.layers.quota.limits import Scope
from trove_async.layers.quota.rules import Size
from trove_async.types import ObjectInfo, VersionInfo, VersioningStatus

__all__ = ["Listed", "Looker", "head_of"]

_HEAD: Final = HeadOptions()
_FRESH: Final = HeadOptions(if_modified_since=datetime(1970, 1, 1, tzinfo=UTC))
"""A condition that holds for every object, and that a cache leaves to the backend."""

_PAGE: Final = 1000


async def head_of(driver: Driver, bucket: str, key: str) -> ObjectInfo:
    """Describe an object as the backend has it now, also if a `Cache` is around it."""
    if "get" in driver.features.conditions:
        with suppress(NotModifiedError):
            return await driver.head(bucket, key, _FRESH)
    return await driver.head(bucket, key, _HEAD)


class Listed(NamedTuple):
    """A piece of a listing.

    Attributes:
        found: the sizes of the objects.
        upto: the last key that it may have; None if it has all that follow.
        complete: False if there may be versions of objects that it does not have.
    """

    found: Mapping[str, Size]
    upto: str | None
    complete: bool = True


class Looker:
    """Finds out what takes up space.

    Args:
        driver: is open.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        # The methods of the capabilities, which are asked for first.
        self._methods: Any = driver

    def _has(self, capability: type) -> bool:
        return capability in self._driver.features.protocols

    async def versioning(self, bucket: str) -> str | None:
        """Return whether a bucket keeps versions; None if it does not exist."""
        if not self._has(VersioningDriver):
            return VersioningStatus.UNVERSIONED
        try:
            return cast(VersioningStatus, await self._methods.get_versioning(bucket))
        except BucketNotFoundError:
            return None
        except (AccessDeniedError, UnsupportedError):
            return VersioningStatus.UNVERSIONED  # versions that cannot be seen are not counted

    async def bucket(self, bucket: str) -> str | None:
        """Return whether a bucket keeps versions; None if it does not exist, whatever the driver can do."""
        try:
            await self._driver.list_page(bucket, ListOptions(page_size=1))
        except BucketNotFoundError:
            return None
        return await self.versioning(bucket)

    async def object(self, bucket: str, key: str, *, versions: bool) -> Size:
        """Return what an object takes up; with ``versions`` all of them."""
        try:
            if versions and self._has(VersioningDriver):
                return _sum(await self._methods.list_versions(bucket, key))
            return (await head_of(self._driver, bucket, key)).size, 1
        except NotFoundError:
            return 0, 0

    async def settled_object(self, bucket: str, key: str, *, versions: bool) -> Size:
        """Return what an object takes up once it is decided what became of each write of it."""
        await self._driver.settle(bucket, key)
        return await self.object(bucket, key, versions=versions)

    async def parts(self, bucket: str, key: str, upload: str) -> dict[int, int]:
        """Return the sizes of the parts of an upload by their numbers; empty if it is not open."""
        try:
            return {part.number: part.size for part in await self._methods.list_parts(bucket, key, upload)}
        except NotFoundError:
            return {}

    async def uploads(self, scope: Scope) -> dict[tuple[str, str], dict[int, int]]:
        """Return the parts of the open uploads under a limit, by the key and the id of each upload."""
        if not self._has(MultipartDriver):
            return {}
        try:
            uploads = await self._methods.list_multipart_uploads(scope.bucket, scope.prefix)
        except NotFoundError:
            return {}
        return {
            (upload.key, upload.upload_id): await self.parts(scope.bucket, upload.key, upload.upload_id)
            for upload in uploads
        }

    async def buckets(self) -> list[str]:
        """Return the names of all buckets."""
        return [bucket.name for bucket in await self._driver.list_buckets()]

    async def objects(self, scope: Scope, *, versions: bool) -> AsyncGenerator[Listed, None]:
        """List the objects under a limit in pieces, one for each page; with ``versions`` all of them."""
        of_versions = versions and self._has(VersionListingDriver)
        try:
            async with aclosing(self._version_pages(scope) if of_versions else self._pages(scope, versions)) as pages:
                async for listed in pages:
                    yield listed
        except BucketNotFoundError:
            yield Listed({}, None)

    async def _pages(self, scope: Scope, versions: bool) -> AsyncGenerator[Listed, None]:
        cursor: str | None = None
        while True:
            page = await self._driver.list_page(
                scope.bucket, ListOptions(prefix=scope.prefix, page_size=_PAGE, cursor=cursor)
            )
            cursor = page.cursor
            found = {info.key: (info.size, 1) for info in page.objects}
            by_key = versions and self._has(VersioningDriver)
            if by_key:
                found = {key: await self.object(scope.bucket, key, versions=True) for key in found}
            if found or cursor is None:
                yield Listed(found, None if cursor is None else page.objects[-1].key, complete=not by_key)
            if cursor is None:
                return

    async def _version_pages(self, scope: Scope) -> AsyncGenerator[Listed, None]:
        cursor: str | None = None
        found: dict[str, Size] = {}
        while True:
            page = await self._methods.list_versions_page(
                scope.bucket, VersionListOptions(prefix=scope.prefix, page_size=_PAGE, cursor=cursor)
            )
            cursor = page.cursor
            for version in page.versions:
                nbytes, objects = found.get(version.key, (0, 0))
                more = _size_of(version)
                found[version.key] = nbytes + more[0], objects + more[1]
            if cursor is None:
                yield Listed(found, None)
                return
            if len(found) > 1:
                # The versions of the last key may go on in the next page.
                last, size = found.popitem()
                yield Listed(found, [*found][-1])
                found = {last: size}


def _size_of(version: VersionInfo) -> Size:
    return (0, 0) if version.is_delete_marker else (version.size, 1)


def _sum(versions: Any) -> Size:
    sizes = [_size_of(version) for version in versions]
    return sum(size for size, _ in sizes), sum(objects for _, objects in sizes)
