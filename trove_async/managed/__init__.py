"""Managed storage: content that is stored once, named by many, and collected when nobody names it any more.

``docs/managed.md`` is the guide.
"""

from trove_async.managed.resources import ManagedInfo, ManagedResource, PutResponse, RequestResponse, Resource

__all__ = ["ManagedInfo", "ManagedResource", "PutResponse", "RequestResponse", "Resource"]
