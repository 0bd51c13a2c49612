"""Managed storage: content that is stored once, named by many, and collected when nobody names it any more.

``docs/managed.md`` is the guide::

    async with trove_async.managed.open("local:///srv/data", database="sqlite:///data.db", bucket="blobs") as m:
        await m.put_for_bucket("customer-7", "logo.png", data)
"""

from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.managed_storage import ManagedStorage
from trove_async.managed.opening import open
from trove_async.managed.proof import new_put_response
from trove_async.managed.resources import ManagedInfo, ManagedResource, PutResponse, RequestResponse, Resource
from trove_async.managed.storage import ResourceStorage, StoreResourceStorage

__all__ = [
    "ManagedInfo",
    "ManagedResource",
    "ManagedStorage",
    "PutResponse",
    "RequestResponse",
    "Resource",
    "ResourceCatalog",
    "ResourceStorage",
    "StoreResourceStorage",
    "new_put_response",
    "open",
]
