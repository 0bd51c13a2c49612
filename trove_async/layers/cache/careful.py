"""`CarefulStore`: the store of a cache, whose failures never become those of a read or a write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.body import Body
from trove_async.driver import events
from trove_async.driver.base import Driver
from trove_async.driver.capabilities import BulkDeleteDriver
from trove_async.driver.opening import Member
from trove_async.driver.options import (
    BucketOptions,
    DeleteOptions,
    GetOptions,
    ListOptions,
    OpenOptions,
    PutOptions,
)
from trove_async.errors import (
    BucketNotFoundError,
    NotFoundError,
    RangeNotSatisfiableError,
    StorageFullError,
    TransientError,
)
from trove_async.layers.cache.stats import CacheStoreFailed, Counters
from trove_async.layers.members import OpenMembers, open_members
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange

__all__ = ["BATCH", "CarefulStore", "Listed"]

R = TypeVar("R")

BATCH: Final = 100
"""Objects that are deleted at once; every service takes as many."""

DEFAULT_BUCKET: Final = "trove-cache"

_TIMEOUT: Final = 10.0  # seconds of each operation, and those that its bytes take
_SLOWEST: Final = 1_000_000  # bytes a second
_PAUSE: Final = 10.0  # seconds for which the store is not asked after a failure

_log = logging.getLogger("trove_async")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of the store.

    Attributes:
        stored: when it was stored, in seconds since 1970.
        name: its key, without the prefix.
        size: bytes.
    """

    stored: float
    name: str
    size: int


class CarefulStore:
    """A bucket of another store, or the objects of it that begin with a prefix.

    An operation that fails, or takes longer than 10 s and another second for each megabyte, has no result. After it
    nothing is asked for 10 s.

    Args:
        store: what is opened.
        bucket: None for the one that the store names, or else ``trove-cache``.
        prefix: of all names.
        counters: of the cache.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self, store: Member, bucket: str | None, prefix: str, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._bucket = bucket or ""
        self._prefix = prefix
        self._counters = counters
        self._clock = clock
        self._members: OpenMembers | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._resting_until: float | None = None
        self._was_full = False

    @property
    def is_open(self) -> bool:
        """Whether the store has been opened, which is done later if it was down."""
        return self._members is not None

    async def open(self) -> None:
        """Open the store. If it is down, the next operation after a rest opens it.

        Raises:
            TroveError: its DSN is wrong, or names something that is missing.
        """
        try:
            await self._opened()
        except TransientError as error:
            self._failed(error)

    async def _opened(self) -> Driver | None:
        """Return the driver of the store; None if it was closed."""
        if self._members is None:
            async with self._opening:
                if self._members is None and not self._closed:
                    self._members = await open_members({"cache": self._store}, OpenOptions())
                    driver = self._members.drivers["cache"]
                    self._bucket = self._bucket or driver.default_bucket or DEFAULT_BUCKET
        return None if self._members is None else self._members.drivers["cache"]

    async def close(self) -> None:
        """Close the store, unless it was given open."""
        self._closed = True
        async with self._opening:
            members, self._members = self._members, None
        if members is not None:
            await members.close()

    async def _try(self, work: Callable[[Driver], Awaitable[R]], size: int = 0) -> R | None:
        """Do something that moves ``size`` bytes; None if it failed, or the store failed a moment ago."""
        if self._closed or (self._resting_until is not None and self._clock() < self._resting_until):
            return None
        unobserved = events.OBSERVER.set(None)  # its requests are none of the operation
        try:
            async with asyncio.timeout(_TIMEOUT + size / _SLOWEST):
                driver = await self._opened()
                result = None if driver is None else await work(driver)
        except Exception as error:  # noqa: BLE001 - whatever it is, the backend has the object
            failure = error
        else:
            self._resting_until = None
            return result
        finally:
            events.OBSERVER.reset(unobserved)
        self._failed(failure)
        return None

    def _failed(self, error: Exception) -> None:
        self._counters.store_errors += 1
        if self._resting_until is None:
            _log.warning("the store of a cache failed, and is asked again after %g s: %r", _PAUSE, error)
        self._resting_until = self._clock() + _PAUSE
        events.report(CacheStoreFailed(error))

    async def put(self, name: str, data: bytes) -> bool:
        """Store an object; tell whether it was stored.

        Raises:
            StorageFullError: the store has no room for it. It has no rest, since what it holds can be read.
        """

        async def put(driver: Driver) -> StorageFullError | None:
            try:
                await self._put(driver, name, data)
            except StorageFullError as error:
                return error
            stored.append(name)
            return None

        stored: list[str] = []
        full = await self._try(put, len(data))
        if full is not None:
            self._is_full(full)
            raise full
        return bool(stored)

    async def _put(self, driver: Driver, name: str, data: bytes) -> None:
        try:
            await driver.put(self._bucket, self._prefix + name, Body(data), PutOptions())
        except BucketNotFoundError:  # somebody has removed it since the store was opened
            await driver.create_bucket(self._bucket, BucketOptions())
            await driver.put(self._bucket, self._prefix + name, Body(data), PutOptions())

    def _is_full(self, error: StorageFullError) -> None:
        self._counters.store_errors += 1
        if not self._was_full:
            _log.warning("the store of a cache is full, and entries are removed to make room: %r", error)
        self._was_full = True
        events.report(CacheStoreFailed(error))

    async def read(self, name: str, start: int, stop: int, size: int) -> bytes | None:
        """Return a range of an object that has a size; ``b""`` if it is missing or has another size."""

        async def read(driver: Driver) -> bytes:
            options = GetOptions(range=ByteRange(start, stop - start))
            try:
                async with await driver.get(self._bucket, self._prefix + name, options) as reader:
                    return await reader.read() if reader.info.size == size else b""
            except (NotFoundError, RangeNotSatisfiableError):
                return b""

        return await self._try(read, stop - start)

    async def delete(self, names: Sequence[str]) -> Sequence[str]:
        """Delete up to `BATCH` objects; return those that may still be there."""

        async def delete(driver: Driver) -> Sequence[str]:
            try:
                return await self._delete(driver, names)
            except BucketNotFoundError:
                return []

        left = await self._try(delete)
        return names if left is None else left

    async def _delete(self, driver: Driver, names: Sequence[str]) -> Sequence[str]:
        keys = [self._prefix + name for name in names]
        if not isinstance(driver, BulkDeleteDriver):
            for key in keys:
                await driver.delete(self._bucket, key, DeleteOptions())
            return []
        results = await driver.delete_many(self._bucket, keys)
        return [name for name, result in zip(names, results, strict=True) if result.error is not None]

    async def list(self) -> list[Listed] | None:
        """Return all objects, the oldest first; None if they cannot be listed. A missing bucket is created."""
        found: list[Listed] = []
        cursor: str | None = None
        while True:
            page = await self._try(lambda driver, cursor=cursor: self._page(driver, cursor))  # type: ignore[misc]
            if page is None:
                return None
            for info in page.objects:
                stored = 0.0 if info.last_modified is None else info.last_modified.timestamp()
                found.append(Listed(stored, info.key.removeprefix(self._prefix), info.size))
            cursor = page.cursor
            if cursor is None:
                return sorted(found, key=lambda listed: listed.stored)

    async def _page(self, driver: Driver, cursor: str | None) -> ListPage:
        try:
            return await driver.list_page(self._bucket, ListOptions(prefix=self._prefix, cursor=cursor))
        except BucketNotFoundError:
            await driver.create_bucket(self._bucket, BucketOptions())
            return ListPage([], [], None)
