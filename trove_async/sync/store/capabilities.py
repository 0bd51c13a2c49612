"""The methods that only some stores have; others raise `UnsupportedError` before any I/O.

Written by ``python -m tests.sync_surface --write``; not to be edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Unpack, overload

from trove_async.store.arguments import PresignArguments, PresignPostArguments
from trove_async.sync.bulk import BulkDelete
from trove_async.sync.listing import VersionIterator
from trove_async.sync.reader import ObjectReader
from trove_async.sync.store.multipart import MultipartVerbs
from trove_async.sync.watch import Watch
from trove_async.types import (
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectInfo,
    ObjectRef,
    PresignedPost,
    VersionInfo,
    VersioningStatus,
)

__all__ = ["CapabilityVerbs"]


class CapabilityVerbs(MultipartVerbs):
    """Presign, versions, watch, lifecycle, ranges, server copy and tags."""

    def presign_get(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that reads the object, for ``expires`` seconds (default 3,600).

        Other arguments: ``version_id``, ``response_content_type``, ``response_content_disposition``.
        """
        return self._portal.call(lambda: self._async.presign_get(bucket, key, **options))

    def presign_put(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that writes the object, for ``expires`` seconds (default 3,600).

        With ``content_type`` and ``content_length`` the request must have just these.
        """
        return self._portal.call(lambda: self._async.presign_put(bucket, key, **options))

    def presign_head(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that describes the object; where ``features.presign_methods`` has HEAD."""
        return self._portal.call(lambda: self._async.presign_head(bucket, key, **options))

    def presign_delete(self, bucket: str, key: str, **options: Unpack[PresignArguments]) -> str:
        """Return a URL that deletes the object; where ``features.presign_methods`` has DELETE."""
        return self._portal.call(lambda: self._async.presign_delete(bucket, key, **options))

    def presign_post(self, bucket: str, key: str, **options: Unpack[PresignPostArguments]) -> PresignedPost:
        """Return a form with which a browser stores an object; where ``features.presign_methods`` has POST.

        Args:
            bucket, key: where the file goes.
            options: ``max_size`` and ``min_size`` (default 0) in bytes, ``expires`` in seconds (default
                3,600), ``content_type``, which the form must then carry.
        """
        return self._portal.call(lambda: self._async.presign_post(bucket, key, **options))

    def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions of the bucket's objects; existing versions stay.

        Raises:
            InvalidArgumentError: ``enabled`` is not True or False.
        """
        self._portal.call(lambda: self._async.set_versioning(bucket, enabled))

    def get_versioning(self, bucket: str) -> VersioningStatus:
        """Tell whether the bucket keeps versions."""
        return self._portal.call(lambda: self._async.get_versioning(bucket))

    def list_versions(self, bucket: str, key: str) -> list[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        return self._portal.call(lambda: self._async.list_versions(bucket, key))

    def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Open a version; as ``get(version_id=…)``.

        Raises:
            VersionNotFoundError: there is none, or it is a delete marker.
        """
        return ObjectReader(self._portal, self._portal.call(lambda: self._async.get_version(bucket, key, version_id)))

    def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a version permanently; the next newest becomes the latest. Success if it does not exist."""
        self._portal.call(lambda: self._async.delete_version(bucket, key, version_id))

    def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Copy a version, which makes the copy the latest version.

        Raises:
            VersionNotFoundError, CopyError: it does not exist, or is a delete marker; or as for `copy`.
        """
        return self._portal.call(lambda: self._async.restore_version(bucket, key, version_id))

    def list_all_versions(
        self, bucket: str, prefix: str = "", *, page_size: int = 1000, cursor: str | None = None
    ) -> VersionIterator:
        """List the versions and delete markers of a bucket: ``for version in t.list_all_versions(…)``.

        They come in the order of the keys' UTF-8 bytes, those of one key newest first; those of deleted objects too.
        An object that was stored while the bucket kept no versions is the version ``null``.

        Args:
            bucket: an existing bucket.
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
            self._portal.run(lambda: self._async.list_all_versions(bucket, prefix, page_size=page_size, cursor=cursor)),
        )

    @overload
    def empty_bucket(self, bucket: str, versions: bool = False, *, raise_errors: Literal[True] = True) -> int: ...

    @overload
    def empty_bucket(self, bucket: str, versions: bool = False, *, raise_errors: Literal[False]) -> BulkDelete: ...

    def empty_bucket(self, bucket: str, versions: bool = False, *, raise_errors: bool = True) -> int | BulkDelete:
        """Delete all objects of a bucket, and return their number.

        What is written meanwhile may stay. Uploads in parts stay; see `list_multipart_uploads`.

        Args:
            bucket: an existing bucket.
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
        deletion = self._portal.run(lambda: self._async.empty_bucket(bucket, versions, raise_errors=raise_errors))
        return self._portal.call(lambda: deletion) if raise_errors else BulkDelete(self._portal, deletion)

    def watch(
        self,
        bucket: str,
        *,
        prefix: str = "",
        events: Iterable[EventType | str] | None = None,
        buffer_size: int = 10_000,
        poll_interval: float = 5.0,
        resume_token: str | None = None,
    ) -> Watch:
        """Watch a bucket: ``with t.watch(…) as events: for event in events``.

        Args:
            bucket: an existing bucket.
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
                    bucket,
                    prefix=prefix,
                    events=events,
                    buffer_size=buffer_size,
                    poll_interval=poll_interval,
                    resume_token=resume_token,
                )
            ),
        )

    def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's lifecycle rules.

        Raises:
            InvalidLifecycleError: a rule contradicts itself; before any I/O.
        """
        self._portal.call(lambda: self._async.set_lifecycle(bucket, rules))

    def get_lifecycle(self, bucket: str) -> list[LifecycleRule]:
        """Return the bucket's lifecycle rules; empty if there are none."""
        return self._portal.call(lambda: self._async.get_lifecycle(bucket))

    def delete_lifecycle(self, bucket: str) -> None:
        """Remove the bucket's lifecycle rules."""
        self._portal.call(lambda: self._async.delete_lifecycle(bucket))

    def apply_lifecycle(self, bucket: str, *, now: datetime | None = None) -> LifecycleReport:
        """Apply the lifecycle rules of a bucket, if no service does; call it about once a day.

        Args:
            bucket: an existing bucket.
            now: the time to use as the present, aware; default: the current time.

        Raises:
            UnsupportedError: the service applies the rules itself, or the store has no lifecycle rules.
        """
        return self._portal.call(lambda: self._async.apply_lifecycle(bucket, now=now))

    def get_range(self, bucket: str, key: str, offset: int, length: int = -1) -> ObjectReader:
        """Open a range: ``length`` bytes from ``offset``, to the end with -1.

        Raises:
            RangeNotSatisfiableError: it starts at or past the end.
        """
        return ObjectReader(self._portal, self._portal.call(lambda: self._async.get_range(bucket, key, offset, length)))

    def server_copy(self, src: ObjectRef, dst: ObjectRef) -> ObjectInfo:
        """Copy an object, or the version that ``src`` names, without its bytes passing through this process.

        Raises:
            CopyNotSupportedError: the backend cannot copy this object; nothing was sent. `copy` would stream it.
            TroveError: as for `copy`.
        """
        return self._portal.call(lambda: self._async.server_copy(src, dst))

    def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return an object's tags."""
        return self._portal.call(lambda: self._async.get_tags(bucket, key))

    def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> None:
        """Replace an object's tags; the object and its ETag do not change."""
        self._portal.call(lambda: self._async.set_tags(bucket, key, tags))

    def delete_tags(self, bucket: str, key: str) -> None:
        """Remove an object's tags."""
        self._portal.call(lambda: self._async.delete_tags(bucket, key))
