"""Storing attributes with a file: in its extended attribute, or in a sidecar if they do not fit."""

from __future__ import annotations

import errno

from trove_async.tree.attributes import NONE, STUB, Attributes
from trove_async.tree.filesystem import FileSystem, Stat
from trove_async.tree.layout import Layout

__all__ = ["Records"]


class Records:
    """Reads and writes attributes.

    A sidecar is named for the generation of its file and is written before the file is renamed into place, so a file
    always finds its own. A sidecar without a file is removed by the sweeper.
    """

    def __init__(self, fs: FileSystem, layout: Layout) -> None:
        self._fs = fs
        self._layout = layout

    async def attach(self, handle: int, status: Stat, attributes: Attributes) -> bool:
        """Store attributes in a file that is not in place yet; return False if they need a sidecar."""
        if attributes is NONE:
            return True
        if not self._fs.has_attributes:
            return False
        if await self._fs.set_attribute(handle, attributes.encode(status)):
            return True
        await self._point_to_sidecar(handle)
        return False

    async def _point_to_sidecar(self, handle: int) -> None:
        if not await self._fs.set_attribute(handle, STUB):
            raise OSError(errno.ENOSPC, "the file system cannot store an extended attribute of even a few bytes")

    async def write_sidecar(self, bucket: str, key: str, status: Stat, attributes: Attributes) -> None:
        """Store attributes that do not fit into the file; under the key's lock, before the file is renamed."""
        await self._fs.write_file(self._sidecar(bucket, key, status), attributes.encode(status, key))

    async def read(self, bucket: str, key: str, handle: int, status: Stat) -> Attributes | None:
        """Return the attributes of an open file; `NONE` if it was made or edited by hand.

        Returns None if a sidecar is expected and missing: the file was replaced after it was opened and its sidecar
        removed, or it never had one.
        """
        if self._fs.has_attributes:
            raw = await self._fs.get_attribute(handle)
            if raw is None:
                return NONE
            if raw != STUB:
                return Attributes.decode(raw, status)
        sidecar = await self._fs.read_file(self._sidecar(bucket, key, status))
        if sidecar is not None:
            return Attributes.decode(sidecar, status)
        if self._fs.has_attributes:
            # `rewrite` may have moved them into the file.
            raw = await self._fs.get_attribute(handle)
            if raw is not None and raw != STUB:
                return Attributes.decode(raw, status)
        return None

    async def rewrite(self, bucket: str, key: str, handle: int, status: Stat, attributes: Attributes) -> None:
        """Replace the attributes of a file that is in place, atomically; its ETag stays."""
        if self._fs.has_attributes and await self._fs.set_attribute(handle, attributes.encode(status)):
            await self._fs.sync(handle)
            await self.drop(bucket, key, status)
            return
        await self.write_sidecar(bucket, key, status, attributes)
        if self._fs.has_attributes:
            await self._point_to_sidecar(handle)
            await self._fs.sync(handle)

    async def drop(self, bucket: str, key: str, status: Stat) -> None:
        """Remove the sidecar of a removed file, if it has one."""
        # With extended attributes, few buckets have sidecars, and checking that is cheaper than hashing a key.
        if not self._fs.has_attributes or await self._fs.lstat(self._layout.metadata(bucket)) is not None:
            await self._fs.unlink(self._sidecar(bucket, key, status))

    def _sidecar(self, bucket: str, key: str, status: Stat) -> str:
        return self._layout.sidecar(bucket, key, status.st_size, status.st_mtime_ns)
