"""Where the bytes of managed storage are: `ResourceStorage`, and `StoreResourceStorage` over any store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from trove_async.body import BodyLike
from trove_async.checksums import Checksum
from trove_async.driver.capabilities import MultipartDriver
from trove_async.errors import AccessDeniedError, BucketNotFoundError, NotFoundError, TroveError
from trove_async.keys import DEFAULT_CONTENT_TYPE, check_prefix
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.store.trove import Trove

__all__ = [
    "ListableStorage",
    "ResourceStorage",
    "StoreResourceStorage",
    "StoredBytes",
    "Unfinished",
    "Written",
    "pages",
    "path_of",
]

SHA384: Final = Checksum("sha384")


class Written(NamedTuple):
    """What was stored.

    Attributes:
        digest: of the bytes, lower-case hex.
        length: bytes.
    """

    digest: str
    length: int


class StoredBytes(NamedTuple):
    """Bytes that are stored.

    Attributes:
        path: where they are.
        length: bytes.
        modified: when they were stored; aware.
    """

    path: str
    length: int
    modified: datetime


class Unfinished(NamedTuple):
    """A multipart upload that was not completed.

    Attributes:
        path: where the bytes would be.
        upload_id: names it.
        began: when; aware.
    """

    path: str
    upload_id: str
    began: datetime


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


class ListableStorage(ResourceStorage, Protocol):
    """What collection and ``fsck`` need of a storage besides."""

    def list(self, folder: str, *, start_after: str = "") -> AsyncGenerator[StoredBytes]:
        """Yield all that is stored under paths that begin with a folder, in the order of their UTF-8 bytes.

        Args:
            folder: ends with a slash.
            start_after: only paths that sort after it.
        """

    async def remove_many(self, paths: Sequence[str]) -> Mapping[str, TroveError]:
        """Delete the bytes at paths; return those whose bytes may still be there, each with its error."""

    async def unfinished(self, folder: str) -> Sequence[Unfinished]:
        """Return the uploads to a folder that were begun and not completed, such as those of dead writers."""

    async def abort(self, upload: Unfinished) -> None:
        """Give an upload up and free its bytes; success if it is not open."""


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

    async def check(self) -> None:
        """Look with one request whether the bucket exists.

        Credentials that do not say it, since they may not read objects or learn which there are, are no error.

        Raises:
            BucketNotFoundError: it does not.
            TroveError: the store cannot be reached.
        """
        try:
            reader = await self.get("blobs")  # no key of managed storage: those begin with "blobs/"
        except BucketNotFoundError:
            raise
        except (NotFoundError, AccessDeniedError):
            return
        await reader.aclose()

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

    async def list(self, folder: str, *, start_after: str = "") -> AsyncGenerator[StoredBytes]:
        """List objects."""
        begin = self.prefix + start_after if start_after else None
        async for info in self.store.list(self.bucket, self.prefix + folder, start_after=begin):
            if info.last_modified is not None:  # without it nobody knows whether a writer is still at work
                yield StoredBytes(info.key.removeprefix(self.prefix), info.size, info.last_modified)

    async def remove_many(self, paths: Sequence[str]) -> Mapping[str, TroveError]:
        """Delete objects, with as few requests as the service takes."""
        keys = [self.prefix + path for path in paths]
        deletion = self.store.delete_many(self.bucket, keys, raise_errors=False)
        return {one.key.removeprefix(self.prefix): one.error async for one in deletion if one.error is not None}

    async def unfinished(self, folder: str) -> Sequence[Unfinished]:
        """List multipart uploads, if the store has them."""
        if not self.store.supports(MultipartDriver):
            return []
        found = await self.store.list_multipart_uploads(self.bucket, self.prefix + folder)
        return [
            Unfinished(one.key.removeprefix(self.prefix), one.upload_id, one.initiated_at)
            for one in found
            if one.initiated_at is not None
        ]

    async def abort(self, upload: Unfinished) -> None:
        """Abort a multipart upload."""
        await self.store.abort_multipart(self.bucket, self.prefix + upload.path, upload.upload_id)


def path_of(folder: str, blob: str) -> str:
    """Return the path for the bytes of a blob.

    Args:
        folder: of its space, with a slash at its end.
        blob: its id, random hex, whose first two digits name a folder in that.
    """
    return f"{folder}{blob[:2]}/{blob}"


async def pages(
    storage: ListableStorage, folder: str, start_after: str, size: int
) -> AsyncGenerator[list[StoredBytes]]:
    """Yield what is stored in a folder, in the order of paths, in lists of up to ``size``."""
    page: list[StoredBytes] = []
    async with aclosing(storage.list(folder, start_after=start_after)) as found:
        async for one in found:
            page.append(one)
            if len(page) == size:
                yield page
                page = []
    if page:
        yield page
