"""What is stored with an object beside its bytes, and its format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from trove_async.driver.options import ObjectAttributes
from trove_async.keys import content_type_of
from trove_async.tree.filesystem import Stat
from trove_async.types import EMPTY, FrozenDict, ObjectInfo, maker_of

__all__ = ["NONE", "STUB", "Attributes", "etag_of", "info_of", "listed", "time_of", "token_for_copy"]

_make_info: Final = maker_of(ObjectInfo)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a put says about an object. A file placed by hand has the defaults.

    ``version_id`` is set in a bucket that keeps versions. ``generation`` is set where `FileSystem.uses_tokens`.
    """

    content_type: str | None = None
    metadata: Mapping[str, str] = EMPTY
    tags: Mapping[str, str] = EMPTY
    storage_class: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    checksums: Mapping[str, str] = EMPTY
    version_id: str | None = None
    generation: str | None = None

    @property
    def token(self) -> str | None:
        """What the ETag of the object begins with where `FileSystem.uses_tokens`; None for a file placed by hand."""
        return self.version_id or self.generation

    @classmethod
    def of(cls, key: str, attributes: ObjectAttributes, checksums: Mapping[str, str] = EMPTY) -> Attributes:
        """Return what is stored for these attributes; the default content type is left out."""
        content_type = None if attributes.content_type == content_type_of(key) else attributes.content_type
        values = _values_of(attributes)
        if content_type is None and not checksums and not any(values):
            return NONE
        return cls(
            content_type=content_type,
            checksums=FrozenDict(checksums) if checksums else EMPTY,
            **dict(zip(_DESCRIBED, values, strict=True)),
        )

    def normal(self) -> Attributes:
        """Return `NONE` itself if all values are defaults."""
        return NONE if self == NONE else self

    def for_key(self, source: str, key: str) -> Attributes:
        """Return the attributes for a copy under another key, with the content type of the source."""
        content_type = self.content_type or content_type_of(source)
        stored = None if content_type == content_type_of(key) else content_type
        return replace(self, content_type=stored, version_id=None, generation=None)

    def encode(self, status: Stat, key: str | None = None) -> bytes:
        """Return the attributes as JSON, for the file with this size and time; with the key for a sidecar."""
        found: dict[str, Any] = {"": [status.st_size, status.st_mtime_ns]}
        if key is not None:
            found["key"] = key
        for short, name in _FIELDS.items():
            value = getattr(self, name)
            if value:
                found[short] = value
        return _as_json(found).encode()

    @classmethod
    def parse(cls, raw: bytes, status: Stat) -> Attributes:
        """Parse attributes; return `NONE` if they belong to another generation of the file.

        Raises:
            ValueError: they were not written by this library, or are damaged.
        """
        try:
            found = json.loads(raw)
            if found.pop("") != [status.st_size, status.st_mtime_ns]:
                return NONE
            values = {_FIELDS[short]: value for short, value in found.items() if short in _FIELDS}
            for name in ("metadata", "tags", "checksums"):
                if name in values:
                    values[name] = FrozenDict(values[name])
            return cls(**values)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("not the attributes of an object") from error

    @classmethod
    def decode(cls, raw: bytes, status: Stat) -> Attributes:
        """Parse attributes; return `NONE` if they belong to another generation, or were not written by this library."""
        try:
            return cls.parse(raw, status)
        except ValueError:
            return NONE


_as_json: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

_FIELDS: Final = {
    "t": "content_type",
    "m": "metadata",
    "g": "tags",
    "c": "storage_class",
    "cc": "cache_control",
    "cd": "content_disposition",
    "ce": "content_encoding",
    "cl": "content_language",
    "k": "checksums",
    "v": "version_id",
    "n": "generation",
}

NONE: Final = Attributes()
STUB: Final = b"sidecar"
"""The extended attribute of a file whose attributes are in a sidecar; a space and the token follow if there is one."""


_DESCRIBED: Final = [f.name for f in fields(ObjectAttributes) if f.name != "content_type"]
_values_of: Final = attrgetter(*_DESCRIBED)


def etag_of(status: Stat, token: str | None = None) -> str:
    """Return the ETag of a file: its generation.

    No two existing files have the same inode, and every write by this library has its own time in nanoseconds; an
    edit by hand changes the time too. Where that does not hold, a token takes the place of inode and time.
    """
    if token is None:
        return "%x-%x-%x" % (status.st_ino, status.st_mtime_ns, status.st_size)  # noqa: UP031 - it takes half as long
    return f"{token}-{status.st_size:x}"


def token_for_copy(status: Stat) -> str:
    """Return the token with which a copy of a file that has no token keeps the file's ETag."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}"


def time_of(mtime_ns: int) -> datetime:
    """Return a file's time, exact to the microsecond; floating point would round it."""
    try:
        return _EPOCH + timedelta(0, 0, mtime_ns // 1000)  # keywords take longer
    except OverflowError:  # the time of a file can be set to any year
        return datetime.max.replace(tzinfo=UTC) if mtime_ns > 0 else datetime.min.replace(tzinfo=UTC)


def listed(key: str, status: Stat, token: str | None = None) -> ObjectInfo:
    """Return what a listing shows for an object."""
    etag, time = etag_of(status, token), time_of(status.st_mtime_ns)
    return _make_info(key, status.st_size, etag, time, None, EMPTY, None, None, None, None, None, None, EMPTY)


def info_of(key: str, status: Stat, a: Attributes, token: str | None = None) -> ObjectInfo:
    """Return the description of an object."""
    return ObjectInfo(
        key,
        status.st_size,
        etag_of(status, token),
        time_of(status.st_mtime_ns),
        a.content_type or content_type_of(key),
        a.metadata,
        a.version_id,
        a.storage_class,
        a.cache_control,
        a.content_disposition,
        a.content_encoding,
        a.content_language,
        a.checksums,
    )
