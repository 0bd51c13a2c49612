"""Managed storage: content that is stored once, named by many, and collected when nobody names it any more.

``docs/managed.md`` is the guide::

    async with trove_async.managed.open("local:///srv/data", database="sqlite:///data.db", bucket="blobs") as m:
        await m.put_for_bucket("customer-7", "logo.png", data)
"""

from trove_async.errors import MissingDependencyError

try:
    import trove_async.database  # noqa: F401
except MissingDependencyError as error:
    raise MissingDependencyError(
        "managed storage needs: pip install 'trove-async[managed]', or [managed,postgres] for PostgreSQL"
    ) from error

from trove_async.managed.cas import ContentStore, cas
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.collecting import CollectionReport, collect
from trove_async.managed.dedup import Chunking, Dedup
from trove_async.managed.findings import Depth, FsckReport, Problem, ProblemKind
from trove_async.managed.fsck import fsck
from trove_async.managed.managed_storage import ManagedStorage
from trove_async.managed.opening import open
from trove_async.managed.proof import new_put_response
from trove_async.managed.resources import ManagedInfo, ManagedResource, PutResponse, RequestResponse, Resource
from trove_async.managed.statistics import Statistics, statistics
from trove_async.managed.storage import ListableStorage, ResourceStorage, StoreResourceStorage

__all__ = [
    "Chunking",
    "CollectionReport",
    "ContentStore",
    "Dedup",
    "Depth",
    "FsckReport",
    "ListableStorage",
    "ManagedInfo",
    "ManagedResource",
    "ManagedStorage",
    "Problem",
    "ProblemKind",
    "PutResponse",
    "RequestResponse",
    "Resource",
    "ResourceCatalog",
    "ResourceStorage",
    "Statistics",
    "StoreResourceStorage",
    "cas",
    "collect",
    "fsck",
    "new_put_response",
    "open",
    "statistics",
]
