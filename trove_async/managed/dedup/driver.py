"""`DedupDriver`: the contract's verbs, on a catalogue in a database and blobs in the inner store."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass
from typing import ClassVar, Final, TypeVar

from sqlalchemy import Connection

from trove_async.body import Body
from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.checksums import Checksum
from trove_async.database import Database, connect
from trove_async.driver.base import Driver, capabilities_of
from trove_async.driver.capabilities import AppendDriver, Condition, Features, PresignDriver
from trove_async.driver.conditions import check_read
from trove_async.driver.copy_errors import reading_source
from trove_async.driver.events import Listener
from trove_async.driver.options import (
    BucketOptions,
    CompleteOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    OpenOptions,
    PutOptions,
    VersionListOptions,
    WatchOptions,
)
from trove_async.driver.polling import poll
from trove_async.driver.retry import RetryPolicy
from trove_async.driver.synonyms import (
    ExpireByDelete,
    LifecycleDeleteBySet,
    RangeByGet,
    ServerCopyByCopy,
    TagsDeleteBySet,
    VersionsByOptions,
)
from trove_async.dsn import DSN
from trove_async.errors import BucketAlreadyExistsError, BucketNotFoundError, ClosedError, UploadNotFoundError
from trove_async.listing import ListPage
from trove_async.managed.dedup import listing, uploads
from trove_async.managed.dedup.chunking import Chunking, Cutter, seed_of
from trove_async.managed.dedup.inner import InnerStorage
from trove_async.managed.dedup.objects import Bucket, Buckets, bucket_infos, create_bucket
from trove_async.managed.dedup.reading import open_object
from trove_async.managed.dedup.schema import COMPONENT, MIGRATIONS
from trove_async.managed.dedup.segments import Piece, Segment, pieces_of
from trove_async.managed.dedup.storing import Change, Storing
from trove_async.managed.dedup.uploads import Upload
from trove_async.managed.schema import COMPONENT as BLOBS_COMPONENT
from trove_async.managed.schema import MIGRATIONS as BLOBS_MIGRATIONS
from trove_async.ranges import check_within
from trove_async.reader import ObjectReader
from trove_async.types import (
    EMPTY,
    BucketInfo,
    DeleteResult,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    ObjectRef,
    PartInfo,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionPage

__all__ = ["DedupDriver", "Settings"]

R = TypeVar("R")

_CONDITIONS: Final[frozenset[Condition]] = frozenset(
    ("put_if_none_match", "put_if_match", "get", "delete", "copy", "complete")
)
_NATIVE: Final = frozenset(
    (
        *("range", "server_copy", "bulk_delete"),
        *("conditional_put", "conditional_get", "conditional_copy", "conditional_delete"),
    )
)
_DROPPED: Final[Mapping[type | str, str]] = {
    PresignDriver: "a signed URL of the inner store names a blob, and what is sent to it would have no name",
    AppendDriver: "the digest of bytes is known when all of them are there",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `Dedup`, which describes them."""

    database: str | Database
    bucket: str | None
    namespace: str
    space: str
    algorithm: str
    chunking: Chunking | None


class _Open:
    """What there is while the driver is open."""

    def __init__(self, database: Database, settings: Settings, inner: InnerStorage) -> None:
        self.database = database
        self.inner = inner
        self.storing = Storing(database, settings.space, inner, settings.algorithm)


