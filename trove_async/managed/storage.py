"""Where the bytes of managed storage are: `ResourceStorage`, and `StoreResourceStorage` over any store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from trove_async.body import BodyLike
from trove_async.checksums import Checksum
from trove_async.keys import DEFAULT_CONTENT_TYPE, check_prefix
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.store.trove import Trove

__all__ = ["ResourceStorage", "StoreResourceStorage", "Written", "path_of"]

SHA384: Final = Checksum("sha384")


class Written(NamedTuple):
    """What was stored.

    Attributes:
        digest: of the bytes, lower-case hex.
        length: bytes.
    """

    digest: str
    length: int


class ResourceStorage(Protocol):
    """Stores bytes under paths. Each path is written once: managed storage makes a random one for every upload."""

    async def get(self, path: str, *, range: RangeLike | None = None) -> ObjectReader:
        """Open the bytes at a path.

        Args:
            path: where they are.
            range: as for `Trove.get`; an empty one tells the length and reads nothing.

        Raises:
            NotFoundError: there is nothing.
        """

    async def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of several ranges, each an offset and a length.

        Raises:
            NotFoundError: there is nothing.
            RangeNotSatisfiableError: a range starts at or past the end.
        """

    async def put(
        self, path: str, data: BodyLike, length: int | None = None, *, checksum: Checksum = SHA384
    ) -> Written:
        """Store bytes, and compute their checksum on the way. If it raises, nothing is stored, unless it is ambiguous.

        Args:
            path: where to store them.
            data: as for `Trove.put`.
            length: bytes; None if unknown.
            checksum: the algorithm, and the value to compare if there is one.

        Raises:
            BodySizeError: the data have another length.
            ChecksumError: they have another checksum.
        """

    async def remove(self, path: str) -> None:
        """Delete the bytes at a path; success if there is nothing."""


class StoreResourceStorage:
    """Stores bytes as objects of a bucket of a store.

    Args:
        store: open; it stays open.
        bucket: an existing bucket.
        namespace: separates the bytes of several users of the bucket: their keys begin with it and a slash.

    Attributes:
        store, bucket: as given.
        prefix: with which all its keys begin.
    """

    def __init__(self, store: Trove, bucket: str, namespace: str = "") -> None:
        check_prefix(namespace)
        self.store = store
        self.bucket = bucket
        self.prefix = f"{namespace}/" if namespace else ""

    async def get(self, path: str, *, range: RangeLike | None = None) -> ObjectReader:
        """Open an object."""
        return await self.store.get(self.bucket, self.prefix + path, range=range)

    async def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of an object; those that are near each other with one request, the others in parallel."""
        return await self.store.read_ranges(self.bucket, self.prefix + path, ranges)

    async def put(
        self, path: str, data: BodyLike, length: int | None = None, *, checksum: Checksum = SHA384
    ) -> Written:
        """Store an object."""
        info = await self.store.put(
            self.bucket,
            self.prefix + path,
            data,
            size=length,
            checksum=checksum,
            content_type=DEFAULT_CONTENT_TYPE,
        )
        return Written(info.checksums[checksum.algorithm], info.size)

    async def remove(self, path: str) -> None:
        """Delete an object."""
        await self.store.delete(self.bucket, self.prefix + path)


def path_of(blob: str) -> str:
    """Return the path for the bytes of a blob; folders by the first two digits of its id, which is random hex."""
    return f"blobs/{blob[:2]}/{blob}"
