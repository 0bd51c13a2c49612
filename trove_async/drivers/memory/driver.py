"""The driver: the contract's verbs, on the data in `store`."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final

from trove_async.body import Body
from trove_async.driver.base import Driver, capabilities_of
from trove_async.driver.capabilities import Condition, Features, Limits
from trove_async.driver.conditions import check_read
from trove_async.driver.copy_errors import reading_source
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
from trove_async.driver.synonyms import (
    ExpireByDelete,
    LifecycleDeleteBySet,
    RangeByGet,
    ServerCopyByCopy,
    TagsDeleteBySet,
    VersionsByOptions,
)
from trove_async.drivers.memory.entry import Entry
from trove_async.drivers.memory.multipart import Part
from trove_async.drivers.memory.store import Bucket, Store, named_store
from trove_async.drivers.memory.watch import Subscription
from trove_async.dsn import DSN, SettingsParser
from trove_async.errors import (
    ClosedError,
    InvalidDSNError,
)
from trove_async.listing import ListPage
from trove_async.ranges import ByteRange, check_within
from trove_async.reader import ObjectReader
from trove_async.signing import PresignByHMAC, SigningSettings
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

__all__ = ["MemoryDriver"]

MIN_PART_SIZE: Final = 5 * 1024 * 1024
"""Bytes of every part but the last; the limit of S3, so that uploads that work here work there."""

_TURN: Final = 2
"""After this many operations other tasks get a turn of the event loop."""

_CONDITIONS: Final[frozenset[Condition]] = frozenset(
    ("put_if_none_match", "put_if_match", "get", "delete", "copy", "complete")
)
_NATIVE: Final = frozenset(
    (
        "range",
        "server_copy",
        "bulk_delete",
        "conditional_put",
        "conditional_get",
        "conditional_copy",
        "conditional_delete",
    )
)


class MemoryDriver(
    RangeByGet,
    ServerCopyByCopy,
    VersionsByOptions,
    LifecycleDeleteBySet,
    ExpireByDelete,
    TagsDeleteBySet,
    PresignByHMAC,
    Driver,
):
    """Keeps objects in this process's memory.

    ``memory://`` is private to the instance and vanishes when it is closed. ``memory://NAME`` is one store for all
    instances with that name, in any thread's event loop, and lasts as long as the process.

    Settings:
        min_part_size: bytes of every part of an upload but the last; default 5 MiB.
        presign_url: where the app of `trove_async.web` is mounted. Without it URLs are not signed.
        presign_key: text that signs the URLs; default random for each store.

    A put copies the bytes once, unless they are ``bytes``; a get shares them.
    """

    def __init__(self) -> None:
        self._store: Store | None = None
        self._features = Features()
        self._min_part_size = MIN_PART_SIZE
        self._subscriptions: set[Subscription] = set()
        self._operations = 0

    @property
    def name(self) -> str:
        """The driver's name, ``memory``."""
        return "memory"

    @property
    def features(self) -> Features:
        """All capabilities and conditions; presigning only with a ``presign_url``."""
        return self._features

    @classmethod
    def check_dsn(cls, dsn: DSN, options: OpenOptions) -> None:
        """Read it."""
        _settings_of(dsn, options)

    async def open(self, dsn: DSN, options: OpenOptions) -> None:
        """Open a private store, or the store of the process with the DSN's name."""
        min_part_size, signing = _settings_of(dsn, options)
        store = named_store(dsn.host) if dsn.host else Store()
        self.url_signer = signing.signer(store.signing_key)
        self._min_part_size = min_part_size
        features = Features(
            protocols=capabilities_of(self),
            conditions=_CONDITIONS,
            native=_NATIVE,
            limits=Limits(min_part_size=min_part_size),
        )
        self._features = self.with_presign(features)
        self._store = store

    async def close(self) -> None:
        """Release the store, which frees a private one, and end the watches."""
        self._store = None
        for subscription in self._subscriptions:
            subscription.fail(ClosedError("the store was closed"))

    def shares_backend(self, other: Driver) -> bool:
        """Tell whether another driver has the same named store open."""
        return isinstance(other, MemoryDriver) and self._store is not None and other._store is self._store

    async def ping(self) -> None:
        """Check that the driver is open."""
        self._open_store()

    def _open_store(self) -> Store:
        if self._store is None:
            raise ClosedError("the memory driver is not open", driver=self.name)
        return self._store

    def _bucket(self, name: str, key: str | None = None) -> Bucket:
        return self._open_store().bucket(name, key)

    # Buckets

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """Create a bucket; the region is ignored."""
        self._open_store().create_bucket(name)

    async def delete_bucket(self, name: str) -> None:
        """Delete a bucket without objects and versions, and its open uploads."""
        self._open_store().delete_bucket(name)

    async def list_buckets(self) -> Sequence[BucketInfo]:
        """Return the buckets, sorted by name."""
        return self._open_store().buckets()

    # Objects

    def _should_yield(self) -> bool:
        """Return whether to let other tasks run: nothing here waits, so a busy task would keep them from running."""
        self._operations += 1
        return not self._operations % _TURN

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> ObjectInfo:
        """Store an object; conditions are checked before the body is read, and again when it is stored."""
        if self._should_yield():
            await asyncio.sleep(0)
        target = self._bucket(bucket, key)
        if_match, if_none_match = options.if_match, options.if_none_match
        if if_match is not None or if_none_match is not None:
            target.check_write(key, if_match, if_none_match)
        data = await _bytes_of(body)
        self._open_store()  # raises if the driver was closed while the body was read
        checksums: Mapping[str, str] = EMPTY if body.checksum is None else body.checksums
        return target.write(key, data, options.attributes, checksums, if_match=if_match, if_none_match=if_none_match)

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        """Open an object; the reader keeps its bytes even if the object is replaced or deleted."""
        if self._should_yield():
            await asyncio.sleep(0)
        entry = self._bucket(bucket, key).entries.find(key, options.version_id)
        check_read(entry.info, options)
        return _reader(entry, options.range)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        """Describe an object."""
        if self._should_yield():
            await asyncio.sleep(0)
        info = self._bucket(bucket, key).entries.find(key, options.version_id).info
        check_read(info, options)
        return info

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """Delete an object, or one version of it."""
        if self._should_yield():
            await asyncio.sleep(0)
        self._bucket(bucket, key).delete(key, options.version_id, options.if_match)

    async def copy(
        self, src_bucket: str, src_key: str, dst_bucket: str, dst_key: str, options: CopyOptions
    ) -> ObjectInfo:
        """Copy an object; the bytes are shared, since they never change."""
        with reading_source(src_bucket, src_key):
            source = self._bucket(src_bucket, src_key).entries.find(src_key, options.source_version_id)
            check_read(source.info, HeadOptions(if_match=options.source_if_match))
        target = self._bucket(dst_bucket, dst_key)
        return _copy(source, target, dst_key, options)

    async def list_page(self, bucket: str, options: ListOptions) -> ListPage:
        """Return one page of a listing; each page but the first lets other tasks run."""
        if options.cursor is not None:
            await asyncio.sleep(0)
        return self._bucket(bucket).list_page(options)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> Sequence[DeleteResult]:
        """Delete objects; each call lets other tasks run first."""
        await asyncio.sleep(0)
        target = self._bucket(bucket)
        for key in keys:
            target.delete(key, None, None)
        return [DeleteResult(key) for key in keys]

    # Multipart

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Open an upload and return its id."""
        return self._bucket(bucket, key).begin_upload(key, options)

    async def upload_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> PartInfo:
        """Store a part, if the upload is open before and after the body is read."""
        target = self._bucket(bucket, key)
        target.upload(key, upload_id)
        data = await _bytes_of(body)
        self._open_store()
        return target.write_part(key, upload_id, number, data)

    async def append_part(
        self, bucket: str, key: str, upload_id: str, number: int, offset: int, body: Body
    ) -> PartInfo:
        """Append to a part, chunk by chunk, as long as the upload is open."""
        target = self._bucket(bucket, key)
        info = target.append_part(key, upload_id, number, offset, b"")
        async for chunk in body:
            self._open_store()
            info = target.append_part(key, upload_id, number, info.size, chunk)
        return info

    async def copy_part(
        self, bucket: str, key: str, upload_id: str, number: int, src: ObjectRef, offset: int, length: int
    ) -> PartInfo:
        """Make a part of a range of an object."""
        target = self._bucket(bucket, key)
        target.upload(key, upload_id)
        with reading_source(src.bucket, src.key):
            source = self._bucket(src.bucket, src.key).entries.find(src.key, src.version_id)
            check_within(offset, length, source.info.size)
        return target.write_part(key, upload_id, number, source.data[offset : offset + length])

    async def complete_multipart(
        self, bucket: str, key: str, upload_id: str, parts: Sequence[PartInfo], options: CompleteOptions
    ) -> ObjectInfo:
        """Make the object from the parts."""
        target = self._bucket(bucket, key)
        upload = target.upload(key, upload_id)
        chosen = upload.chosen(parts, self._min_part_size)
        target.check_write(key, options.if_match, options.if_none_match)
        body = Body(await _joined(chosen), checksum=upload.options.checksum)
        data = await _bytes_of(body)
        self._open_store()
        checksums: Mapping[str, str] = EMPTY if body.checksum is None else body.checksums
        return target.complete_upload(upload, chosen, data, checksums, options.if_match, options.if_none_match)

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload."""
        self._bucket(bucket, key).abort_upload(key, upload_id)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> Sequence[PartInfo]:
        """Return the parts of an upload."""
        return self._bucket(bucket, key).upload(key, upload_id).part_infos()

    async def list_multipart_uploads(self, bucket: str, prefix: str = "") -> Sequence[UploadInfo]:
        """Return the open uploads."""
        return self._bucket(bucket).upload_infos(prefix)

    # Versions

    async def set_versioning(self, bucket: str, enabled: bool) -> None:
        """Start or stop keeping versions."""
        self._bucket(bucket).set_versioning(enabled)

    async def get_versioning(self, bucket: str) -> VersioningStatus:
        """Return whether the bucket keeps versions."""
        return self._bucket(bucket).entries.status

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return versions and delete markers of a key, newest first."""
        return self._bucket(bucket, key).entries.versions(key)

    async def list_versions_page(self, bucket: str, options: VersionListOptions) -> VersionPage:
        """Return one page of the versions of a bucket; each page but the first lets other tasks run."""
        if options.cursor is not None:
            await asyncio.sleep(0)
        return self._bucket(bucket).list_versions_page(options)

    # Events

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield every change that any instance makes, in order."""
        target = self._bucket(bucket)
        subscription = Subscription(options)
        target.subscribe(subscription)
        self._subscriptions.add(subscription)
        try:
            options.on_ready()
            while True:
                yield await subscription.next()
        finally:
            self._subscriptions.discard(subscription)
            target.unsubscribe(subscription)

    # Lifecycle

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's rules."""
        self._bucket(bucket).rules = tuple(rules)

    async def get_lifecycle(self, bucket: str) -> Sequence[LifecycleRule]:
        """Return the rules."""
        return self._bucket(bucket).rules

    async def transition(self, bucket: str, key: str, storage_class: str, if_match: str) -> None:
        """Change an object's storage class and nothing else."""
        self._bucket(bucket, key).transition(key, storage_class, if_match)

    async def list_noncurrent(self, bucket: str, prefix: str = "") -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        return self._bucket(bucket).noncurrent(prefix)

    # Tags

    async def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        """Return the object's tags."""
        return dict(self._bucket(bucket, key).entries.find(key, None).tags)

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        """Replace the object's tags."""
        self._bucket(bucket, key).entries.find(key, None).tag(tags)


