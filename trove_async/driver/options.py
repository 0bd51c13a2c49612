"""The options of each operation: one frozen dataclass per operation.

Users give keyword arguments to `Trove`; drivers get these, validated. A new field has a default, so that
it breaks no driver. A driver that cannot honour a field says so in `Driver.features`, and the portable
type refuses the call before the driver sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.checksums import Checksum
from trove_async.dsn import DSN, check_no_secret
from trove_async.keys import DEFAULT_CONTENT_TYPE
from trove_async.ranges import ByteRange
from trove_async.types import EMPTY, EventType, FrozenDict, ObjectInfo

__all__ = [
    "CONTENT_HEADERS",
    "BucketOptions",
    "CompleteOptions",
    "CopyOptions",
    "DeleteOptions",
    "GetOptions",
    "HeadOptions",
    "ListOptions",
    "ObjectAttributes",
    "OpenOptions",
    "PresignOptions",
    "PresignPostOptions",
    "PutOptions",
    "VersionListOptions",
    "WatchOptions",
    "without_range",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOptions:
    """How a driver is opened.

    Attributes:
        settings: keyword arguments of `trove_async.open` for the driver, which reads them and the
            parameters of the DSN with `SettingsParser`.
        cleanup_timeout: the time limit in seconds of clean-up after a failure or cancellation.
    """

    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    cleanup_timeout: float = CLEANUP_TIMEOUT

    def __reduce__(self) -> tuple[Any, ...]:
        check_no_secret(DSN(""), self.settings)
        return partial(OpenOptions, settings=self.settings, cleanup_timeout=self.cleanup_timeout), ()


CONTENT_HEADERS: Final = (
    ("cache-control", "cache_control"),
    ("content-disposition", "content_disposition"),
    ("content-encoding", "content_encoding"),
    ("content-language", "content_language"),
)
"""The HTTP headers that are stored with an object beside its content type, and the fields that hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectAttributes:
    """What describes an object: all that is stored with it except its bytes and their checksums.

    Attributes:
        content_type: always set: the user's, or the one that belongs to the key's extension.
        metadata: the user's own; names in lower case.
        tags: empty for none.
        storage_class: None for the backend's default.
        cache_control, content_disposition, content_encoding, content_language: the headers in `CONTENT_HEADERS`.
    """

    content_type: str = DEFAULT_CONTENT_TYPE
    metadata: Mapping[str, str] = EMPTY
    tags: Mapping[str, str] = EMPTY
    storage_class: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None

    @classmethod
    def of(cls, info: ObjectInfo, tags: Mapping[str, str] = EMPTY) -> ObjectAttributes:
        """Return the attributes of an existing object; its tags are not part of its `ObjectInfo`."""
        return cls(
            content_type=info.content_type or DEFAULT_CONTENT_TYPE,
            metadata=info.metadata,
            tags=tags if type(tags) is FrozenDict else FrozenDict(tags),
            storage_class=info.storage_class,
            **{name: getattr(info, name) for _, name in CONTENT_HEADERS},
        )

    def with_storage_class(self, default: str | None) -> ObjectAttributes:
        """Return the attributes with a storage class: their own, or else the default."""
        return self if default is None or self.storage_class is not None else replace(self, storage_class=default)

    def info(
        self,
        key: str,
        size: int,
        etag: str,
        last_modified: datetime | None = None,
        version_id: str | None = None,
        checksums: Mapping[str, str] = EMPTY,
    ) -> ObjectInfo:
        """Return the description of an object that has these attributes."""
        return ObjectInfo(
            key,
            size,
            etag,
            last_modified,
            self.content_type,
            self.metadata if type(self.metadata) is FrozenDict else FrozenDict(self.metadata),
            version_id,
            self.storage_class,
            self.cache_control,
            self.content_disposition,
            self.content_encoding,
            self.content_language,
            checksums if type(checksums) is FrozenDict else FrozenDict(checksums),
        )

    def content_headers(self, prefix: str = "") -> list[tuple[str, str]]:
        """Return the content type and the `CONTENT_HEADERS` that are set, each name behind ``prefix``."""
        headers = [(f"{prefix}content-type", self.content_type)]
        for name, attribute in CONTENT_HEADERS:
            value = getattr(self, attribute)
            if value is not None:
                headers.append((prefix + name, value))
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOptions:
    """How an object is written.

    Attributes:
        attributes: what is stored with the object.
        if_match: replace only the object that has this ETag.
        if_none_match: ``"*"`` creates an object and never replaces one; an ETag replaces any object
            but that one.
        checksum: computed over the body, stored, and sent where the backend verifies it;
            the `Body` compares it with the expected value.
    """

    attributes: ObjectAttributes = ObjectAttributes()
    if_match: str | None = None
    if_none_match: str | None = None
    checksum: Checksum | None = None

    def dump(self) -> dict[str, Any]:
        """Return the attributes and the checksum as JSON can hold them, for an upload that outlives the process."""
        return {**asdict(self.attributes), "checksum": None if self.checksum is None else str(self.checksum)}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> PutOptions:
        """Return the options that `dump` has written; the conditions belong to the completion of the upload."""
        found = {f.name: dumped[f.name] for f in fields(ObjectAttributes) if f.name in dumped}
        for name in ("metadata", "tags"):
            found[name] = FrozenDict(found[name])
        checksum = dumped["checksum"]
        return cls(attributes=ObjectAttributes(**found), checksum=None if checksum is None else Checksum.of(checksum))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """Which version of an object is described, and under which conditions.

    Attributes:
        version_id: None for the latest.
        if_match: one ETag, or ``"*"`` for any object.
        if_none_match: one ETag, or ``"*"``; raises `NotModifiedError` if it matches.
        if_modified_since, if_unmodified_since: aware; compared in whole seconds, as RFC 9110 does.
            Each is ignored if the corresponding ETag condition is present (RFC 9110, 13.2.2).
    """

    version_id: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetOptions(HeadOptions):
    """How an object is read: the fields of `HeadOptions`, and these.

    Attributes:
        range: None for the whole object.
        part_of: the method of the store for which the range is read, beside others of the same object, as ``download``;
            None for a read of its own. Drivers ignore it.
    """

    range: ByteRange | None = None
    part_of: str | None = None


