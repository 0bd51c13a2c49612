"""Metadata in sidecars, which are found by a file's size and its time to the nanosecond."""

from __future__ import annotations

from contextlib import aclosing, suppress

from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.protocol import FileStatus
from trove_async.tree.attributes import NONE, Attributes
from trove_async.tree.layout import Layout

__all__ = ["Sidecars"]

_SECOND = 1_000_000_000


class Sidecars:
    """Reads and writes sidecars.

    A file's mark says whether it has a sidecar, so files without one cost no request. Where the server does not keep
    access times there are no marks, and every file may have one.
    """

    def __init__(self, fs: SFTPFileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout

    def path(self, bucket: str, key: str, status: FileStatus) -> str:
        """Return the path of the sidecar of one generation of a key."""
        return self._layout.sidecar(bucket, key, status.st_size, status.st_mtime_ns)

    def may_exist(self, status: FileStatus) -> bool:
        """Return whether a file may have a sidecar."""
        return status.marked is not False

    async def read(self, bucket: str, key: str, status: FileStatus) -> Attributes | None:
        """Return the metadata of a file; None if its sidecar is missing, for example since the file was replaced."""
        if status.marked is False:
            return NONE
        raw = await self._fs.read_file(self.path(bucket, key, status))
        if raw is not None:
            return Attributes.decode(raw, status)
        if status.marked:
            return None
        return await self._read_restored(bucket, key, status) if self._fs.carries_times else NONE

    async def _read_restored(self, bucket: str, key: str, status: FileStatus) -> Attributes:
        """Return the metadata of a file that lost its access time, for example in a restored backup.

        It is found if there is exactly one sidecar for the file's size and second.
        """
        folder, _, start = self._start(bucket, key, status).rpartition("/")
        found: list[int] = []
        async with aclosing(self._fs.scan(folder)) as scan:
            async for entry in scan:
                if entry.name.startswith(start):
                    with suppress(ValueError):
                        found.append(int(entry.name.removeprefix(start), 16))
        found = [mtime_ns for mtime_ns in found if _same_second(mtime_ns, status)]
        if len(found) != 1:
            return NONE
        raw = await self._fs.read_file(f"{folder}/{start}{found[0]:x}")
        return NONE if raw is None else Attributes.decode(raw, status._replace(st_mtime_ns=found[0]))

    def _start(self, bucket: str, key: str, status: FileStatus) -> str:
        """Return the common start of the paths of all sidecars of a key and size."""
        return self.path(bucket, key, status).rpartition("-")[0] + "-"

    def may_select(self, bucket: str, key: str, status: FileStatus, path: str) -> bool:
        """Return whether a sidecar belongs to a file, or would if it were the only one of its second."""
        if path == self.path(bucket, key, status):
            return True
        start = self._start(bucket, key, status)
        if status.marked is not None or not path.startswith(start):
            return False
        try:
            return _same_second(int(path.removeprefix(start), 16), status)
        except ValueError:
            return False

    async def write(self, bucket: str, key: str, status: FileStatus, attributes: Attributes) -> None:
        """Write the sidecar of a file that is not in place yet."""
        path = self.path(bucket, key, status)
        content = attributes.encode(status, key)
        if not self._fs.carries_times:
            await self._fs.unlink(path)  # of a file that was deleted within the same second and whose sidecar was left
        await self._fs.write_new(path, content, self._fs.new_time())

    async def replace(self, bucket: str, key: str, status: FileStatus, attributes: Attributes) -> None:
        """Replace the sidecar of a file that is in place, atomically."""
        await self._fs.write_file(self.path(bucket, key, status), attributes.encode(status, key))

    async def drop(self, bucket: str, key: str, status: FileStatus) -> None:
        """Remove the sidecar of a removed file, if it may have one."""
        if self.may_exist(status):
            await self._fs.unlink(self.path(bucket, key, status))


def _same_second(mtime_ns: int, status: FileStatus) -> bool:
    return mtime_ns // _SECOND == status.st_mtime_ns // _SECOND
