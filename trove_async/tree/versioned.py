"""`VersionedObjects`: objects that are committed under their key's lock, in buckets that may keep versions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from dataclasses import replace as with_changes
from typing import Final

from trove_async.driver.conditions import check_write
from trove_async.errors import BackendError, ObjectNotFoundError, PreconditionFailedError, VersionNotFoundError
from trove_async.tree.attributes import NONE, Attributes, etag_of, info_of, listed
from trove_async.tree.buckets import Buckets, BucketSettings
from trove_async.tree.clock import WriteClock
from trove_async.tree.filesystem import Checkpoint, FileSystem, Stat, Temporary
from trove_async.tree.layout import Layout
from trove_async.tree.lookup import Lookup
from trove_async.tree.objects import Objects, OpenObject
from trove_async.tree.placement import AppearedError, Placement
from trove_async.tree.records import Records
from trove_async.tree.versions import NULL, StoredVersion, Versions, new_version_id, order_of
from trove_async.types import ObjectInfo, VersionInfo, VersioningStatus

__all__ = ["VersionedObjects"]

_TRIES: Final = 100


@dataclass(slots=True)
class _Sealed:
    """A temporary that is complete but for its place.

    Attributes:
        attached: whether its attributes are in the file; otherwise they need a sidecar.
        versioning: the setting of the bucket that it was made for.
        time_ns: when; in a bucket that keeps versions, its order.
    """

    status: Stat
    attributes: Attributes
    attached: bool
    versioning: VersioningStatus
    time_ns: int


@dataclass(slots=True)
class _Current:
    """The object that is in place; its attributes are `NONE` if they were not needed."""

    path: str
    status: Stat
    attributes: Attributes

    @property
    def version_id(self) -> str:
        """The id of the version; ``null`` if it was stored while the bucket kept no versions."""
        return self.attributes.version_id or NULL


class VersionedObjects(Objects):
    """The objects of a tree whose buckets may keep versions.

    Args:
        fs, layout, buckets: of the tree.
        clock: gives every write its own time.
    """

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets, clock: WriteClock) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._now = clock
        self._lookup = Lookup(fs, layout)
        self._placement = Placement(fs, layout, buckets, self._lookup)
        self._records = Records(fs, layout)
        self._versions = Versions(fs, layout)

    # Reading

    async def open(self, bucket: str, key: str, version_id: str | None = None) -> OpenObject:
        """Open an object, or a version of it.

        Raises:
            ObjectNotFoundError, BucketNotFoundError, VersionNotFoundError: it does not exist.
        """
        if version_id is None:
            opened = await self._open_latest(bucket, key)
        else:
            opened = await self._open_version(bucket, key, version_id)
            if opened is None:
                # It may have moved from one directory to the other between the two searches.
                async with self._fs.lock(self._layout.stripe(bucket, key)):
                    opened = await self._open_version(bucket, key, version_id)
        if opened is not None:
            return opened
        await self._buckets.require(bucket)
        if version_id is None:
            raise ObjectNotFoundError(bucket=bucket, key=key)
        raise VersionNotFoundError(f"the object has no version {version_id!r}", bucket=bucket, key=key)

    async def _open_latest(self, bucket: str, key: str) -> OpenObject | None:
        for _ in range(_TRIES):
            found = await self._lookup.open(bucket, key)
            if found is None:
                return None
            path, (handle, status) = found
            opened = await self._opened(bucket, key, path, handle, status)
            if opened is not None:
                return opened
        raise _keeps_changing(key)

    async def _open_version(self, bucket: str, key: str, version_id: str) -> OpenObject | None:
        opened = await self._open_latest(bucket, key)
        if opened is not None:
            if version_id == (opened.attributes.version_id or NULL):
                return opened
            await self._fs.close(opened.handle)
        version = await self._versions.find(bucket, key, version_id)
        if version is None or version.is_delete_marker:
            return None
        found = await self._fs.open(version.path)
        return None if found is None else await self._opened(bucket, key, version.path, *found)

    async def _opened(self, bucket: str, key: str, path: str, handle: int, status: Stat) -> OpenObject | None:
        """Return the opened object; None if it was replaced before its sidecar could be read."""
        current = True
        try:
            attributes = await self._records.read(bucket, key, handle, status)
            if attributes is None or self._records.may_be_replaced:
                now_there = await self._fs.lstat(path)
                current = now_there is not None and etag_of(now_there) == etag_of(status)
        except BaseException:
            await self._fs.close(handle)
            raise
        if not current:
            await self._fs.close(handle)
            return None
        if attributes is None:
            attributes = NONE
        info = info_of(key, status, attributes, self._records.token(attributes))
        return OpenObject(path, handle, status, attributes, info)

    async def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """Return what a listing shows for an object; None if there is none."""
        found = await self._lookup.find(bucket, key)
        return None if found is None else await self.described(bucket, key, *found)

    async def described(self, bucket: str, key: str, path: str, status: Stat) -> ObjectInfo | None:
        """Return what a listing shows for the object at this path; None if it was removed meanwhile."""
        if not self._fs.uses_tokens:
            return listed(key, status)
        for _ in range(_TRIES):
            found = await self._fs.open(path)
            if found is None:
                return None
            opened = await self._opened(bucket, key, path, *found)
            if opened is not None:
                await self._fs.close(opened.handle)
                return listed(key, opened.status, self._records.token(opened.attributes))
        raise _keeps_changing(key)

    async def inherit(self, bucket: str, key: str, handle: int, fresh: Stat) -> None:
        """Give a new file the permissions of an object; those of a new one if there is none."""
        found = await self._lookup.find(bucket, key)
        if found is not None:
            await self._fs.inherit(handle, fresh, *found)

    # Writing

    async def commit(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        before: Callable[[], Awaitable[object]] | None = None,
        after: Callable[[], Awaitable[object]] | None = None,
    ) -> ObjectInfo:
        """Make an object from a temporary; see `Objects.commit`."""
        # Flushing takes long, so it is done before the lock is taken, with what the bucket's settings were last.
        expected = self._buckets.expected(bucket).versioning
        sealed = await self._seal(temporary, attributes, expected, self._now())
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            return await self._commit(
                bucket, key, temporary, attributes, sealed, checkpoint, if_match, if_none_match, before, after
            )

    async def take(
        self,
        bucket: str,
        key: str,
        claim: Callable[[], Awaitable[Temporary]],
        attributes: Attributes,
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        after: Callable[[], Awaitable[object]],
    ) -> ObjectInfo:
        """Make an object from a file that others may use until then; see `Objects.take`."""
        expected = self._buckets.expected(bucket).versioning
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            temporary = await claim()
            try:
                sealed = await self._seal(temporary, attributes, expected, self._now())
                return await self._commit(
                    bucket, key, temporary, attributes, sealed, checkpoint, if_match, if_none_match, None, after
                )
            finally:
                await self._fs.discard(temporary)

    async def _commit(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        attributes: Attributes,
        sealed: _Sealed,
        checkpoint: Checkpoint,
        if_match: str | None,
        if_none_match: str | None,
        before: Callable[[], Awaitable[object]] | None,
        after: Callable[[], Awaitable[object]] | None,
    ) -> ObjectInfo:
        """Put a sealed temporary in its place, under the key's lock."""
        while True:
            path, current, kept, sealed = await self._prepare(
                bucket, key, temporary, attributes, sealed, checkpoint, if_match, if_none_match, before
            )
            try:
                await self._place(bucket, key, temporary, sealed, checkpoint, path, replace=current is not None)
            except AppearedError:
                continue
            break
        if current is not None and not kept:
            await self._records.drop(bucket, key, current.status, current.attributes)
        if after is not None:
            await after()
        if sealed.versioning is VersioningStatus.SUSPENDED:
            await self._drop_null(bucket, key)  # only now: a commit that fails leaves it
        return info_of(key, sealed.status, sealed.attributes, self._records.token(sealed.attributes))

    async def _prepare(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        attributes: Attributes,
        sealed: _Sealed,
        checkpoint: Checkpoint,
        if_match: str | None,
        if_none_match: str | None,
        before: Callable[[], Awaitable[object]] | None,
    ) -> tuple[str, _Current | None, bool, _Sealed]:
        """Do everything that comes before the rename, under the key's lock.

        Returns the path of the object, what is there now, whether that was kept as a version, and the new generation.
        """
        path, status = await self._lookup.locate(bucket, key)
        versioning = (await self._buckets.settings(bucket)).versioning
        current = None if status is None else await self._current(bucket, key, path, status, versioning)
        if if_match is not None or if_none_match is not None:
            check_write(None if current is None else self._etag(current), if_match, if_none_match)
        if before is not None:
            await before()
        if current is not None:
            await self._fs.inherit(temporary.handle, sealed.status, path, current.status)
        checkpoint()
        unversioned = versioning is VersioningStatus.UNVERSIONED
        if unversioned and sealed.versioning is versioning and not self._records.may_be_replaced:
            return path, current, False, sealed  # of most buckets; nothing below would change anything
        newest = await self._newest(bucket, key, current) if versioning is VersioningStatus.ENABLED else 0
        floor = newest + 1
        while True:
            if sealed.versioning is versioning and sealed.time_ns > floor:
                if not await self._records.is_taken(bucket, key, sealed.status, sealed.attributes):
                    break
                floor = sealed.status.st_mtime_ns + self._fs.grain_ns - 1
            sealed = await self._seal(temporary, attributes, versioning, self._now(floor))
            checkpoint()
        kept = await self._keep_current(bucket, key, versioning, current, sealed.time_ns, checkpoint)
        return path, current, kept, sealed

    async def _seal(
        self, temporary: Temporary, attributes: Attributes, versioning: VersioningStatus, time_ns: int
    ) -> _Sealed:
        """Complete a temporary, so that only its place is missing, and flush it."""
        if versioning is VersioningStatus.ENABLED:
            attributes = with_changes(attributes, version_id=new_version_id(time_ns))
        elif self._fs.uses_tokens:
            attributes = with_changes(attributes, generation=new_version_id(time_ns))
        status = await self._fs.set_time(temporary.handle, time_ns)
        attached = await self._records.attach(temporary.handle, status, attributes)
        await self._fs.sync(temporary.handle)
        return _Sealed(status, attributes, attached, versioning, time_ns)

    async def _place(
        self,
        bucket: str,
        key: str,
        temporary: Temporary,
        sealed: _Sealed,
        checkpoint: Checkpoint,
        path: str,
        *,
        replace: bool,
    ) -> None:
        status, attributes = sealed.status, sealed.attributes

        async def publish(path: str, *, replace: bool) -> None:
            checkpoint()  # again: making directories, or a sidecar, may have taken long
            await self._fs.publish(temporary, path, replace=replace)

        if not sealed.attached:
            await self._records.write_sidecar(bucket, key, status, attributes)
        try:
            path = await self._placement.place(bucket, key, publish, path, replace=replace)
        except BaseException:
            if not sealed.attached:
                await self._records.drop(bucket, key, status, attributes)
            raise
        await self._fs.sync_directory(path.rpartition("/")[0])

    async def _current(self, bucket: str, key: str, path: str, status: Stat, versioning: VersioningStatus) -> _Current:
        """Return the object at a path; its attributes are read only where they are needed, under the key's lock."""
        if versioning is VersioningStatus.UNVERSIONED and not self._fs.uses_tokens:
            return _Current(path, status, NONE)
        return _Current(path, status, await self._attributes_of(bucket, key, path))

    async def _attributes_of(self, bucket: str, key: str, path: str) -> Attributes:
        opened = await self._fs.open(path)
        if opened is None:
            return NONE
        handle, status = opened
        try:
            return await self._records.read(bucket, key, handle, status) or NONE
        finally:
            await self._fs.close(handle)

    def _etag(self, current: _Current) -> str:
        return etag_of(current.status, self._records.token(current.attributes))

    async def _newest(self, bucket: str, key: str, current: _Current | None) -> int:
        """Return the order of the key's newest version; see `Versions.newest`."""
        order = None if current is None else order_of(current.version_id)
        return await self._versions.newest(bucket, key) if order is None else order

    async def _keep_current(
        self,
        bucket: str,
        key: str,
        versioning: VersioningStatus,
        current: _Current | None,
        time_ns: int,
        checkpoint: Checkpoint,
    ) -> bool:
        """Keep the latest version before it is replaced or deleted, if the bucket keeps versions; return whether."""
        if current is None or versioning is VersioningStatus.UNVERSIONED:
            return False
        if versioning is VersioningStatus.SUSPENDED and current.version_id == NULL:
            return False  # the next write becomes the null version, and there can be only one
        await self._versions.keep(bucket, key, current.path, current.version_id, time_ns, checkpoint)
        checkpoint()
        return True

    async def _drop_null(self, bucket: str, key: str) -> None:
        """Remove the stored null version or null marker, when another is about to take its place or has done so."""
        for version in await self._versions.nulls(bucket, key):
            await self._drop_version(bucket, key, version)

    async def _drop_version(self, bucket: str, key: str, version: StoredVersion) -> None:
        attributes = NONE if version.is_delete_marker else await self._sidecar_name(bucket, key, version.path)
        await self._fs.unlink(version.path)
        if not version.is_delete_marker:
            await self._records.drop(bucket, key, version.status, attributes)

    async def _sidecar_name(self, bucket: str, key: str, path: str) -> Attributes:
        """Return the attributes that name a file's sidecar, which only tokens do."""
        return await self._attributes_of(bucket, key, path) if self._fs.uses_tokens else NONE

    # Deleting

    async def delete(self, bucket: str, key: str, checkpoint: Checkpoint, *, if_match: str | None = None) -> None:
        """Delete an object; in a bucket that keeps versions this stores a delete marker."""
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            found = await self._lookup.find(bucket, key)
            if found is None:
                await self._buckets.require(bucket)
            versioning = (await self._buckets.settings(bucket)).versioning
            current = None if found is None else await self._current(bucket, key, *found, versioning)
            if if_match is not None:
                check_write(None if current is None else self._etag(current), if_match, None)
            checkpoint()
            if versioning is VersioningStatus.UNVERSIONED:
                if current is not None:
                    await self._remove(bucket, key, current)
                return
            time_ns = self._now(await self._newest(bucket, key, current) + 1)
            kept = await self._keep_current(bucket, key, versioning, current, time_ns, checkpoint)
            if current is not None:
                await self._remove(bucket, key, current, keep_record=kept)
            null = versioning is VersioningStatus.SUSPENDED
            if null:
                await self._drop_null(bucket, key)
            await self._versions.mark_deleted(bucket, key, time_ns, null=null)

    async def _remove(self, bucket: str, key: str, current: _Current, *, keep_record: bool = False) -> None:
        await self._fs.unlink(current.path)
        parent = current.path.rpartition("/")[0]
        await self._fs.sync_directory(parent)
        if not keep_record:
            await self._records.drop(bucket, key, current.status, current.attributes)
        base = self._layout.bucket(bucket)
        while parent != base and await self._fs.rmdir(parent):
            parent = parent.rpartition("/")[0]

    async def delete_version(
        self, bucket: str, key: str, version_id: str, checkpoint: Checkpoint, *, if_match: str | None = None
    ) -> None:
        """Delete one version permanently; if it was the latest, the next newest becomes the latest."""
        await self._buckets.require(bucket)
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            current = await self._latest(bucket, key)
            checkpoint()
            if current is not None and current.version_id == version_id:
                if if_match is not None:
                    check_write(self._etag(current), if_match, None)
                await self._delete_latest(bucket, key, current)
            else:
                target = await self._versions.find(bucket, key, version_id)
                if if_match is not None and (target is None or await self._etag_of(bucket, key, target) != if_match):
                    raise PreconditionFailedError(f"version {version_id!r} is missing or has another ETag")
                if target is None:
                    return
                if current is None and target.is_delete_marker:
                    await self._revive_before(bucket, key, target)
                await self._drop_version(bucket, key, target)
            await self._versions.tidy(bucket, key)

    async def _latest(self, bucket: str, key: str) -> _Current | None:
        """Return the object with its attributes; None if there is none. Call it under the key's lock."""
        found = await self._lookup.find(bucket, key)
        return None if found is None else _Current(*found, await self._attributes_of(bucket, key, found[0]))

    async def _etag_of(self, bucket: str, key: str, version: StoredVersion) -> str:
        return etag_of(version.status, await self._token_of(bucket, key, version))

    async def _token_of(self, bucket: str, key: str, version: StoredVersion) -> str | None:
        if version.is_delete_marker or not self._fs.uses_tokens:
            return None
        return (await self._attributes_of(bucket, key, version.path)).token

    async def _delete_latest(self, bucket: str, key: str, current: _Current) -> None:
        stored = await self._versions.stored(bucket, key)
        for version in stored:
            if version.version_id == current.version_id:  # a second name, which an interrupted commit has left
                await self._fs.unlink(version.path)
        older = [version for version in stored if version.version_id != current.version_id]
        await self._replace_latest(bucket, key, current, older[0] if older else None)

    async def _replace_latest(self, bucket: str, key: str, current: _Current, following: StoredVersion | None) -> None:
        if following is None or following.is_delete_marker:
            await self._remove(bucket, key, current)
        else:
            await self._inherit(following, current)
            await self._bring_back(bucket, key, following, current.path, replace=True)
            await self._records.drop(bucket, key, current.status, current.attributes)

    async def _inherit(self, version: StoredVersion, current: _Current) -> None:
        opened = await self._fs.open(version.path)
        if opened is not None:
            handle, status = opened
            try:
                await self._fs.inherit(handle, status, current.path, current.status)
            finally:
                await self._fs.close(handle)

    async def _revive_before(self, bucket: str, key: str, marker: StoredVersion) -> None:
        """Make the version before the latest delete marker the object again."""
        match await self._versions.stored(bucket, key):
            case [newest, older, *_] if newest.path == marker.path and not older.is_delete_marker:
                path, _ = await self._lookup.locate(bucket, key)
                await self._bring_back(bucket, key, older, path, replace=False)

    async def _bring_back(self, bucket: str, key: str, version: StoredVersion, path: str, *, replace: bool) -> None:
        """Make a stored version the latest again."""

        async def publish(path: str, *, replace: bool) -> None:
            await self._fs.rename(version.path, path)

        path = await self._placement.place(bucket, key, publish, path, replace=replace)
        await self._fs.sync_directory(path.rpartition("/")[0])

    async def list_versions(self, bucket: str, key: str) -> Sequence[VersionInfo]:
        """Return the versions and markers of a key, newest first."""
        await self._buckets.require(bucket)
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            current = await self._latest(bucket, key)
            stored = await self._versions.stored(bucket, key)
            if current is None:
                return [
                    v.info(key, await self._token_of(bucket, key, v), is_latest=n == 0 and v.is_delete_marker)
                    for n, v in enumerate(stored)
                ]
            latest = StoredVersion(current.version_id, current.path, current.status, False)
            older = [v for v in stored if v.version_id != current.version_id]
            return [
                latest.info(key, self._records.token(current.attributes), is_latest=True),
                *[v.info(key, await self._token_of(bucket, key, v), is_latest=False) for v in older],
            ]

    def versioned_keys(self, bucket: str) -> AsyncGenerator[str, None]:
        """Yield the keys that have stored versions or markers, in any order; close it with `contextlib.aclosing`."""
        return self._versions.keys(bucket)

    async def list_noncurrent(self, bucket: str, prefix: str) -> Sequence[VersionInfo]:
        """Return the versions that are not the latest, each with the time at which it was replaced."""
        await self._buckets.require(bucket)
        found: list[VersionInfo] = []
        async with aclosing(self._versions.keys(bucket)) as keys:
            async for key in keys:
                if key.startswith(prefix):
                    newer: VersionInfo | None = None
                    for version in await self.list_versions(bucket, key):
                        if newer is not None and not version.is_delete_marker:
                            found.append(with_changes(version, last_modified=newer.last_modified))
                        newer = version
        return sorted(found, key=lambda version: version.key)

    # Attributes

    async def change_attributes(
        self,
        bucket: str,
        key: str,
        change: Callable[[Attributes], Attributes],
        checkpoint: Checkpoint,
        *,
        if_match: str | None = None,
    ) -> None:
        """Replace an object's attributes atomically; its bytes, ETag and time stay."""
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            opened = await self.open(bucket, key)
            try:
                if if_match is not None:
                    check_write(opened.info.etag, if_match, None)
                checkpoint()
                attributes = change(opened.attributes)
                if attributes != opened.attributes or attributes is not NONE:
                    await self._records.rewrite(bucket, key, opened.handle, opened.status, attributes)
            finally:
                await self._fs.close(opened.handle)

    async def uses_sidecar(self, bucket: str, key: str, sidecar: str) -> bool:
        """Return whether the object or one of its versions reads its attributes from the sidecar."""
        found = await self._lookup.find(bucket, key)
        paths = [version.path for version in await self._versions.stored(bucket, key) if not version.is_delete_marker]
        if found is not None:
            paths.append(found[0])
        for path in paths:
            if await self._records.sidecar_of(bucket, key, path) == sidecar:
                return True
        return False

    # Versioning of a bucket

    async def set_versioning(self, bucket: str, status: VersioningStatus) -> None:
        """Start or stop keeping versions; a bucket that never kept any has nothing to suspend."""

        def changed(settings: BucketSettings) -> BucketSettings:
            if status is VersioningStatus.SUSPENDED and settings.versioning is VersioningStatus.UNVERSIONED:
                return settings
            return with_changes(settings, versioning=status)

        await self._buckets.change(bucket, changed)


def _keeps_changing(key: str) -> BackendError:
    return BackendError(f"the object was replaced {_TRIES} times while it was being opened", key=key)
