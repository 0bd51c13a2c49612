"""The state of the server: buckets, objects and their generations. It is in memory, and each change is atomic.

Generations and metagenerations are as in https://cloud.google.com/storage/docs/metadata#generation-number,
versioning as in https://cloud.google.com/storage/docs/object-versioning, holds as in
https://cloud.google.com/storage/docs/object-holds.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sortedcontainers import SortedDict

from trove_async.errors import MissingDependencyError
from trove_async.testing.gcs.errors import already_owned, held, no_bucket, no_object

__all__ = ["WRITABLE", "Bucket", "Content", "Event", "Storage", "StoredObject", "crc32c_of"]

EventType = Literal["OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE"]

WRITABLE: Final = frozenset(
    (
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "customTime",
        "eventBasedHold",
        "metadata",
        "storageClass",
        "temporaryHold",
    )
)
"""The properties of an object that a writer may set. All except ``storageClass`` may be changed later."""


def crc32c_of(data: bytes) -> str:
    """Return the CRC32C in the encoding of the service: base64 of the big-endian bytes."""
    try:
        import google_crc32c
    except ImportError as error:
        raise MissingDependencyError("GCSServer needs: pip install 'trove-async[checksums]'") from error
    return base64.b64encode(int(google_crc32c.value(data)).to_bytes(4, "big")).decode()


@dataclass(slots=True)
class Content:
    """The bytes of an object, and their checksums.

    Attributes:
        data: the stored bytes.
        crc32c, md5: in base64; an object from compose or from a multipart upload has no MD5.
        components: the number of objects it was composed of; None if it was not composed.
        xml_etag: the ETag of the XML API, if that is not the MD5.
    """

    data: bytes
    crc32c: str
    md5: str | None
    components: int | None = None
    xml_etag: str | None = None

    @classmethod
    def of(cls, data: bytes) -> Content:
        """Hash the bytes of one upload."""
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return cls(data, crc32c_of(data), md5)

    @classmethod
    def joined(cls, data: bytes, components: int | None = None, xml_etag: str | None = None) -> Content:
        """Hash bytes that the server concatenated."""
        return cls(data, crc32c_of(data), None, components, xml_etag)


@dataclass(slots=True)
class StoredObject:
    """One generation of an object.

    Attributes:
        fields: the properties that are set, of those in `WRITABLE`; ``storageClass`` always is.
        deleted: when it became noncurrent; None while it is live. All times are seconds since the epoch.
        rendered: its resource in JSON, by the value of ``fields`` that selected it.
    """

    bucket: str
    name: str
    generation: int
    content: Content
    fields: dict[str, Any]
    created: float
    updated: float
    class_updated: float
    metageneration: int = 1
    deleted: float | None = None
    rendered: dict[str, bytes] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The stored bytes."""
        return self.content.data

    @property
    def etag(self) -> str:
        """The ETag of the JSON API, which changes with the content and with the metadata."""
        return base64.b64encode(_varints(self.generation, self.metageneration)).decode()

    @property
    def xml_etag(self) -> str:
        """The quoted ETag of the XML API: the MD5 in hex if there is one."""
        if self.content.xml_etag is not None:
            return f'"{self.content.xml_etag}"'
        if self.content.md5 is None:
            return f'"{self.etag}"'
        return f'"{base64.b64decode(self.content.md5).hex()}"'

    def hold(self) -> str | None:
        """Return the kind of hold that it is under; None if there is none."""
        if self.fields.get("temporaryHold"):
            return "Temporary"
        return "Event-Based" if self.fields.get("eventBasedHold") else None

    def touch(self) -> None:
        """Record a change of its metadata."""
        self.metageneration += 1
        self.updated = time.time()
        self.rendered.clear()


def _varints(*numbers: int) -> bytes:
    out = bytearray()
    for index, number in enumerate(numbers, 1):
        out.append(index << 3)
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)


@dataclass(slots=True)
class Bucket:
    """A bucket; ``fields`` are the writable properties of its resource as they were set."""

    name: str
    fields: dict[str, Any]
    created: float
    updated: float
    metageneration: int = 1
    objects: SortedDict[str, list[StoredObject]] = field(default_factory=SortedDict)
    notifications: dict[str, dict[str, Any]] = field(default_factory=dict)
    notifications_made: int = 0

    @property
    def versioned(self) -> bool:
        """True if replaced and deleted objects become noncurrent generations."""
        return bool((self.fields.get("versioning") or {}).get("enabled"))

    @property
    def storage_class(self) -> str:
        """The default storage class of its objects."""
        return str(self.fields.get("storageClass", "STANDARD"))

    @property
    def etag(self) -> str:
        """The ETag of its resource."""
        return base64.b64encode(_varints(self.metageneration)).decode()

    def live(self, name: str) -> StoredObject | None:
        """Return the live generation of an object."""
        versions = self.objects.get(name)
        return versions[-1] if versions and versions[-1].deleted is None else None

    def generations(self) -> Iterator[StoredObject]:
        """Yield all generations of all objects, by name, the oldest first."""
        for versions in self.objects.values():
            yield from versions

    def touch(self) -> None:
        """Record a change of its metadata."""
        self.metageneration += 1
        self.updated = time.time()


