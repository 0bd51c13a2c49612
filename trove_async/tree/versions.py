"""The versions of an object that are not the latest, and the markers of its deletions.

Each key has a directory with a file for each version, named by its id, a file ``ID.deleted`` for each delete marker,
and a file ``key`` that contains the key. The modification times are their order. The latest version is the object
itself, in the bucket. If there is no object the key is deleted, whatever this directory contains.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from trove_async.tree.attributes import etag_of, time_of
from trove_async.tree.filesystem import FileSystem, Stat
from trove_async.tree.layout import Layout
from trove_async.types import VersionInfo

__all__ = ["NULL", "StoredVersion", "Versions", "new_version_id"]

NULL: Final = "null"
"""The id of a version that was stored while the bucket kept no versions."""

_DELETED: Final = ".deleted"
_KEY: Final = "key"
_MAX_KEYS: Final = 100_000
"""How many keys are cached."""


def new_version_id(mtime_ns: int) -> str:
    """Return a version id that sorts by time."""
    return f"{mtime_ns:016x}{token_hex(4)}"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version or delete marker in the directory of versions."""

    version_id: str
    path: str
    status: Stat
    is_delete_marker: bool

    def info(self, key: str, *, is_latest: bool) -> VersionInfo:
        """Return its description for users."""
        return VersionInfo(
            self.version_id,
            key,
            0 if self.is_delete_marker else self.status.st_size,
            time_of(self.status.st_mtime_ns),
            is_latest,
            self.is_delete_marker,
            None if self.is_delete_marker else etag_of(self.status),
        )


class Versions:
    """The directories of versions."""

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout
        self._keys: dict[str, str] = {}

    async def stored(self, bucket: str, key: str) -> list[StoredVersion]:
        """Return the stored versions and markers of a key, newest first."""
        directory = self._layout.versions(bucket, key)
        found: list[StoredVersion] = []
        async with aclosing(self._fs.scan(directory)) as scan:
            async for entry in scan:
                if entry.name == _KEY:
                    continue
                path = f"{directory}/{entry.name}"
                status = await self._fs.lstat(path)
                if status is not None:
                    marker = entry.name.endswith(_DELETED)
                    found.append(StoredVersion(entry.name.removesuffix(_DELETED), path, status, marker))
        return sorted(found, key=lambda version: version.status.st_mtime_ns, reverse=True)

    async def keys(self, bucket: str) -> AsyncGenerator[str, None]:
        """Yield the keys that have stored versions; a caller that may stop early uses `contextlib.aclosing`."""
        base = self._layout.all_versions(bucket)
        async with aclosing(self._fs.scan(base)) as groups:
            async for group in groups:
                async with aclosing(self._fs.scan(f"{base}/{group.name}")) as scan:
                    async for entry in scan:
                        key = await self._key_of(f"{base}/{group.name}/{entry.name}", entry.name)
                        if key is not None:
                            yield key

    async def _key_of(self, directory: str, name: str) -> str | None:
        """Return the key of a directory; the name is its hash, so the key can be cached."""
        key = self._keys.get(name)
        if key is None:
            raw = await self._fs.read_file(f"{directory}/{_KEY}")
            if raw is None:
                return None
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            key = self._keys[name] = raw.decode()
        return key

    async def keep(self, bucket: str, key: str, path: str, version_id: str) -> None:
        """Keep the file at ``path``, which is about to be replaced, by giving it a second name."""
        directory = await self._directory(bucket, key)
        target = f"{directory}/{version_id}"
        try:
            await self._fs.link(path, target)
        except FileExistsError:
            # An interrupted commit left the same file, or it is the old null version, which is replaced.
            await self._fs.unlink(target)
            await self._fs.link(path, target)
        await self._fs.sync_directory(directory)

    async def mark_deleted(self, bucket: str, key: str, version_id: str, mtime_ns: int) -> None:
        """Store a delete marker."""
        directory = await self._directory(bucket, key)
        path = f"{directory}/{version_id}{_DELETED}"
        await self._fs.unlink(path)
        handle = await self._fs.create(path)
        try:
            await self._fs.set_time(handle, mtime_ns)
            await self._fs.sync(handle)
        finally:
            await self._fs.close(handle)
        await self._fs.sync_directory(directory)

    async def tidy(self, bucket: str, key: str) -> None:
        """Remove the directory of a key without stored versions."""
        if not await self.stored(bucket, key):
            directory = self._layout.versions(bucket, key)
            await self._fs.unlink(f"{directory}/{_KEY}")
            await self._fs.rmdir(directory)

    async def _directory(self, bucket: str, key: str) -> str:
        directory = self._layout.versions(bucket, key)
        path = f"{directory}/{_KEY}"
        if await self._fs.lstat(path) is None:
            await self._fs.write_file(path, key.encode())
        return directory
