"""Multipart uploads: a directory for each, with a manifest and the files of its parts."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final

from trove_async.driver.options import PutOptions
from trove_async.errors import BackendError, BucketNotFoundError
from trove_async.keys import check_key
from trove_async.tree.buckets import Buckets
from trove_async.tree.clock import WriteClock
from trove_async.tree.directories import make_directories, remove_all
from trove_async.tree.filesystem import Checkpoint, FileSystem, Temporary
from trove_async.tree.layout import Layout
from trove_async.tree.objects import Objects
from trove_async.tree.parts import OpenUpload, Part, Parts, not_open, was_taken
from trove_async.types import PartInfo, UploadInfo

__all__ = ["Uploads"]

_log = logging.getLogger("trove_async")

_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
_MANIFEST: Final = "manifest"
_REMEMBERED: Final = 256
"""How many uploads are remembered whose parts grow, so that their manifests are not read again for each append."""


class Uploads:
    """The open uploads of a tree: `Completion` makes objects of them, and `Appends` lets their parts grow."""

    def __init__(
        self,
        fs: FileSystem,
        layout: Layout,
        buckets: Buckets,
        objects: Objects,
        *,
        parts: Parts,
        clock: WriteClock,
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects
        self._parts = parts
        self._now = clock
        self._remembered: dict[str, tuple[tuple[int, int, int], OpenUpload]] = {}  # by the path of the manifest

    async def initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        """Begin an upload and return its id."""
        await self._buckets.require(bucket)
        await self._buckets.settle(bucket)
        upload_id = token_hex(16)
        manifest = {"key": key, "initiated_at": datetime.now(UTC).isoformat(), "options": options.dump()}
        # The directory appears together with its manifest, so a directory without one is a leftover for the sweeper.
        draft = self._fs.temporary()
        try:
            await self._fs.mkdir(draft)
            await self._fs.write_file(f"{draft}/{_MANIFEST}", json.dumps(manifest).encode())
            await self._appear(bucket, upload_id, draft)
        except BaseException:
            await remove_all(self._fs, draft)
            raise
        await self._fs.sync_directory(self._layout.uploads(bucket))
        try:
            # If the bucket was deleted meanwhile, its records may have been removed before this one appeared.
            await self._buckets.require(bucket)
        except BucketNotFoundError:
            await self.forget(bucket, upload_id)
            await self._fs.rmdir(self._layout.uploads(bucket))
            raise
        return upload_id

    async def _appear(self, bucket: str, upload_id: str, draft: str) -> None:
        path = self._layout.upload(bucket, upload_id)
        try:
            await self._fs.rename(draft, path)
        except FileNotFoundError:
            await self._buckets.require(bucket)
            await make_directories(self._fs, self._layout.uploads(bucket))
            await self._fs.rename(draft, path)

    async def forget(self, bucket: str, upload_id: str) -> None:
        """Remove an upload whose id was never returned to the caller."""
        await self._remove(self._layout.upload(bucket, upload_id))

    async def still_open(self, upload: OpenUpload) -> None:
        """Check that an upload has not ended meanwhile.

        Raises:
            UploadNotFoundError: it has.
        """
        await self.require(upload.bucket, upload.key, upload.id)

    async def end(self, upload: OpenUpload) -> None:
        """End an upload whose object is in place; the caller removes its directory."""
        await self._fs.unlink(f"{upload.path}/{_MANIFEST}")

    async def _remove(self, path: str) -> None:
        # Without its manifest the upload has ended, even if other files of it cannot be removed.
        await self._fs.unlink(f"{path}/{_MANIFEST}")
        await remove_all(self._fs, path)

    async def require(self, bucket: str, key: str, upload_id: str, *, again: bool = False) -> OpenUpload:
        """Return an open upload.

        Args:
            bucket, key, upload_id: which one.
            again: whether the caller requires this upload often: its manifest is then read again only if the file has
                changed.

        Raises:
            UploadNotFoundError: no upload with this id is open for this key.
        """
        load = self._load_again if again else self._load
        upload = await load(bucket, upload_id) if _ID.match(upload_id) else None
        if upload is None or upload.key != key:
            await self._buckets.require(bucket)
            raise not_open(bucket, key, upload_id)
        return upload

    async def _load(self, bucket: str, upload_id: str) -> OpenUpload | None:
        path = self._layout.upload(bucket, upload_id)
        raw = await self._fs.read_file(f"{path}/{_MANIFEST}")
        if raw is None:
            return None
        try:
            manifest: dict[str, Any] = json.loads(raw)
            initiated_at = datetime.fromisoformat(manifest["initiated_at"])
            check_key(manifest["key"])
            options = PutOptions.load(manifest["options"])
            return OpenUpload(bucket, manifest["key"], upload_id, path, initiated_at, options)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BackendError(
                f"'{path}/{_MANIFEST}', which describes an upload, is damaged; abort the upload"
            ) from error

    async def _load_again(self, bucket: str, upload_id: str) -> OpenUpload | None:
        path = f"{self._layout.upload(bucket, upload_id)}/{_MANIFEST}"
        status = await self._fs.lstat(path)
        if status is None:
            self._remembered.pop(path, None)
            return None
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._remembered.get(path)
        if known is not None and known[0] == version:
            return known[1]
        upload = await self._load(bucket, upload_id)
        if upload is not None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[path] = version, upload
        return upload

    async def _load_or_warn(self, bucket: str, upload_id: str) -> OpenUpload | None:
        try:
            return await self._load(bucket, upload_id)
        except BackendError as error:
            _log.warning("an upload of %r is left out: %s", bucket, error)
            return None

    async def store_part(
        self, bucket: str, key: str, upload_id: str, number: int, temporary: Temporary, checkpoint: Checkpoint
    ) -> PartInfo:
        """Store a temporary as a part."""
        time_ns = self._now()
        status = await self._fs.set_time(temporary.handle, time_ns)
        await self._fs.sync(temporary.handle)
        # The lock keeps others from completing or aborting the upload, which would leave this part without an upload.
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            upload = await self.require(bucket, key, upload_id)
            before, token = await self._parts.replaced(upload, number, time_ns)
            await self._objects.inherit(bucket, key, temporary.handle, status)
            checkpoint()
            path = self._parts.path(upload, number, token)
            await self._fs.publish(temporary, path, replace=True)
            await self._fs.sync_directory(upload.path)
            if before:
                await self._parts.leave(upload)
            for part in before:
                await self._fs.unlink(part.path)
        return Part(number, path, status, token).info

    async def parts(self, bucket: str, key: str, upload_id: str) -> list[PartInfo]:
        """Return the stored parts, sorted by number."""
        await self._buckets.settle(bucket)
        upload = await self.require(bucket, key, upload_id)
        return [part.info for part in (await self._parts.stored(upload)).values()]

    async def abort(self, bucket: str, key: str, upload_id: str) -> None:
        """Abort an upload; one that is not open is success."""
        await self._buckets.require(bucket)
        if not _ID.match(upload_id):
            return
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            try:
                upload = await self._load(bucket, upload_id)
            except BackendError:  # its manifest is damaged, so nothing can be done with it but this
                await self._remove(self._layout.upload(bucket, upload_id))
                return
            if upload is not None and upload.key == key:
                await self._remove(upload.path)

    async def list(self, bucket: str, prefix: str) -> Sequence[UploadInfo]:
        """Return the open uploads, sorted by key and start."""
        await self._buckets.require(bucket)
        await self._buckets.settle(bucket)
        found: list[UploadInfo] = []
        async with aclosing(self._fs.scan(self._layout.uploads(bucket))) as scan:
            async for entry in scan:
                upload = await self._load_or_warn(bucket, entry.name) if _ID.match(entry.name) else None
                if upload is not None and upload.key.startswith(prefix) and not await was_taken(self._fs, upload.path):
                    found.append(UploadInfo(entry.name, upload.key, upload.initiated_at))
        return sorted(found, key=lambda info: (info.key, info.initiated_at))
