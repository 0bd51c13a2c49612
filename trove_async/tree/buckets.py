"""Buckets and their settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from trove_async.errors import (
    BackendError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    TroveError,
)
from trove_async.keys import check_bucket
from trove_async.tree.attributes import time_of
from trove_async.tree.filesystem import Directories, FileSystem, is_dir, is_file
from trove_async.tree.layout import INTERNAL, Layout
from trove_async.types import BucketInfo, LifecycleRule, VersioningStatus

__all__ = ["BucketSettings", "Buckets"]


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What is stored about a bucket; a directory made by hand has the defaults."""

    created_at: str | None = None
    versioning: VersioningStatus = VersioningStatus.UNVERSIONED
    lifecycle: tuple[LifecycleRule, ...] = ()

    def encode(self) -> bytes:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, raw: bytes) -> BucketSettings:
        """Parse settings.

        Raises:
            ValueError, TypeError, AttributeError, RecursionError: they are damaged.
        """
        fields: dict[str, Any] = json.loads(raw)
        created_at = fields.get("created_at")
        if created_at is not None and datetime.fromisoformat(created_at).tzinfo is None:
            raise ValueError("the time has no zone")
        return cls(
            created_at=created_at,
            versioning=VersioningStatus(fields.get("versioning", "unversioned")),
            lifecycle=tuple(_rule(rule) for rule in fields.get("lifecycle", ())),
        )


_DEFAULT: Final = BucketSettings()
_UNSETTLED: Final = (-1, -1)
"""The generation of no file."""


class Buckets:
    """The buckets of a tree: the directories of its root."""

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout
        # Keyed by the generation of the file, so that changes by another process are seen.
        self._known: dict[str, tuple[tuple[int, int], BucketSettings]] = {}

    async def require(self, bucket: str) -> None:
        """Check that a bucket exists.

        Raises:
            BucketNotFoundError: it does not exist.
        """
        if not is_dir(await self._fs.lstat(self._layout.bucket(bucket))):
            raise BucketNotFoundError(f"the bucket {bucket!r} does not exist", bucket=bucket)

    def expected(self, bucket: str) -> BucketSettings:
        """Return what the settings of a bucket were when they were last read; they may have changed since."""
        known = self._known.get(bucket)
        return _DEFAULT if known is None else known[1]

    async def settings(self, bucket: str) -> BucketSettings:
        """Return a bucket's settings, without a check that the bucket exists.

        Under a lock of the store they stay the same until it is released, since they change only under all locks.

        Raises:
            BackendError: the file that contains them is damaged.
        """
        path = self._layout.settings(bucket)
        status = await self._fs.lstat(path)
        if status is None:
            self._known.pop(bucket, None)
            return _DEFAULT
        generation = (status.st_ino, status.st_mtime_ns)
        known = self._known.get(bucket)
        if known is not None and known[0] == generation:
            return known[1]
        if not is_file(status):
            raise _damaged(path)
        raw = await self._fs.read_file(path)
        settings = _DEFAULT if raw is None else _decoded(raw, path)
        # A file that may change again within the same tick, and get an inode that was used before, is read again.
        self._known[bucket] = (generation if self._fs.settled(status.st_mtime_ns) else _UNSETTLED, settings)
        return settings

    async def required_settings(self, bucket: str) -> BucketSettings:
        """Return the settings of a bucket that must exist."""
        await self.require(bucket)
        return await self.settings(bucket)

    async def change(self, bucket: str, change: Callable[[BucketSettings], BucketSettings]) -> None:
        """Change a bucket's settings, which no commit may depend on meanwhile."""
        async with self._fs.lock_bucket(bucket):
            settings = await self.required_settings(bucket)
            changed = change(settings)
            if changed is not settings:
                await self._store(bucket, changed)

    async def set_lifecycle(self, bucket: str, rules: Sequence[LifecycleRule]) -> None:
        """Replace the bucket's lifecycle rules."""
        await self.change(bucket, lambda settings: replace(settings, lifecycle=tuple(rules)))

    async def _store(self, bucket: str, settings: BucketSettings) -> None:
        await self._fs.write_file(self._layout.settings(bucket), settings.encode())

    async def create(self, bucket: str) -> None:
        """Make a bucket."""
        async with self._fs.lock_bucket(bucket):
            path = self._layout.bucket(bucket)
            if await self._fs.lstat(path) is None:
                await self._remove_records(bucket)  # a deletion of this name may have been interrupted
            try:
                await self._fs.mkdir(path)
            except FileExistsError:
                raise BucketAlreadyExistsError(f"the bucket {bucket!r} already exists", bucket=bucket) from None
            try:
                await self._store(bucket, BucketSettings(created_at=datetime.now(UTC).isoformat()))
            except BaseException:
                await self._fs.rmdir(path)
                raise

    async def delete(self, bucket: str) -> None:
        """Delete an empty bucket with its open uploads and its records."""
        async with self._fs.lock_bucket(bucket):
            await self.require(bucket)
            if await self._contains_files(self._layout.all_versions(bucket)):
                raise BucketNotEmptyError(
                    f"the bucket {bucket!r} contains versions; empty_bucket with versions=True deletes them",
                    bucket=bucket,
                )
            if not await self._remove_directories(self._layout.bucket(bucket)):
                raise BucketNotEmptyError(
                    f"the bucket {bucket!r} is not empty; empty_bucket deletes its objects, remove other files by hand",
                    bucket=bucket,
                )
            await self._remove_records(bucket)

    async def _remove_records(self, bucket: str) -> None:
        await self._fs.unlink(self._layout.settings(bucket))
        for path in (
            self._layout.uploads(bucket),
            self._layout.metadata(bucket),
            self._layout.all_versions(bucket),
        ):
            await remove_all(self._fs, path)

    async def _contains_files(self, path: str) -> bool:
        directories: list[str] = []
        async with aclosing(self._fs.scan(path)) as scan:
            async for entry in scan:
                if entry.is_dir:
                    directories.append(f"{path}/{entry.name}")
                elif entry.name != "key":
                    return True
        # Only one directory is open at a time, however deep the tree is.
        for directory in directories:
            if await self._contains_files(directory):
                return True
        return False

    async def _remove_directories(self, path: str) -> bool:
        """Remove a directory that contains only empty directories; return whether it is gone."""
        if await self._fs.rmdir(path):
            return True
        if await self._contains_entries(path):
            return False
        names = [entry.name async for entry in self._fs.scan(path)]
        for name in names:
            await self._remove_directories(f"{path}/{name}")
        return await self._fs.rmdir(path)

    async def _contains_entries(self, path: str) -> bool:
        directories: list[str] = []
        async with aclosing(self._fs.scan(path)) as scan:
            async for entry in scan:
                if not entry.is_dir:
                    return True
                directories.append(f"{path}/{entry.name}")
        for directory in directories:
            if await self._contains_entries(directory):
                return True
        return False

    async def list(self) -> Sequence[BucketInfo]:
        """Return the buckets, sorted by name."""
        found: list[BucketInfo] = []
        async with aclosing(self._fs.scan(self._layout.root)) as scan:
            async for entry in scan:
                if entry.is_dir and _is_bucket(entry.name):
                    created_at = await self._created_at(entry.name)
                    if created_at is not None:
                        found.append(BucketInfo(entry.name, created_at))
        return sorted(found, key=lambda info: info.name)

    async def _created_at(self, bucket: str) -> datetime | None:
        with suppress(BackendError):  # one bucket with damaged settings must not hide the others
            settings = await self.settings(bucket)
            if settings.created_at is not None:
                return datetime.fromisoformat(settings.created_at)
        status = await self._fs.lstat(self._layout.bucket(bucket))
        return None if status is None else time_of(status.st_mtime_ns)


