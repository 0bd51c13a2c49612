"""One asyncio API for every object store.

::

    import trove_async as trove

    async with trove.open("local:///srv/data") as t:
        await t.put("assets", "photos/a.jpg", Path("a.jpg"))
        async for obj in t.list("assets", prefix="photos/"):
            print(obj.key, obj.size)

What authors of drivers and layers need is in `trove_async.driver` and `trove_async.layers`.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.body import BodyLike, Progress
from trove_async.cancellation import CleanupWarning
from trove_async.checksums import Checksum
from trove_async.driver.base import Layer, unwrap
from trove_async.driver.capabilities import (
    BulkDeleteDriver,
    LifecycleDriver,
    LifecycleSweepDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
)
from trove_async.driver.opening import Member
from trove_async.driver.registry import register as _register
from trove_async.drivers import BUILTIN as _BUILTIN
from trove_async.dsn import DSN, parse_dsn
from trove_async.errors import (
    AccessDeniedError,
    BackendError,
    BackendUnavailableError,
    BodySizeError,
    BodySourceError,
    BodyTypeError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    BulkError,
    ChecksumError,
    ClosedError,
    ConfigError,
    ConflictError,
    ContentTooLargeError,
    CopyError,
    CopyNotSupportedError,
    CopyPhase,
    DriverRegistrationError,
    ForkedError,
    HostKeyChangedError,
    HostKeyUnknownError,
    InvalidArgumentError,
    InvalidBucketNameError,
    InvalidCursorError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidLifecycleError,
    InvalidMetadataError,
    InvalidPartError,
    InvalidRangeError,
    InvalidTagsError,
    LeaseLostError,
    LifetimeError,
    MissingDependencyError,
    NotFoundError,
    NotModifiedError,
    ObjectAlreadyExistsError,
    ObjectChangedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    RangeNotSatisfiableError,
    RootNotFoundError,
    SchemaVersionError,
    StorageFullError,
    ThrottledError,
    TransientError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
    UnpicklableError,
    UnsupportedError,
    UploadNotFoundError,
    VersionNotFoundError,
    WatchOverflowError,
    WrongLoopError,
    is_copy_phase,
    is_not_found,
)
from trove_async.listing import Item, ObjectIterator
from trove_async.opening import Opening
from trove_async.ranges import ByteRange, RangeLike
from trove_async.reader import ObjectReader
from trove_async.store import Bucket, BulkDelete, Trove, Watch, open
from trove_async.types import (
    BucketInfo,
    DeleteResult,
    EventType,
    LifecycleReport,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    Prefix,
    PresignedPost,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version import __version__
from trove_async.version_listing import VersionIterator
from trove_async.writer import ObjectWriter

if _TYPE_CHECKING:
    from trove_async.layers import (
        Backoff,
        Budget,
        CircuitBreaker,
        CircuitEvent,
        Failover,
        Hedge,
        Limit,
        LimitChanged,
        Observation,
        Observe,
        OpenTelemetry,
        Prefixed,
        Prometheus,
        ReadOnly,
        Retry,
        Route,
        RouteRule,
        Timeout,
        log_operations,
    )

for _scheme, _path in _BUILTIN.items():
    _register(_scheme, _path)

_LAYERS = frozenset(
    {
        "Backoff",
        "Budget",
        "CircuitBreaker",
        "CircuitEvent",
        "Failover",
        "Hedge",
        "Limit",
        "LimitChanged",
        "Observation",
        "Observe",
        "OpenTelemetry",
        "Prefixed",
        "Prometheus",
        "ReadOnly",
        "Retry",
        "Route",
        "RouteRule",
        "Timeout",
        "log_operations",
    }
)

if not _TYPE_CHECKING:  # a type checker would take every name for one of the module's

    def __getattr__(name: str) -> object:
        """Import the layers when the first one is used."""
        if name in _LAYERS:
            from trove_async import layers

            return getattr(layers, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "DSN",
    "AccessDeniedError",
    "BackendError",
    "BackendUnavailableError",
    "Backoff",
    "BodyLike",
    "BodySizeError",
    "BodySourceError",
    "BodyTypeError",
    "Bucket",
    "BucketAlreadyExistsError",
    "BucketInfo",
    "BucketNotEmptyError",
    "BucketNotFoundError",
    "Budget",
    "BulkDelete",
    "BulkDeleteDriver",
    "BulkError",
    "ByteRange",
    "Checksum",
    "ChecksumError",
    "CircuitBreaker",
    "CircuitEvent",
    "CleanupWarning",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "ContentTooLargeError",
    "CopyError",
    "CopyNotSupportedError",
    "CopyPhase",
    "DeleteResult",
    "DriverRegistrationError",
    "EventType",
    "Failover",
    "ForkedError",
    "Hedge",
    "HostKeyChangedError",
    "HostKeyUnknownError",
    "InvalidArgumentError",
    "InvalidBucketNameError",
    "InvalidCursorError",
    "InvalidDSNError",
    "InvalidKeyError",
    "InvalidLifecycleError",
    "InvalidMetadataError",
    "InvalidPartError",
    "InvalidRangeError",
    "InvalidTagsError",
    "Item",
    "Layer",
    "LeaseLostError",
    "LifecycleDriver",
    "LifecycleReport",
    "LifecycleRule",
    "LifecycleSweepDriver",
    "LifetimeError",
    "Limit",
    "LimitChanged",
    "Member",
    "MissingDependencyError",
    "MultipartDriver",
    "NotFoundError",
    "NotModifiedError",
    "NotificationDriver",
    "ObjectAlreadyExistsError",
    "ObjectChangedError",
    "ObjectEvent",
    "ObjectInfo",
    "ObjectIterator",
    "ObjectNotFoundError",
    "ObjectReader",
    "ObjectRef",
    "ObjectWriter",
    "Observation",
    "Observe",
    "OpenTelemetry",
    "Opening",
    "OperationTimeoutError",
    "PartInfo",
    "PreconditionFailedError",
    "Prefix",
    "Prefixed",
    "PresignDriver",
    "PresignedPost",
    "Progress",
    "Prometheus",
    "RangeDriver",
    "RangeLike",
    "RangeNotSatisfiableError",
    "ReadOnly",
    "Retry",
    "RootNotFoundError",
    "Route",
    "RouteRule",
    "SchemaVersionError",
    "ServerCopyDriver",
    "StorageFullError",
    "TaggingDriver",
    "ThrottledError",
    "Timeout",
    "TransientError",
    "Trove",
    "TroveError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnpicklableError",
    "UnsupportedError",
    "UploadInfo",
    "UploadNotFoundError",
    "VersionInfo",
    "VersionIterator",
    "VersionListingDriver",
    "VersionNotFoundError",
    "VersioningDriver",
    "VersioningStatus",
    "Watch",
    "WatchOverflowError",
    "WrongLoopError",
    "__version__",
    "is_copy_phase",
    "is_not_found",
    "log_operations",
    "open",
    "parse_dsn",
    "unwrap",
]
