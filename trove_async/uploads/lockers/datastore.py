"""The locks that a data store has itself."""

from __future__ import annotations

from trove_async.errors import InvalidArgumentError, UploadLockedError
from trove_async.uploads.datastore import LockerDataStore
from trove_async.uploads.lockers.shared import SharedLocker
from trove_async.uploads.lockers.turns import TIMEOUT

__all__ = ["DataStoreLocker"]


class DataStoreLocker(SharedLocker[str]):
    """The locks of a data store that has some, as a locker.

    A holder in this process is asked to stop. A holder in another process cannot be asked: a request that waits for it
    tries again every second.

    Args:
        store: a data store with ``lock_upload`` and ``unlock_upload``. It is not closed.
        timeout: seconds to wait for a holder to stop; default: 20.

    Raises:
        InvalidArgumentError: the store has no locks, or the timeout is no number of seconds.
    """

    def __init__(self, store: LockerDataStore, *, timeout: float = TIMEOUT) -> None:
        super().__init__(timeout)
        if not isinstance(store, LockerDataStore):
            raise InvalidArgumentError(f"a data store with lock_upload and unlock_upload is needed, not {store!r}")
        self._store = store

    def _key_of(self, name: str) -> str:
        return name

    async def _try_lock(self, key: str, *, ask: bool) -> bool:
        if not ask:  # nobody was asked: the answer would be the same
            return False
        try:
            await self._store.lock_upload(key)
        except UploadLockedError:
            return False
        return True

    async def _unlock(self, key: str, *, announce: bool) -> None:
        await self._store.unlock_upload(key)