def without_range(options: HeadOptions) -> HeadOptions:
    """Return what a head asks that stands for a get: the same version and the same conditions."""
    return HeadOptions(**{field.name: getattr(options, field.name) for field in fields(HeadOptions)})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """Which version is deleted, and under which condition.

    Attributes:
        version_id: delete this version permanently; None deletes the object, which leaves a
            delete marker if the bucket keeps versions.
        if_match: delete only the object that has this ETag.
    """

    version_id: str | None = None
    if_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """How an object is copied.

    Attributes:
        replace: None keeps the attributes and checksums of the source; otherwise the copy has these
            attributes, as after a put.
        source_version_id: copy this version of the source.
        source_if_match: copy only the source that has this ETag.
        if_match, if_none_match: conditions on the destination, as in `PutOptions`.
    """

    replace: ObjectAttributes | None = None
    source_version_id: str | None = None
    source_if_match: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions:
    """Which page of which listing.

    Attributes:
        prefix: only keys that begin with it; a string, not a path.
        delimiter: keys that contain it after the prefix are grouped up to its first occurrence.
        start_after: only keys that sort after it. Groups are made of these keys, so a group itself can
            sort before it.
        page_size: the maximum number of items; a backend may return fewer.
        cursor: from the `ListPage.cursor` of the previous page; None for the first page.
    """

    prefix: str = ""
    delimiter: str | None = None
    start_after: str | None = None
    page_size: int = 1000
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionListOptions:
    """Which page of which listing of versions.

    Attributes:
        prefix: only keys that begin with it; a string, not a path.
        page_size: how many versions to return; a hint. A backend may return fewer, or more if it lists all versions of
            a key at once.
        cursor: from the `VersionPage.cursor` of the previous page; None for the first page.
    """

    prefix: str = ""
    page_size: int = 1000
    cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketOptions:
    """How a bucket is created.

    Attributes:
        region: None for the driver's default. Backends without regions ignore it.
    """

    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteOptions:
    """The conditions under which a multipart upload becomes an object; as in `PutOptions`."""

    if_match: str | None = None
    if_none_match: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignOptions:
    """What a signed URL allows.

    Attributes:
        expires: seconds from now.
        version_id: read this version.
        content_type: for a put: the request must carry it, and the object gets it.
        content_length: for a put: the body must have this many bytes.
        response_content_type, response_content_disposition: for a get: sent instead of the stored
            values.
    """

    expires: int = 3600
    version_id: str | None = None
    content_type: str | None = None
    content_length: int | None = None
    response_content_type: str | None = None
    response_content_disposition: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresignPostOptions:
    """What a signed form allows.

    Attributes:
        expires: seconds from now.
        min_size, max_size: the allowed size of the file in bytes.
        content_type: the form must carry it, and the object gets it; None lets the client choose.
    """

    max_size: int
    min_size: int = 0
    expires: int = 3600
    content_type: str | None = None


def _no_one_waits() -> None:
    """Do nothing: nobody waits for the subscription."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """Which events, and how.

    Attributes:
        prefix: only of keys that begin with it.
        events: only of these types.
        buffer_size: the number of events that wait for the consumer before `WatchOverflowError`.
        poll_interval: seconds between listings, if the driver polls.
        resume_token: continue after the event that had it, if ``features.watch_resume`` is True.
        on_ready: the driver calls it once, when it will see every later change.
    """

    prefix: str = ""
    events: frozenset[EventType] = frozenset(EventType)
    buffer_size: int = 10_000
    poll_interval: float = 5.0
    resume_token: str | None = None
    on_ready: Callable[[], object] = _no_one_waits
