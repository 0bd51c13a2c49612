"""The driver contract: what a backend implements, and everything that the author of a driver needs.

`trove_async.driver.base` states the rules; ``docs/drivers.md`` walks through writing a driver. The exceptions are in
`trove_async.errors`, the values that drivers return in `trove_async.types`.
"""

from trove_async.body import Body
from trove_async.driver.base import Driver, capabilities_of, methods_of, unwrap
from trove_async.driver.capabilities import (
    CAPABILITIES,
    AppendDriver,
    BulkDeleteDriver,
    Condition,
    Features,
    LifecycleDriver,
    LifecycleSweepDriver,
    Limits,
    MultipartDriver,
    NotificationDriver,
    PartCopyDriver,
    PresignDriver,
    PresignMethod,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    VersionListingDriver,
)
from trove_async.driver.conditions import check_read, check_write
from trove_async.driver.copy_errors import CopyEnd, reading_source
from trove_async.driver.copying import copy_object, copy_on_server
from trove_async.driver.methods import METHODS, Method
from trove_async.driver.opening import Member, Target, open_stack
from trove_async.driver.options import (
    CONTENT_HEADERS,
    BucketOptions,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    ObjectAttributes,
    OpenOptions,
    PresignOptions,
    PresignPostOptions,
    PutOptions,
    VersionListOptions,
    WatchOptions,
)
from trove_async.driver.registry import DriverFactory, lookup, register, schemes
from trove_async.driver.synonyms import (
    ExpireByDelete,
    LifecycleDeleteBySet,
    PresignByMethod,
    RangeByGet,
    ServerCopyByCopy,
    TagsDeleteBySet,
    VersionsByOptions,
)
from trove_async.dsn import DSN, SettingsParser, parse_dsn
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange
from trove_async.reader import ByteStream, ObjectReader, StreamWrapper
from trove_async.version_listing import VersionMark, VersionPage

__all__ = [
    "CAPABILITIES",
    "CONTENT_HEADERS",
    "DSN",
    "METHODS",
    "AppendDriver",
    "Body",
    "BucketOptions",
    "BulkDeleteDriver",
    "ByteRange",
    "ByteStream",
    "CompleteOptions",
    "Condition",
    "CopyEnd",
    "CopyOptions",
    "DeleteOptions",
    "Driver",
    "DriverFactory",
    "ExpireByDelete",
    "Features",
    "GetOptions",
    "HeadOptions",
    "LifecycleDeleteBySet",
    "LifecycleDriver",
    "LifecycleSweepDriver",
    "Limits",
    "ListOptions",
    "ListPage",
    "Member",
    "Method",
    "MultipartDriver",
    "NotificationDriver",
    "ObjectAttributes",
    "ObjectReader",
    "OpenOptions",
    "PartCopyDriver",
    "PresignByMethod",
    "PresignDriver",
    "PresignMethod",
    "PresignOptions",
    "PresignPostOptions",
    "PutOptions",
    "RangeByGet",
    "RangeDriver",
    "ServerCopyByCopy",
    "ServerCopyDriver",
    "SettingsParser",
    "StreamWrapper",
    "TaggingDriver",
    "TagsDeleteBySet",
    "Target",
    "VersionListOptions",
    "VersionListingDriver",
    "VersionMark",
    "VersionPage",
    "VersioningDriver",
    "VersionsByOptions",
    "WatchOptions",
    "capabilities_of",
    "check_read",
    "check_write",
    "copy_object",
    "copy_on_server",
    "lookup",
    "methods_of",
    "open_stack",
    "parse_dsn",
    "reading_source",
    "register",
    "schemes",
    "unwrap",
]
