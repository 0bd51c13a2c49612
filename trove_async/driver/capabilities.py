"""The capabilities that a driver can have beyond the core methods, and how it declares them.

Each capability is a Protocol: a driver implements its methods, without a second declaration.
``isinstance(driver, MultipartDriver)`` asks what the driver's code can do, ``driver.features`` says what
the server that it is connected to has, and ``Trove.supports`` asks both. Check a capability once, when
a store is opened: ``isinstance`` against a Protocol takes microseconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, runtime_checkable

from trove_async.body import Body
from trove_async.driver.options import (
    CompleteOptions,
    CopyOptions,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    VersionListOptions,
    WatchOptions,
)
from trove_async.errors import InvalidMetadataError
from trove_async.keys import MAX_KEY_BYTES
from trove_async.reader import ObjectReader
from trove_async.types import (
    DeleteResult,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionPage

__all__ = [
    "CAPABILITIES",
    "AppendDriver",
    "BulkDeleteDriver",
    "Condition",
    "Features",
    "LifecycleDriver",
    "LifecycleSweepDriver",
    "Limits",
    "MultipartDriver",
    "NotificationDriver",
    "PartCopyDriver",
    "PresignDriver",
    "PresignMethod",
    "RangeDriver",
    "ServerCopyDriver",
    "TaggingDriver",
    "VersionListingDriver",
    "VersioningDriver",
]

Condition = Literal["put_if_none_match", "put_if_match", "get", "delete", "copy", "complete"]
"""A kind of condition: ``get`` means all of `HeadOptions`; ``copy`` and ``complete``, those on the destination."""

PresignMethod = Literal["GET", "PUT", "HEAD", "DELETE", "POST"]


@runtime_checkable
class MultipartDriver(Protocol):
    """Uploads in parts, which survive the process that began them."""

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id. Its object is neither listed nor readable before it is completed."""

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part with a number from 1 to `Limits.max_parts`, in any order; the same number again replaces it.

        Raises:
            UploadNotFoundError: the upload is not open.
        """

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object from the given parts, whose numbers ascend; other parts are dropped.

        As atomic as a put. The upload stays open if this fails.

        Raises:
            InvalidPartError: a part is missing, has another ETag, or is smaller than
                `Limits.min_part_size` and not the last part.
            UploadNotFoundError: the upload is not open.
            PreconditionFailedError: a condition does not hold.
        """

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload and free its parts; success if it is not open."""

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the stored parts, in the order of their numbers."""

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads, in the order of their keys, then of their start times."""


@runtime_checkable
class AppendDriver(Protocol):
    """Parts that grow; for drivers that are also a `MultipartDriver`."""

    async def append_part(
        self, bucket: str, key: str, upload_id: str, number: int, offset: int, body: Body
    ) -> PartInfo:
        """Append a body to a part; a part that does not exist has no bytes yet.

        The bytes of the part from ``offset`` on are cut off first: a writer that was interrupted has left them. The
        bytes of the body are written as they arrive, and are durable when this returns. If the body raises, or the call
        fails or is cancelled, what was written stays in the part, and nothing else stays behind: `list_parts` shows the
        size that the part has, and its ETag, which every change replaces.

        Only one call at a time may append to a part; the caller sees to that.

        Returns:
            The part, with its whole size.

        Raises:
            UploadNotFoundError: the upload is not open.
            InvalidPartError: ``offset`` is larger than the part.
        """


@runtime_checkable
class PartCopyDriver(Protocol):
    """Parts that are copied from objects; for drivers that are also a `MultipartDriver`."""

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of ``length`` bytes, 1 or more, of an object of any bucket, or of the version that ``src`` names.

        The same number again replaces the part. The bytes do not pass through this process where the backend can copy
        them. Errors of the source are marked with `reading_source`.

        Raises:
            CopyNotSupportedError: the backend cannot copy this range; nothing was sent. It can be read, and uploaded.
            UploadNotFoundError: the upload is not open.
            ObjectNotFoundError, VersionNotFoundError: names the source.
            RangeNotSatisfiableError: the source ends before the range does.
        """


