"""`Bucket`: a store's verbs with the bucket filled in."""

from __future__ import annotations

import builtins
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
    PresignArguments,
    PresignPostArguments,
    PutArguments,
)
from trove_async.store.bucket_uploads import BucketUploads
from trove_async.store.bulk import BulkDelete, Target
from trove_async.store.watch import Watch
from trove_async.types import (
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectInfo,
    PresignedPost,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionIterator
from trove_async.writer import ObjectWriter

__all__ = ["Bucket"]


class Bucket(BucketUploads):
    """One bucket of a store. Each method is the one of `Trove` of the same name, for this bucket."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Bucket {self.name!r} of {self._trove!r}>"

    async def put(self, key: str, data: BodyLike, **arguments: Unpack[PutArguments]) -> ObjectInfo:
        """Store an object, atomically: readers see the old one or the new one, whole.

        Args:
            key: 1 to 1,024 bytes of UTF-8 without NUL.
            data: bytes-like, a path, a binary file, an (async) iterable of bytes-like, or an object
                with an async ``read`` or ``read_chunk``, such as Starlette's ``UploadFile`` and aiohttp's
                ``BodyPartReader``. What is not in memory is read in chunks; sync sources are read off the
                loop. A file that you pass stays open.
            content_type: default: what the key's extension stands for, else ``application/octet-stream``.
            metadata: names are case-insensitive and become lower case.
            tags: at most 10.
            storage_class: one of the backend's; default: the store's, else the backend's.
            cache_control, content_disposition, content_encoding, content_language: stored as given.
            if_match: replace only the object that has this ETag.
            if_none_match: ``"*"`` creates an object and never replaces one; an ETag replaces any object but that one.
            checksum: ``"sha256"`` computes and stores one; ``"sha256:HEX"`` compares it too.
            size: the number of bytes; a body of another length is an error.
            on_progress: called with the bytes taken so far and the size (None if unknown).

        Raises:
            BucketNotFoundError: the bucket does not exist.
            ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
            PreconditionFailedError: another condition does not hold.
            BodySizeError, ChecksumError: the body is not what was declared.
            UnsupportedError: the store cannot honour a condition; nothing was read or sent.
            Exception: an exception of the body's source passes unchanged.

        Whatever is raised, the old object stays, unless the error has ``ambiguous=True``.
        """
        return await self._trove.put(self.name, key, data, **arguments)

    def writer(self, key: str, **arguments: Unpack[PutArguments]) -> ObjectWriter:
        """Write an object bit by bit: ``async with t.writer(…) as w: await w.write(…)``.

        A clean exit commits, any other aborts and leaves the old object. Keyword arguments and errors
        are those of `put`.
        """
        return self._trove.writer(self.name, key, **arguments)

    def get(
        self,
        key: str,
        *,
        range: RangeLike | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> Opening[ObjectReader]:
        """Open an object: ``async with t.get(…) as reader``, or ``reader = await t.get(…)``.

        Args:
            key: which object.
            range: ``(offset, length)``; length None reads to the end; offset ``-n`` with length None reads the last n
                bytes. A range that extends past the end is shortened.
            version_id: a version other than the latest.
            if_match: only the object that has this ETag.
            if_none_match: only if the object has another ETag.
            if_modified_since, if_unmodified_since: aware; compared in whole seconds.

        Raises (when awaited or entered):
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it does not exist.
            RangeNotSatisfiableError: the range starts at or past the end.
            NotModifiedError, PreconditionFailedError: a condition does not hold.
        """
        return self._trove.get(
            self.name,
            key,
            range=range,
            version_id=version_id,
            if_match=if_match,
            if_none_match=if_none_match,
            if_modified_since=if_modified_since,
            if_unmodified_since=if_unmodified_since,
        )

    async def read(
        self,
        key: str,
        range: RangeLike | None = None,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> bytes:
        """Return an object's bytes, or those of a range; a range of length 0 is ``b""`` without a request.

        Arguments and errors are those of `get`.
        """
        return await self._trove.read(
            self.name, key, range, version_id=version_id, if_match=if_match, if_none_match=if_none_match
        )

    async def read_ranges(
        self, key: str, ranges: Sequence[RangeLike], *, coalesce_gap: int = 1024 * 1024
    ) -> list[bytes]:
        """Return the bytes of several ranges of one object, in their order.

        Ranges that lie within ``coalesce_gap`` bytes of each other are fetched together, up to 8 MiB in a request, the
        others in parallel; all are of the same object, also when it is replaced meanwhile.

        Raises:
            RangeNotSatisfiableError: a range starts at or past the end.
            ObjectChangedError: the object was replaced between two fetches.
        """
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
        """Save an object as a file, atomically: the file appears, or is replaced, when it is complete.

        Links are followed. A file that is replaced keeps its mode, and its owner and group where the process may set
        them. A device, a FIFO, and a descriptor of this process such as ``/dev/stdout`` are written as they stand: what
        was written before a failure stays written. A FIFO that nobody reads is waited for.

        Args:
            key: which object.
            path: the file; its directory exists.
            version_id, if_match: as for `get`.
            on_progress: called with the number of bytes read so far and the size.

        Raises:
            OSError: the file cannot be written; `IsADirectoryError` for a directory.
            InvalidArgumentError: no file can have this path, or ``on_progress`` is no plain function.
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError, PreconditionFailedError: as for `get`;
                an existing file is not touched.
        """
        return await self._trove.download(
            self.name, key, path, version_id=version_id, if_match=if_match, on_progress=on_progress
        )

    async def head(
        self,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
    ) -> ObjectInfo:
        """Describe an object; arguments and errors are those of `get`."""
        return await self._trove.head(
            self.name,
            key,
            version_id=version_id,
            if_match=if_match,
            if_none_match=if_none_match,
            if_modified_since=if_modified_since,
            if_unmodified_since=if_unmodified_since,
        )

    async def exists(self, key: str) -> bool:
        """Tell whether an object exists; False where the bucket does not."""
        return await self._trove.exists(self.name, key)

    async def delete(self, key: str, *, version_id: str | None = None, if_match: str | None = None) -> None:
        """Delete an object; success if it does not exist.

        In a bucket that keeps versions this leaves a delete marker; with ``version_id`` it deletes that
        version permanently.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            PreconditionFailedError: the object has another ETag than ``if_match``, or does not exist.
        """
        await self._trove.delete(self.name, key, version_id=version_id, if_match=if_match)

    def delete_many(self, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: bool = True) -> BulkDelete:
        """Delete many objects: await it for their number, or ``async for`` over a `DeleteResult` for each.

        Every key is tried; missing objects count as deleted.

        Args:
            keys: any number, also from an async generator. A `VersionInfo` among them is a version or delete marker,
                which is deleted permanently.
            raise_errors: raise at the end if a key failed; False to look at the results alone.

        Raises (at the end):
            BulkError: with ``failed`` and ``deleted_count``.
        """
        return self._trove.delete_many(self.name, keys, raise_errors=raise_errors)

    async def copy(
        self, src_key: str, dst_key: str, *, dst_bucket: str | None = None, **arguments: Unpack[CopyArguments]
    ) -> ObjectInfo:
        """Copy an object within the store, as atomically as a put; also onto itself.

        What the backend cannot copy by itself is read and written, in bounded memory.

        Args:
            src_key: the source.
            dst_key, dst_bucket: the destination; default the same bucket.
            replace: False copies content type, metadata, tags and everything else that describes the source.
                True takes all of it from the arguments, as `put` does.
            content_type, metadata, tags, storage_class, cache_control, content_disposition, content_encoding,
            content_language: as for `put`; only with ``replace=True``.
            source_version_id: copy this version.
            source_if_match: copy only the source that has this ETag.
            if_match, if_none_match: conditions on the destination, as for `put`.

        Raises:
            ObjectNotFoundError: the source does not exist; it is named.
            PreconditionFailedError, ObjectAlreadyExistsError: a condition does not hold.
            ObjectChangedError: the source was replaced meanwhile.
            CopyError: what no other class describes; ``copy_phase`` of each error says which end failed.
        """
        return await self._trove.copy(self.name, src_key, dst_bucket or self.name, dst_key, **arguments)

    async def move(self, src_key: str, dst_key: str, *, dst_bucket: str | None = None) -> ObjectInfo:
        """Copy an object and delete the source; a move onto itself changes nothing.

        The destination is written atomically; only then is the source deleted, and only if it is
        still the object that was copied. If anything fails, the source is still there.

        Raises:
            ObjectNotFoundError: the source does not exist.
            PreconditionFailedError: the source was replaced meanwhile; both objects exist.
            TroveError: as for `copy`; ``copy_phase`` is None if only the deletion failed.
        """
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
        """List a bucket: ``async for item in t.list(…)``, in the order of the keys' UTF-8 bytes.

        Args:
            prefix: only keys that begin with it; a string, not a path: ``foo`` matches ``foobar``.
            delimiter: group the keys that have it behind the prefix; the groups come as `Prefix` among the objects.
            max_keys: the maximum number of items to yield.
            page_size: the number of items per request, 1 to 1,000; a hint.
            cursor: continue at an `ObjectIterator.cursor`, for the same bucket, prefix and delimiter.
            start_after: only keys that sort after it.

        Raises:
            InvalidCursorError: at once; the cursor is malformed or of another listing.
            BucketNotFoundError: at the first step.
        """
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

    async def presign_get(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that reads the object, for ``expires`` seconds (default 3,600).

        Other arguments: ``version_id``, ``response_content_type``, ``response_content_disposition``.
        """
        return await self._trove.presign_get(self.name, key, **options)

    async def presign_put(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that writes the object, for ``expires`` seconds (default 3,600).

        With ``content_type`` and ``content_length`` the request must have just these.
        """
        return await self._trove.presign_put(self.name, key, **options)

    async def presign_head(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that describes the object; where ``features.presign_methods`` has HEAD."""
        return await self._trove.presign_head(self.name, key, **options)

    async def presign_delete(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that deletes the object; where ``features.presign_methods`` has DELETE."""
        return await self._trove.presign_delete(self.name, key, **options)

    async def presign_post(self, key: str, **options: Unpack[PresignPostArguments]) -> PresignedPost:
        """Return a form with which a browser stores an object; where ``features.presign_methods`` has POST.

        Args:
            key: where the file goes.
            options: ``max_size`` and ``min_size`` (default 0) in bytes, ``expires`` in seconds (default
                3,600), ``content_type``, which the form must then carry.
        """
        return await self._trove.presign_post(self.name, key, **options)

    async def set_versioning(self, enabled: bool) -> None:
        """Start or stop keeping versions of the bucket's objects; existing versions stay.

        Raises:
            InvalidArgumentError: ``enabled`` is not True or False.
        """
        await self._trove.set_versioning(self.name, enabled)

    async def get_versioning(self) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        return await self._trove.get_versioning(self.name)

    async def list_versions(self, key: str) -> builtins.list[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        return await self._trove.list_versions(self.name, key)

    def list_all_versions(
        self, prefix: str = "", *, page_size: int = 1000, cursor: str | None = None
    ) -> VersionIterator:
        """List the versions and delete markers of a bucket: ``async for version in t.list_all_versions(…)``.

        They come in the order of the keys' UTF-8 bytes, those of one key newest first; those of deleted objects too.
        An object that was stored while the bucket kept no versions is the version ``null``.

        Args:
            prefix: only keys that begin with it; a string, not a path: ``foo`` matches ``foobar``.
            page_size: the number of versions per request, 1 to 1,000; a hint.
            cursor: continue at a `VersionIterator.cursor`, for the same bucket and prefix.

        Raises:
            UnsupportedError: at once; the store has no versions, or cannot list those of a bucket.
            InvalidCursorError: at once; the cursor is malformed or of another listing.
            BucketNotFoundError: at the first step.
        """
        return self._trove.list_all_versions(self.name, prefix, page_size=page_size, cursor=cursor)

    def empty_bucket(self, versions: bool = False, *, raise_errors: bool = True) -> BulkDelete:
        """Delete all objects of a bucket: await it for their number, or ``async for`` over a `DeleteResult` for each.

        What is written meanwhile may stay. Uploads in parts stay; see `list_multipart_uploads`.

        Args:
            versions: True to delete all versions and delete markers permanently too, where the store keeps versions;
                `delete_bucket` then succeeds. False leaves them, and adds a delete marker for each object in a bucket
                that keeps versions.
            raise_errors: as for `delete_many`.

        Raises:
            UnsupportedError: at once, with ``versions=True``; the store keeps versions and cannot list those of a
                bucket.
            BucketNotFoundError: at the first step.
            BulkError: at the end, with ``failed`` and ``deleted_count``.
        """
        return self._trove.empty_bucket(self.name, versions, raise_errors=raise_errors)

    async def get_version(self, key: str, version_id: str) -> ObjectReader:
        """Open a version; as ``get(version_id=…)``.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        return await self._trove.get_version(self.name, key, version_id)

    async def delete_version(self, key: str, version_id: str) -> None:
        """Delete a version permanently; the next newest becomes the latest. Success if it does not exist."""
        await self._trove.delete_version(self.name, key, version_id)

    async def restore_version(self, key: str, version_id: str) -> ObjectInfo:
        """Copy a version, which makes the copy the latest version.

        Raises:
            VersionNotFoundError, CopyError: it does not exist, or is a delete marker; or as for `copy`.
        """
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
        """Watch a bucket: ``async with t.watch(…) as events: async for event in events``.

        Args:
            prefix: only keys that begin with it.
            events: only these types; default all.
            buffer_size: the number of events that may wait before `WatchOverflowError`.
            poll_interval: seconds between listings, if the driver has to poll.
            resume_token: continue after the event that had it, if ``features.watch_resume``.

        Raises (when entered or at the first step):
            BucketNotFoundError: the bucket does not exist.
        """
        return self._trove.watch(
            self.name,
            prefix=prefix,
            events=events,
            buffer_size=buffer_size,
            poll_interval=poll_interval,
            resume_token=resume_token,
        )

    async def set_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's lifecycle rules.

        Raises:
            InvalidLifecycleError: a rule contradicts itself; before any I/O.
        """
        await self._trove.set_lifecycle(self.name, rules)

    async def get_lifecycle(self) -> builtins.list[LifecycleRule]:
        """Return the bucket's lifecycle rules; empty if there are none."""
        return await self._trove.get_lifecycle(self.name)

    async def delete_lifecycle(self) -> None:
        """Remove the bucket's lifecycle rules."""
        await self._trove.delete_lifecycle(self.name)

    async def apply_lifecycle(self, *, now: datetime | None = None) -> LifecycleReport:
        """Apply the lifecycle rules of a bucket, if no service does; call it about once a day.

        Args:
            now: the time to use as the present, aware; default: the current time.

        Raises:
            UnsupportedError: the service applies the rules itself, or the store has no lifecycle rules.
        """
        return await self._trove.apply_lifecycle(self.name, now=now)

    async def get_range(self, key: str, offset: int, length: int = -1) -> ObjectReader:
        """Open a range: ``length`` bytes from ``offset``, to the end with -1.

        Raises:
            RangeNotSatisfiableError: it starts at or past the end.
        """
        return await self._trove.get_range(self.name, key, offset, length)

    async def get_tags(self, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return await self._trove.get_tags(self.name, key)

    async def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags; the object and its ETag do not change."""
        await self._trove.set_tags(self.name, key, tags)

    async def delete_tags(self, key: str) -> None:
        """Remove an object's tags."""
        await self._trove.delete_tags(self.name, key)
