"""The driver of `Cache`: what it asks the backend for, and what it answers by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, ClassVar, Final, Generic, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.methods import SIGNING
from trove_async.driver.options import GetOptions, HeadOptions, without_range
from trove_async.errors import NotFoundError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.cache.entries import Entries
from trove_async.layers.cache.fetching import Answer, Fetching, Room, has_no_condition, reopening
from trove_async.layers.cache.flights import Flights
from trove_async.layers.cache.index import Index, Record
from trove_async.layers.cache.stats import CacheStats, Counters, Outcome, report_read
from trove_async.layers.read_only import READS
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["CacheDriver"]

P = TypeVar("P")
R = TypeVar("R")

_HARMLESS: Final = READS | SIGNING | {
    "create_bucket", "initiate_multipart", "upload_part", "append_part", "copy_part", "abort_multipart",
}  # fmt: skip
"""The methods that change no object. What any other one names is read anew, so that no new one is forgotten."""

_PLAIN: Final = HeadOptions()
_HIT: Final[Outcome] = "hit"
_VALIDATED: Final[Outcome] = "validated"


class CacheDriver(LayerDriver, Generic[P]):
    """A driver with a cache around it.

    Args:
        inner: the driver.
        entries, index: of the cache.
        room: for bodies that are on their way.
        max_object_size: bytes of the largest body that is kept.
        ttl: seconds for which an entry is current without a question; None for 0.
        counters: of the cache.
        clock: seconds of a monotonic clock.
    """

    layer_name: ClassVar[str | None] = "Cache"
    never_around: ClassVar[Mapping[str, str]] = {
        "Prefixed": "the keys of its entries would lack the prefix, so that stores with different prefixes shared them"
    }

    def __init__(
        self,
        inner: Driver,
        entries: Entries[P],
        index: Index[P],
        room: Room,
        *,
        max_object_size: int,
        ttl: float | None,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(inner)
        self._entries: Final = entries
        self._index: Final = index
        self._ttl: Final = ttl
        self._counters: Final = counters
        self._clock: Final = clock
        self._fetching: Final = Fetching(inner, entries, index, room, max_object_size, counters, clock)
        self._heads: Final[Flights[ObjectInfo]] = Flights()

    @property
    def stats(self) -> CacheStats:
        """What the caches of its `Cache` did so far, and what they hold."""
        return self._counters.snapshot()

    # Reading

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object or a range of it, from the cache if it is there and current."""
        wanted = options.range
        if options.part_of is not None or (wanted is not None and wanted.empty):
            return await self.inner.get(bucket, key, options)
        known = self._known(bucket, key, options)
        if known is not None:
            info, outcome = self._fresh(known, options), _HIT
            if info is None and not _asks_for_another(known, options):
                info, outcome = await self._ask(bucket, key, options), _VALIDATED
            if info is not None:
                reader = await self._serve(bucket, key, options, info, outcome)
                if reader is not None:
                    return reader
        return await self._fetching.fetch(bucket, key, options)

    def _names(self, bucket: str, key: str, version_id: str | None) -> tuple[Hashable, Hashable]:
        return self._entries.place(bucket, key), self._entries.version(version_id)

    def _known(self, bucket: str, key: str, options: GetOptions) -> Record[P] | Answer | None:
        """Return what may have the bytes, if it is current."""
        record = self._index.find(*self._names(bucket, key, options.version_id))
        if record is not None and record.may_cover(options.range):
            return record
        return self._fetching.answered(bucket, key, options)

    def _fresh(self, known: Record[P] | Answer, options: HeadOptions) -> ObjectInfo | None:
        """Return the description if it is taken as current without a question, and the conditions hold for it."""
        info, checked = known.info, known.checked
        if self._ttl is None or info is None:
            return None
        if self._clock() - checked >= self._ttl or checked <= self._index.trusted_since:
            return None
        if options.if_match is None:
            return info if has_no_condition(options) else None
        # The bytes are those that were asked for; every other condition is for the backend to evaluate.
        return info if options.if_match == info.etag and options.if_none_match is None else None

    async def _ask(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Ask the backend for the description, under the conditions; questions at the same time share one request."""
        head = _PLAIN if options.version_id is None and has_no_condition(options) else without_range(options)

        def validate() -> Awaitable[ObjectInfo]:
            self._counters.validations += 1
            return self._head(bucket, key, head)

        return await self._heads.share((bucket, key), None if head is _PLAIN else head, validate)

    async def _head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        asked = self._clock()
        names = self._names(bucket, key, options.version_id)
        try:
            info = await self.inner.head(bucket, key, options)
        except NotFoundError:
            self._index.drop(*names)
            raise
        self._index.saw(*names, self._entries.etag(info.etag), info, asked)
        return info

    async def _serve(
        self, bucket: str, key: str, options: GetOptions, info: ObjectInfo, outcome: Outcome
    ) -> ObjectReader | None:
        """Return a reader of the object that is described; None if neither the cache nor a request has its bytes."""
        record = self._index.find(*self._names(bucket, key, options.version_id))
        if record is not None and record.etag == self._entries.etag(info.etag):
            start, stop = (0, info.size) if options.range is None else options.range.resolve(info.size)
            pieces = record.covering(start, stop)
            if pieces is not None:

                def reopen(at: int) -> Awaitable[ObjectReader]:
                    return reopening(self.inner, bucket, key, options.version_id, info, stop)(at)

                reader = await self._entries.open(info, start, stop, pieces, reopen)
                if reader is not None:
                    self._index.touch(pieces)
                    self._counters.hits += 1
                    report_read(outcome)
                    return reader
        answer = self._fetching.answered(bucket, key, options)
        if answer is None or answer.info.etag != info.etag:
            return None
        self._counters.shared += 1
        report_read("shared")
        return answer.reader()

    async def get_range(self, bucket: str, key: str, offset: int, length: int) -> ObjectReader:
        """Read a range as `get` does."""
        return await self.get(bucket, key, GetOptions(range=ByteRange(offset, None if length == -1 else length)))

    async def get_version(self, bucket: str, key: str, version_id: str) -> ObjectReader:
        """Read a version as `get` does."""
        return await self.get(bucket, key, GetOptions(version_id=version_id))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object, by the entry if that is taken as current without a question."""
        if self._ttl is not None:
            record = self._index.find(*self._names(bucket, key, options.version_id))
            info = None if record is None else self._fresh(record, options)
            if info is not None:
                return info
        return await self._head(bucket, key, options)

    # Changes

    async def around(self, operation: Operation, call: Call[R]) -> R:
        """Forget what an operation changes, before it and after it: a read in between may have found the old object."""
        if operation.name in _HARMLESS:
            return await call()
        self._forget(operation)
        try:
            result = await call()
        finally:
            self._forget(operation)
        await self._entries.collect()
        return result

    def _forget(self, operation: Operation) -> None:
        bucket = operation.bucket
        if bucket is None:
            return
        keys = operation["keys"] if operation.name == "delete_many" else [operation.key]
        for key in keys:
            if key is None:
                self._distrust(bucket)
                continue
            self._fetching.flights.forget((bucket, key))
            self._heads.forget((bucket, key))
            self._index.drop_all_of(self._entries.place(bucket, key))

    def _distrust(self, bucket: str) -> None:
        """Ask the backend before the next read of each entry, since all of a bucket may have changed."""
        self._fetching.flights.forget_where(lambda place: place[0] == bucket)
        self._heads.forget_where(lambda place: place[0] == bucket)
        self._index.trusted_since = self._clock()

    # Lifetime

    async def start(self) -> None:
        """Open the store of the entries, if they are in one."""
        await self._entries.start(self._index, self.inner)

    async def close(self) -> None:
        """Forget all entries, close their store, and close the inner driver."""
        self._index.close()
        try:
            await self._entries.close()
        finally:
            await super().close()


def _asks_for_another(known: Record[Any] | Answer, options: HeadOptions) -> bool:
    """Whether the entry, if it is current, is what the caller does not want: one request then tells all."""
    return options.if_none_match is not None and (
        options.if_none_match == "*" or (known.info is not None and options.if_none_match == known.info.etag)
    )
