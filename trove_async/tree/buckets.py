"""Buckets and their settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from trove_async.errors import BucketAlreadyExistsError, BucketNotEmptyError, BucketNotFoundError, TroveError
from trove_async.keys import check_bucket
from trove_async.tree.attributes import time_of
from trove_async.tree.filesystem import FileSystem, is_dir
from trove_async.tree.layout import OURS, Layout
from trove_async.types import BucketInfo, LifecycleRule, VersioningStatus

__all__ = ["BucketSettings", "Buckets"]


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What is stored of a bucket; the defaults hold for a directory that was made by hand."""

    created_at: str | None = None
    versioning: VersioningStatus = VersioningStatus.UNVERSIONED
    lifecycle: tuple[LifecycleRule, ...] = ()

    def encode(self) -> bytes:
        """Write the settings down."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, raw: bytes) -> BucketSettings:
        """Read settings."""
        fields: dict[str, Any] = json.loads(raw)
        return cls(
            created_at=fields.get("created_at"),
            versioning=VersioningStatus(fields.get("versioning", "unversioned")),
            lifecycle=tuple(LifecycleRule(**rule) for rule in fields.get("lifecycle", ())),
        )


_DEFAULT = BucketSettings()


class Buckets:
    """The buckets of a tree: the directories of its root."""

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout
        # By the generation of the file, so that what another process changes is seen.
        self._known: dict[str, tuple[tuple[int, int], BucketSettings]] = {}

    async def require(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not.
        """
        if not is_dir(await self._fs.lstat(self._layout.bucket(bucket))):
            raise BucketNotFoundError(f"the bucket {bucket!r} does not exist", bucket=bucket)

    async def settings(self, bucket: str) -> BucketSettings:
        """Return a bucket's settings; whether it exists is not looked at."""
        path = self._layout.settings(bucket)
        status = await self._fs.lstat(path)
        if status is None:
            return _DEFAULT
        generation = (status.st_ino, status.st_mtime_ns)
        known = self._known.get(bucket)
        if known is not None and known[0] == generation:
            return known[1]
        raw = await self._fs.read_file(path)
        settings = _DEFAULT if raw is None else BucketSettings.decode(raw)
        self._known[bucket] = (generation, settings)
        return settings

    async def required_settings(self, bucket: str) -> BucketSettings:
        """Return the settings of a bucket that must exist."""
        await self.require(bucket)
        return await self.settings(bucket)

    async def set_versioning(self, bucket: str, status: VersioningStatus) -> None:
        """Change what the bucket does with what is replaced; one that never kept versions has none to suspend."""
        async with self._fs.lock(self._layout.stripe(bucket, "")):
            settings = await self.required_settings(bucket)
            if status is VersioningStatus.SUSPENDED and settings.versioning is VersioningStatus.UNVERSIONED:
                return
            await self._store(bucket, replace(settings, versioning=status))

    async def _store(self, bucket: str, settings: BucketSettings) -> None:
        await self._fs.write_file(self._layout.settings(bucket), settings.encode())

    async def change(self, bucket: str, **changes: Any) -> None:
        """Change some of a bucket's settings."""
        async with self._fs.lock(self._layout.stripe(bucket, "")):
            await self._store(bucket, replace(await self.required_settings(bucket), **changes))

    async def create(self, bucket: str) -> None:
        """Make a bucket."""
        async with self._fs.lock(self._layout.stripe(bucket, "")):
            path = self._layout.bucket(bucket)
            if await self._fs.lstat(path) is None:
                await self._forget(bucket)  # a deletion of one of that name may have been cut short
            try:
                await self._fs.mkdir(path)
            except FileExistsError:
                raise BucketAlreadyExistsError(f"the bucket {bucket!r} exists already", bucket=bucket) from None
            try:
                await self._store(bucket, BucketSettings(created_at=datetime.now(UTC).isoformat()))
            except BaseException:
                await self._fs.rmdir(path)
                raise

    async def delete(self, bucket: str) -> None:
        """Delete an empty bucket, and what is left of uploads to it."""
        async with self._fs.lock(self._layout.stripe(bucket, "")):
            await self.require(bucket)
            if await self._holds_files(self._layout.all_versions(bucket)):
                raise BucketNotEmptyError(f"the bucket {bucket!r} holds versions", bucket=bucket)
            if not await self._remove_directories(self._layout.bucket(bucket)):
                raise BucketNotEmptyError(f"the bucket {bucket!r} is not empty", bucket=bucket)
            await self._forget(bucket)

    async def _forget(self, bucket: str) -> None:
        await self._fs.unlink(self._layout.settings(bucket))
        for path in (
            self._layout.uploads(bucket),
            self._layout.metadata(bucket),
            self._layout.all_versions(bucket),
        ):
            await remove_all(self._fs, path)

    async def _holds_files(self, path: str) -> bool:
        directories: list[str] = []
        async with aclosing(self._fs.scan(path)) as scan:
            async for entry in scan:
                if entry.is_dir:
                    directories.append(f"{path}/{entry.name}")
                elif entry.name != "key":
                    return True
        # One directory is open at a time, however deep they lie.
        for directory in directories:
            if await self._holds_files(directory):
                return True
        return False

    async def _remove_directories(self, path: str) -> bool:
        """Remove a directory that holds nothing but empty directories; tell whether it is gone."""
        if await self._fs.rmdir(path):
            return True
        if await self._holds_anything(path):
            return False
        names = [entry.name async for entry in self._fs.scan(path)]
        for name in names:
            await self._remove_directories(f"{path}/{name}")
        return await self._fs.rmdir(path)

    async def _holds_anything(self, path: str) -> bool:
        directories: list[str] = []
        async with aclosing(self._fs.scan(path)) as scan:
            async for entry in scan:
                if not entry.is_dir:
                    return True
                directories.append(f"{path}/{entry.name}")
        for directory in directories:
            if await self._holds_anything(directory):
                return True
        return False

    async def list(self) -> Sequence[BucketInfo]:
        """Return the buckets in the order of their names."""
        found: list[BucketInfo] = []
        async with aclosing(self._fs.scan(self._layout.root)) as scan:
            async for entry in scan:
                if entry.is_dir and _is_bucket(entry.name):
                    created_at = await self._created_at(entry.name)
                    if created_at is not None:
                        found.append(BucketInfo(entry.name, created_at))
        return sorted(found, key=lambda info: info.name)

    async def _created_at(self, bucket: str) -> datetime | None:
        settings = await self.settings(bucket)
        if settings.created_at is not None:
            return datetime.fromisoformat(settings.created_at)
        status = await self._fs.lstat(self._layout.bucket(bucket))
        return None if status is None else time_of(status.st_mtime_ns)


def _is_bucket(name: str) -> bool:
    if name == OURS:
        return False
    try:
        check_bucket(name)
    except (TroveError, UnicodeEncodeError):
        return False
    return True


async def remove_all(fs: FileSystem, path: str) -> None:
    """Remove a directory of ours and all that is in it; one that is missing is success."""
    entries = [entry async for entry in fs.scan(path)]
    for entry in entries:
        below = f"{path}/{entry.name}"
        if entry.is_dir:
            await remove_all(fs, below)
        else:
            await fs.unlink(below)
    await fs.rmdir(path)


async def make_directories(fs: FileSystem, path: str) -> None:
    """Make a directory of ours and those above it that are missing."""
    if await fs.lstat(path) is None:
        await make_directories(fs, path.rpartition("/")[0])
        with suppress(FileExistsError):
            await fs.mkdir(path)