class DedupDriver(
    RangeByGet,
    ServerCopyByCopy,
    VersionsByOptions,
    LifecycleDeleteBySet,
    ExpireByDelete,
    TagsDeleteBySet,
    Driver,
):
    """Keeps the names of objects in a database, and their contents as blobs of another driver.

    Args:
        inner: has the blobs.
        settings: of the layer.
    """

    layer_name: ClassVar[str | None] = "Dedup"
    never_around: ClassVar[Mapping[str, str]] = {"Dedup": "every blob is stored once already"}

    def __init__(self, inner: Driver, settings: Settings) -> None:
        self.inner = inner
        self._settings = settings
        self._space: Final = settings.space
        self._now: _Open | None = None
        self._features = Features(
            protocols=capabilities_of(self), conditions=_CONDITIONS, native=_NATIVE, dropped=_DROPPED
        )

    @property
    def name(self) -> str:
        """The name of the innermost driver."""
        return self.inner.name

    @property
    def default_bucket(self) -> str | None:  # type: ignore[override]
        """The bucket that the DSN names, if it names one; `start` creates it."""
        return self.inner.default_bucket

    @property
    def features(self) -> Features:
        """What the catalogue provides, whatever the inner driver has."""
        return self._features

    @property
    def space(self) -> str:
        """The space of its database that has the blobs."""
        return self._space

    def unwrap(self) -> Driver:
        """Return the driver that has the blobs."""
        return self.inner

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Pass the policy on."""
        return self.inner.use_retry_policy(policy)

    def add_listener(self, listener: Listener) -> None:
        """Pass the listener on to the inner driver."""
        self.inner.add_listener(listener)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Open the inner driver, then start the layer."""
        await self.inner.open(dsn, options)
        await self.start()

    async def start(self) -> None:
        """Connect to the database, bring its tables up to date, and create the bucket of the blobs if it is missing."""
        settings = self._settings
        given = settings.database
        database = given if isinstance(given, Database) else await connect(given)
        bucket = settings.bucket or self.inner.default_bucket or "trove-dedup"
        self._now = _Open(database, settings, InnerStorage(self.inner, bucket, settings.namespace))
        await database.migrate(BLOBS_COMPONENT, BLOBS_MIGRATIONS)
        await database.migrate(COMPONENT, MIGRATIONS)
        chunking = settings.chunking
        if chunking is not None:
            seed = await self._write(lambda connection: seed_of(connection, settings.space, chunking))
            self._now.storing.cutter = Cutter(chunking, seed, settings.algorithm)
        try:  # credentials may be allowed to use a bucket, and not to create one
            await self.inner.list_page(bucket, ListOptions(page_size=1))
        except BucketNotFoundError:
            await _create(self.inner, bucket)
        if self.default_bucket is not None:
            await _create(self, self.default_bucket)

    async def close(self) -> None:
        """Close the connection that was made, and the inner driver."""
        now, self._now = self._now, None
        try:
            if now is not None and now.database is not self._settings.database:
                await finish(now.database.aclose(), timeout=CLEANUP_TIMEOUT, leftover="connections to the database")
        finally:
            await self.inner.close()

    @property
    def _opened(self) -> _Open:
        if self._now is None:
            raise ClosedError("the store is not open", driver=self.name)
        return self._now

    async def ping(self) -> None:
        """Check that the database and the inner store can be reached."""
        await self._opened.database.now()
        await self.inner.ping()

    async def _read(self, unit: Callable[[Connection], R]) -> R:
        return await self._opened.database.read(unit)

    async def _write(self, unit: Callable[[Connection], R]) -> R:
        return await self._opened.database.write(unit)

    def _bucket(self, connection: Connection, name: str, key: str | None = None) -> Bucket:
        return Bucket(connection, self._space, name, key)

    async def _in_bucket(self, name: str, change: Callable[[Bucket], R], key: str | None = None) -> R:
        return await self._write(lambda connection: change(self._bucket(connection, name, key)))

    async def _from_bucket(self, name: str, read: Callable[[Bucket], R], key: str | None = None) -> R:
        return await self._read(lambda connection: read(self._bucket(connection, name, key)))

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a bucket, which is a row; the region is ignored."""
        await self._write(lambda connection: create_bucket(connection, self._space, name))

    async def delete_bucket(self, name: str) -> None:
        """Delete a bucket without objects and versions, and its open uploads."""
        await self._in_bucket(name, Bucket.drop)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets, in the order of their names."""
        return await self._read(lambda connection: bucket_infos(connection, self._space))

    # Objects

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object; conditions are checked before the body is read, and again with the change of its name."""

        def check(found: Bucket) -> None:
            found.check(key, options.if_match, options.if_none_match)

        def refer(found: Bucket, segments: Sequence[Segment]) -> ObjectInfo:
            checksums = EMPTY if options.checksum is None else body.checksums
            return found.write(key, segments, options.attributes, checksums)

        return await self._opened.storing.store(body, Change(bucket, key, check, refer))

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object; the reader goes on if the object is replaced or deleted."""

        def unit(connection: Connection) -> tuple[ObjectInfo, list[Piece], int, int]:
            found = self._bucket(connection, bucket, key).find(key, options.version_id)
            check_read(found.info, options)
            size, wanted = found.info.size, options.range
            start, stop = (0, size) if wanted is None else wanted.resolve(size)
            return found.info, pieces_of(connection, found.id, start, stop), start, stop

        return await open_object(self._opened.inner, *await self._read(unit))

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        stored = await self._from_bucket(bucket, lambda found: found.find(key, options.version_id), key)
        check_read(stored.info, options)
        return stored.info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or one version of it."""
        await self._in_bucket(bucket, lambda found: found.delete(key, options.version_id, options.if_match), key)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object, which is a row."""

        def unit(connection: Connection) -> ObjectInfo:
            with reading_source(src_bucket, src_key):
                source = self._bucket(connection, src_bucket, src_key).find(src_key, options.source_version_id)
                check_read(source.info, HeadOptions(if_match=options.source_if_match))
            attributes, checksums = source.attributes, source.info.checksums
            if options.replace is not None:
                attributes, checksums = options.replace, EMPTY
            target = self._bucket(connection, dst_bucket, dst_key)
            target.check(dst_key, options.if_match, options.if_none_match)
            return target.copy(source, dst_key, attributes, checksums)

        return await self._write(unit)

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return one page of a listing, from the database alone."""
        return await self._read(
            lambda connection: listing.list_page(connection, self._bucket(connection, bucket).id, options)
        )

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects in one transaction."""

        def unit(connection: Connection) -> None:
            buckets = Buckets(connection, self._space, [(bucket, key) for key in keys])
            found = buckets.get(bucket)
            for key in keys:
                found.delete(key)
            buckets.flush()

        await self._write(unit)
        return [DeleteResult(key) for key in keys]

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Open an upload and return its id."""
        return await self._write(
            lambda connection: uploads.begin(connection, self._bucket(connection, bucket, key), key, options)
        )

    def _upload(self, connection: Connection, bucket: str, key: str, upload_id: str) -> Upload:
        return Upload(self._bucket(connection, bucket, key), key, upload_id)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, if the upload is open before and after the body is read."""

        def check(found: Bucket) -> Upload:
            return Upload(found, key, upload_id)

        def refer(found: Bucket, segments: Sequence[Segment]) -> PartInfo:
            return check(found).write(number, segments)

        return await self._opened.storing.store(body, Change(bucket, key, check, refer))

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object; it refers to the same bytes."""

        def unit(connection: Connection) -> PartInfo:
            upload = self._upload(connection, bucket, key, upload_id)
            with reading_source(src.bucket, src.key):
                source = self._bucket(connection, src.bucket, src.key).find(src.key, src.version_id)
                check_within(offset, length, source.info.size)
            pieces = pieces_of(connection, source.id, offset, offset + length)
            return upload.write(number, [piece.segment for piece in pieces])

        return await self._write(unit)

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object from the parts, which is a row; only a checksum of it takes reading them."""

        def look(connection: Connection) -> tuple[Checksum | None, list[Piece]]:
            upload = self._upload(connection, bucket, key, upload_id)
            wanted = upload.options.checksum
            return wanted, [] if wanted is None else upload.chosen(parts)

        wanted, pieces = await self._read(look)
        checksums = EMPTY if wanted is None else await self._checksums(wanted, pieces)

        def unit(connection: Connection) -> ObjectInfo:
            target = self._bucket(connection, bucket, key)
            upload = Upload(target, key, upload_id)
            segments = [piece.segment for piece in upload.chosen(parts)]
            target.check(key, options.if_match, options.if_none_match)
            info = target.write(key, segments, upload.options.attributes, checksums)
            upload.end()
            return info

        return await self._write(unit)

    async def _checksums(self, wanted: Checksum, pieces: Sequence[Piece]) -> Mapping[str, str]:
        size = sum(piece.segment.size for piece in pieces)

        async def chunks() -> AsyncGenerator[bytes, None]:
            async with await open_object(self._opened.inner, ObjectInfo("", size, ""), pieces, 0, size) as reader:
                async for chunk in reader:
                    yield chunk

        body = Body(chunks(), size=size, checksum=wanted)
        async for _ in body:
            pass
        return body.checksums

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload."""

        def unit(connection: Connection) -> None:
            with suppress(UploadNotFoundError):
                self._upload(connection, bucket, key, upload_id).end()

        await self._write(unit)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return await self._read(lambda connection: self._upload(connection, bucket, key, upload_id).parts())

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return await self._read(
            lambda connection: uploads.open_uploads(connection, self._bucket(connection, bucket), prefix)
        )

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions; a bucket that never kept any stays unversioned."""

        def change(found: Bucket) -> None:
            if enabled:
                found.change(versioning=VersioningStatus.ENABLED)
            elif found.status is VersioningStatus.ENABLED:
                found.change(versioning=VersioningStatus.SUSPENDED)

        await self._in_bucket(bucket, change)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Return whether the bucket keeps versions."""
        return await self._from_bucket(bucket, lambda found: found.status)

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        return await self._from_bucket(bucket, lambda found: found.history(key), key)

    async def list_versions_page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return one page of the versions of a bucket."""
        return await self._read(
            lambda connection: listing.list_versions_page(connection, self._bucket(connection, bucket).id, options)
        )

    # Events

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield changes, also those of other processes, found by listing at intervals."""
        async with aclosing(poll(self.list_page, bucket, options)) as events:
            async for event in events:
                yield event

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules."""
        text = json.dumps([asdict(rule) for rule in rules])
        await self._in_bucket(bucket, lambda found: found.change(rules=text))

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        text = await self._from_bucket(bucket, lambda found: found.rules)
        return [LifecycleRule(**rule) for rule in json.loads(text)]

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Record another storage class; the bytes, which others may refer to, stay where they are."""
        await self._in_bucket(bucket, lambda found: found.transition(key, storage_class, if_match), key)

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        return await self._from_bucket(bucket, lambda found: found.noncurrent(prefix))

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return the object's tags."""
        return await self._from_bucket(bucket, lambda found: dict(found.find(key).tags), key)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the object's tags."""
        await self._in_bucket(bucket, lambda found: found.tag(key, tags), key)

    def __repr__(self) -> str:
        return f"<DedupDriver around {self.inner!r}>"


async def _create(driver: Driver, bucket: str) -> None:
    with suppress(BucketAlreadyExistsError):
        await driver.create_bucket(bucket, BucketOptions())
