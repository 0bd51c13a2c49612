"""`StoredEntries`: the bytes of a cache as objects of another store. Its failures are never those of a read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Final, TypeVar

from trove_async.body import Body
from trove_async.checksums import digest
from trove_async.driver import events
from trove_async.driver.base import Driver
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
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    RangeNotSatisfiableError,
)
from trove_async.layers.cache.body import Reopen, raise_at_once
from trove_async.layers.cache.entries import Entries
from trove_async.layers.cache.index import Index, Piece
from trove_async.layers.cache.stats import CacheStoreFailed, Counters
from trove_async.layers.members import OpenMembers, open_members
from trove_async.ranges import ByteRange
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["InUse", "StoredEntries"]

R = TypeVar("R")

FRAME: Final = 256 * 1024
"""Bytes of an entry that have a checksum of their own, so that a range can be checked without the others."""

_DIGEST: Final = 64  # bytes of a blake2b
_STEP: Final = 1024 * 1024  # bytes that are read at once
_FORMAT: Final = "trove-cache-1"
_OVERHEAD: Final = 4096
_TIMEOUT: Final = 10.0  # seconds of each operation of the store
_PAUSE: Final = 10.0  # seconds for which the store is not asked after a failure

_NAME: Final = re.compile(r"[0-9a-f]{2}/([0-9a-f]{40})\.([0-9a-f]{16})\.([0-9a-f]{32})\.([0-9]+)-([0-9]+)")

_log = logging.getLogger("trove_async")


class InUse:
    """The one open store that a cache on a store may be around: two would take each other's entries for theirs."""

    def __init__(self) -> None:
        self._by: object | None = None

    def enter(self, user: object) -> None:
        """Take the place.

        Raises:
            InvalidArgumentError: another one has it.
        """
        if self._by not in (None, user):
            raise InvalidArgumentError(
                "this Cache is around another open store, whose entries have the same namespace; make a Cache for "
                "each store, with a namespace of its own"
            )
        self._by = user

    def leave(self, user: object) -> None:
        """Give the place up."""
        if self._by is user:
            self._by = None


