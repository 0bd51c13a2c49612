"""The driver contract: what a backend implements, and what it is told.

`trove_async.driver.base` states the rules; ``docs/drivers.md`` walks through writing one.
"""

from trove_async.driver.base import Driver, capabilities_of, methods_of, unwrap
from trove_async.driver.capabilities import (
    CAPABILITIES,
    BulkDeleteDriver,
    Condition,
    Features,
    LifecycleDriver,
    LifecycleSweepDriver,
    Limits,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    PresignMethod,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
)
from trove_async.driver.conditions import check_read, check_write
from trove_async.driver.options import (
    BucketOptions,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    OpenOptions,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    WatchOptions,
)
from trove_async.driver.registry import DriverFactory, lookup, register, schemes

__all__ = [
    "CAPABILITIES",
    "BucketOptions",
    "BulkDeleteDriver",
    "CompleteOptions",
    "Condition",
    "CopyOptions",
    "DeleteOptions",
    "Driver",
    "DriverFactory",
    "Features",
    "GetOptions",
    "HeadOptions",
    "LifecycleDriver",
    "LifecycleSweepDriver",
    "Limits",
    "ListOptions",
    "MultipartDriver",
    "NotificationDriver",
    "OpenOptions",
    "PresignDriver",
    "PresignMethod",
    "PresignOptions",
    "PresignPostOptions",
    "PutOptions",
    "RangeDriver",
    "ServerCopyDriver",
    "TaggingDriver",
    "VersioningDriver",
    "WatchOptions",
    "capabilities_of",
    "check_read",
    "check_write",
    "lookup",
    "methods_of",
    "register",
    "schemes",
    "unwrap",
]
