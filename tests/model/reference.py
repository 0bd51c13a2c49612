"""A store made of plain lists and dicts, with which each driver is compared.

Versions follow S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html): while a bucket keeps
them, a write adds a version and a delete adds a marker; while that is suspended, both take the place of the
version ``null``; what was stored before versions were kept is the version ``null``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trove_async import ObjectInfo, Prefix, VersioningStatus

NULL = "null"


@dataclass(frozen=True)
class Stored:
    """An object as it was put, or a delete marker (without data)."""

    version_id: str
    data: bytes | None
    etag: str | None = None
    content_type: str = "application/octet-stream"
    metadata: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def is_marker(self) -> bool:
        return self.data is None


@dataclass
class ReferenceBucket:
    """A bucket: the versions of each key, oldest first."""

    versions: dict[str, list[Stored]] = field(default_factory=dict)
    status: VersioningStatus = VersioningStatus.UNVERSIONED

    @property
    def empty(self) -> bool:
        return not self.versions

    def current(self, key: str) -> Stored | None:
        """Return the object that a plain ``get`` finds."""
        versions = self.versions.get(key)
        return versions[-1] if versions and not versions[-1].is_marker else None

    def objects(self) -> dict[str, Stored]:
        found = {key: self.current(key) for key in sorted(self.versions)}
        return {key: stored for key, stored in found.items() if stored is not None}

    def version(self, key: str, version_id: str) -> Stored | None:
        return next((stored for stored in self.versions.get(key, []) if stored.version_id == version_id), None)

    def write(self, key: str, stored: Stored) -> None:
        """Store an object with the version id that the driver assigned."""
        self._append(key, stored)

    def delete(self, key: str, marker_id: str) -> None:
        """Delete an object; ``marker_id`` is the id of the marker if versions are kept."""
        if self.status is VersioningStatus.UNVERSIONED:
            self.versions.pop(key, None)
        else:
            self._append(key, Stored(marker_id, None))

    def _append(self, key: str, stored: Stored) -> None:
        versions = self.versions.setdefault(key, [])
        if stored.version_id == NULL:
            versions[:] = [old for old in versions if old.version_id != NULL]
        versions.append(stored)

    def delete_version(self, key: str, version_id: str) -> None:
        left = [stored for stored in self.versions.get(key, []) if stored.version_id != version_id]
        if left:
            self.versions[key] = left
        else:
            self.versions.pop(key, None)

    def set_tags(self, key: str, tags: dict[str, str]) -> None:
        self.versions[key][-1] = replace(self.versions[key][-1], tags=tuple(sorted(tags.items())))

    def listing(self, prefix: str, delimiter: str | None, start_after: str | None) -> list[str]:
        """Return the names of a listing; those of groups end in the delimiter."""
        names = set()
        for key in self.objects():
            if not key.startswith(prefix) or (start_after is not None and key <= start_after):
                continue
            at = -1 if delimiter is None else key.find(delimiter, len(prefix))
            names.add((key, False) if at < 0 or delimiter is None else (key[: at + len(delimiter)], True))
        return [f"{name} (group)" if group else name for name, group in sorted(names)]


def name_of(item: ObjectInfo | Prefix) -> str:
    """Return the name of an item as `ReferenceBucket.listing` returns it."""
    return f"{item.key} (group)" if isinstance(item, Prefix) else item.key
