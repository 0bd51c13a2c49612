"""The versions of an object that are not the latest, and the markers of its deletions.

Each key has a directory with a file for each version, a file ``NAME.deleted`` for each delete marker, and a file
``key`` that contains the key. The names are their order: a version id begins with a time, and the null version is
``null/TIME``, in a directory of its own, so that it is found however many others there are. These times never go
backwards, whatever clocks and file systems do: see `Versions.newest`. The latest version is the object itself, in the
bucket. If there is no object the key is deleted, whatever this directory contains.
"""

from __future__ import annotations

import errno
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from trove_async.errors import BackendError
from trove_async.tree.attributes import Attributes, etag_of, time_of, token_for_copy
from trove_async.tree.directories import make_directories
from trove_async.tree.filesystem import Checkpoint, FileSystem, Stat
from trove_async.tree.layout import Layout
from trove_async.types import VersionInfo

__all__ = ["NULL", "StoredVersion", "Versions", "new_version_id", "order_of"]

NULL: Final = "null"
"""The id of a version that was stored while the bucket kept no versions."""

_DELETED: Final = ".deleted"
_KEY: Final = "key"
_MAX_KEYS: Final = 100_000
"""How many keys are cached."""
_ID: Final = re.compile(r"([0-9a-f]{16})[0-9a-f]{8}")
_NULL: Final = re.compile(rf"{NULL}/([0-9a-f]{{16}})")
_CANNOT_LINK: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
)
"""What file systems without second names answer, and Linux for files of others (``fs.protected_hardlinks``)."""


def new_version_id(time_ns: int) -> str:
    """Return a version id that sorts by time."""
    return f"{time_ns:016x}{token_hex(4)}"


