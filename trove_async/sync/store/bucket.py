"""`Bucket`: a store's verbs with the bucket filled in.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Unpack, cast, overload

from trove_async import listing
from trove_async.body import BodyLike, Progress
from trove_async.listing import Item
from trove_async.ranges import RangeLike
from trove_async.store.arguments import CopyArguments, PresignArguments, PresignPostArguments, PutArguments
from trove_async.store.bulk import Target
from trove_async.sync.bulk import BulkDelete, off_loop
from trove_async.sync.listing import ObjectIterator, VersionIterator
from trove_async.sync.reader import ObjectReader
from trove_async.sync.store.bucket_uploads import BucketUploads
from trove_async.sync.watch import Watch
from trove_async.sync.writer import ObjectWriter
from trove_async.types import (
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectInfo,
    PresignedPost,
    VersionInfo,
    VersioningStatus,
)

__all__ = ["Bucket"]


class Bucket(BucketUploads):
    """One bucket of a store. Each method is the one of `Trove` of the same name, for this bucket."""

    __slots__ = ()

    def put(self, key: str, data: BodyLike, **arguments: Unpack[PutArguments]) -> ObjectInfo:
        """Store an object, atomically: readers see the old one or the new one, whole.

        Args:
            key: 1 to 1,024 bytes of UTF-8 without NUL.
            data: bytes-like, a path, a binary file, an (async) iterable of bytes-like, or an object
                with an async ``read`` or ``read_chunk``, such as Starlette's ``UploadFile`` and aiohttp's
                ``BodyPartReader``. What is not in memory is read in chunks; sync sources are read in
                another thread. A file that you pass stays open.
            content_type: default: what the key's extension stands for, else ``application/octet-stream``.
            metadata: names are case-insensitive and become lower case.
            tags: at most 10.
            storage_class: one of the backend's; default: the store's, else the backend's.
            cache_control, content_disposition, content_encoding, content_language: stored as given.
            if_match: replace only the object that has this ETag.
            if_none_match: ``"*"`` creates an object and never replaces one; an ETag replaces any object but that one.
            checksum: ``"sha256"`` computes and stores one; ``"sha256:HEX"`` compares it too.
            size: the number of bytes; a body of another length is an error.
            on_progress: called in the portal's thread with the bytes taken so far and the size (None if unknown).

        Raises:
            BucketNotFoundError: the bucket does not exist.
            ObjectAlreadyExistsError: ``if_none_match="*"`` and the object exists.
            PreconditionFailedError: another condition does not hold.
            BodySizeError, ChecksumError: the body is not what was declared.
            UnsupportedError: the store cannot honour a condition; nothing was read or sent.
            Exception: an exception of the body's source passes unchanged.

        Whatever is raised, the old object stays, unless the error has ``ambiguous=True``.
        """
        return self._portal.call(lambda: self._async.put(key, data, **arguments))

    def writer(self, key: str, **arguments: Unpack[PutArguments]) -> ObjectWriter:
        """Write an object bit by bit: ``with t.writer(…) as w: w.write(…)``.

        A clean exit commits, any other aborts and leaves the old object. Keyword arguments and errors
        are those of `put`.
        """
        return ObjectWriter(self._portal, self._portal.run(lambda: self._async.writer(key, **arguments)))

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
    ) -> ObjectReader:
        """Open an object: ``with t.get(…) as reader``, or ``reader = t.get(…)``.

        Args:
            key: which object.
            range: ``(offset, length)``; length None reads to the end; offset ``-n`` with length None reads the last n
                bytes. A range that extends past the end is shortened.
            version_id: a version other than the latest.
            if_match: only the object that has this ETag.
            if_none_match: only if the object has another ETag.
            if_modified_since, if_unmodified_since: aware; compared in whole seconds.

        Raises:
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it does not exist.
            RangeNotSatisfiableError: the range starts at or past the end.
            NotModifiedError, PreconditionFailedError: a condition does not hold.
        """
        return ObjectReader(
            self._portal,
            self._portal.call(
                lambda: self._async.get(
                    key,
                    range=range,
                    version_id=version_id,
                    if_match=if_match,
                    if_none_match=if_none_match,
                    if_modified_since=if_modified_since,
                    if_unmodified_since=if_unmodified_since,
                )
            ),
        )

    def read(
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
        return self._portal.call(
            lambda: self._async.read(key, range, version_id=version_id, if_match=if_match, if_none_match=if_none_match)
        )

    def read_ranges(self, key: str, ranges: Sequence[RangeLike], *, coalesce_gap: int = 1024 * 1024) -> list[bytes]:
        """Return the bytes of several ranges of one object, in their order.

        Ranges that lie within ``coalesce_gap`` bytes of each other are fetched together, up to 8 MiB in a request, the
        others in parallel; all are of the same object, also when it is replaced meanwhile.

        Raises:
            RangeNotSatisfiableError: a range starts at or past the end.
            ObjectChangedError: the object was replaced between two fetches.
        """
        return self._portal.call(lambda: self._async.read_ranges(key, ranges, coalesce_gap=coalesce_gap))

    def download(
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
            on_progress: called in the portal's thread with the number of bytes read so far and the size.

        Raises:
            OSError: the file cannot be written; `IsADirectoryError` for a directory.
            InvalidArgumentError: no file can have this path, or ``on_progress`` is no plain function.
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError, PreconditionFailedError: as for `get`;
                an existing file is not touched.
        """
        return self._portal.call(
            lambda: self._async.download(key, path, version_id=version_id, if_match=if_match, on_progress=on_progress)
        )

    def head(
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
        return self._portal.call(
            lambda: self._async.head(
                key,
                version_id=version_id,
                if_match=if_match,
                if_none_match=if_none_match,
                if_modified_since=if_modified_since,
                if_unmodified_since=if_unmodified_since,
            )
        )

    def exists(self, key: str) -> bool:
        """Tell whether an object exists; False where the bucket does not."""
        return self._portal.call(lambda: self._async.exists(key))

    def delete(self, key: str, *, version_id: str | None = None, if_match: str | None = None) -> None:
        """Delete an object; success if it does not exist.

        In a bucket that keeps versions this leaves a delete marker; with ``version_id`` it deletes that
        version permanently.

        Raises:
            BucketNotFoundError: the bucket does not exist.
            PreconditionFailedError: the object has another ETag than ``if_match``, or does not exist.
        """
        self._portal.call(lambda: self._async.delete(key, version_id=version_id, if_match=if_match))

    @overload
    def delete_many(
        self, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: Literal[True] = True
    ) -> int: ...

    @overload
    def delete_many(
        self, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: Literal[False]
    ) -> BulkDelete: ...

    def delete_many(
        self, keys: Iterable[Target] | AsyncIterable[Target], *, raise_errors: bool = True
    ) -> int | BulkDelete:
        """Delete many objects, and return their number.

        Every key is tried; missing objects count as deleted.

        Args:
            keys: any number, also from a generator, which runs in another thread. A `VersionInfo` among them is
                a version or delete marker, which is deleted permanently.
            raise_errors: raise at the end if a key failed; False to get an iterator over a `DeleteResult` for each
                key, which deletes as it goes.

        Raises (at the end):
            BulkError: with ``failed`` and ``deleted_count``.
        """
        deletion = self._portal.run(lambda: self._async.delete_many(off_loop(keys), raise_errors=raise_errors))
        return self._portal.call(lambda: deletion) if raise_errors else BulkDelete(self._portal, deletion)

    def copy(
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
        return self._portal.call(lambda: self._async.copy(src_key, dst_key, dst_bucket=dst_bucket, **arguments))

    def move(self, src_key: str, dst_key: str, *, dst_bucket: str | None = None) -> ObjectInfo:
        """Copy an object and delete the source; a move onto itself changes nothing.

        The destination is written atomically; only then is the source deleted, and only if it is
        still the object that was copied. If anything fails, the source is still there.

        Raises:
            ObjectNotFoundError: the source does not exist.
            PreconditionFailedError: the source was replaced meanwhile; both objects exist.
            TroveError: as for `copy`; ``copy_phase`` is None if only the deletion failed.
        """
        return self._portal.call(lambda: self._async.move(src_key, dst_key, dst_bucket=dst_bucket))

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
        """List a bucket: ``for item in t.list(…)``, in the order of the keys' UTF-8 bytes.

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
        return ObjectIterator(
            self._portal,
            cast(
                "listing.ObjectIterator[Item]",
                self._portal.run(
                    lambda: self._async.list(
                        prefix,
                        delimiter=delimiter,
                        max_keys=max_keys,
                        page_size=page_size,
                        cursor=cursor,
                        start_after=start_after,
                    )
                ),
            ),
        )

    def presign_get(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that reads the object, for ``expires`` seconds (default 3,600).

        Other arguments: ``version_id``, ``response_content_type``, ``response_content_disposition``.
        """
        return self._portal.call(lambda: self._async.presign_get(key, **options))

    def presign_put(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that writes the object, for ``expires`` seconds (default 3,600).

        With ``content_type`` and ``content_length`` the request must have just these.
        """
        return self._portal.call(lambda: self._async.presign_put(key, **options))

    def presign_head(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that describes the object; where ``features.presign_methods`` has HEAD."""
        return self._portal.call(lambda: self._async.presign_head(key, **options))

    def presign_delete(self, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that deletes the object; where ``features.presign_methods`` has DELETE."""
        return self._portal.call(lambda: self._async.presign_delete(key, **options))

    def presign_post(self, key: str, **options: Unpack[PresignPostArguments]) -> PresignedPost:
        """Return a form with which a browser stores an object; where ``features.presign_methods`` has POST.

        Args:
            key: where the file goes.
            options: ``max_size`` and ``min_size`` (default 0) in bytes, ``expires`` in seconds (default
                3,600), ``content_type``, which the form must then carry.
        """
        return self._portal.call(lambda: self._async.presign_post(key, **options))

    def set_versioning(self, enabled: bool) -> None:
        """Start or stop keeping versions of the bucket's objects; existing versions stay.

        Raises:
            InvalidArgumentError: ``enabled`` is not True or False.
        """
        self._portal.call(lambda: self._async.set_versioning(enabled))

    def get_versioning(self) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        return self._portal.call(lambda: self._async.get_versioning())

    def list_versions(self, key: str) -> builtins.list[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        return self._portal.call(lambda: self._async.list_versions(key))

    def list_all_versions(
        self, prefix: str = "", *, page_size: int = 1000, cursor: str | None = None
    ) -> VersionIterator:
        """List the versions and delete markers of a bucket: ``for version in t.list_all_versions(…)``.

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
        return VersionIterator(
            self._portal,
            self._portal.run(lambda: self._async.list_all_versions(prefix, page_size=page_size, cursor=cursor)),
        )

    @overload
    def empty_bucket(self, versions: bool = False, *, raise_errors: Literal[True] = True) -> int: ...

    @overload
    def empty_bucket(self, versions: bool = False, *, raise_errors: Literal[False]) -> BulkDelete: ...

    def empty_bucket(self, versions: bool = False, *, raise_errors: bool = True) -> int | BulkDelete:
        """Delete all objects of a bucket, and return their number.

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
        deletion = self._portal.run(lambda: self._async.empty_bucket(versions, raise_errors=raise_errors))
        return self._portal.call(lambda: deletion) if raise_errors else BulkDelete(self._portal, deletion)

    def get_version(self, key: str, version_id: str) -> ObjectReader:
        """Open a version; as ``get(version_id=…)``.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        return ObjectReader(self._portal, self._portal.call(lambda: self._async.get_version(key, version_id)))

    def delete_version(self, key: str, version_id: str) -> None:
        """Delete a version permanently; the next newest becomes the latest. Success if it does not exist."""
        self._portal.call(lambda: self._async.delete_version(key, version_id))

    def restore_version(self, key: str, version_id: str) -> ObjectInfo:
        """Copy a version, which makes the copy the latest version.

        Raises:
            VersionNotFoundError, CopyError: it does not exist, or is a delete marker; or as for `copy`.
        """
        return self._portal.call(lambda: self._async.restore_version(key, version_id))

    def watch(
        self,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        buffer_size: int = 10_000,
        poll_interval: float = 5.0,
        resume_token: str | None = None,
    ) -> Watch:
        """Watch a bucket: ``with t.watch(…) as events: for event in events``.

        Args:
            prefix: only keys that begin with it.
            events: only these types; default all.
            buffer_size: the number of events that may wait before `WatchOverflowError`.
            poll_interval: seconds between listings, if the driver has to poll.
            resume_token: continue after the event that had it, if ``features.watch_resume``.

        Raises (when entered or at the first step):
            BucketNotFoundError: the bucket does not exist.
        """
        return Watch(
            self._portal,
            self._portal.run(
                lambda: self._async.watch(
                    prefix=prefix,
                    events=events,
                    buffer_size=buffer_size,
                    poll_interval=poll_interval,
                    resume_token=resume_token,
                )
            ),
        )

    def set_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's lifecycle rules.

        Raises:
            InvalidLifecycleError: a rule contradicts itself; before any I/O.
        """
        self._portal.call(lambda: self._async.set_lifecycle(rules))

    def get_lifecycle(self) -> builtins.list[LifecycleRule]:
        """Return the bucket's lifecycle rules; empty if there are none."""
        return self._portal.call(lambda: self._async.get_lifecycle())

    def delete_lifecycle(self) -> None:
        """Remove the bucket's lifecycle rules."""
        self._portal.call(lambda: self._async.delete_lifecycle())

    def apply_lifecycle(self, *, now: datetime | None = None) -> LifecycleReport:
        """Apply the lifecycle rules of a bucket, if no service does; call it about once a day.

        Args:
            now: the time to use as the present, aware; default: the current time.

        Raises:
            UnsupportedError: the service applies the rules itself, or the store has no lifecycle rules.
        """
        return self._portal.call(lambda: self._async.apply_lifecycle(now=now))

    def get_range(self, key: str, offset: int, length: int = -1) -> ObjectReader:
        """Open a range: ``length`` bytes from ``offset``, to the end with -1.

        Raises:
            RangeNotSatisfiableError: it starts at or past the end.
        """
        return ObjectReader(self._portal, self._portal.call(lambda: self._async.get_range(key, offset, length)))

    def get_tags(self, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return self._portal.call(lambda: self._async.get_tags(key))

    def set_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags; the object and its ETag do not change."""
        self._portal.call(lambda: self._async.set_tags(key, tags))

    def delete_tags(self, key: str) -> None:
        """Remove an object's tags."""
        self._portal.call(lambda: self._async.delete_tags(key))
