"""Buckets, objects and versions, as changes within a transaction; the rules of versions are those of S3."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select, update

from trove_async.database import now
from trove_async.database.schema import begins_with
from trove_async.driver.conditions import check_write
from trove_async.driver.options import CONTENT_HEADERS, ObjectAttributes
from trove_async.errors import (
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    VersionNotFoundError,
)
from trove_async.managed.catalogue import new_id
from trove_async.managed.dedup.schema import BUCKETS, OBJECTS, PARTS, UPLOADS
from trove_async.managed.dedup.segments import References, Segment
from trove_async.managed.dedup.versions import NULL_VERSION, Version, Versions
from trove_async.types import EMPTY, BucketInfo, FrozenDict, ObjectInfo, VersionInfo, VersioningStatus
from trove_async.values import can_be_kept

__all__ = ["TICK", "Bucket", "Buckets", "Stored", "bucket_infos", "create_bucket"]

_HEADERS: Final = tuple(name for _, name in CONTENT_HEADERS)
TICK: Final = timedelta(microseconds=1)
"""By how much what follows of a key is later at least."""

_BUCKET: Final = select(BUCKETS.c.id, BUCKETS.c.versioning, BUCKETS.c.rules, now().label("time")).where(
    BUCKETS.c.space == bindparam("space"), BUCKETS.c.name == bindparam("name")
)
_OF_KEY: Final = (OBJECTS.c.bucket == bindparam("its_bucket")) & (OBJECTS.c.key == bindparam("its_key"))
_CURRENT: Final = select(OBJECTS).where(_OF_KEY, OBJECTS.c.current.is_(True))
_VERSION: Final = select(OBJECTS).where(_OF_KEY, OBJECTS.c.version == bindparam("its_version"))
_VERSIONS: Final = select(OBJECTS).where(_OF_KEY).order_by(OBJECTS.c.number.desc())


class Stored(NamedTuple):
    """An object, or a version of it.

    Attributes:
        id: the owner of its segments.
        info: as put, get and head return it.
        tags: of the object.
        version_id: `NULL_VERSION` for a version without an id.
    """

    id: str
    info: ObjectInfo
    tags: Mapping[str, str]
    version_id: str

    @classmethod
    def of(cls, row: Row[Any]) -> Stored:
        """Return the object of a row of OBJECTS."""
        info = listed(row, _mapping(row.metadata))
        return cls(row.id, info, _mapping(row.tags), row.version)

    @property
    def attributes(self) -> ObjectAttributes:
        """What describes it."""
        return ObjectAttributes.of(self.info, self.tags)


def listed(row: Row[Any], metadata: Mapping[str, str] = EMPTY) -> ObjectInfo:
    """Return the description of the object of a row, as listings have it."""
    headers = _mapping(row.headers)
    return ObjectInfo(
        row.key,
        row.size,
        row.etag,
        row.modified,
        row.content_type,
        metadata,
        None if row.version == NULL_VERSION else row.version,
        row.storage_class,
        checksums=_mapping(row.checksums),
        **headers,
    )


def version_of(row: Row[Any], *, is_latest: bool, modified: datetime | None = None) -> VersionInfo:
    """Return the description of the version of a row."""
    return VersionInfo(
        row.version,
        row.key,
        row.size,
        modified or row.modified,
        is_latest,
        is_delete_marker=row.marker,
        etag=None if row.marker else row.etag,
    )


class Bucket:
    """A bucket within a transaction.

    Args:
        connection: of the transaction.
        space: of the store.
        name: of the bucket.
        key: for the error.
        shared: the buckets of a transaction of many changes, if this is one of them.

    Attributes:
        connection: of the transaction.
        id: of its row.
        time: of the transaction.
        status: whether it keeps versions.
        rules: of its lifecycle, JSON.
        references: to the contents of its objects.
        versions: of its objects.

    Raises:
        BucketNotFoundError: it does not exist.
    """

    def __init__(
        self,
        connection: Connection,
        space: str,
        name: str,
        key: str | None = None,
        shared: Buckets | None = None,
    ) -> None:
        row = connection.execute(_BUCKET, {"space": space, "name": name}).first()
        if row is None:
            raise BucketNotFoundError(bucket=name, key=key)
        self._name = name
        self._shared: Final = shared
        self.time: Final[datetime] = row.time
        self.connection: Final = connection
        self.id: Final[str] = row.id
        self.status: Final = VersioningStatus(row.versioning)
        self.rules: Final[str] = row.rules
        self.references: Final = References(connection, space) if shared is None else shared.references
        self.versions: Final = Versions(connection, self.id, () if shared is None else shared.keys[name])

    def flush(self) -> None:
        """Write the changes, unless that is for `Buckets.flush`."""
        if self._shared is None:
            self.versions.flush()
            self.references.flush()

    def _rows(self, statement: Any, key: str, **values: str) -> Any:
        return self.connection.execute(statement, {"its_bucket": self.id, "its_key": key, **values})

    # Reading

    def current(self, key: str) -> Stored | None:
        """Return the object of a key; None if there is none."""
        row = self._rows(_CURRENT, key).first()
        return None if row is None else Stored.of(row)

    def find(self, key: str, version_id: str | None = None) -> Stored:
        """Return an object, or one version of it.

        Raises:
            ObjectNotFoundError: there is no object, or it was deleted.
            VersionNotFoundError: there is no such version, or it is a delete marker.
        """
        if version_id is None:
            found = self.current(key)
            if found is None:
                raise ObjectNotFoundError(bucket=self._name, key=key)
            return found
        row = self._row_of(key, version_id)
        if row is None or row.marker:
            what = "does not exist" if row is None else "is a delete marker"
            raise VersionNotFoundError(f"the version {version_id!r} {what}", bucket=self._name, key=key)
        return Stored.of(row)

    def history(self, key: str) -> list[VersionInfo]:
        """Return the versions and delete markers of a key, newest first."""
        return [version_of(row, is_latest=not place) for place, row in enumerate(self._rows(_VERSIONS, key).all())]

    def noncurrent(self, prefix: str) -> list[VersionInfo]:
        """Return the versions that are not the latest, with the times at which they were replaced."""
        wanted = select(OBJECTS).where(OBJECTS.c.bucket == self.id, begins_with(OBJECTS.c.key, prefix))
        found: list[VersionInfo] = []
        newer: Row[Any] | None = None
        for row in self.connection.execute(wanted.order_by(OBJECTS.c.key, OBJECTS.c.number.desc())).all():
            if newer is not None and newer.key == row.key:
                found.append(version_of(row, is_latest=False, modified=newer.modified))
            newer = row
        return found

    # Writing

    def check(self, key: str, if_match: str | None, if_none_match: str | None) -> None:
        """Evaluate the conditions of a write."""
        if if_match is not None or if_none_match is not None:
            check_write(_etag(self.versions.latest(key)), if_match, if_none_match)

    def write(
        self,
        key: str,
        segments: Sequence[Segment],
        attributes: ObjectAttributes,
        checksums: Mapping[str, str] = EMPTY,
    ) -> ObjectInfo:
        """Make an object of segments the latest version of its key."""
        size = sum(segment.size for segment in segments)
        refer = partial(self.references.add, segments=segments)
        return self._write(key, size, refer, attributes, checksums)

    def copy(self, source: Stored, key: str, attributes: ObjectAttributes, checksums: Mapping[str, str]) -> ObjectInfo:
        """Make a copy of an object, which may be of another bucket, the latest version of a key."""
        refer = partial(self.references.copy, source.id)
        return self._write(key, source.info.size, refer, attributes, checksums)

    def _write(
        self,
        key: str,
        size: int,
        refer: Callable[[str], None],
        attributes: ObjectAttributes,
        checksums: Mapping[str, str],
    ) -> ObjectInfo:
        """Make an object the latest version of its key; `refer` gives it its segments, as their owner."""
        values = _values(attributes, checksums)
        values.update(marker=False, current=True, etag=secrets.token_hex(12), size=size)
        added = self._append(key, values)
        refer(added.id)
        self.flush()
        version_id = None if added.version == NULL_VERSION else added.version
        return attributes.info(key, size, added.etag, added.modified, version_id, checksums)

    def delete(self, key: str, version_id: str | None = None, if_match: str | None = None) -> None:
        """Delete an object or a version of it, if the condition holds."""
        if if_match is not None:
            target = self.versions.latest(key) if version_id is None else self._version(key, version_id)
            check_write(_etag(target), if_match, None)
        if version_id is not None:
            self._remove(self._version(key, version_id))
            self.versions.show(key)
        elif self.status is VersioningStatus.UNVERSIONED:
            self._remove(self.versions.latest(key))
        else:
            values = _values(ObjectAttributes(), EMPTY)
            self._append(key, {**values, "marker": True, "current": False, "etag": "", "size": 0})
        self.flush()

    def tag(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of an object."""
        self._set(self.find(key), tags=json.dumps(dict(tags)))

    def transition(self, key: str, storage_class: str, if_match: str) -> None:
        """Change the storage class of the object that has an ETag."""
        found = self.find(key)
        if found.info.etag != if_match:
            raise PreconditionFailedError(f"the object's ETag is {found.info.etag!r}, not {if_match!r}")
        self._set(found, storage_class=storage_class)

    def change(self, **values: str) -> None:
        """Change columns of the bucket."""
        self.connection.execute(update(BUCKETS).where(BUCKETS.c.id == self.id).values(**values))

    def drop(self) -> None:
        """Delete the bucket, which is empty, with its open uploads.

        Raises:
            BucketNotEmptyError: it has objects, versions or delete markers.
        """
        if self.connection.scalar(select(exists().where(OBJECTS.c.bucket == self.id))):
            raise BucketNotEmptyError(bucket=self._name)
        uploads = select(UPLOADS.c.id).where(UPLOADS.c.bucket == self.id)
        parts = self.connection.scalars(select(PARTS.c.id).where(PARTS.c.upload.in_(uploads))).all()
        self.references.remove(parts)
        self.flush()
        self.connection.execute(delete(PARTS).where(PARTS.c.upload.in_(uploads)))
        self.connection.execute(delete(UPLOADS).where(UPLOADS.c.bucket == self.id))
        self.connection.execute(delete(BUCKETS).where(BUCKETS.c.id == self.id))

    def _version(self, key: str, version_id: str) -> Version | None:
        row = self._row_of(key, version_id)
        return None if row is None else Version.of(row)

    def _row_of(self, key: str, version_id: str) -> Row[Any] | None:
        """Return the row of a version or delete marker; None if there is none."""
        row: Row[Any] | None = None
        if can_be_kept(version_id):
            row = self._rows(_VERSION, key, its_version=version_id).first()
        return row

    def _append(self, key: str, values: Mapping[str, Any]) -> Version:
        """Add the latest version of a key."""
        latest = self.versions.latest(key)
        version = new_id() if self.status is VersioningStatus.ENABLED else NULL_VERSION
        number, modified = 0, self.time
        if latest is not None:
            # Versions of one key are in the order of their times, however coarse and wrong the clock is.
            number, modified = latest.number + 1, max(modified, latest.modified + TICK)
            replaced = self.versions.null(key) if version == NULL_VERSION else None
            self._remove(replaced)
            if latest != replaced and not latest.marker:
                self.versions.hide(latest)
        added = Version(new_id(), key, number, version, values["marker"], values["etag"], modified)
        self.versions.add(added, values)
        return added

    def _remove(self, version: Version | None) -> None:
        if version is not None:
            self.references.remove([version.id])
            self.versions.remove(version)

    def _set(self, found: Stored, **values: str) -> None:
        self.connection.execute(update(OBJECTS).where(OBJECTS.c.id == found.id).values(**values))


