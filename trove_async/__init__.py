"""One asyncio API for every object store.

::

    import trove_async as trove

    async with trove.open("local:///srv/data") as t:
        await t.put("assets", "photos/a.jpg", Path("a.jpg"))
        async for obj in t.list("assets", prefix="photos/"):
            print(obj.key, obj.size)
"""

from trove_async import errors as _errors
from trove_async.body import AsyncReadable, Body, BodyLike, Progress
from trove_async.cancellation import CleanupWarning
from trove_async.checksums import Checksum
from trove_async.driver import (
    BulkDeleteDriver,
    Driver,
    Features,
    LifecycleDriver,
    LifecycleSweepDriver,
    Limits,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    lookup,
    register,
    unwrap,
)
from trove_async.drivers import BUILTIN as _BUILTIN
from trove_async.dsn import DSN, parse_dsn
from trove_async.errors import *  # noqa: F403 - every error is public
from trove_async.layers import LayerDriver, Limit, Observation, Observe, Operation, log_operations
from trove_async.listing import Item, ListPage, ObjectIterator
from trove_async.ranges import ByteRange, RangeLike
from trove_async.reader import ByteStream, ObjectReader
from trove_async.store import Bucket, Trove, open
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
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.writer import ObjectWriter

__version__ = "0.1.0"

for _scheme, _path in _BUILTIN.items():
    register(_scheme, _path)

__all__ = sorted(
    [
        "AsyncReadable", "Body", "BodyLike", "Bucket", "BucketInfo", "BulkDeleteDriver", "ByteRange", "ByteStream",
        "Checksum", "CleanupWarning", "DSN", "DeleteResult", "Driver", "EventType", "Features", "Item",
        "LayerDriver", "LifecycleDriver", "LifecycleReport", "LifecycleRule", "LifecycleSweepDriver", "Limit",
        "Limits", "ListPage", "MultipartDriver", "NotificationDriver", "ObjectEvent", "ObjectInfo", "ObjectIterator",
        "ObjectReader", "ObjectRef", "ObjectWriter", "Observation", "Observe", "Operation", "PartInfo", "Prefix",
        "PresignDriver", "Progress", "RangeDriver", "RangeLike", "ServerCopyDriver", "TaggingDriver", "Trove",
        "UploadInfo", "VersionInfo", "VersioningDriver", "VersioningStatus", "__version__", "log_operations",
        "lookup", "open", "parse_dsn", "register", "unwrap", *_errors.__all__,
    ]
)  # fmt: skip
