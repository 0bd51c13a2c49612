"""`Bucket`: a store's verbs with the bucket filled in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Unpack, overload

from trove_async.body import BodyLike, Progress
from trove_async.listing import Item, ObjectIterator
from trove_async.opening import Opening
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.store.arguments import (
    CopyArguments,
    GetArguments,
    HeadArguments,
    PresignArguments,
    PresignPostArguments,
    PutArguments,
    UploadArguments,
)
from trove_async.store.bulk import BulkDelete, Target
from trove_async.store.capabilities import CapabilityVerbs
from trove_async.store.watch import Watch
from trove_async.types import (
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectInfo,
    PartInfo,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionIterator
from trove_async.writer import ObjectWriter

__all__ = ["Bucket"]


class Bucket:
    """One bucket of a store. Each method is the one of `Trove` of the same name, which documents it."""

    __slots__ = ("_trove", "name")

    def __init__(self, trove: CapabilityVerbs, name: str) -> None:
        self._trove = trove
        self.name = name

    def __repr__(self) -> str:
        return f"<Bucket {self.name!r} of {self._trove!r}>"

    async def put(self, key: str, data: BodyLike, **options: Unpack[PutArguments]) -> ObjectInfo:
        """Store an object."""
        return await self._trove.put(self.name, key, data, **options)

    def writer(self, key: str, **options: Unpack[PutArguments]) -> ObjectWriter:
        """Write an object bit by bit."""
        return self._trove.writer(self.name, key, **options)

    def get(self, key: str, **options: Unpack[GetArguments]) -> Opening[ObjectReader]:
        """Open an object."""
        return self._trove.get(self.name, key, **options)

    async def read(
        self,
        key: str,
        range: RangeLike | None = None,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> bytes:
        """Return an object's bytes, or those of a range."""
        return await self._trove.read(
            self.name, key, range, version_id=version_id, if_match=if_match, if_none_match=if_none_match
        )

    async def read_ranges(
        self, key: str, ranges: Sequence[RangeLike], *, coalesce_gap: int = 1024 * 1024
    ) -> list[bytes]:
        """Return the bytes of several ranges of one object."""
        return await self._trove.read_ranges(self.name, key, ranges, coalesce_gap=coalesce_gap)

    async def download(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        on_progress: Progress | None = None,
    ) -> ObjectInfo:
        """Save an object as a file."""
        return await self._trove.download(
            self.name, key, path, version_id=version_id, if_match=if_match, on_progress=on_progress
        )

    async def head(self, key: str, **options: Unpack[HeadArguments]) -> ObjectInfo:
        """Describe an object."""
        return await self._trove.head(self.name, key, **options)

    async def exists(self, key: str) -> bool:
        """Tell whether an object exists."""
        return await self._trove.exists(self.name, key)

    async def delete(self, key: str, *, version_id: str | None = None, if_match: str | None = None) -> None:
        """Delete an object."""
        await self._trove.delete(self.name, key, version_id=version_id, if_match=if_match)

    def delete_many(self, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: bool = True) -> BulkDelete:
        """Delete many objects."""
        return self._trove.delete_many(self.name, keys, raise_errors=raise_errors)

    async def copy(
        self, src_key: str, dst_key: str, *, dst_bucket: str | None = None, **options: Unpack[CopyArguments]
    ) -> ObjectInfo:
        """Copy an object within the bucket, or to another."""
        return await self._trove.copy(self.name, src_key, dst_bucket or self.name, dst_key, **options)

    async def move(self, src_key: str, dst_key: str, *, dst_bucket: str | None = None) -> ObjectInfo:
        """Move an object within the bucket, or to another."""
        return await self._trove.move(self.name, src_key, dst_bucket or self.name, dst_key)

    @overload
    def list(
        self,
        prefix: str = "",
        *,
        delimiter: None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo]: ...

    @overload
    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[Item]: ...

    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str | None = None,
        max_keys: int | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
        start_after: str | None = None,
    ) -> ObjectIterator[ObjectInfo] | ObjectIterator[Item]:
        """List the bucket."""
        found: ObjectIterator[ObjectInfo] | ObjectIterator[Item] = self._trove.list(
            self.name,
            prefix,
            delimiter=delimiter,
            max_keys=max_keys,
            page_size=page_size,
            cursor=cursor,
            start_after=start_after,
        )
        return found

    async def initiate_multipart(self, key: str, **arguments: Unpack[UploadArguments]) -> str:
        """Begin an upload in parts and return its id."""
        return await self._trove.initiate_multipart(self.name, key, **arguments)

    async def upload_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        data: BodyLike,
        *,
        size: int | None = None,
        on_progress: Progress | None = None,
    ) -> PartInfo:
        """Store a part of an upload."""
        return await self._trove.upload_part(
            self.name, key, upload_id, number, data, size=size, on_progress=on_progress
        )

    async def complete_multipart(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Make the object of its parts."""
        return await self._trove.complete_multipart(
            self.name, key, upload_id, parts, if_match=if_match, if_none_match=if_none_match
        )

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Give an upload up."""
        await self._trove.abort_multipart(self.name, key, upload_id)

    async def list_parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._trove.list_parts(self.name, key, upload_id)

    async def list_multipart_uploads(self, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._trove.list_multipart_uploads(self.name, prefix)

    async def presign_get(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that reads an object."""
        return await self._trove.presign_get(self.name, key, **options)

    async def presign_put(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that writes an object."""
        return await self._trove.presign_put(self.name, key, **options)

    async def presign_head(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that describes an object."""
        return await self._trove.presign_head(self.name, key, **options)

    async def presign_delete(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that deletes an object."""
        return await self._trove.presign_delete(self.name, key, **options)

    async def presign_post(self, key: str, **options: Unpack[PresignPostArguments]) -> PresignedPost:
        """Return a form with which a browser stores an object."""
        return await self._trove.presign_post(self.name, key, **options)

    async def set_versioning(self, enabled: bool) -> None:
        """Keep versions from now on, or stop to."""
        await self._trove.set_versioning(self.name, enabled)

    async def get_versioning(self) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        return await self._trove.get_versioning(self.name)

    async def list_versions(self, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers of a key."""
        return await self._trove.list_versions(self.name, key)

    def list_all_versions(
        self, prefix: str = "", *, page_size: int = 1000, cursor: str | None = None
    ) -> VersionIterator:
        """List the versions and delete markers of the bucket."""
        return self._trove.list_all_versions(self.name, prefix, page_size=page_size, cursor=cursor)

    def empty_bucket(self, versions: bool = False, *, raise_errors: bool = True) -> BulkDelete:
        """Delete all objects."""
        return self._trove.empty_bucket(self.name, versions, raise_errors=raise_errors)

    async def get_version(self, key: str, version_id: str) -> ObjectReader:
        """Open a version."""
        return await self._trove.get_version(self.name, key, version_id)

    async def delete_version(self, key: str, version_id: str) -> None:
        """Delete a version for good."""
        await self._trove.delete_version(self.name, key, version_id)

    async def restore_version(self, key: str, version_id: str) -> ObjectInfo:
        """Make a copy of a version the latest."""
        return await self._trove.restore_version(self.name, key, version_id)

    def watch(
        self,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        buffer_size: int = 10_000,
        poll_interval: float = 5.0,
        resume_token: str | None = None,
    ) -> Watch:
        """Watch the bucket."""
        return self._trove.watch(
            self.name,
            prefix=prefix,
            events=events,
            buffer_size=buffer_size,
            poll_interval=poll_interval,
            resume_token=resume_token,
        )

    async def set_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        """Replace the lifecycle rules."""
        await self._trove.set_lifecycle(self.name, rules)

    async def get_lifecycle(self) -> Sequence[LifecycleRule]:
        """Return the lifecycle rules."""
        return await self._trove.get_lifecycle(self.name)

    async def delete_lifecycle(self) -> None:
        """Remove the lifecycle rules."""
        await self._trove.delete_lifecycle(self.name)

    async def apply_lifecycle(self, *, now: datetime | None = None) -> LifecycleReport:
        """Carry out the lifecycle rules, where no service does."""
        return await self._trove.apply_lifecycle(self.name, now=now)

    async def get_range(self, key: str, offset: int, length: int = -1) -> ObjectReader:
        """Open a range."""
        return await self._trove.get_range(self.name, key, offset, length)

    async def get_tags(self, key: str) -> Mapping[str, str]:
        """Return an object's tags."""
        return await self._trove.get_tags(self.name, key)

    async def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags."""
        await self._trove.set_tags(self.name, key, tags)

    async def delete_tags(self, key: str) -> None:
        """Remove an object's tags."""
        await self._trove.delete_tags(self.name, key)