async def _bytes_of(body: Body) -> bytes:
    """Return a whole body, checked, as immutable bytes."""
    data = body.buffer
    if data is None:
        return await _collected(body)
    await body.finish_buffer()
    return data if type(data) is bytes else bytes(data)


async def _collected(body: Body) -> bytes:
    # BytesIO returns its buffer without copying it.
    buffer = io.BytesIO()
    async for chunk in body:
        buffer.write(chunk)
    return buffer.getvalue()


async def _joined(parts: Sequence[Part]) -> bytes:
    if len(parts) == 1:
        return bytes(parts[0].data)
    buffer = io.BytesIO()
    for part in parts:
        buffer.write(part.data)
        await asyncio.sleep(0)  # lets other tasks run while a large object is copied
    return buffer.getvalue()


def _reader(entry: Entry, wanted: ByteRange | None) -> ObjectReader:
    if wanted is None:
        return ObjectReader(entry.info, entry.data)
    start, stop = wanted.resolve(entry.info.size)
    return ObjectReader(entry.info, entry.data[start:stop], start=start, stop=stop)


def _copy(source: Entry, target: Bucket, key: str, options: CopyOptions) -> ObjectInfo:
    attributes, checksums = source.attributes, source.info.checksums
    if options.replace is not None:
        attributes, checksums = options.replace, EMPTY
    return target.write(
        key, source.data, attributes, checksums, if_match=options.if_match, if_none_match=options.if_none_match
    )


def _settings_of(dsn: DSN, options: OpenOptions) -> tuple[int, SigningSettings]:
    """Return the smallest part and how URLs are signed."""
    if dsn.path.strip("/"):
        raise InvalidDSNError(
            "a memory DSN is memory:// or memory://NAME, without a path; give buckets and keys to the methods"
        )
    for part, value in (("user", dsn.user), ("password", dsn.password), ("port", dsn.port), ("path", dsn.path)):
        if value not in (None, ""):
            raise InvalidDSNError(f"memory has no {part}; write memory:// or memory://NAME")
    settings = SettingsParser(dsn, options.settings)
    min_part_size = settings.integer("min_part_size", MIN_PART_SIZE, minimum=1)
    signing = SigningSettings.of(settings)
    settings.finish()
    return min_part_size, signing
