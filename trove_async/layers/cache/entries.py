"""Where the bytes of a cache are: `Entries`, and those in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Final, Generic, TypeVar

from trove_async.driver.base import Driver
from trove_async.layers.cache.body import Reopen
from trove_async.layers.cache.index import Index, Piece
from trove_async.reader import ObjectReader
from trove_async.types import ObjectInfo

__all__ = ["Entries", "MemoryEntries"]

P = TypeVar("P")

_OVERHEAD: Final = 2000
"""Bytes that the index and the description of an entry take beside its content, on a 64-bit Python."""


class Entries(ABC, Generic[P]):
    """Keeps bytes; its `Piece.payload` says which."""

    def place(self, bucket: str, key: str) -> Hashable:
        """Return by what the index finds an object."""
        return (bucket, key)

    def version(self, version_id: str | None) -> Hashable:
        """Return by what the index finds a version."""
        return version_id

    def etag(self, etag: str) -> str:
        """Return what stands for an ETag in the index."""
        return etag

    @abstractmethod
    def cost(self, info: ObjectInfo, size: int) -> int:
        """Return what bytes of an object count against the bound of the cache."""

    @abstractmethod
    async def save(self, place: Hashable, version: Hashable, etag: str, start: int, stop: int, data: bytes) -> P | None:
        """Keep bytes, and return the payload of their piece; None if that failed, or there is no room."""

    @abstractmethod
    async def open(
        self, info: ObjectInfo, start: int, stop: int, pieces: Sequence[Piece[P]], reopen: Reopen
    ) -> ObjectReader | None:
        """Open a range that pieces have; None if their bytes are lost."""

    def discard(self, payload: P) -> None:
        """Take in that bytes are no longer held; no I/O."""

    async def collect(self) -> None:
        """Delete what was discarded."""

    async def start(self, index: Index[P], inner: Driver) -> None:
        """Get ready, and add what is kept of the objects of a driver to the index."""

    async def close(self) -> None:
        """Release everything."""


class MemoryEntries(Entries[bytes]):
    """Keeps bytes in memory."""

    def cost(self, info: ObjectInfo, size: int) -> int:
        """Return the size with that of the description."""
        metadata = sum(len(name) + len(value) + 200 for name, value in info.metadata.items()) if info.metadata else 0
        return size + 2 * len(info.key) + metadata + _OVERHEAD

    async def save(
        self, place: Hashable, version: Hashable, etag: str, start: int, stop: int, data: bytes
    ) -> bytes | None:
        """Return the bytes."""
        return data

    async def open(
        self, info: ObjectInfo, start: int, stop: int, pieces: Sequence[Piece[bytes]], reopen: Reopen
    ) -> ObjectReader | None:
        """Return a reader of the bytes, which are shared if they are a whole piece."""
        return ObjectReader(info, joined(pieces, start, stop), start=start, stop=stop)


def joined(pieces: Sequence[Piece[bytes]], start: int, stop: int) -> bytes:
    """Return the bytes of a range that pieces have."""
    if len(pieces) == 1:
        (piece,) = pieces
        whole = piece.start == start and piece.stop == stop
        return piece.payload if whole else piece.payload[start - piece.start : stop - piece.start]
    found = []
    for piece in pieces:
        last = min(piece.stop, stop)
        found.append(piece.payload[start - piece.start : last - piece.start])
        start = last
    return b"".join(found)
