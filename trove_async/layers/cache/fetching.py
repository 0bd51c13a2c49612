"""`Fetching`: bodies from the backend, which readers that ask at the same time share, and which are kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

from trove_async.checksums import digest
from trove_async.driver.base import Driver
from trove_async.driver.options import GetOptions, HeadOptions
from trove_async.driver.pinning import pinned
from trove_async.errors import NotFoundError
from trove_async.layers.cache.body import Reopen, SharedBody
from trove_async.layers.cache.entries import Entries
from trove_async.layers.cache.flights import GIVE_UP, Flight, Flights, Missed
from trove_async.layers.cache.index import Index
from trove_async.layers.cache.stats import Counters, report_read
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["Answer", "Fetching", "Room", "has_no_condition", "question_of", "reopening"]

P = TypeVar("P")


class Room(Protocol):
    """Memory for bodies that are on their way."""

    def reserve(self, size: int) -> bool:
        """Take a number of bytes; False if there are not enough."""

    def release(self, size: int) -> None:
        """Give them back."""


class Answer:
    """The answer to a get, for all that share it.

    Args:
        found: the body, or the bytes of the range.
        info: of the object.
        start, stop: of the range.
        checked: when the backend was asked, by the clock of the cache.
    """

    __slots__ = ("_found", "checked", "info", "start", "stop")

    def __init__(self, found: SharedBody | bytes, info: ObjectInfo, start: int, stop: int, checked: float) -> None:
        self._found = found
        self.info = info
        self.start = start
        self.stop = stop
        self.checked = checked

    @property
    def is_alive(self) -> bool:
        """Whether another reader can share it."""
        return isinstance(self._found, bytes) or not self._found.is_abandoned

    def hold(self) -> None:
        """Count a reader that `reader` will be asked for with ``held``."""
        if isinstance(self._found, SharedBody):
            self._found.hold()

    def let_go(self) -> None:
        """Undo `hold`."""
        if isinstance(self._found, SharedBody):
            self._found.let_go()

    def reader(self, *, held: bool = False) -> ObjectReader:
        """Return a new reader."""
        if isinstance(self._found, SharedBody):
            return self._found.reader(held=held)
        return ObjectReader(self.info, self._found, start=self.start, stop=self.stop)


def has_no_condition(options: HeadOptions) -> bool:
    """Whether a read has no condition."""
    return (
        options.if_match is None
        and options.if_none_match is None
        and options.if_modified_since is None
        and options.if_unmodified_since is None
    )


def question_of(options: GetOptions) -> Hashable:
    """Return what is the same for gets that can share a request: the options, or None, which is faster to look up."""
    plain = options.range is None and options.version_id is None and has_no_condition(options)
    return None if plain else options


def reopening(inner: Driver, bucket: str, key: str, version_id: str | None, info: ObjectInfo, stop: int) -> Reopen:
    """Return a function that opens an object from an offset on, if it is still the same object."""
    open_range = pinned(inner, bucket, key, version_id, info)
    return lambda start: open_range(start, stop)


class Fetching(Generic[P]):
    """Gets bodies from the backend.

    Args:
        inner: the backend.
        entries, index: keep what was read.
        room: for bodies that are on their way.
        max_size: bytes of the largest body that is shared and kept.
        counters: of the cache.
        clock: seconds of a monotonic clock.

    Attributes:
        flights: the requests that can be joined, by bucket and key and by the options.
    """

    def __init__(
        self,
        inner: Driver,
        entries: Entries[P],
        index: Index[P],
        room: Room,
        max_size: int,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self.inner: Final = inner
        self.entries: Final = entries
        self.index: Final = index
        self.room: Final = room
        self.max_size: Final = max_size
        self.clock: Final = clock
        self.flights: Final[Flights[Answer]] = Flights(Answer.hold)
        self._counters = counters

    def answered(self, bucket: str, key: str, options: GetOptions) -> Answer | None:
        """Return an answer that has come and whose body can be shared."""
        flight = self.flights.find((bucket, key), question_of(options))
        answer = None if flight is None else flight.answer
        return answer if answer is not None and answer.is_alive else None

    async def fetch(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open a body by a request, one's own or that of another reader that has not been answered yet."""
        failures, question = 0, question_of(options)
        while failures < GIVE_UP:
            flight = self.flights.find((bucket, key), question)
            if flight is None or flight.answer is not None:
                return await self._lead(bucket, key, options)
            answer = await flight.wait(Answer.let_go)
            if isinstance(answer, Answer):
                self._counters.shared += 1
                report_read("shared")
                return answer.reader(held=True)
            if answer is Missed.UNSHARED:
                break
            failures += answer is Missed.FAILED
        self._missed()
        return await self.inner.get(bucket, key, options)

    def _missed(self) -> None:
        self._counters.misses += 1
        report_read("miss")

    async def _lead(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        self._missed()
        filling = _Filling(self, bucket, key, options)
        try:
            reader = await self.inner.get(bucket, key, options)
        except BaseException as error:
            filling.failed(error)
            raise
        try:
            return await filling.answered(reader)
        except BaseException as error:
            reader.abort()
            filling.failed(error)
            raise


class _Filling(Generic[P]):
    """A request, and what becomes of its answer."""

    def __init__(self, fetching: Fetching[P], bucket: str, key: str, options: GetOptions) -> None:
        self._fetching = fetching
        self._bucket = bucket
        self._key = key
        self._options = options
        self._asked = fetching.clock()
        self._question = question_of(options)
        self._flight: Flight[Answer] = fetching.flights.begin((bucket, key), self._question)
        self._reopened = False

    def _end(self) -> None:
        self._fetching.flights.end((self._bucket, self._key), self._question, self._flight)

    def failed(self, error: BaseException) -> None:
        """Take in that the request failed or was cancelled."""
        self._end()
        self._flight.miss(Missed.FAILED if isinstance(error, Exception) else Missed.CANCELLED)
        if isinstance(error, NotFoundError):
            self._fetching.index.drop(*self._names())

    def _names(self) -> tuple[Hashable, Hashable]:
        entries = self._fetching.entries
        return entries.place(self._bucket, self._key), entries.version(self._options.version_id)

    async def answered(self, reader: ObjectReader) -> ObjectReader:
        """Give the answer to those who wait for it; return a reader for the one that asked."""
        fetching = self._fetching
        if reader.size == 0 and not reader.buffered:
            await reader.aclose()  # there is nothing to read
            reader = ObjectReader(reader.info, b"", start=reader.start, stop=reader.stop)
        data = reader.buffer
        if reader.size > fetching.max_size or (data is None and not fetching.room.reserve(reader.size)):
            self._end()
            self._flight.miss(Missed.UNSHARED)
            return reader
        if data is None:
            return self._share(reader)
        self._flight.land(Answer(data, reader.info, reader.start, reader.stop, self._asked))
        try:
            if await self._matches_checksum(reader.info, reader.start, data):
                await self._keep(reader.info, reader.start, data)
        finally:
            self._end()
        return reader

    def _share(self, reader: ObjectReader) -> ObjectReader:
        options = self._options
        opener = reopening(self._fetching.inner, self._bucket, self._key, options.version_id, reader.info, reader.stop)

        async def reopen(start: int) -> ObjectReader:
            self._reopened = True
            return await opener(start)

        body = SharedBody(reader, reopen, self)
        self._body = body
        self._flight.land(Answer(body, reader.info, reader.start, reader.stop, self._asked))
        return body.reader()

    def abandoned(self) -> None:
        """Forget a body that nobody reads."""
        self._fetching.room.release(self._body.stop - self._body.start)
        self._end()

    async def complete(self, data: bytes) -> None:
        """Keep a body that has arrived."""
        body, room = self._body, self._fetching.room
        in_index = room is self._fetching.index
        if in_index:
            room.release(len(data))
        try:
            # The source has compared the checksum, if it was read in one piece.
            if not self._reopened or await self._matches_checksum(body.info, body.start, data):
                await self._keep(body.info, body.start, data)
        finally:
            if not in_index:
                room.release(len(data))
            self._end()

    async def _matches_checksum(self, info: ObjectInfo, start: int, data: bytes) -> bool:
        if not info.checksums or start != 0 or len(data) != info.size:
            return True
        algorithm, expected = next(iter(info.checksums.items()))
        return (await digest(algorithm, [data])).hex() == expected

    async def _keep(self, info: ObjectInfo, start: int, data: bytes) -> None:
        if not self._flight.current:
            return  # the object was changed through the cache since the request began
        entries, index = self._fetching.entries, self._fetching.index
        place, version = self._names()
        etag, stop, cost = entries.etag(info.etag), start + len(data), entries.cost(info, len(data))
        payload = await entries.save(place, version, etag, start, stop, data)
        if payload is None:
            return
        held = self._flight.current and index.add(
            place, version, etag, start, stop, payload, cost, info=info, checked=self._asked
        )
        if not held:
            entries.discard(payload)