class Buckets:
    """The buckets within a transaction of many changes, which share its statements.

    Args:
        connection: of the transaction.
        space: of the store.
        names: the bucket and the key of each change.

    Attributes:
        keys: that are changed, by the names of their buckets.
        references: of the transaction.
    """

    def __init__(self, connection: Connection, space: str, names: Iterable[tuple[str, str]]) -> None:
        self._connection = connection
        self._space = space
        self._found: dict[str, Bucket] = {}
        self.references: Final = References(connection, space)
        self.keys: Final = defaultdict[str, list[str]](list)
        for bucket, key in names:
            self.keys[bucket].append(key)

    def get(self, name: str, key: str | None = None) -> Bucket:
        """Return a bucket, which the transaction reads once; see `Bucket`."""
        if name not in self._found:
            self._found[name] = Bucket(self._connection, self._space, name, key, self)
        return self._found[name]

    def flush(self) -> None:
        """Write the changes."""
        for bucket in self._found.values():
            bucket.versions.flush()
        self.references.flush()


def create_bucket(connection: Connection, space: str, name: str) -> None:
    """Create a bucket.

    Raises:
        BucketAlreadyExistsError: it exists.
    """
    if connection.execute(_BUCKET, {"space": space, "name": name}).first() is not None:
        raise BucketAlreadyExistsError(bucket=name)
    values = {"id": new_id(), "space": space, "name": name, "versioning": VersioningStatus.UNVERSIONED, "rules": "[]"}
    connection.execute(insert(BUCKETS).values(**values, created_at=now()))


def bucket_infos(connection: Connection, space: str) -> list[BucketInfo]:
    """Describe the buckets, in the order of their names."""
    wanted = select(BUCKETS.c.name, BUCKETS.c.created_at).where(BUCKETS.c.space == space).order_by(BUCKETS.c.name)
    return [BucketInfo(row.name, row.created_at) for row in connection.execute(wanted).all()]


def _values(attributes: ObjectAttributes, checksums: Mapping[str, str]) -> dict[str, Any]:
    headers = {name: value for name in _HEADERS if (value := getattr(attributes, name)) is not None}
    return {
        "content_type": attributes.content_type,
        "storage_class": attributes.storage_class,
        "headers": json.dumps(headers),
        "checksums": json.dumps(dict(checksums)),
        "metadata": json.dumps(dict(attributes.metadata)),
        "tags": json.dumps(dict(attributes.tags)),
    }


def _etag(version: Version | None) -> str | None:
    return None if version is None or version.marker else version.etag


def _mapping(text: str) -> FrozenDict:
    return EMPTY if text == "{}" else FrozenDict(json.loads(text))
