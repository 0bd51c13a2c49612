"""Multipart uploads: a directory for each, with a manifest and a file for each part."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any, Final

from trove_async.checksums import new_hasher, verify
from trove_async.driver.options import CompleteOptions, PutOptions
from trove_async.errors import BackendError, BucketNotFoundError, InvalidPartError, UploadNotFoundError
from trove_async.keys import check_key
from trove_async.tree.attributes import Attributes, etag_of
from trove_async.tree.buckets import Buckets
from trove_async.tree.clock import WriteClock
from trove_async.tree.directories import make_directories, remove_all
from trove_async.tree.filesystem import Checkpoint, FileSystem, Stat, Temporary
from trove_async.tree.layout import Layout
from trove_async.tree.objects import Objects
from trove_async.tree.versions import new_version_id, order_of
from trove_async.types import ObjectInfo, PartInfo, UploadInfo

__all__ = ["Uploads"]

_log = logging.getLogger("trove_async")

_ID: Final = re.compile(r"[0-9a-f]{32}\Z")
_MANIFEST: Final = "manifest"
_READ_SIZE: Final = 1024 * 1024
_PART: Final = re.compile(r"(\d+)(?:\.([0-9a-f]+))?")


@dataclass(frozen=True, slots=True)
class _Upload:
    path: str
    key: str
    initiated_at: datetime
    options: PutOptions


@dataclass(frozen=True, slots=True)
class _Part:
    """A stored part: the file ``NUMBER``, or ``NUMBER.TOKEN`` where `FileSystem.uses_tokens`."""

    number: int
    path: str
    status: Stat
    token: str | None

    @property
    def info(self) -> PartInfo:
        """What users get."""
        return PartInfo(self.number, etag_of(self.status, self.token), self.status.st_size)


class Uploads:
    """The open uploads of a tree."""

    def __init__(
        self,
        fs: FileSystem,
        layout: Layout,
        buckets: Buckets,
        objects: Objects,
        *,
        clock: WriteClock,
        min_part_size: int,
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._buckets = buckets
        self._objects = objects
        self._now = clock
        self._min_part_size = min_part_size

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

    async def _remove(self, path: str) -> None:
        # Without its manifest the upload has ended, even if other files of it cannot be removed.
        await self._fs.unlink(f"{path}/{_MANIFEST}")
        await remove_all(self._fs, path)

    async def require(self, bucket: str, key: str, upload_id: str) -> _Upload:
        """Return an open upload.

        Raises:
            UploadNotFoundError: no upload with this id is open for this key.
        """
        upload = await self._load(bucket, upload_id) if _ID.match(upload_id) else None
        if upload is None or upload.key != key:
            await self._buckets.require(bucket)
            raise UploadNotFoundError(f"no upload {upload_id!r} of this key is open", bucket=bucket, key=key)
        return upload

    async def _load(self, bucket: str, upload_id: str) -> _Upload | None:
        path = self._layout.upload(bucket, upload_id)
        raw = await self._fs.read_file(f"{path}/{_MANIFEST}")
        if raw is None:
            return None
        try:
            manifest: dict[str, Any] = json.loads(raw)
            initiated_at = datetime.fromisoformat(manifest["initiated_at"])
            check_key(manifest["key"])
            return _Upload(path, manifest["key"], initiated_at, PutOptions.load(manifest["options"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BackendError(
                f"'{path}/{_MANIFEST}', which describes an upload, is damaged; abort the upload"
            ) from error

    async def _load_or_warn(self, bucket: str, upload_id: str) -> _Upload | None:
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
            before, token = await self._before(upload, number, time_ns)
            await self._objects.inherit(bucket, key, temporary.handle, status)
            checkpoint()
            path = f"{upload.path}/{number:05}" + ("" if token is None else f".{token}")
            await self._fs.publish(temporary, path, replace=True)
            await self._fs.sync_directory(upload.path)
            for part in before:
                await self._fs.unlink(part.path)
        return _Part(number, path, status, token).info

    async def _before(self, upload: _Upload, number: int, time_ns: int) -> tuple[list[_Part], str | None]:
        """Return the files of this part that a new one does not replace by its name, and the token for its name."""
        if not self._fs.uses_tokens:
            return [], None
        before = [part for part in await self._files(upload) if part.number == number]
        newest = max((order_of(part.token) or 0 for part in before if part.token), default=0)
        return before, new_version_id(time_ns if time_ns > newest else self._now(newest))

    async def parts(self, bucket: str, key: str, upload_id: str) -> list[PartInfo]:
        """Return the stored parts, sorted by number."""
        await self._buckets.settle(bucket)
        upload = await self.require(bucket, key, upload_id)
        return [part.info for part in (await self._stored(upload)).values()]

    async def _stored(self, upload: _Upload) -> dict[int, _Part]:
        """Return the parts by number, sorted; the newest if an interrupted upload left an older one too."""
        found = await self._files(upload)
        return {part.number: part for part in sorted(found, key=lambda part: (part.number, part.token or ""))}

    async def _files(self, upload: _Upload) -> list[_Part]:
        found: list[_Part] = []
        async with aclosing(self._fs.scan(upload.path)) as scan:
            async for entry in scan:
                match = _PART.fullmatch(entry.name)
                if match is not None:
                    path = f"{upload.path}/{entry.name}"
                    status = entry.status or await self._fs.lstat(path)
                    if status is not None:
                        found.append(_Part(int(match[1]), path, status, match[2]))
        return found

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: CompleteOptions,
        temporary: Temporary,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        """Join the parts in a temporary and commit it as the object."""
        await self._buckets.settle(bucket)
        upload = await self.require(bucket, key, upload_id)
        try:
            for part in await self._checked(upload, parts):
                await self._append(part, temporary, checkpoint)
        except InvalidPartError:
            await self.require(bucket, key, upload_id)  # another caller may have ended the upload and removed its parts
            raise
        checksums = await self._checksums(upload, temporary)

        async def still_open() -> None:
            # Of several completions and aborts, the first to take the key's lock wins.
            await self.require(bucket, key, upload_id)

        info = await self._objects.commit(
            bucket,
            key,
            temporary,
            Attributes.of(key, upload.options.attributes, checksums),
            checkpoint,
            if_match=options.if_match,
            if_none_match=options.if_none_match,
            before=still_open,
            after=lambda: self._fs.unlink(f"{upload.path}/{_MANIFEST}"),
        )
        await remove_all(self._fs, upload.path)
        return info

    async def _checked(self, upload: _Upload, parts: Sequence[PartInfo]) -> list[_Part]:
        stored = await self._stored(upload)
        checked: list[_Part] = []
        for part in parts:
            found = stored.get(part.number)
            if found is None:
                raise InvalidPartError(f"part {part.number} was not uploaded")
            if found.info.etag != part.etag:
                raise _uploaded_again(found.info)
            if found.status.st_size < self._min_part_size and part is not parts[-1]:
                raise InvalidPartError(
                    f"part {part.number} has {found.status.st_size} bytes; "
                    f"every part but the last needs {self._min_part_size} or more"
                )
            checked.append(found)
        return checked

    async def _append(self, part: _Part, temporary: Temporary, checkpoint: Checkpoint) -> None:
        opened = await self._fs.open(part.path)
        if opened is None:
            raise InvalidPartError(f"part {part.number} was removed or uploaded again during the completion")
        handle, status = opened
        try:
            if etag_of(status, part.token) != part.info.etag:
                raise _uploaded_again(PartInfo(part.number, etag_of(status, part.token), status.st_size))
            await self._fs.copy_data(handle, temporary.handle, checkpoint)
        finally:
            await self._fs.close(handle)

    async def _checksums(self, upload: _Upload, temporary: Temporary) -> dict[str, str]:
        wanted = upload.options.checksum
        if wanted is None:
            return {}
        hasher = new_hasher(wanted.algorithm)
        offset = 0
        while chunk := await self._fs.read(temporary.handle, offset, _READ_SIZE):
            hasher.update(chunk)
            offset += len(chunk)
        digest = hasher.hexdigest()
        if wanted.value is not None:
            verify(wanted.algorithm, wanted.value, digest, "the parts together")
        return {wanted.algorithm: digest}

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
                if upload is not None and upload.key.startswith(prefix):
                    found.append(UploadInfo(entry.name, upload.key, upload.initiated_at))
        return sorted(found, key=lambda info: (info.key, info.initiated_at))


def _uploaded_again(part: PartInfo) -> InvalidPartError:
    return InvalidPartError(f"part {part.number} was uploaded again: its ETag is now {part.etag!r}")
