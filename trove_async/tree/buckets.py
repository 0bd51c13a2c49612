"""Buckets and their settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final, NoReturn

from trove_async.errors import (
    BackendError,
    BucketAlreadyExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    TroveError,
)
from trove_async.keys import check_bucket
from trove_async.tree.attributes import time_of
from trove_async.tree.directories import contains_files, make_directories, refusal_of, remove_all, remove_empty
from trove_async.tree.filesystem import FileSystem, is_dir, is_file
from trove_async.tree.layout import INTERNAL, Layout
from trove_async.types import BucketInfo, LifecycleRule, VersioningStatus

__all__ = ["BucketSettings", "Buckets"]


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """What is stored about a bucket; a directory made by hand has the defaults.

    Attributes:
        deleting: where the directory of the bucket is once it is deleted; see `Layout.deleted`. Until it is there, the
            bucket exists.
    """

    created_at: str | None = None
    versioning: VersioningStatus = VersioningStatus.UNVERSIONED
    lifecycle: tuple[LifecycleRule, ...] = ()
    deleting: str | None = None

    def encode(self) -> bytes:
        """Return the settings as JSON."""
        fields = asdict(self)
        if self.deleting is None:
            del fields["deleting"]
        return json.dumps(fields, indent=1).encode()

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
            deleting=_checked(fields.get("deleting")),
        )


_DEFAULT: Final = BucketSettings()
_NAME: Final = re.compile(r"[0-9a-f]+")
_PREPARED: Final = ".next"
_PROOF: Final = ".gone"
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
            settings = known[1]
        else:
            if not is_file(status):
                raise _damaged(path)
            raw = await self._fs.read_file(path)
            settings = _DEFAULT if raw is None else _decoded(raw, path)
            # A file that may change again within the same tick, and get an inode that was used before, is read again.
            self._known[bucket] = (generation if self._fs.settled(status.st_mtime_ns) else _UNSETTLED, settings)
        return settings if settings.deleting is None else await self._surviving(bucket, settings)

    async def _surviving(self, bucket: str, settings: BucketSettings) -> BucketSettings:
        """Return the settings of a bucket whose deletion is under way or was interrupted."""
        assert settings.deleting is not None
        if await self._is_deleted(bucket, settings.deleting):
            return _DEFAULT  # what has the name of the bucket now was made after it
        return replace(settings, deleting=None)

    async def required_settings(self, bucket: str) -> BucketSettings:
        """Return the settings of a bucket that must exist."""
        await self.require(bucket)
        return await self.settings(bucket)

    async def change(self, bucket: str, change: Callable[[BucketSettings], BucketSettings]) -> None:
        """Change a bucket's settings, which no commit may depend on meanwhile."""
        async with self._fs.lock_bucket(bucket):
            await self._settle(bucket)
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
            await self._settle(bucket)
            path = self._layout.bucket(bucket)
            if await self._fs.lstat(path) is None:
                await self._remove_records(bucket)  # the bucket may have been removed by hand
            try:
                await self._fs.mkdir(path)
            except FileExistsError:
                raise BucketAlreadyExistsError(f"the bucket {bucket!r} already exists", bucket=bucket) from None
            try:
                await self._store(bucket, BucketSettings(created_at=datetime.now(UTC).isoformat()))
            except BaseException:
                await self._fs.rmdir(path)
                raise

    # Deleting

    async def delete(self, bucket: str) -> None:
        """Delete an empty bucket with its open uploads and its records.

        The bucket ends when its directory is renamed into ``.trove/deleted``. The settings name that place beforehand:
        so whoever reads them after an interruption can tell whether they belong to the directory that is there now.
        """
        async with self._fs.lock_bucket(bucket):
            await self._settle(bucket)
            await self.require(bucket)
            await self._require_no_versions(bucket)
            name = await self._move_away(bucket) if self._fs.locks_commits else None
            if name is None:
                if not await remove_empty(self._fs, self._layout.bucket(bucket)):
                    await self._refuse(bucket)
                await self._remove_records(bucket)
            elif not await self._complete(bucket, name):
                await self._put_back(bucket, name)
                await self._refuse(bucket)

    async def _require_no_versions(self, bucket: str) -> None:
        if await contains_files(self._fs, self._layout.all_versions(bucket), but="key"):
            raise BucketNotEmptyError(
                f"the bucket {bucket!r} contains versions; empty_bucket with versions=True deletes them", bucket=bucket
            )

    async def _require_empty(self, bucket: str) -> None:
        refusal = await refusal_of(self._fs, self._layout.bucket(bucket))
        if refusal is not None:
            raise BucketNotEmptyError(f"the bucket {bucket!r} is not empty: {refusal}", bucket=bucket)

    async def _refuse(self, bucket: str) -> NoReturn:
        """Say why the directory of a bucket could not be removed."""
        await self._require_empty(bucket)
        await self.require(bucket)
        raise BucketNotEmptyError(
            f"the bucket {bucket!r} is not empty: a directory in it cannot be read, or is being made; "
            "look at its permissions, or try again",
            bucket=bucket,
        )

    async def _move_away(self, bucket: str) -> str | None:
        """Move the directory of a bucket to `Layout.deleted`; return its name there.

        Returns None if that cannot be done, as on a full disk, or if the process may not write to the directory.

        Raises:
            BucketNotEmptyError: it is not empty.
        """
        await self._require_empty(bucket)
        name = token_hex(8)
        path, moved = self._layout.bucket(bucket), self._layout.deleted(bucket, name)
        try:
            await self._store(bucket, replace(await self.settings(bucket), deleting=name))
        except (OSError, BackendError):
            return None
        try:
            await make_directories(self._fs, self._layout.all_deleted)
            await self._fs.mkdir(moved + _PREPARED)  # a full disk must not stop the deletion once it has begun
            await self._fs.rename(path, moved)
        except OSError:
            await self._unmark(bucket, name)
            return None
        await self._fs.sync_directory(path.rpartition("/")[0])
        await self._fs.sync_directory(self._layout.all_deleted)
        return name

    async def _complete(self, bucket: str, name: str) -> bool:
        """Remove all that is left of a bucket whose directory was moved; return False if that is not empty.

        At every moment before the settings are removed, there is either the directory or another one as its proof.
        """
        moved, proof = self._layout.deleted(bucket, name), self._layout.deleted(bucket, name + _PROOF)
        await self._make_proof(moved, proof)
        if await self._fs.exists(moved) and not await remove_empty(self._fs, moved):
            return False
        await self._remove_records(bucket)
        await self._fs.rmdir(proof)
        return True

    async def _make_proof(self, moved: str, proof: str) -> None:
        try:
            await self._fs.rename(moved + _PREPARED, proof)
        except FileNotFoundError:  # of a deletion that was interrupted, or somebody has removed it
            with suppress(FileExistsError):
                await self._fs.mkdir(proof)
        else:
            await self._fs.sync_directory(self._layout.all_deleted)

    async def _put_back(self, bucket: str, name: str) -> None:
        """Undo a deletion: somebody has placed a file in the directory meanwhile, or it cannot be read."""
        path = self._layout.bucket(bucket)
        await self._fs.rename(self._layout.deleted(bucket, name), path)
        await self._fs.sync_directory(path.rpartition("/")[0])
        await self._fs.rmdir(self._layout.deleted(bucket, name + _PROOF))
        await self._unmark(bucket, name)

    async def _unmark(self, bucket: str, name: str) -> None:
        with suppress(OSError):  # the mark of a bucket that was not moved means nothing
            await self._fs.rmdir(self._layout.deleted(bucket, name + _PREPARED))
            await self._store(bucket, await self.settings(bucket))

    # Deletions that were interrupted

    async def settle(self, bucket: str) -> bool:
        """Complete or undo a deletion of a bucket of this name that was interrupted; return whether there was one.

        Call it without locks.
        """
        if await self._interrupted(bucket) is None:
            return False
        async with self._fs.lock_bucket(bucket):
            return await self._settle(bucket)

    async def _settle(self, bucket: str) -> bool:
        name = await self._interrupted(bucket)
        if name is None:
            return False
        if not await self._is_deleted(bucket, name):
            await self._unmark(bucket, name)
        elif not await self._complete(bucket, name):
            # An operation that had begun before the deletion stored an object in the directory.
            if await self._fs.exists(self._layout.bucket(bucket)):
                await self._remove_records(bucket)  # another bucket has its place now; the object stays where it is
            else:
                await self._put_back(bucket, name)
        return True

    async def _is_deleted(self, bucket: str, name: str) -> bool:
        return await self._fs.exists(self._layout.deleted(bucket, name)) or await self._fs.exists(
            self._layout.deleted(bucket, name + _PROOF)
        )

    async def _interrupted(self, bucket: str) -> str | None:
        """Return the name that a deletion of the bucket was to give to its directory; None if there was none."""
        if not self._fs.locks_commits:
            return None  # nothing is moved away
        with suppress(BackendError):  # damaged settings say nothing about a deletion
            await self.settings(bucket)
        return self.expected(bucket).deleting

    async def sweep(self) -> int:
        """Settle all deletions that were interrupted; return how many there were."""
        swept = 0
        names = [entry.name async for entry in self._fs.scan(self._layout.all_settings)]
        for name in filter(_is_bucket, names):
            swept += await self.settle(name)
        for name in [entry.name async for entry in self._fs.scan(self._layout.all_deleted)]:
            async with self._fs.lock_bucket(name):  # a deletion may be running
                swept += await remove_empty(self._fs, f"{self._layout.all_deleted}/{name}")
        return swept

    async def _remove_records(self, bucket: str) -> None:
        """Remove the records; the settings, which tell whether a bucket was deleted, come last."""
        for path in (
            self._layout.uploads(bucket),
            self._layout.metadata(bucket),
            self._layout.all_versions(bucket),
        ):
            await remove_all(self._fs, path)
        if await self._fs.unlink(self._layout.settings(bucket)):
            await self._fs.sync_directory(self._layout.all_settings)

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


def _checked(name: Any) -> str | None:
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ValueError(f"the directory of a deleted bucket is {name!r}")
    return name


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
