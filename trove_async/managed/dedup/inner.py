"""The inner store of a `Dedup`, as the storage of managed content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from trove_async.body import Body, BodyLike
from trove_async.checksums import BackgroundHasher, Checksum
from trove_async.concurrency import several
from trove_async.driver.base import Driver
from trove_async.driver.options import DeleteOptions, GetOptions, HeadOptions, PutOptions
from trove_async.errors import TroveError
from trove_async.managed.storage import SHA384, Written
from trove_async.ranges import ByteRange, RangeLike
from trove_async.reader import ObjectReader
from trove_async.sources import Chunk, Source

__all__ = ["InnerStorage"]

_READS: Final = 8
"""Ranges of an object that are read at once."""


class InnerStorage:
    """A `ResourceStorage` of objects in a bucket of a driver; see `StoreResourceStorage`.

    Args:
        driver: of the inner store.
        bucket: of the blobs.
        namespace: their keys begin with it and a slash, if it is not empty.
    """

    def __init__(self, driver: Driver, bucket: str, namespace: str = "") -> None:
        self._driver = driver
        self._bucket = bucket
        self._prefix = f"{namespace}/" if namespace else ""

    async def get(self, path: str, *, range: RangeLike | None = None) -> ObjectReader:
        """Open an object."""
        wanted = None if range is None else ByteRange.of(range)
        with _unnamed(path):
            if wanted is not None and wanted.empty:  # a service has no range without bytes
                info = await self._driver.head(self._bucket, self._prefix + path, HeadOptions())
                return ObjectReader(info, b"", start=0, stop=0)
            return await self._driver.get(self._bucket, self._prefix + path, GetOptions(range=wanted))

    async def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of an object, several at once."""

        async def read(wanted: tuple[int, int]) -> bytes:
            async with await self.get(path, range=wanted) as reader:
                return await reader.read()

        return await several([partial(read, wanted) for wanted in ranges], limit=_READS)

    async def put(
        self, path: str, data: BodyLike, length: int | None = None, *, checksum: Checksum = SHA384
    ) -> Written:
        """Store an object.

        Args:
            path, length: as for `ResourceStorage.put`.
            data: a `Body` may have a checksum of its own.
            checksum: the algorithm.
        """
        body = data if isinstance(data, Body) else Body(data, size=length)
        digest = _hashing(body, checksum)
        options = PutOptions(checksum=body.checksum)
        with _unnamed(path, body):
            info = await self._driver.put(self._bucket, self._prefix + path, body, options)
        return Written(digest(), info.size)

    async def remove(self, path: str) -> None:
        """Delete an object."""
        with _unnamed(path):
            await self._driver.delete(self._bucket, self._prefix + path, DeleteOptions())


@contextmanager
def _unnamed(path: str, body: Body | None = None) -> Iterator[None]:
    """Take the names of the inner store from errors: the store adds those of the object, and a note has the path.

    An error of the body, which may be of another store, stays as it is.
    """
    try:
        yield
    except TroveError as error:
        if body is not None and body.failure is error:
            raise
        error.bucket = error.key = None
        error.add_note(f"while the store of contents was asked for {path}")
        raise


def _hashing(body: Body, wanted: Checksum) -> Callable[[], str]:
    """Compute a checksum of a body; the function that is returned tells it once the body was read."""
    if body.checksum is None:
        body.checksum = wanted
    if body.checksum.algorithm == wanted.algorithm:
        return lambda: body.digest
    found: list[_Hashing] = []

    def wrap(source: Source) -> Source:
        found.append(_Hashing(source, wanted.algorithm))
        return found[-1]

    body.wrap(wrap)
    return lambda: found[-1].hasher.hexdigest()


class _Hashing(Source):
    """Computes a digest of the chunks of another source."""

    def __init__(self, source: Source, algorithm: str) -> None:
        self._source = source
        self._algorithm = algorithm
        self.size, self.replayable, self.cleanup_timeout = source.size, source.replayable, source.cleanup_timeout
        self.hasher = BackgroundHasher(algorithm)

    async def read(self) -> Chunk:
        await self.hasher.wait(1)
        chunk = await self._source.read()
        if chunk:
            self.hasher.add(chunk)
        else:
            await self.hasher.wait()
        return chunk

    async def rewind(self) -> None:
        await self.hasher.wait()
        await self._source.rewind()
        self.hasher = BackgroundHasher(self._algorithm)

    async def aclose(self) -> None:
        try:
            await self.hasher.wait()
        finally:
            await self._source.aclose()
