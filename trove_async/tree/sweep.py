"""Removing what is left of processes that were killed."""

from __future__ import annotations

import json
from dataclasses import dataclass

from trove_async.tree.buckets import Buckets, remove_all
from trove_async.tree.filesystem import FileSystem, Stat
from trove_async.tree.layout import Layout
from trove_async.tree.lookup import Lookup
from trove_async.tree.versions import Versions

__all__ = ["SweepReport", "Sweeper"]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep removed.

    Attributes:
        temporaries: directories of temporaries of processes that are gone.
        sidecars: metadata of generations that are gone.
        uploads: uploads that had been aborted or completed, but not removed whole.
    """

    temporaries: int = 0
    sidecars: int = 0
    uploads: int = 0


class Sweeper:
    """Finds what nobody needs; nothing that an object, version or open upload consists of is touched."""

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._lookup = Lookup(fs, layout)
        self._versions = Versions(fs, layout)

    async def sweep(self, *, temporaries: int) -> SweepReport:
        """Sweep all buckets; the temporaries were swept already, so many of them."""
        sidecars = uploads = 0
        for bucket in await self._buckets.list():
            sidecars += await self._sweep_sidecars(bucket.name)
            uploads += await self._sweep_uploads(bucket.name)
        return SweepReport(temporaries, sidecars, uploads)

    async def _sweep_uploads(self, bucket: str) -> int:
        base = self._layout.uploads(bucket)
        names = [entry.name async for entry in self._fs.scan(base)]
        swept = 0
        for name in names:
            # An upload is begun by its manifest and ended by removing it: what has none is a rest.
            if await self._fs.lstat(f"{base}/{name}/manifest") is None:
                await remove_all(self._fs, f"{base}/{name}")
                swept += 1
        return swept

    async def _sweep_sidecars(self, bucket: str) -> int:
        base = self._layout.metadata(bucket)
        groups = [entry.name async for entry in self._fs.scan(base)]
        swept = 0
        for group in groups:
            names = [entry.name async for entry in self._fs.scan(f"{base}/{group}")]
            for name in names:
                swept += await self._sweep_sidecar(bucket, f"{base}/{group}/{name}")
        return swept

    async def _sweep_sidecar(self, bucket: str, path: str) -> bool:
        raw = await self._fs.read_file(path)
        if raw is None:
            return False
        key = json.loads(raw).get("key")
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            found = await self._lookup.find(bucket, key)
            statuses = [version.status for version in await self._versions.stored(bucket, key)]
            if found is not None:
                statuses.append(found[1])
            selected = any(self._selects(bucket, key, status, path) for status in statuses)
            return not selected and await self._fs.unlink(path)

    def _selects(self, bucket: str, key: str, status: Stat, sidecar: str) -> bool:
        """Tell whether a file of a key has a sidecar for its own; for drivers that find it in other ways too."""
        return sidecar == self._layout.sidecar(bucket, key, status.st_size, status.st_mtime_ns)
