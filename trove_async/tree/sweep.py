"""Removing what killed processes left behind."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from trove_async.tree.buckets import Buckets
from trove_async.tree.directories import remove_all
from trove_async.tree.filesystem import FileSystem
from trove_async.tree.layout import Layout
from trove_async.tree.objects import Objects
from trove_async.tree.parts import was_taken

__all__ = ["SweepReport", "Sweeper"]

_log = logging.getLogger("trove_async")


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep removed.

    Attributes:
        temporaries: directories of temporaries whose process has ended.
        sidecars: metadata of generations that were replaced or deleted.
        uploads: uploads that were aborted or completed, but not removed completely.
        buckets: deletions of buckets that were interrupted.
    """

    temporaries: int = 0
    sidecars: int = 0
    uploads: int = 0
    buckets: int = 0


class Sweeper:
    """Removes files that nothing refers to; it touches no part of an object, a version or an open upload."""

    def __init__(self, fs: FileSystem, layout: Layout, buckets: Buckets, objects: Objects) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects

    async def sweep(self, *, temporaries: int) -> SweepReport:
        """Sweep all buckets.

        Args:
            temporaries: how many directories of temporaries were swept before, for the report.
        """
        buckets = await self._buckets.sweep()
        sidecars = uploads = 0
        for bucket in await self._buckets.list():
            sidecars += await self._sweep_sidecars(bucket.name)
            uploads += await self._sweep_uploads(bucket.name)
        return SweepReport(temporaries, sidecars, uploads, buckets)

    async def _sweep_uploads(self, bucket: str) -> int:
        base = self._layout.uploads(bucket)
        names = [entry.name async for entry in self._fs.scan(base)]
        swept = 0
        for name in names:
            # An upload begins with its manifest and ends when that is removed: a directory without one is a leftover.
            ended = await self._fs.lstat(f"{base}/{name}/manifest") is None
            if ended or await was_taken(self._fs, f"{base}/{name}"):
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
        key = _key_in(raw)
        if key is None:
            # Which object it belongs to cannot be told, and that object's metadata must not seem to be the default.
            _log.warning("the sidecar %r of the bucket %r is damaged; restore or remove it", path, bucket)
            return False
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            return not await self._objects.uses_sidecar(bucket, key, path) and await self._fs.unlink(path)


def _key_in(raw: bytes) -> str | None:
    """Return the key that a sidecar belongs to; None if the sidecar is damaged."""
    try:
        key = json.loads(raw)["key"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return key if isinstance(key, str) else None
