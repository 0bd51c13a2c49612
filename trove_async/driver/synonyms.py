"""Mixins for the methods of capabilities that only rephrase another method of the driver.

A driver inherits those that fit its backend, ahead of `Driver`, and implements what they build on.
A backend that has a call of its own overrides the method instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from trove_async.driver.capabilities import PresignMethod
from trove_async.driver.options import CopyOptions, DeleteOptions, GetOptions, PresignOptions, PresignPostOptions
from trove_async.errors import UnsupportedError
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import LifecycleRule, ObjectInfo, ObjectRef, PresignedPost

__all__ = [
    "ExpireByDelete",
    "LifecycleDeleteBySet",
    "PresignByMethod",
    "RangeByGet",
    "ServerCopyByCopy",
    "TagsDeleteBySet",
    "VersionsByOptions",
]


class _Objects(Protocol):
    """The methods of `Driver` that take the version, the range and the conditions as options."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader: ...

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None: ...

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo: ...


class RangeByGet:
    """`RangeDriver` by `Driver.get` with a range."""

    async def get_range(self: _Objects, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Read ``length`` bytes from ``offset``; to the end with -1."""
        return await self.get(bucket, key, GetOptions(range=ByteRange(offset, None if length == -1 else length)))


class ServerCopyByCopy:
    """`ServerCopyDriver` by `Driver.copy`."""

    async def server_copy(
        self: _Objects, src: ObjectRef, dst: ObjectRef, options: CopyOptions | None = None
    ) -> ObjectInfo:
        """Copy an object, or the version of it that ``src`` names."""
        options = CopyOptions() if options is None else options
        if src.version_id is not None:
            options = replace(options, source_version_id=src.version_id)
        return await self.copy(src.bucket, src.key, dst.bucket, dst.key, options)


class VersionsByOptions:
    """The methods of `VersioningDriver` about one version, by the ``version_id`` of get, delete and copy."""

    async def get_version(self: _Objects, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Read a version."""
        return await self.get(bucket, key, GetOptions(version_id=version_id))

    async def delete_version(self: _Objects, bucket: str, key: str, version_id: str) -> None:
        """Delete a version permanently."""
        await self.delete(bucket, key, DeleteOptions(version_id=version_id))

    async def restore_version(self: _Objects, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Copy a version onto its object, which makes the copy the latest version."""
        return await self.copy(bucket, key, bucket, key, CopyOptions(source_version_id=version_id))


class ExpireByDelete:
    """`LifecycleSweepDriver.expire` by a conditional `Driver.delete`."""

    async def expire(self: _Objects, bucket: str, key: str, if_match: str) -> None:
        """Delete the object if it still has this ETag."""
        await self.delete(bucket, key, DeleteOptions(if_match=if_match))


class _Presigner(Protocol):
    @property
    def name(self) -> str: ...

    async def presign(self, method: PresignMethod, bucket: str, key: str, options: PresignOptions) -> str: ...


class PresignByMethod:
    """`PresignDriver` by one method of the driver, ``presign(method, bucket, key, options)``.

    Forms are refused; a backend that has them overrides `presign_post`.
    """

    async def presign_get(self: _Presigner, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that reads the object."""
        return await self.presign("GET", bucket, key, options)

    async def presign_put(self: _Presigner, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that writes the object."""
        return await self.presign("PUT", bucket, key, options)

    async def presign_head(self: _Presigner, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that describes the object."""
        return await self.presign("HEAD", bucket, key, options)

    async def presign_delete(self: _Presigner, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that deletes the object."""
        return await self.presign("DELETE", bucket, key, options)

    async def presign_post(self: _Presigner, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Refuse: the backend has no signed forms."""
        raise UnsupportedError(f"{self.name} has no signed forms; presign a PUT", driver=self.name)


class _SetsTags(Protocol):
    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None: ...


class TagsDeleteBySet:
    """`TaggingDriver.delete_tags` by setting no tags."""

    async def delete_tags(self: _SetsTags, bucket: str, key: str) -> None:
        """Remove the object's tags."""
        await self.set_tags(bucket, key, {})


class _SetsLifecycle(Protocol):
    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None: ...


class LifecycleDeleteBySet:
    """`LifecycleDriver.delete_lifecycle` by setting no rules."""

    async def delete_lifecycle(self: _SetsLifecycle, bucket: str) -> None:
        """Remove all rules."""
        await self.set_lifecycle(bucket, ())
