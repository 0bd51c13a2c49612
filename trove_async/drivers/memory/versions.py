"""Versions of the keys of one bucket, with the rules of S3.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html: while versioning is enabled a write
adds a version and a delete adds a marker; while it is suspended both replace the version ``null``; what
was stored before versions were kept is the version ``null`` too.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby

from sortedcontainers import SortedDict

from trove_async.driver.options import VersionListOptions
from trove_async.drivers.memory.entry import NULL_VERSION, DeleteMarker, Entry, Stamp, Version
from trove_async.errors import ObjectNotFoundError, VersionNotFoundError
from trove_async.keys import successor
from trove_async.types import VersionInfo, VersioningStatus
from trove_async.version_listing import VersionMark, VersionPage

__all__ = ["VersionedEntries"]


class VersionedEntries:
    """The objects of a bucket and, where it keeps them, their versions.

    Attributes:
        current: key to object, of the objects that a plain ``get`` finds.
        status: what becomes of an object that is replaced or deleted.
    """

    __slots__ = ("_history", "current", "status")

    def __init__(self) -> None:
        self.current: SortedDict[str, Entry] = SortedDict()
        self.status = VersioningStatus.UNVERSIONED
        # All versions of a key, oldest first, the latest included. A key that was not written since
        # versions are kept is not in it: its object in `current` is its only version.
        self._history: SortedDict[str, list[Version]] = SortedDict()

    def __bool__(self) -> bool:
        """Return whether there is an object, a version or a delete marker."""
        return bool(self.current or self._history)

    def version_id_of(self, stamp: Stamp) -> str | None:
        """Return the `ObjectInfo.version_id` of an object that is written now."""
        return stamp.version_id if self.status is VersioningStatus.ENABLED else None

    def write(self, entry: Entry) -> None:
        """Make an entry the latest version."""
        key = entry.info.key
        if self.status is not VersioningStatus.UNVERSIONED:
            self._append(key, entry)
        self.current[key] = entry

    def delete(self, key: str, stamp: Stamp) -> None:
        """Delete an object; where versions are kept this stores a delete marker."""
        if self.status is not VersioningStatus.UNVERSIONED:
            self._append(key, DeleteMarker(key, self.version_id_of(stamp) or NULL_VERSION, stamp.time))
        self.current.pop(key, None)

    def _append(self, key: str, version: Version) -> None:
        versions = self._all(key)
        if version.version_id == NULL_VERSION:
            versions = [old for old in versions if old.version_id != NULL_VERSION]
        self._history[key] = versions
        versions.append(version)

    def _all(self, key: str) -> list[Version]:
        versions = self._history.get(key)
        if versions is None:
            entry = self.current.get(key)
            versions = [] if entry is None else [entry]
        return versions

    def find(self, key: str, version_id: str | None) -> Entry:
        """Return the object, or one version of it.

        Raises:
            ObjectNotFoundError: there is no object, or it was deleted.
            VersionNotFoundError: there is no such version, or it is a delete marker.
        """
        if version_id is None:
            entry = self.current.get(key)
            if entry is None:
                raise ObjectNotFoundError(key=key)
            return entry
        version = self.find_version(key, version_id)
        if not isinstance(version, Entry):
            what = "is a delete marker" if version is not None else "does not exist"
            raise VersionNotFoundError(f"the version {version_id!r} {what}", key=key)
        return version

    def find_version(self, key: str, version_id: str) -> Version | None:
        """Return a version or delete marker; None if it does not exist."""
        return next((version for version in self._all(key) if version.version_id == version_id), None)

    def delete_version(self, key: str, version_id: str) -> None:
        """Delete a version or marker permanently; the next newest becomes the latest. A missing one is success."""
        versions = [version for version in self._all(key) if version.version_id != version_id]
        if versions:
            if key in self._history:
                self._history[key] = versions
        else:
            self._history.pop(key, None)
        latest = versions[-1] if versions else None
        if isinstance(latest, Entry):
            self.current[key] = latest
        else:
            self.current.pop(key, None)

    def versions(self, key: str) -> list[VersionInfo]:
        """Return the versions and markers of a key, newest first."""
        newest_first = reversed(self._all(key))
        return [version.version_info(place == 0) for place, version in enumerate(newest_first)]

    def page(self, options: VersionListOptions) -> VersionPage:
        """Return one page of the versions of all keys."""
        mark = None if options.cursor is None else VersionMark.decode(options.cursor)
        begin, end = max(options.prefix, mark.key if mark is not None else ""), successor(options.prefix)
        found: list[VersionInfo] = []
        for key in _merged(
            self.current.irange(begin, end, (True, False)), self._history.irange(begin, end, (True, False))
        ):
            versions = self.versions(key)
            found += versions if mark is None or key != mark.key else mark.after(versions)
            if len(found) > options.page_size:
                del found[options.page_size :]
                return VersionPage(found, VersionMark.of(found[-1]).encode())
        return VersionPage(found)

    def noncurrent(self, prefix: str) -> Iterator[VersionInfo]:
        """Yield the versions that are not the latest, newest first for each key, with the times they were replaced."""
        for key in self._history.irange(prefix, successor(prefix), inclusive=(True, False)):
            versions = self._history[key]
            for index in range(len(versions) - 2, -1, -1):
                yield _replaced(versions[index], versions[index + 1])


def _merged(*sorted_keys: Iterator[str]) -> Iterator[str]:
    """Yield the keys of several sorted sequences in order, each once."""
    return (key for key, _ in groupby(merge(*sorted_keys)))


def _replaced(version: Version, by: Version) -> VersionInfo:
    info = version.version_info(False)
    return VersionInfo(
        info.version_id, info.key, info.size, by.time, False, is_delete_marker=info.is_delete_marker, etag=info.etag
    )
