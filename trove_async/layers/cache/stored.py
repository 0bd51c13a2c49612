"""`StoredEntries`: the bytes of a cache as objects of another store. Its failures are never those of a read."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Final

from trove_async.checksums import digest
from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError, StorageFullError
from trove_async.layers.cache.body import Reopen, tried_again
from trove_async.layers.cache.careful import BATCH, CarefulStore, Listed
from trove_async.layers.cache.entries import Entries
from trove_async.layers.cache.index import Index, Piece
from trove_async.reader import ByteStream, ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["InUse", "StoredEntries"]

FRAME: Final = 256 * 1024
"""Bytes of an entry that have a checksum of their own, so that a range can be checked without the others."""

_DIGEST: Final = 64  # bytes of a blake2b
_STEP: Final = 1024 * 1024  # bytes that are read at once
_OVERHEAD: Final = 4096
_TURN: Final = 1000  # entries of a listing that are looked at before other tasks run
_RELISTED: Final = 4  # times that the store is listed while as many bytes are stored as it may hold

_NAME: Final = re.compile(r"[0-9a-f]{2}/([0-9a-f]{40})\.([0-9a-f]{16})\.([0-9a-f]{32})\.([0-9]+)-([0-9]+)")


class InUse:
    """The open backends that a cache on a store is around: different ones must not share its namespace."""

    def __init__(self) -> None:
        self._by: dict[object, Driver] = {}

    def enter(self, user: object, driver: Driver) -> None:
        """Take in that the layer is around a driver.

        Raises:
            InvalidArgumentError: it is around one of another backend already.
        """
        backend = driver
        while (inner := backend.unwrap()) is not None:
            backend = inner
        if not all(backend.shares_backend(other) for other in self._by.values()):
            raise InvalidArgumentError(
                "this Cache is around another open store, whose entries have the same namespace; make a Cache for "
                "each store, with a namespace of its own"
            )
        self._by[user] = backend

    def leave(self, user: object) -> None:
        """Take in that a store was closed."""
        self._by.pop(user, None)


class StoredEntries(Entries[str]):
    """Keeps bytes in objects whose names say what they are.

    A name is made of digests of the bucket and key, the version and the ETag, and of the offsets. The content is a
    sequence of frames: a checksum of the name, of the frame's number and of up to `FRAME` bytes, and these bytes.

    Other processes may store and delete entries in the same namespace: it is listed again from time to time.

    Args:
        store: of the entries.
        max_bytes: of all entries.
        in_use: the backends that the layer is around.
    """

    def __init__(self, store: CarefulStore, max_bytes: int, in_use: InUse) -> None:
        self._store = store
        self._in_use = in_use
        self._index: Index[str] | None = None
        self._discarded: set[str] = set()
        self._relist_after = max_bytes // _RELISTED
        self._stored = 0

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

    async def start(self, index: Index[str], inner: Driver) -> None:
        """Open the store, and add the entries of the namespace to the index, the oldest first."""
        self._in_use.enter(self, inner)
        await self._store.open()
        self._index = index
        await self._list(index)
        await self.collect()
        if not self._store.is_open:  # it is down; the first entry that is stored lists it
            self._stored = self._relist_after

    async def _list(self, index: Index[str]) -> None:
        known = {piece.payload: piece for piece in index.pieces()}
        listed = await self._store.list()
        if listed is None:
            return
        now = time.time()
        for number, entry in enumerate(listed, 1):
            if not number % _TURN:
                await asyncio.sleep(0)
            if known.pop(entry.name, None) is None and entry.name not in self._discarded:
                self._add(index, entry, max(0.0, now - entry.stored))
        for name, piece in known.items():
            index.remove(piece)
            self._discarded.discard(name)
        index.sort_by_age()

    def _add(self, index: Index[str], entry: Listed, age: float) -> None:
        parsed = _NAME.fullmatch(entry.name)
        start, stop = (int(parsed[4]), int(parsed[5])) if parsed else (0, 0)
        if parsed is None or start > stop or entry.size != stored_size(stop - start):
            self.discard(entry.name)
            return
        place, version, etag = parsed.group(1, 2, 3)
        index.drop_older(place, version, etag, age)
        if index.add(place, version, etag, start, stop, entry.name, entry.size + _OVERHEAD, age=age) is None:
            self.discard(entry.name)

    async def close(self) -> None:
        """Delete what was discarded, and close the store if the cache has opened it."""
        self._in_use.leave(self)
        try:
            await self.collect()
        finally:
            await self._store.close()

    # Entries

    async def save(
        self, place: Hashable, version: Hashable, etag: str, start: int, stop: int, data: bytes
    ) -> str | None:
        """Store bytes, after what has no more room was deleted."""
        index, size = self._index, stored_size(len(data)) + _OVERHEAD
        if index is None or not index.reserve(size):
            return None
        try:
            await self._before_storing(index, size)
            return await self._put(index, f"{place}.{version}.{etag}.{start}-{stop}", data)
        finally:
            index.release(size)

    async def _before_storing(self, index: Index[str], size: int) -> None:
        self._stored += size
        if self._stored > self._relist_after:
            await self._list(index)
            index.make_room()
            if self._store.is_open:
                self._stored = 0
        await self.collect()

    async def _put(self, index: Index[str], digests: str, data: bytes) -> str | None:
        name = f"{digests[:2]}/{digests}"
        frames = []
        for number, at in enumerate(range(0, len(data), FRAME)):
            frame = data[at : at + FRAME]
            frames += [await _checksum(name, number, frame), frame]
        framed = b"".join(frames)
        for _ in range(2):
            self._discarded.discard(name)
            try:
                return name if await self._store.put(name, framed) else None
            except StorageFullError:
                index.evict(len(framed))
                await self.collect()
        return None

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
        return ObjectReader(info, stream, start=start, stop=stop)

    async def load(self, piece: Piece[str], start: int, stop: int) -> bytes | None:
        """Return bytes of an entry; None if they are lost or damaged, or the store failed."""
        size = piece.stop - piece.start
        if size == 0:
            return b""
        first, last = (start - piece.start) // FRAME, -(-(stop - piece.start) // FRAME)
        begin, end = (number * (FRAME + _DIGEST) for number in (first, last))
        framed = await self._store.read(piece.payload, begin, min(end, stored_size(size)), stored_size(size))
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
            names = [*islice(self._discarded, BATCH)]
            self._discarded.difference_update(names)
            left: Sequence[str] = names
            try:
                left = await self._store.delete(names)
            finally:
                self._discarded.update(left)
            if left:
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
        with tried_again():
            found = await self._read(size)
        self._position += len(found)
        return found

    async def _read(self, size: int) -> bytes:
        if self._backend is None and not self._at <= self._position < self._at + len(self._chunk):
            chunk = await self._reading.read(self._position)
            if chunk is None:
                self._backend = await self._reopen(self._position)
            else:
                self._at, self._chunk = self._position, chunk
        if self._backend is not None:
            return await self._backend.read(min(size, FRAME))
        skipped = self._position - self._at
        return self._chunk[skipped : skipped + size]

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


def stored_size(size: int) -> int:
    """Return the size of an entry that holds a number of bytes."""
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


_LATEST: Final = "0" * 16
