"""The store without asyncio: the API of `trove_async`, for code that has no event loop.

::

    import trove_async as trove

    with trove.sync.open("local:///srv/data") as t:
        t.put("assets", "photos/a.jpg", Path("a.jpg"))
        for obj in t.list("assets", prefix="photos/"):
            print(obj.key, obj.size)

The methods, their arguments, results and errors are those of the async API. They run on the portal, an event loop in
one thread of the process; see ``docs/sync.md``.
"""

from trove_async.sync.bulk import BulkDelete
from trove_async.sync.listing import ObjectIterator, VersionIterator
from trove_async.sync.reader import ObjectReader
from trove_async.sync.store.bucket import Bucket
from trove_async.sync.store.trove import Trove, open
from trove_async.sync.watch import Watch
from trove_async.sync.writer import ObjectWriter

__all__ = [
    "Bucket",
    "BulkDelete",
    "ObjectIterator",
    "ObjectReader",
    "ObjectWriter",
    "Trove",
    "VersionIterator",
    "Watch",
    "open",
]
