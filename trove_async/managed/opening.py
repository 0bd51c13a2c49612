"""`open`: managed storage from a store and a database."""

from __future__ import annotations

from trove_async.database import Database
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.managed_storage import ManagedStorage
from trove_async.managed.storage import StoreResourceStorage
from trove_async.opening import Opening
from trove_async.store.trove import Trove
from trove_async.store.trove import open as open_store

__all__ = ["open"]


def open(
    store: str | Trove,
    *,
    database: str | Database,
    bucket: str | None = None,
    namespace: str = "",
    space: str = "managed",
) -> Opening[ManagedStorage]:
    """Open managed storage, with ``async with``, or with ``await`` and `ManagedStorage.aclose`.

    Args:
        store: a DSN, as for `trove_async.open`, or a store that is open and stays open.
        database: a URL, as for `trove_async.database.connect`, or a database that is open and stays open.
        bucket: an existing bucket for the bytes; default: that of the DSN.
        namespace: with which the keys of the bytes begin, so that others can use the bucket too.
        space: separates several stores, buckets or namespaces in one database; one space is always used with the same.

    Raises:
        InvalidDSNError, InvalidBucketNameError: an argument is malformed, or no bucket is given.
        BucketNotFoundError: the bucket does not exist; one request to the store tells it.
        SchemaVersionError: a newer version of the library has made the tables.
        TroveError: the database cannot be used, as for `trove_async.database.connect`, or the store cannot be reached.
    """

    async def opening() -> ManagedStorage:
        catalogue = await ResourceCatalog.open(database, space)
        try:
            opened = await open_store(store) if isinstance(store, str) else store
            try:
                storage = StoreResourceStorage(opened, opened.bucket(bucket).name, namespace)
                await storage.check()
                managed = ManagedStorage(catalogue, storage)
            except BaseException:
                if isinstance(store, str):
                    await opened.aclose()
                raise
        except BaseException:
            await catalogue.aclose()
            raise
        managed._close_later(catalogue.aclose)
        if isinstance(store, str):
            managed._close_later(opened.aclose)
        return managed

    return Opening(opening)