@runtime_checkable
class PresignDriver(Protocol):
    """Signed URLs, for clients that talk to the backend directly."""

    async def presign_get(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that reads the object. Neither bucket nor object need exist."""

    async def presign_put(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that writes the object."""

    async def presign_head(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that describes the object; if `Features.presign_methods` has HEAD."""

    async def presign_delete(self, bucket: str, key: str, options: PresignOptions) -> str:
        """Return a URL that deletes the object; if `Features.presign_methods` has DELETE."""

    async def presign_post(self, bucket: str, key: str, options: PresignPostOptions) -> PresignedPost:
        """Return a form that a browser posts to store the object; if `Features.presign_methods` has POST."""


@runtime_checkable
class VersioningDriver(Protocol):
    """Versions of objects, and delete markers."""

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions; existing versions stay."""

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Return whether the bucket keeps versions."""

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the versions and delete markers of a key, newest first; empty if it never existed."""

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Read a version.

        Raises:
            VersionNotFoundError: it does not exist, or is a delete marker.
        """

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """Delete a version permanently; the next newest becomes the latest. Success if it does not exist."""

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """Copy a version, which makes the copy the latest version.

        Raises:
            VersionNotFoundError: it does not exist, or is a delete marker.
        """


@runtime_checkable
class VersionListingDriver(Protocol):
    """Listings of the versions of a whole bucket; for drivers that are also a `VersioningDriver`."""

    async def list_versions_page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return one page of the versions and delete markers of all keys, those of deleted objects too.

        In the order of the keys' UTF-8 bytes; those of one key newest first, as in `VersioningDriver.list_versions`.
        The object of a bucket that never kept versions is the version ``null``. Deleting or adding versions before the
        cursor neither repeats nor skips others.

        Raises:
            BucketNotFoundError: the bucket does not exist.
        """


@runtime_checkable
class NotificationDriver(Protocol):
    """Change events."""

    def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the changes of each key in their order; an async generator.

        It calls ``options.on_ready()`` when it has subscribed, and holds no cancel scope or task group
        across a yield. Asking for the next event acknowledges the previous one.

        Raises:
            BucketNotFoundError: before it is ready.
            WatchOverflowError: the consumer was too slow, and events are lost.
        """


@runtime_checkable
class LifecycleDriver(Protocol):
    """Rules that expire objects, or move them to another storage class, by their age."""

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules, which the portable type has checked."""

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules; empty if there are none."""

    async def delete_lifecycle(self, bucket: str) -> None:
        """Remove all rules."""


@runtime_checkable
class LifecycleSweepDriver(LifecycleDriver, Protocol):
    """A driver whose rules the library carries out, because no service does."""

    async def expire(self, bucket: str, key: str, if_match: str) -> None:
        """Delete an expired object; a bucket that keeps versions gets a delete marker.

        A newer object, with another ETag, is not deleted.

        Raises:
            ObjectNotFoundError, PreconditionFailedError: it does not exist, or has another ETag.
        """

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Move an object to another storage class; its ETag, its time and everything else stay the same.

        Raises:
            PreconditionFailedError: the object has another ETag.
        """

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest; for each key, the newest first.

        The ``last_modified`` of each is the time at which it was replaced. Empty if the bucket keeps no versions.
        """


@runtime_checkable
class RangeDriver(Protocol):
    """Reads of a range of an object."""

    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Read ``length`` bytes from ``offset``; to the end with -1."""


@runtime_checkable
class ServerCopyDriver(Protocol):
    """Copies whose bytes do not pass through this process, or at least not through its memory."""

    async def server_copy(self, src: ObjectRef, dst: ObjectRef, options: CopyOptions | None = None) -> ObjectInfo:
        """Copy an object, or the version of it that ``src`` names; otherwise as `Driver.copy`."""


@runtime_checkable
class TaggingDriver(Protocol):
    """Tags: up to 10 pairs of text that can be changed without changing the object."""

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return the object's tags."""

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the object's tags; its ETag stays the same."""

    async def delete_tags(self, bucket: str, key: str) -> None:
        """Remove the object's tags."""


@runtime_checkable
class BulkDeleteDriver(Protocol):
    """Deletion of many objects in one call."""

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete up to `Limits.max_bulk_delete` objects and return a result for each, in their order.

        Success for an object that does not exist. It raises only if no deletion could be tried.
        """


CAPABILITIES: Final[tuple[type, ...]] = (
    MultipartDriver,
    AppendDriver,
    PartCopyDriver,
    PresignDriver,
    VersioningDriver,
    VersionListingDriver,
    NotificationDriver,
    LifecycleDriver,
    LifecycleSweepDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    BulkDeleteDriver,
)
"""All capabilities."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the backend allows; sizes in bytes, None if no limit is known.

    Attributes:
        max_key_size: of a key's UTF-8.
        min_part_size: of every part of an upload except the last.
        max_part_size, max_parts: of an upload.
        equal_parts: whether all parts of an upload except the last must have the same size.
        max_put_size: of a put in one request.
        max_copy_size: of a copy in one request.
        max_metadata_size: of all keys and values together.
        max_bulk_delete: keys in one `BulkDeleteDriver.delete_many`.
        max_presign_seconds: of a signed URL.
    """

    max_key_size: int = MAX_KEY_BYTES
    min_part_size: int = 1
    max_part_size: int | None = None
    max_parts: int = 10_000
    equal_parts: bool = False
    max_put_size: int | None = None
    max_copy_size: int | None = None
    max_metadata_size: int = 64 * 1024
    max_bulk_delete: int = 1000
    max_presign_seconds: int = 7 * 24 * 3600

    def check_metadata(self, metadata: Mapping[str, str]) -> None:
        """Refuse metadata that the backend cannot hold.

        Raises:
            InvalidMetadataError: it has more bytes than ``max_metadata_size``.
        """
        size = sum(len(name) + len(value.encode()) for name, value in metadata.items())
        if size > self.max_metadata_size:
            raise InvalidMetadataError(
                f"the metadata is {size} bytes, and this backend holds at most {self.max_metadata_size}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the server that a driver is connected to has; known after `Driver.open`.

    Attributes:
        protocols: the capabilities; a subset of those that the driver implements.
        conditions: the kinds of condition that are honoured. A call with another kind is refused before any I/O.
        presign_methods: the methods that `PresignDriver` signs.
        watch_resume: whether ``watch(resume_token=…)`` works.
        native: the names of the capabilities that the backend itself has; the library provides the others.
        limits: what the backend allows.
        dropped: what the driver implements and is missing nevertheless, each with the reason: a layer has taken it
            away, or the store was opened without something that it needs.
    """

    protocols: frozenset[type] = frozenset()
    conditions: frozenset[Condition] = frozenset()
    presign_methods: frozenset[PresignMethod] = frozenset()
    watch_resume: bool = False
    native: frozenset[str] = frozenset()
    limits: Limits = Limits()
    dropped: Mapping[type | str, str] = field(default_factory=dict, hash=False)

    def without(self, drops: Mapping[type | str, str]) -> Features:
        """Return the features without some capabilities, conditions and presign methods, each with the reason."""
        return replace(
            self,
            protocols=self.protocols.difference(drops),
            conditions=self.conditions.difference(drops),
            presign_methods=self.presign_methods.difference(drops),
            dropped={**self.dropped, **drops},
        )