def order_of(version_id: str) -> int | None:
    """Return the time in a version id; None if it has none, as that of the null version."""
    match = _ID.fullmatch(version_id)
    return None if match is None else int(match[1], 16)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version or delete marker in the directory of versions.

    Attributes:
        order: that of a newer version is larger.
    """

    version_id: str
    path: str
    status: Stat
    is_delete_marker: bool
    order: int = 0

    def info(self, key: str, token: str | None, *, is_latest: bool) -> VersionInfo:
        """Return its description for users; see `etag_of` about the token."""
        return VersionInfo(
            self.version_id,
            key,
            0 if self.is_delete_marker else self.status.st_size,
            time_of(self.status.st_mtime_ns),
            is_latest,
            self.is_delete_marker,
            None if self.is_delete_marker else etag_of(self.status, token),
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
        return await self._described(directory, await self._names(directory))

    async def find(self, bucket: str, key: str, version_id: str) -> StoredVersion | None:
        """Return the stored version or marker with an id; None if there is none."""
        directory = self._layout.versions(bucket, key)
        if version_id == NULL:
            names = await self._nulls(directory)
        elif order_of(version_id) is not None:
            names = [version_id, version_id + _DELETED]
        else:  # no write makes such an id, but any program can make such a file
            names = [name for name in await self._names(directory) if _parse(name)[0] == version_id]
        found = await self._described(directory, names)
        return found[0] if found else None

    async def nulls(self, bucket: str, key: str) -> list[StoredVersion]:
        """Return the stored null version or null marker; several if a write was interrupted."""
        directory = self._layout.versions(bucket, key)
        return await self._described(directory, await self._nulls(directory))

    async def _described(self, directory: str, names: Sequence[str]) -> list[StoredVersion]:
        """Return those of the files that exist, newest first."""
        found: list[StoredVersion] = []
        for name in names:
            path = f"{directory}/{name}"
            status = await self._fs.lstat(path)
            if status is not None:
                version_id, order = _parse(name)
                if order is None:
                    order = status.st_mtime_ns
                found.append(StoredVersion(version_id, path, status, name.endswith(_DELETED), order))
        return sorted(found, key=lambda version: version.order, reverse=True)

    async def _names(self, directory: str) -> list[str]:
        async with aclosing(self._fs.scan(directory)) as scan:
            names = [entry.name async for entry in scan if entry.name != _KEY]
        if NULL in names:
            names.remove(NULL)
            names += await self._nulls(directory)
        return names

    async def _nulls(self, directory: str) -> list[str]:
        async with aclosing(self._fs.scan(f"{directory}/{NULL}")) as scan:
            return [f"{NULL}/{entry.name}" async for entry in scan]

    async def newest(self, bucket: str, key: str) -> int:
        """Return the order of the newest stored version or marker, 0 if there is none.

        A new version of the key gets a larger one, also if the clock of the process that stored this one was ahead.
        """
        directory = self._layout.versions(bucket, key)
        newest = 0
        for name in await self._names(directory):
            order = _parse(name)[1]
            if order is None:
                status = await self._fs.lstat(f"{directory}/{name}")
                order = 0 if status is None else status.st_mtime_ns
            newest = max(newest, order)
        return newest

    async def keys(self, bucket: str) -> AsyncGenerator[str, None]:
        """Yield the keys that have stored versions; a caller that may stop early uses `contextlib.aclosing`.

        Raises:
            BackendError: the file that contains a key is damaged.
        """
        base = self._layout.all_versions(bucket)
        async with aclosing(self._fs.scan(base)) as groups:
            async for group in groups:
                async with aclosing(self._fs.scan(f"{base}/{group.name}")) as scan:
                    async for entry in scan:
                        key = await self._key_of(bucket, f"{base}/{group.name}/{entry.name}", entry.name)
                        if key is not None:
                            yield key

    async def _key_of(self, bucket: str, directory: str, name: str) -> str | None:
        """Return the key of a directory; the name is its hash, so the key can be cached."""
        key = self._keys.get(name)
        if key is None:
            raw = await self._fs.read_file(f"{directory}/{_KEY}")
            if raw is None:
                return None
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            key = self._keys[name] = self._key_in(bucket, directory, raw)
        return key

    def _key_in(self, bucket: str, directory: str, raw: bytes) -> str:
        key = raw.decode(errors="replace")
        if self._layout.versions(bucket, key) != directory:
            raise BackendError(
                f"'{directory}/{_KEY}', which contains the key of the versions in that directory, is damaged; "
                "restore it, or store an object with that key again"
            )
        return key

    async def keep(
        self, bucket: str, key: str, path: str, version_id: str, time_ns: int, checkpoint: Checkpoint
    ) -> None:
        """Keep a version that is about to be replaced, by giving its file a second name, or else by copying it.

        Args:
            bucket, key: the object.
            path, version_id: of the version.
            time_ns: the time of what replaces it.
            checkpoint: called between the steps of a copy.
        """
        directory = await self._directory(bucket, key)
        name, stale = version_id, []
        if version_id == NULL:
            # An interrupted commit may have left the same file under such a name, or it is an old null version.
            stale = await self._nulls(directory)
            name = await self._null_name(directory, time_ns - 1)
        target = f"{directory}/{name}"
        await self._link(path, target, checkpoint)
        for other in stale:
            await self._fs.unlink(f"{directory}/{other}")
        await self._fs.sync_directory(target.rpartition("/")[0])

    async def _link(self, path: str, target: str, checkpoint: Checkpoint) -> None:
        try:
            try:
                await self._fs.link(path, target)
            except FileExistsError:
                await self._fs.unlink(target)  # an interrupted commit left the same file
                await self._fs.link(path, target)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise
            await self._copy(path, target, checkpoint)

    async def _copy(self, path: str, target: str, checkpoint: Checkpoint) -> None:
        """Copy a file with its time and attributes; the copy appears whole."""
        opened = await self._fs.open(path)
        if opened is None:
            raise FileNotFoundError(errno.ENOENT, "the file was removed while it was being copied", path)
        source, status = opened
        try:
            temporary = await self._fs.create_temporary()
            try:
                await self._fs.copy_data(source, temporary.handle, checkpoint)
                copied = await self._fs.set_time(temporary.handle, status.st_mtime_ns)
                if copied.st_mtime_ns != status.st_mtime_ns:
                    raise OSError(
                        errno.ENOTSUP, "the file system cannot set the time of a file, so no versions are kept"
                    )
                await self._copy_attributes(source, status, temporary.handle)
                await self._fs.inherit(temporary.handle, copied, path, status)
                await self._fs.sync(temporary.handle)
                await self._fs.publish(temporary, target, replace=True)
            finally:
                await self._fs.discard(temporary)
        finally:
            await self._fs.close(source)

    async def _copy_attributes(self, source: int, status: Stat, target: int) -> None:
        # A sidecar is found by the time and size of the file, or by what is copied here.
        if not self._fs.has_attributes:
            return
        raw = await self._fs.get_attribute(source)
        if raw is None:
            if not self._fs.uses_tokens:
                return
            raw = Attributes(generation=token_for_copy(status)).encode(status)
        if not await self._fs.set_attribute(target, raw):
            raise OSError(errno.ENOSPC, "the metadata of the version does not fit into an extended attribute")

    async def mark_deleted(self, bucket: str, key: str, time_ns: int, *, null: bool) -> None:
        """Store a delete marker, whose time is later than that of the newest version."""
        directory = await self._directory(bucket, key)
        name = await self._null_name(directory, time_ns) if null else new_version_id(time_ns)
        path = f"{directory}/{name}{_DELETED}"
        handle = await self._fs.create(path)
        try:
            await self._fs.set_time(handle, time_ns)
            await self._fs.sync(handle)
        finally:
            await self._fs.close(handle)
        await self._fs.sync_directory(path.rpartition("/")[0])

    async def tidy(self, bucket: str, key: str) -> None:
        """Remove the directory of a key without stored versions."""
        directory = self._layout.versions(bucket, key)
        if await self._has_versions(directory):
            return
        await self._fs.rmdir(f"{directory}/{NULL}")
        await self._fs.unlink(f"{directory}/{_KEY}")
        await self._fs.rmdir(directory)

    async def _has_versions(self, directory: str) -> bool:
        async with aclosing(self._fs.scan(directory)) as scan:
            async for entry in scan:
                if entry.name not in (_KEY, NULL):
                    return True
        return bool(await self._nulls(directory))

    async def _null_name(self, directory: str, order: int) -> str:
        await make_directories(self._fs, f"{directory}/{NULL}")
        return f"{NULL}/{order:016x}"

    async def _directory(self, bucket: str, key: str) -> str:
        directory = self._layout.versions(bucket, key)
        path = f"{directory}/{_KEY}"
        content = key.encode()
        status = await self._fs.lstat(path)
        if status is None or status.st_size != len(content):
            await self._fs.write_file(path, content)
        return directory


def _parse(name: str) -> tuple[str, int | None]:
    """Return the version id of a file's name, and its order if the name has one."""
    version_id = name.removesuffix(_DELETED)
    match = _NULL.fullmatch(version_id)
    return (version_id, order_of(version_id)) if match is None else (NULL, int(match[1], 16))