@dataclass(frozen=True, slots=True)
class Event:
    """A change of an object, for notifications."""

    type: EventType
    bucket: Bucket
    object: StoredObject
    overwrote: int | None = None
    overwritten_by: int | None = None


class Storage:
    """All buckets, and the changes of objects. Callers check conditions in the same step.

    Attributes:
        buckets: by name.
        listeners: called with each `Event`.
        base_url: of the server, for the links in resources.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.base_url = ""
        self.buckets: dict[str, Bucket] = {}
        self.listeners: list[Callable[[Event], None]] = []
        self._generation = 0

    def bucket(self, name: str) -> Bucket:
        """Return a bucket.

        Raises:
            ServiceError: 404.
        """
        bucket = self.buckets.get(name)
        if bucket is None:
            raise no_bucket()
        return bucket

    def create_bucket(self, name: str, fields: dict[str, Any]) -> Bucket:
        """Create a bucket.

        Raises:
            ServiceError: 409; it exists.
        """
        if name in self.buckets:
            raise already_owned()
        now = time.time()
        bucket = self.buckets[name] = Bucket(name, fields, now, now)
        return bucket

    def find(self, bucket: Bucket, name: str, generation: int | None = None) -> StoredObject:
        """Return the live generation of an object, or the given one, live or noncurrent.

        Raises:
            ServiceError: 404.
        """
        if generation is None:
            found = bucket.live(name)
        else:
            versions = bucket.objects.get(name) or ()
            found = next((version for version in versions if version.generation == generation), None)
        if found is None:
            raise no_object(bucket.name, name)
        return found

    def store(self, bucket: Bucket, name: str, content: Content, fields: dict[str, Any]) -> StoredObject:
        """Create a new live generation of an object.

        Raises:
            ServiceError: 403; the generation to replace is under a hold.
        """
        replaced = bucket.live(name)
        if replaced is not None:
            self.check_held(replaced)
        now = time.time()
        generation = self._generation = max(self._generation + 1, int(now * 1_000_000))
        fields.setdefault("storageClass", bucket.storage_class)
        if bucket.fields.get("defaultEventBasedHold"):
            fields.setdefault("eventBasedHold", True)
        made = StoredObject(bucket.name, name, generation, content, fields, now, now, now)
        if replaced is not None:
            self._retire(bucket, replaced, overwritten_by=generation)
        bucket.objects.setdefault(name, []).append(made)
        self._notify(Event("OBJECT_FINALIZE", bucket, made, overwrote=replaced.generation if replaced else None))
        return made

    def check_held(self, found: StoredObject) -> None:
        """Refuse to replace or delete an object under a hold.

        Raises:
            ServiceError: 403.
        """
        hold = found.hold()
        if hold is not None:
            raise held(found.bucket, found.name, hold)

    def delete(self, bucket: Bucket, found: StoredObject, *, permanently: bool) -> None:
        """Delete an object: a live one of a versioned bucket becomes noncurrent unless ``permanently``.

        Raises:
            ServiceError: 403; it is under a hold.
        """
        self.check_held(found)
        if permanently:
            self._remove(bucket, found)
            self._notify(Event("OBJECT_DELETE", bucket, found))
        else:
            self._retire(bucket, found)

    def changed(self, bucket: Bucket, found: StoredObject) -> None:
        """Record a change of an object's metadata, and notify the listeners."""
        found.touch()
        self._notify(Event("OBJECT_METADATA_UPDATE", bucket, found))

    def _retire(self, bucket: Bucket, live: StoredObject, overwritten_by: int | None = None) -> None:
        if bucket.versioned:
            live.deleted = time.time()
            live.rendered.clear()
            self._notify(Event("OBJECT_ARCHIVE", bucket, live, overwritten_by=overwritten_by))
        else:
            self._remove(bucket, live)
            self._notify(Event("OBJECT_DELETE", bucket, live, overwritten_by=overwritten_by))

    def _remove(self, bucket: Bucket, found: StoredObject) -> None:
        versions = bucket.objects[found.name]
        versions.remove(found)
        if not versions:
            del bucket.objects[found.name]

    def _notify(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
