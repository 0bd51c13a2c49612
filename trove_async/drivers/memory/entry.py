"""What is stored for an object: its description, its bytes and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NamedTuple

from trove_async.driver.options import ObjectAttributes
from trove_async.types import EMPTY, FrozenDict, ObjectInfo, VersionInfo

__all__ = ["NULL_VERSION", "DeleteMarker", "Entry", "Stamp", "Version"]

NULL_VERSION: Final = "null"
"""The id of a version that was stored while the bucket kept no versions; its ``ObjectInfo.version_id`` is None."""


class Stamp(NamedTuple):
    """What distinguishes a write: its ETag, its time, and the id of its version if the bucket keeps versions."""

    etag: str
    time: datetime
    version_id: str


class Entry:
    """An object, or one version of it. Its bytes never change; its description and tags are replaced as a whole.

    Attributes:
        info: the description that put, head and get return.
        listed: the description without metadata, for listings.
        data: all of the bytes.
        tags: the object's tags.
    """

    __slots__ = ("data", "info", "listed", "tags")

    def __init__(self, info: ObjectInfo, data: bytes, tags: Mapping[str, str]) -> None:
        self.data = data
        self.tags = tags if type(tags) is FrozenDict else FrozenDict(tags)
        self._describe(info)

    def _describe(self, info: ObjectInfo) -> None:
        self.info = info
        self.listed = replace(info, metadata=EMPTY) if info.metadata else info

    def tag(self, tags: Mapping[str, str]) -> None:
        """Replace the tags."""
        self.tags = tags if type(tags) is FrozenDict else FrozenDict(tags)

    @property
    def attributes(self) -> ObjectAttributes:
        """What describes the object."""
        return ObjectAttributes.of(self.info, self.tags)

    def move_to(self, storage_class: str) -> None:
        """Change only the storage class."""
        self._describe(replace(self.info, storage_class=storage_class))

    @property
    def version_id(self) -> str:
        """The id of the version."""
        return self.info.version_id or NULL_VERSION

    @property
    def time(self) -> datetime:
        """When the version was made."""
        assert self.info.last_modified is not None
        return self.info.last_modified

    def version_info(self, is_latest: bool) -> VersionInfo:
        """Describe the entry as a version."""
        info = self.info
        return VersionInfo(self.version_id, info.key, info.size, info.last_modified, is_latest, etag=info.etag)


@dataclass(frozen=True, slots=True)
class DeleteMarker:
    """A version that marks the object as deleted."""

    key: str
    version_id: str
    time: datetime

    def version_info(self, is_latest: bool) -> VersionInfo:
        """Describe the marker as a version."""
        return VersionInfo(self.version_id, self.key, 0, self.time, is_latest, is_delete_marker=True)


Version = Entry | DeleteMarker
