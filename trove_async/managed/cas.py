"""`cas`: content that is stored and found by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection

from trove_async import checksums
from trove_async.body import BodyLike
from trove_async.cancellation import CLEANUP_TIMEOUT, to_the_end
from trove_async.checksums import Checksum
from trove_async.database import Database
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumError,
    InvalidArgumentError,
    NotFoundError,
    ObjectNotFoundError,
)
from trove_async.managed.algorithms import check_algorithm
from trove_async.managed.batching import Batches
from trove_async.managed.catalogue import ResourceCatalog
from trove_async.managed.collecting import GRACE, CollectionReport, collect
from trove_async.managed.findings import Depth, FsckReport
from trove_async.managed.fsck import fsck
from trove_async.managed.refusals import MAX_SHARE
from trove_async.managed.schema import State
from trove_async.managed.statistics import Statistics, statistics
from trove_async.managed.storage import StoreResourceStorage
from trove_async.managed.transitions import Blob, Blobs
from trove_async.managed.writing import Writing
from trove_async.opening import Opening
from trove_async.ranges import RangeLike
from trove_async.reader import ObjectReader
from trove_async.sources import as_chunk
from trove_async.store.trove import Trove
from trove_async.values import is_whole

__all__ = ["ContentStore", "cas"]


def cas(
    t: Trove,
    bucket: str,
    *,
    database: str | Database,
    algorithm: str = "sha256",
    namespace: str = "",
    space: str | None = None,
) -> Opening[ContentStore]:
    """Open a content-addressed store, with ``async with``, or with ``await`` and `ContentStore.aclose`.

    Args:
        t: the store; it stays open.
        bucket: an existing bucket for the bytes.
        database: a URL, as for `trove_async.database.connect`, or a database that is open and stays open.
        algorithm: of the digests: ``sha256``; ``blake3``, which is several times as fast, with the extra ``blake3``;
            ``sha384`` or ``sha512``. One database and bucket may have contents of several.
        namespace: with which the keys of the bytes begin, so that others can use the bucket too.
        space: separates several stores in one database; default: ``cas/BUCKET/NAMESPACE``. It is
            needed if buckets of the same name in several stores share a database.

    Raises:
        InvalidArgumentError, InvalidDSNError, InvalidBucketNameError: an argument is malformed.
        MissingDependencyError: the package of the algorithm is not installed; raised by the call itself.
        BucketNotFoundError: when opened: the bucket does not exist; one request to the store tells it.
        SchemaVersionError: when opened: a newer version of the library has made the tables.
        TroveError: when opened: the database cannot be used, as for `trove_async.database.connect`, or the store
            cannot be reached.
    """
    check_algorithm(algorithm)
    storage = StoreResourceStorage(t, t.bucket(bucket).name, namespace)
    name = f"cas/{bucket}/{namespace}" if space is None else space

    async def opening() -> ContentStore:
        await storage.check()
        return ContentStore(await ResourceCatalog.open(database, name), storage, algorithm)

    return Opening(opening)


class ContentStore:
    """A store of content, which is found by the digest of its bytes. Made by `cas`.

    Each `store` is a reference, which `release` ends. Equal content is stored once. Content without references is
    condemned, and `gc` deletes it after a grace, unless it is pinned.

    Attributes:
        catalogue, storage: what is known of the contents, and where their bytes are.
        algorithm: of the digests.
    """

    def __init__(self, catalogue: ResourceCatalog, storage: StoreResourceStorage, algorithm: str) -> None:
        self.catalogue = catalogue
        self.storage = storage
        self.algorithm = algorithm
        self._database = catalogue.database
        self._writing = Writing(catalogue, storage)
        self._looks: Final[Batches[str, Blob | None]] = Batches(self._look_all)
        self._holds: Final[Batches[Blob, bool]] = Batches(self._hold_all)

    async def store(self, data: BodyLike, *, length: int | None = None, digest: str | None = None) -> str:
        """Store content, or find that it is stored, and add a reference to it.

        Bytes in memory are only sent if they are not stored yet; other bodies are always sent, since their digest is
        computed on the way. Content that is stored already is only believed after a look at its bytes in the store.

        Args:
            data: as for `Trove.put`.
            length: bytes; a body of another length is an error.
            digest: what the digest must be.

        Returns:
            The digest, lower-case hex.

        Raises:
            ChecksumError, BodySizeError: the body is not what was declared; nothing was stored.
            InvalidArgumentError: the digest or the length is malformed.
        """
        checksum = Checksum(self.algorithm, digest)
        if length is not None and not is_whole(length):
            raise InvalidArgumentError(f"a length is a whole number, not {length!r}")
        if isinstance(data, bytes | bytearray | memoryview):
            chunk = as_chunk(data)
            found = (await checksums.digest(self.algorithm, [chunk])).hex()
            if checksum.value in (None, found) and length in (None, len(chunk)) and await self._hold(found):
                return found
        blob = await self._writing.put(None, data, length, checksum)
        return blob.digest

    def retrieve(self, digest: str, *, range: RangeLike | None = None) -> Opening[ObjectReader]:
        """Open content, with ``async with`` or ``await``. It is compared with its digest while it is read.

        Args:
            digest: of the content.
            range: as for `Trove.get`; the bytes of a range are not compared.

        Raises:
            NotFoundError: it is not stored.
            ChecksumError: its bytes were changed; raised at the end of the content, or at once if their number differs.
            InvalidArgumentError: the digest is malformed.
        """
        wanted = self._checked(digest)
        return Opening(lambda: self._open(wanted, range))

    async def exists(self, digest: str) -> bool:
        """Tell whether content is stored, by the database; the store is not asked."""
        wanted = self._checked(digest)
        blob = await self._database.read(lambda connection: self._find(connection, wanted)[1])
        return blob is not None and blob.state is State.STORED

    async def release(self, digest: str) -> None:
        """End a reference of `store`; without any other, the content is condemned.

        Raises:
            NotFoundError: the content has no reference.
        """
        wanted = self._checked(digest)

        def unit(connection: Connection) -> None:
            blobs, blob = self._find(connection, wanted)
            if blob is None or not blob.held:
                raise _missing(wanted)
            blobs.release(blob, held=True)
            blobs.flush()

        await self._database.write(unit)

    async def pin(self, digest: str) -> None:
        """Keep content although nobody refers to it; a second pin changes nothing.

        Raises:
            NotFoundError: it is not stored.
        """
        await self._pin(digest, True)

    async def unpin(self, digest: str) -> None:
        """End a pin; without references, the content is condemned.

        Raises:
            NotFoundError: it is not stored.
        """
        await self._pin(digest, False)

    async def gc(
        self,
        *,
        grace: float = GRACE,
        dry_run: bool = True,
        force: bool = False,
        max_share: float = MAX_SHARE,
        max_deletes: int | None = None,
        trust_clock: bool = False,
    ) -> CollectionReport:
        """Delete what nobody has referred to for longer than the grace; see `trove_async.managed.collect`."""
        return await collect(
            self.catalogue,
            self.storage,
            grace=grace,
            dry_run=dry_run,
            force=force,
            max_share=max_share,
            max_deletes=max_deletes,
            trust_clock=trust_clock,
        )

    async def fsck(
        self, *, depth: Depth | str = Depth.ROWS, repair: bool = False, grace: float = GRACE, force: bool = False
    ) -> FsckReport:
        """Look for damage, and repair it if asked; see `trove_async.managed.fsck`."""
        return await fsck(self.catalogue, self.storage, depth=depth, repair=repair, grace=grace, force=force)

    async def stats(self) -> Statistics:
        """Count contents and references, of all algorithms; the store is not asked."""
        return await statistics(self.catalogue)

    def _checked(self, digest: str) -> str:
        if not isinstance(digest, str):
            raise InvalidArgumentError(f"a digest is a str of hex digits, not {type(digest).__name__}")
        value = Checksum(self.algorithm, digest).value
        assert value is not None
        return value

    def _find(self, connection: Connection, digest: str) -> tuple[Blobs, Blob | None]:
        blobs, found = self._find_all(connection, [digest])
        return blobs, found[0]

    def _find_all(self, connection: Connection, digests: Sequence[str]) -> tuple[Blobs, list[Blob | None]]:
        blobs = Blobs(connection, self.catalogue.space)
        blobs.load(self.algorithm, digests)
        return blobs, [blobs.live(self.algorithm, digest) for digest in digests]

    async def _hold(self, digest: str) -> bool:
        """Add a reference to content if it is stored, and tell whether it is."""
        known = await to_the_end(
            self._looks.submit(digest), timeout=CLEANUP_TIMEOUT, leftover="a transaction that looks for content"
        )
        if known is None or known.state is not State.STORED or not await self._writing.is_there(known):
            return False
        return await to_the_end(self._holds.submit(known), timeout=CLEANUP_TIMEOUT, leftover=f"a reference to {digest}")

    async def _look_all(self, digests: Sequence[str]) -> list[Blob | None]:
        return await self._database.read(lambda connection: self._find_all(connection, digests)[1])

    async def _hold_all(self, seen: Sequence[Blob]) -> list[bool]:
        """Add a reference to each of the blobs that are as they were seen."""

        def unit(connection: Connection) -> list[bool]:
            blobs, found = self._find_all(connection, [blob.digest for blob in seen])
            kept = [
                blob if blob is not None and blob.state is State.STORED and blob.key == before.key else None
                for before, blob in zip(seen, found, strict=True)
            ]
            for blob in kept:
                if blob is not None:
                    blobs.retain(blob, held=True)
            blobs.flush()
            return [blob is not None for blob in kept]

        return await self._database.write(unit)

    async def _open(self, digest: str, range: RangeLike | None) -> ObjectReader:
        blob = await self._database.read(lambda connection: self._find(connection, digest)[1])
        if blob is None or blob.state is not State.STORED:
            raise _missing(digest)
        try:
            reader = await self.storage.get(blob.key, range=range)
        except BucketNotFoundError:
            raise
        except NotFoundError as error:
            raise ObjectNotFoundError("the bytes of the content are missing; store it again", key=digest) from error
        if reader.info.size != blob.length:
            await reader.aclose()
            raise ChecksumError(f"the content has {reader.info.size} bytes; {blob.length} were stored", key=digest)
        reader.expect(self.algorithm, digest)
        return reader

    async def _pin(self, digest: str, pinned: bool) -> None:
        wanted = self._checked(digest)

        def unit(connection: Connection) -> None:
            blobs, blob = self._find(connection, wanted)
            if blob is None or blob.state is State.PENDING:
                raise _missing(wanted)
            blobs.pin(blob, pinned=pinned)
            blobs.flush()

        await self._database.write(unit)

    async def aclose(self) -> None:
        """Close the database if it was opened for this object; idempotent."""
        await self.catalogue.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _missing(digest: str) -> ObjectNotFoundError:
    return ObjectNotFoundError("the content is not stored", key=digest)