class StoredEntries(Entries[str]):
    """Keeps bytes in objects whose names say what they are.

    A name is made of digests of the bucket and key, the version and the ETag, and of the offsets. The content is a
    sequence of frames: a checksum of the name, of the frame's number and of up to `FRAME` bytes, and these bytes.

    Args:
        store: of the entries.
        bucket: of the entries; None for the one that the store names, or else ``trove-cache``.
        namespace: separates the entries from those of other caches in the same bucket.
        in_use: whether the layer is around an open store.
        counters: of the cache.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        store: Member,
        bucket: str | None,
        namespace: str,
        in_use: InUse,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._bucket = bucket or ""
        self._in_use = in_use
        self._prefix = f"{_FORMAT}/{namespace}/"
        self._counters = counters
        self._clock = clock
        self._members: OpenMembers | None = None
        self._index: Index[str] | None = None
        self._discarded: set[str] = set()
        self._resting_until: float | None = None

    # Names

    def place(self, bucket: str, key: str) -> Hashable:
        """Return a digest of bucket and key."""
        return _digest(20, bucket, key)

    def version(self, version_id: str | None) -> Hashable:
        """Return a digest of the version."""
        return _LATEST if version_id is None else _digest(8, version_id)

    def etag(self, etag: str) -> str:
        """Return a digest of the ETag."""
        return _digest(16, etag)

    def cost(self, info: ObjectInfo, size: int) -> int:
        """Return the size of the object, and what a store and the index need for it."""
        return stored_size(size) + _OVERHEAD

    # The store

    async def _try(self, work: Callable[[Driver], Awaitable[R]]) -> R | None:
        """Do something with the store; None if it failed, or has failed a short time ago."""
        if self._members is None or (self._resting_until is not None and self._clock() < self._resting_until):
            return None
        unobserved = events.OBSERVER.set(None)  # its requests are none of the operation
        try:
            async with asyncio.timeout(_TIMEOUT):
                result = await work(self._members.drivers["cache"])
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

    async def start(self, index: Index[str]) -> None:
        """Open the store, and add the entries of the namespace to the index, the oldest first."""
        self._in_use.enter(self)
        self._members = await open_members({"cache": self._store}, OpenOptions())
        self._index = index
        driver = self._members.drivers["cache"]
        self._bucket = self._bucket or driver.default_bucket or DEFAULT_BUCKET
        self._prefix = driver.default_prefix + self._prefix
        found = await self._try(self._scan)
        now = time.time()
        for stored, name, size in sorted(found or ()):
            self._add(index, name, size, max(0.0, now - stored))
        await self.collect()

    async def _scan(self, driver: Driver) -> list[tuple[float, str, int]]:
        try:
            return [entry async for entry in self._listed(driver)]
        except BucketNotFoundError:
            await driver.create_bucket(self._bucket, BucketOptions())
            return []

    async def _listed(self, driver: Driver) -> AsyncIterator[tuple[float, str, int]]:
        async for info in driver.list(self._bucket, ListOptions(prefix=self._prefix)):
            if isinstance(info, ObjectInfo):
                yield (info.last_modified.timestamp() if info.last_modified else 0.0), info.key, info.size

    def _add(self, index: Index[str], name: str, size: int, age: float) -> None:
        parsed = _NAME.fullmatch(name.removeprefix(self._prefix))
        start, stop = (int(parsed[4]), int(parsed[5])) if parsed else (0, 0)
        if parsed is None or start > stop or size != stored_size(stop - start):
            self.discard(name)
            return
        place, version, etag = parsed.group(1, 2, 3)
        if index.add(place, version, etag, start, stop, name, size + _OVERHEAD, age=age) is None:
            self.discard(name)

    async def close(self) -> None:
        """Delete what was discarded, and close the store if the cache has opened it."""
        self._in_use.leave(self)
        members = self._members
        if members is None:
            return
        try:
            await self.collect()
        finally:
            self._members = None
            await members.close()

    # Entries

    async def save(
        self, place: Hashable, version: Hashable, etag: str, start: int, stop: int, data: bytes
    ) -> str | None:
        """Store bytes, after what has no more room was deleted."""
        index, size = self._index, stored_size(len(data)) + _OVERHEAD
        if index is None or not index.reserve(size):
            return None
        try:
            await self.collect()
            return await self._put(f"{place}.{version}.{etag}.{start}-{stop}", data)
        finally:
            index.release(size)

    async def _put(self, digests: str, data: bytes) -> str | None:
        name = f"{self._prefix}{digests[:2]}/{digests}"
        self._discarded.discard(name)
        frames = []
        for number, at in enumerate(range(0, len(data), FRAME)):
            frame = data[at : at + FRAME]
            frames += [await _checksum(name, number, frame), frame]

        async def put(driver: Driver) -> str:
            await driver.put(self._bucket, name, Body(b"".join(frames)), PutOptions())
            return name

        return await self._try(put)

    async def open(
        self, info: ObjectInfo, start: int, stop: int, pieces: Sequence[Piece[str]], reopen: Reopen
    ) -> ObjectReader | None:
        """Read the first bytes of a range; if there are more, the reader reads them when it needs them."""
        reading = _Reading(self, pieces, stop)
        first = await reading.read(start)
        if first is None:
            return None
        if start + len(first) == stop:
            return ObjectReader(info, first, start=start, stop=stop)
        stream = _StoredStream(reading, start, first, reopen)
        return ObjectReader(info, stream, start=start, stop=stop, resumption=raise_at_once)

    async def load(self, piece: Piece[str], start: int, stop: int) -> bytes | None:
        """Return bytes of an entry; None if they are lost or damaged, or the store failed."""
        first, last = (start - piece.start) // FRAME, -(-(stop - piece.start) // FRAME)
        size = piece.stop - piece.start

        async def read(driver: Driver) -> bytes:
            begin = first * (FRAME + _DIGEST)
            stored = min(stored_size(size), last * (FRAME + _DIGEST)) - begin
            options = GetOptions(range=ByteRange(begin, stored))
            try:
                async with await driver.get(self._bucket, piece.payload, options) as reader:
                    return await reader.read() if reader.info.size == stored_size(size) else _LOST
            except (NotFoundError, RangeNotSatisfiableError, ChecksumError):
                return _LOST

        if size == 0:
            return b""
        framed = await self._try(read)
        if framed is None:
            return None
        frames = []
        for number, at in enumerate(range(0, len(framed), FRAME + _DIGEST), first):
            frame = framed[at + _DIGEST : at + _DIGEST + FRAME]
            if framed[at : at + _DIGEST] == await _checksum(piece.payload, number, frame):
                frames.append(frame)
        if len(frames) < last - first:
            self._lost(piece)
            return None
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        skipped = start - piece.start - first * FRAME
        return data[skipped : skipped + stop - start]

    def _lost(self, piece: Piece[str]) -> None:
        if self._index is not None:
            self._index.remove(piece)

    def discard(self, payload: str) -> None:
        """Remember to delete an object."""
        self._discarded.add(payload)

    async def collect(self) -> None:
        """Delete the objects that were discarded; those that cannot be deleted now are deleted later."""
        while self._discarded:
            name = self._discarded.pop()

            async def delete(driver: Driver, name: str = name) -> bool:
                await driver.delete(self._bucket, name, DeleteOptions())
                return True

            if not await self._try(delete):
                self._discarded.add(name)
                return


class _Reading:
    """Reads a range from the entries that have it, in steps."""

    def __init__(self, entries: StoredEntries, pieces: Sequence[Piece[str]], stop: int) -> None:
        self._entries = entries
        self._pieces = pieces
        self._stop = stop

    async def read(self, position: int) -> bytes | None:
        """Return bytes at a position; None if they are lost."""
        piece = next((piece for piece in self._pieces if piece.start <= position < piece.stop), self._pieces[-1])
        # Ends with a frame, so that no frame is read twice.
        step = _STEP - (position - piece.start) % FRAME
        return await self._entries.load(piece, position, min(self._stop, piece.stop, position + step))


class _StoredStream(ByteStream):
    """Reads from entries, and from the backend when one of them is lost."""

    def __init__(self, reading: _Reading, start: int, first: bytes, reopen: Reopen) -> None:
        self._reading = reading
        self._position = start
        self._at, self._chunk = start, first
        self._reopen = reopen
        self._backend: ObjectReader | None = None

    async def read(self, size: int) -> bytes:
        if self._backend is None and not self._at <= self._position < self._at + len(self._chunk):
            chunk = await self._reading.read(self._position)
            if chunk is None:
                self._backend = await self._reopen(self._position)
            else:
                self._at, self._chunk = self._position, chunk
        if self._backend is not None:
            found = await self._backend.read(min(size, FRAME))
        else:
            skipped = self._position - self._at
            found = self._chunk[skipped : skipped + size]
        self._position += len(found)
        return found

    async def seek(self, offset: int) -> None:
        self.abort()
        self._position = offset

    def abort(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.abort()

    async def aclose(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.aclose()


DEFAULT_BUCKET: Final = "trove-cache"


def stored_size(size: int) -> int:
    """Return the size of an entry for so many bytes."""
    return size + _DIGEST * -(-size // FRAME)


async def _checksum(name: str, number: int, frame: bytes) -> bytes:
    return await digest("blake2b", [f"{name}\n{number}\n".encode(), frame])


def _digest(size: int, *texts: str) -> str:
    """Return a digest of texts; their lengths are part of it, so that no two lists of texts share one."""
    hasher = hashlib.blake2b(digest_size=size)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8))
        hasher.update(data)
    return hasher.hexdigest()


_LOST: Final = b""
_LATEST: Final = "0" * 16
