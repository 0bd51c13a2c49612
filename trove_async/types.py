"""The values that the library returns: frozen, slotted, safe to share and to pickle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn, SupportsIndex, TypeVar, cast

from trove_async.errors import TroveError

__all__ = [
    "EMPTY",
    "BucketInfo",
    "DeleteResult",
    "EventType",
    "FrozenDict",
    "LifecycleReport",
    "LifecycleRule",
    "ObjectEvent",
    "ObjectInfo",
    "ObjectRef",
    "PartInfo",
    "Prefix",
    "PresignedPost",
    "UploadInfo",
    "VersionInfo",
    "VersioningStatus",
    "maker_of",
]

T = TypeVar("T")


class FrozenDict(dict[str, str]):
    """An immutable dict of text, so that results can be shared without copies.

    It is a dict: it compares, pickles and serialises to JSON like one.
    """

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("this mapping is immutable; copy it with dict()")

    __setitem__ = __delitem__ = _refuse
    __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


EMPTY = FrozenDict()
"""The mapping of an object that has no metadata; shared."""


def maker_of(cls: type[T]) -> Callable[..., T]:
    """Return a function that makes instances of a frozen dataclass with slots from the values of all its fields.

    The constructor of such a class takes five times as long: it sets each field by way of `object.__setattr__`.
    """

    def freeze(made: Any) -> None:
        made.__class__ = cls  # which is possible since both have the same slots

    names = [field.name for field in fields(cast(Any, cls))]
    return make_dataclass(cls.__name__, names, namespace={"__post_init__": freeze}, slots=True, repr=False, eq=False)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The description of an object.

    Attributes:
        key: the object's key.
        size: bytes; of the whole object, also if a range of it is read.
        etag: opaque and without quotes; another content has another ETag.
        last_modified: aware, in UTC, in the backend's precision. None only from a
            ``put`` to a service that does not return it.
        content_type: media type. None in listings of backends that do not list it.
        metadata: the user's own, keys in lower case. Empty in listings.
        version_id: None if the bucket does not keep versions.
        storage_class: None if the object is in the default class.
        cache_control, content_disposition, content_encoding, content_language:
            the headers of RFC 9110 and RFC 9111 that were stored with the object.
        checksums: algorithm to lower-case hex digest, of the checksum that the put asked for.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = EMPTY
    version_id: str | None = None
    storage_class: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    checksums: Mapping[str, str] = EMPTY


@dataclass(frozen=True, slots=True)
class Prefix:
    """A group of keys that a listing with a delimiter shows as one item.

    Attributes:
        prefix: what the keys begin with, the delimiter included.
    """

    prefix: str

    @property
    def key(self) -> str:
        """The prefix, so that all items of a mixed listing have a ``key``."""
        return self.prefix


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """A bucket: its name and when it was created (None if the backend does not know)."""

    name: str
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part of a multipart upload: its number from 1, its ETag and its size in bytes."""

    number: int
    etag: str
    size: int


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """An open multipart upload: its id, its key and when it was begun."""

    upload_id: str
    key: str
    initiated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of an object, or a delete marker that hides it.

    Attributes:
        version_id: names the version; ``null`` for an object that was stored before the bucket kept versions.
        key: the object's key.
        size: bytes; 0 for a delete marker.
        last_modified: when the version was made.
        is_latest: True for the version that a plain ``get`` answers from.
        is_delete_marker: True if the version marks the deletion of the object.
        etag: of the version; None for a delete marker.
    """

    version_id: str
    key: str
    size: int
    last_modified: datetime | None
    is_latest: bool
    is_delete_marker: bool = False
    etag: str | None = None


class VersioningStatus(StrEnum):
    """Whether a bucket keeps the versions that a put or delete replaces."""

    UNVERSIONED = "unversioned"
    ENABLED = "enabled"
    SUSPENDED = "suspended"


class EventType(StrEnum):
    """What happened to an object."""

    CREATED = "object.created"
    UPDATED = "object.updated"
    DELETED = "object.deleted"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """A change of one object.

    Attributes:
        type: what happened.
        bucket, key: where.
        size, etag, version_id: of the object after the change, if the backend returns them;
            None after a deletion.
        time: when the change took place or was seen, aware and in UTC.
        resume_token: continue after this event with ``watch(resume_token=…)``,
            if ``features.watch_resume`` is True.
    """

    type: EventType
    bucket: str
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    time: datetime | None = None
    resume_token: str | None = None


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """A rule that expires or moves a bucket's objects by their age; days are whole days since the last change.

    Attributes:
        id: names the rule within the bucket.
        prefix: the rule applies to keys that begin with it; the empty prefix means all keys.
        enabled: False keeps the rule without applying it.
        expiration_days: delete objects of this age.
        transition_days, transition_storage: move objects of this age to that storage class.
        noncurrent_expiration_days: delete versions this long after they were replaced.
        abort_incomplete_days: abort multipart uploads this long after their start.
    """

    id: str
    prefix: str = ""
    enabled: bool = True
    expiration_days: int | None = None
    transition_days: int | None = None
    transition_storage: str | None = None
    noncurrent_expiration_days: int | None = None
    abort_incomplete_days: int | None = None


@dataclass(frozen=True, slots=True)
class LifecycleReport:
    """The numbers of objects, versions and uploads that one application of the lifecycle rules changed."""

    expired: int = 0
    transitioned: int = 0
    noncurrent_expired: int = 0
    uploads_aborted: int = 0

    def __add__(self, other: LifecycleReport) -> LifecycleReport:
        return LifecycleReport(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The name of an object: its bucket, its key, and optionally a version."""

    bucket: str
    key: str
    version_id: str | None = None

    def __iter__(self) -> Iterator[str]:
        yield self.bucket
        yield self.key


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """The outcome for one object or version of a bulk delete.

    Attributes:
        key: of the object.
        error: None if the object or version is gone.
        version_id: of the version that was to be deleted; None for an object.
    """

    key: str
    error: TroveError | None = None
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class PresignedPost:
    """A signed form for a browser: its target URL and the fields that precede the file."""

    url: str
    fields: Mapping[str, str] = field(default_factory=dict)