def _decoded(raw: bytes, path: str) -> BucketSettings:
    try:
        return BucketSettings.decode(raw)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error


def _damaged(path: str) -> BackendError:
    return BackendError(
        f"{path!r}, which contains the settings of a bucket, is damaged; restore it, or remove it: "
        "then the bucket keeps no versions and has no lifecycle rules until they are set again"
    )


def _rule(fields: dict[str, Any]) -> LifecycleRule:
    rule = LifecycleRule(**fields)
    for name, value in asdict(rule).items():
        if name.endswith("_days") and value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} is {value!r}")
    if not isinstance(rule.id, str) or not isinstance(rule.prefix, str) or not isinstance(rule.enabled, bool):
        raise TypeError("a field of a rule has a wrong type")
    return rule


def _is_bucket(name: str) -> bool:
    if name == INTERNAL:
        return False
    try:
        check_bucket(name)
    except (TroveError, UnicodeEncodeError):
        return False
    return True


async def remove_all(fs: Directories, path: str) -> None:
    """Remove a directory and everything in it; a missing one is success."""
    entries = [entry async for entry in fs.scan(path)]
    for entry in entries:
        below = f"{path}/{entry.name}"
        if entry.is_dir:
            await remove_all(fs, below)
        else:
            await fs.unlink(below)
    await fs.rmdir(path)


async def make_directories(fs: FileSystem, path: str) -> None:
    """Make a directory and its missing parents."""
    if await fs.lstat(path) is None:
        await make_directories(fs, path.rpartition("/")[0])
        with suppress(FileExistsError):
            await fs.mkdir(path)
