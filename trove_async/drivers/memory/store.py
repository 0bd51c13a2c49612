"""The data of the driver: stores and their buckets, and every change to them.

Each change is decided and made without awaiting, under the store's lock. The lock is for named stores, which may be
used from the event loops of several threads; it costs a tenth of a microsecond.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from trove_async.driver.conditions import check_write
from trove_async.driver.options import ListOptions, ObjectAttributes, PutOptions, VersionListOptions
from trove_async.drivers.memory.entry import Entry, Stamp
from trove_async.drivers.memory.listing import list_page
from trove_async.drivers.memory.multipart import Part, Upload
from trove_async.drivers.memory.versions import VersionedEntries
from trove_async.drivers.memory.watch import Subscription
from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    PreconditionFailedError,
    UploadNotFoundError,
)
from trove_async.listing import ListPage
from trove_async.sources import Chunk
from trove_async.types import (
    BucketInfo,
    EventType,
    LifecycleRule,
    ObjectEvent,
    ObjectInfo,
    PartInfo,
    UploadInfo,
    VersionInfo,
    VersioningStatus,
)
from trove_async.version_listing import VersionPage

__all__ = ["Bucket", "Store", "named_store"]

_TICK: Final = timedelta(microseconds=1)


class Store:
    """Buckets, and what they share: the clock, the lock and the key that signs URLs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.signing_key = secrets.token_bytes(32)
        self._buckets: dict[str, Bucket] = {}
        # Ids begin with the number of writes, so that they sort; the token makes them differ between stores.
        self._token = secrets.token_hex(4)
        self._writes = 0
        self._time = datetime.fromtimestamp(0, UTC)

    def stamp(self) -> Stamp:
        """Return the next write's ETag, time and version id; the time is always later than the last one."""
        self._writes += 1
        now = datetime.now(UTC)
        self._time = now = now if now > self._time else self._time + _TICK
        return Stamp(f"{self._writes:x}-{self._token}", now, f"{self._writes:016x}{self._token}")

    def bucket(self, name: str, key: str | None = None) -> Bucket:
        """Return a bucket; the key is only for the error.

        Raises:
            BucketNotFoundError: it does not exist.
        """
        found = self._buckets.get(name)
        if found is None:
            raise BucketNotFoundError(bucket=name, key=key)
        return found

    def create_bucket(self, name: str) -> None:
        """Create a bucket; see `Driver.create_bucket`."""
        with self.lock:
            if name in self._buckets:
                raise BucketAlreadyExistsError(bucket=name)
            self._buckets[name] = Bucket(self, name)

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket with its open uploads, and end its subscriptions; see `Driver.delete_bucket`."""
        with self.lock:
            bucket = self.bucket(name)
            if bucket.entries:
                raise BucketNotEmptyError(bucket=name)
            del self._buckets[name]
            bucket.end()

    def buckets(self) -> list[BucketInfo]:
        """Describe the buckets, sorted by name."""
        with self.lock:
            return [self._buckets[name].info for name in sorted(self._buckets)]


class Bucket:
    """One bucket's objects, uploads, rules and subscriptions.

    Attributes:
        info: its name and creation time.
        entries: the objects and their versions; change them through the bucket's methods.
        uploads: the open uploads by their ids.
        rules: the lifecycle rules.
        subscriptions: of the watches.
    """

    __slots__ = ("_lock", "_store", "entries", "exists", "info", "rules", "subscriptions", "uploads")

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._lock = store.lock
        self.info = BucketInfo(name, store.stamp().time)
        self.exists = True
        self.entries = VersionedEntries()
        self.uploads: dict[str, Upload] = {}
        self.rules: tuple[LifecycleRule, ...] = ()
        self.subscriptions: set[Subscription] = set()

    def end(self) -> None:
        """Refuse further changes, after the deletion of the bucket."""
        self.exists = False
        for subscription in self.subscriptions:
            subscription.fail(BucketNotFoundError("the bucket was deleted", bucket=self.info.name))

    def _check_exists(self) -> None:
        # A body is read without the lock: the bucket may have been deleted meanwhile.
        if not self.exists:
            raise BucketNotFoundError(bucket=self.info.name)

    def check_write(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """Check the conditions of a write against the current object."""
        current = self.entries.current.get(key)
        check_write(None if current is None else current.info.etag, if_match, if_none_match)

    def write(
        self,
        key: str,
        data: bytes,
        attributes: ObjectAttributes,
        checksums: Mapping[str, str],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Check the conditions and make an object the latest version of its key."""
        with self._lock:
            return self._write(key, data, attributes, checksums, if_match, if_none_match)

    def _write(
        self,
        key: str,
        data: bytes,
        attributes: ObjectAttributes,
        checksums: Mapping[str, str],
        if_match: str | None,
        if_none_match: str | None,
    ) -> ObjectInfo:
        self._check_exists()
        if if_match is not None or if_none_match is not None:
            self.check_write(key, if_match, if_none_match)
        stamp = self._store.stamp()
        version_id = self.entries.version_id_of(stamp)
        info = attributes.info(key, len(data), stamp.etag, stamp.time, version_id, checksums)
        before = self.entries.current.get(key)
        self.entries.write(Entry(info, data, attributes.tags))
        if self.subscriptions:
            self._publish(key, before, stamp.time)
        return info

    def delete(self, key: str, version_id: str | None, if_match: str | None) -> None:
        """Delete an object or a version of it, if the condition holds."""
        with self._lock:
            self._check_exists()
            before = self.entries.current.get(key)
            if if_match is not None:
                target = before if version_id is None else self.entries.find_version(key, version_id)
                check_write(target.info.etag if isinstance(target, Entry) else None, if_match, None)
            stamp = self._store.stamp()
            if version_id is None:
                self.entries.delete(key, stamp)
            else:
                self.entries.delete_version(key, version_id)
            if self.subscriptions:
                self._publish(key, before, stamp.time)

    def list_page(self, options: ListOptions) -> ListPage:
        """Return one page of a listing."""
        with self._lock:
            return list_page(self.entries.current, options)

    def list_versions_page(self, options: VersionListOptions) -> VersionPage:
        """Return one page of a listing of versions."""
        with self._lock:
            return self.entries.page(options)

    def transition(self, key: str, storage_class: str, if_match: str) -> None:
        """Change the storage class of the object of an ETag."""
        with self._lock:
            entry = self.entries.find(key, None)
            if entry.info.etag != if_match:
                raise PreconditionFailedError(f"the object's ETag is {entry.info.etag!r}, not {if_match!r}")
            entry.move_to(storage_class)

    def _publish(self, key: str, before: Entry | None, time: datetime) -> None:
        """Send the change of a key to the subscriptions."""
        after = self.entries.current.get(key)
        if after is before:
            return
        if after is None:
            event = ObjectEvent(EventType.DELETED, self.info.name, key, time=time)
        else:
            kind = EventType.CREATED if before is None else EventType.UPDATED
            info = after.info
            event = ObjectEvent(kind, self.info.name, key, info.size, info.etag, info.version_id, time)
        for subscription in self.subscriptions:
            subscription.publish(event)

    def subscribe(self, subscription: Subscription) -> None:
        """Send every later change to a subscription."""
        with self._lock:
            self._check_exists()
            self.subscriptions.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop sending changes to a subscription."""
        with self._lock:
            self.subscriptions.discard(subscription)

    def begin_upload(self, key: str, options: PutOptions) -> str:
        """Open an upload and return its id."""
        with self._lock:
            self._check_exists()
            stamp = self._store.stamp()
            self.uploads[stamp.version_id] = Upload(stamp.version_id, key, options, stamp.time)
            return stamp.version_id

    def upload(self, key: str, upload_id: str) -> Upload:
        """Return an open upload.

        Raises:
            UploadNotFoundError: it is not open, or belongs to another key.
        """
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise UploadNotFoundError(f"no multipart upload {upload_id!r} of this key is open", key=key)
        return upload

    def write_part(self, key: str, upload_id: str, number: int, data: bytes) -> PartInfo:
        """Store a part; it replaces one with the same number."""
        with self._lock:
            self._check_exists()
            upload = self.upload(key, upload_id)
            info = PartInfo(number, self._store.stamp().etag, len(data))
            upload.parts[number] = Part(info, data)
            return info

    def append_part(self, key: str, upload_id: str, number: int, offset: int, data: Chunk) -> PartInfo:
        """Cut a part off at an offset, which may be its end, and append bytes."""
        with self._lock:
            self._check_exists()
            upload = self.upload(key, upload_id)
            grown = upload.grown(number, offset, data)
            info = PartInfo(number, self._store.stamp().etag, len(grown))
            upload.parts[number] = Part(info, grown)
            return info

    def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[Part],
        data: bytes,
        checksums: Mapping[str, str],
        if_match: str | None,
        if_none_match: str | None,
    ) -> ObjectInfo:
        """Make the object of an upload of its parts, which were joined, and end the upload."""
        with self._lock:
            self.upload(upload.key, upload.id)  # raises if it was completed or aborted while the parts were joined
            upload.check_unchanged(parts)
            info = self._write(upload.key, data, upload.options.attributes, checksums, if_match, if_none_match)
            del self.uploads[upload.id]
            return info

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload with its parts; one that is not open is success."""
        with self._lock:
            upload = self.uploads.get(upload_id)
            if upload is not None and upload.key == key:
                del self.uploads[upload_id]

    def upload_infos(self, prefix: str) -> list[UploadInfo]:
        """Describe the open uploads, in the order of their keys, then of their begin."""
        with self._lock:
            found = [upload for upload in self.uploads.values() if upload.key.startswith(prefix)]
        return [upload.info for upload in sorted(found, key=lambda upload: (upload.key, upload.id))]

    def set_versioning(self, enabled: bool) -> None:
        """Start or stop keeping versions; a bucket that never kept any stays unversioned."""
        with self._lock:
            if enabled:
                self.entries.status = VersioningStatus.ENABLED
            elif self.entries.status is VersioningStatus.ENABLED:
                self.entries.status = VersioningStatus.SUSPENDED

    def noncurrent(self, prefix: str) -> list[VersionInfo]:
        """Describe the versions that are not the latest, with the times at which they were replaced."""
        with self._lock:
            return list(self.entries.noncurrent(prefix))


_named: dict[str, Store] = {}
_named_lock = threading.Lock()


def named_store(name: str) -> Store:
    """Return the process's store of a name, made when it is first asked for and kept for the process's life."""
    with _named_lock:
        store = _named.get(name)
        if store is None:
            store = _named[name] = Store()
        return store
