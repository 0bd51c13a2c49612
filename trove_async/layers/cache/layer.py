"""`Cache`: read what was read before from memory, or from another store, as long as it is current."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.opening import Member, Target
from trove_async.driver.order import Placed
from trove_async.errors import InvalidArgumentError
from trove_async.layers.cache.careful import CarefulStore
from trove_async.layers.cache.driver import CacheDriver
from trove_async.layers.cache.entries import Entries, MemoryEntries
from trove_async.layers.cache.fetching import Room
from trove_async.layers.cache.index import Index
from trove_async.layers.cache.stats import CacheStats, Counters
from trove_async.layers.cache.stored import InUse, StoredEntries
from trove_async.values import is_number, is_whole

__all__ = ["Cache"]

P = TypeVar("P")

_MIB: Final = 1024 * 1024
_IN_FLIGHT: Final = 64 * _MIB
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class Cache(Placed):
    """Read bytes that were read before from memory, or from another store, as long as they are current.

    Every read asks the backend for the object's ETag, and takes the bytes from the cache if the entry has the same.
    With ``ttl`` it does not ask about an entry that was checked less than ``ttl`` seconds ago. What is changed through
    the store is read anew at once. Around several drivers, each has entries of its own; `stats` are those of all.

    Args:
        max_bytes: of all entries, with what is needed to keep them; the entries that were not read for longest are
            removed first. In memory, bodies that are on their way count too.
        ttl: seconds for which an entry is taken as current without asking the backend; None to ask it at each read.
        on: the store of the entries: a DSN, a `Member` with layers, or an open driver, which stays open; None for
            memory. Entries are found again when the store is opened again.
        namespace: with ``on``, the name of this cache in that store: 1 to 64 letters, digits, ``.``, ``_`` and ``-``.
            Stores that are not the same need different ones.
        bucket: with ``on``, the bucket of the entries; None for that of the DSN, or ``trove-cache`` if it names none. A
            missing one is created.
        max_object_size: bytes of the largest body that is kept; None for an eighth of ``max_bytes``. Larger
            ones pass through.
        max_age: seconds after which an entry is removed, current or not; None for no such limit.
        clock: seconds of a monotonic clock; for tests.

    Raises:
        InvalidArgumentError: a value is out of range, or ``namespace`` is missing or superfluous.
        InvalidDSNError: ``on`` is malformed.
    """

    layer_name: ClassVar[str | None] = CacheDriver.layer_name
    never_around: ClassVar[Mapping[str, str]] = CacheDriver.never_around

    def __init__(
        self,
        max_bytes: int = 256 * _MIB,
        ttl: float | None = None,
        on: str | Driver | Target | Member | None = None,
        *,
        namespace: str | None = None,
        bucket: str | None = None,
        max_object_size: int | None = None,
        max_age: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        for name, size in (("max_bytes", max_bytes), ("max_object_size", max_object_size)):
            if size is not None and (not is_whole(size) or size < 1):
                raise InvalidArgumentError(f"{name} is a number of bytes of 1 or more, not {size!r}")
        for name, seconds in (("ttl", ttl), ("max_age", max_age)):
            if seconds is not None and not (is_number(seconds) and 0 < seconds < math.inf):
                raise InvalidArgumentError(f"{name} is a number of seconds, more than 0, or None, not {seconds!r}")
        if not callable(clock):
            raise InvalidArgumentError(f"clock is a function that returns seconds, not {clock!r}")
        _check_store(on, namespace, bucket)
        self._max_bytes: Final = max_bytes
        self._max_object_size: Final = max(1, max_bytes // 8) if max_object_size is None else max_object_size
        self._ttl: Final = ttl
        self._max_age: Final = max_age
        self._on: Final = None if on is None else Member.of(on)
        self._namespace: Final = namespace
        self._bucket: Final = bucket
        self._clock: Final = clock
        self._counters: Final = Counters()
        self._in_use: Final = InUse()

    def __call__(self, driver: Driver) -> Driver:
        """Put a cache around a driver; each driver has its own."""
        if self._on is None:
            memory = MemoryEntries()
            index = self._index(memory)
            return self._around(driver, memory, index, index)
        prefix = f"trove-cache-1/{self._namespace}/"
        store = CarefulStore(self._on, self._bucket, prefix, self._counters, self._clock)
        stored = StoredEntries(store, self._max_bytes, self._in_use)
        return self._around(driver, stored, self._index(stored), InFlight(max(_IN_FLIGHT, self._max_object_size)))

    def _index(self, entries: Entries[P]) -> Index[P]:
        return Index(self._max_bytes, self._max_age, self._counters, entries.discard, self._clock)

    def _around(self, driver: Driver, entries: Entries[P], index: Index[P], room: Room) -> Driver:
        return CacheDriver(
            driver,
            entries,
            index,
            room,
            max_object_size=self._max_object_size,
            ttl=self._ttl,
            counters=self._counters,
            clock=self._clock,
        )

    @property
    def stats(self) -> CacheStats:
        """What the caches of this layer did so far, and what they hold."""
        return self._counters.snapshot()

    def __repr__(self) -> str:
        where = "memory" if self._on is None else repr(self._on)
        return f"<Cache of {self._counters.bytes} of {self._max_bytes} bytes in {where}>"


class InFlight:
    """Memory for bodies that are on their way to another store."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def reserve(self, size: int) -> bool:
        """Take a number of bytes; False if there are not enough."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def release(self, size: int) -> None:
        """Give them back."""
        self._left += size


def _check_store(on: object, namespace: str | None, bucket: str | None) -> None:
    if on is None:
        for name, value in (("namespace", namespace), ("bucket", bucket)):
            if value is not None:
                raise InvalidArgumentError(f"{name} is of a cache on a store: give the store as on=, or leave it out")
        return
    if namespace is None:
        raise InvalidArgumentError(
            "a cache on a store needs a namespace, which keeps its entries apart from those of other stores, as in "
            "Cache(on='local:///var/cache/trove', namespace='assets')"
        )
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise InvalidArgumentError(
            f"namespace is text of 1 to 64 letters, digits, '.', '_' and '-', which does not begin with '.', "
            f"not {namespace!r}"
        )
    if bucket is not None and not (isinstance(bucket, str) and bucket):
        raise InvalidArgumentError(f"bucket is the name of a bucket, not {bucket!r}")
