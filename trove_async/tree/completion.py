"""Completing an upload: its only part becomes the object as it is, and several parts are joined in a temporary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from trove_async.checksums import new_hasher, verify
from trove_async.driver.options import CompleteOptions
from trove_async.errors import InvalidPartError
from trove_async.tree.attributes import Attributes, etag_of, token_for_copy
from trove_async.tree.buckets import Buckets
from trove_async.tree.directories import remove_all
from trove_async.tree.filesystem import Checkpoint, FileSystem, Stat, Temporary
from trove_async.tree.objects import Objects
from trove_async.tree.parts import OpenUpload, Part, Parts, uploaded_again
from trove_async.tree.uploads import Uploads
from trove_async.types import ObjectInfo, PartInfo

__all__ = ["Completion"]

_READ_SIZE: Final = 1024 * 1024


class Completion:
    """Makes objects of the uploads of a tree.

    Args:
        fs, buckets, objects, uploads, parts: of the tree.
        min_part_size: bytes of every part of an upload but the last.
    """

    def __init__(
        self, fs: FileSystem, buckets: Buckets, objects: Objects, uploads: Uploads, parts: Parts, *, min_part_size: int
    ) -> None:
        self._fs = fs
        self._buckets = buckets
        self._objects = objects
        self._uploads = uploads
        self._parts = parts
        self._min_part_size = min_part_size

    async def complete(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: CompleteOptions,
        checkpoint: Checkpoint,
    ) -> ObjectInfo:
        """Make the object from the parts; the upload stays open and whole if this fails."""
        await self._buckets.settle(bucket)
        upload = await self._uploads.require(bucket, key, upload_id)
        try:
            stored = await self._checked(upload, parts)
            if len(stored) == 1 and self._fs.owns(stored[0].status):
                info = await self._take(upload, stored[0], options, checkpoint)
            else:
                info = await self._join(upload, stored, options, checkpoint)
        except InvalidPartError:
            await self._uploads.still_open(upload)  # another caller may have ended the upload and removed its parts
            raise
        await remove_all(self._fs, upload.path)
        return info

    async def _checked(self, upload: OpenUpload, parts: Sequence[PartInfo]) -> list[Part]:
        stored = await self._parts.stored(upload)
        checked: list[Part] = []
        for part in parts:
            found = stored.get(part.number)
            if found is None:
                raise InvalidPartError(f"part {part.number} was not uploaded")
            if found.info.etag != part.etag:
                raise uploaded_again(found.info)
            if found.status.st_size < self._min_part_size and part is not parts[-1]:
                raise InvalidPartError(
                    f"part {part.number} has {found.status.st_size} bytes; "
                    f"every part but the last needs {self._min_part_size} or more"
                )
            checked.append(found)
        return checked

    # One part

    async def _take(
        self, upload: OpenUpload, part: Part, options: CompleteOptions, checkpoint: Checkpoint
    ) -> ObjectInfo:
        """Move the file of a part to the object's path: the bytes are not copied."""
        checksums: dict[str, str] = {}
        if upload.options.checksum is not None:
            handle = await self._open(part)
            try:
                checksums = await self._checksums(upload, handle, checkpoint)
            finally:
                await self._fs.close(handle)

        async def claim() -> Temporary:
            # Of several completions and aborts, the first to take the key's lock wins.
            await self._uploads.still_open(upload)
            return await self._claim(upload, part)

        return await self._objects.take(
            upload.bucket,
            upload.key,
            claim,
            Attributes.of(upload.key, upload.options.attributes, checksums),
            checkpoint,
            if_match=options.if_match,
            if_none_match=options.if_none_match,
            after=lambda: self._uploads.end(upload),
        )

    async def _claim(self, upload: OpenUpload, part: Part) -> Temporary:
        """Open the file of a part for the commit, and exclude those that would append to it."""
        opened = await self._fs.open_claimed(part.path, self._parts.claim(upload, part.number))
        if opened is None:
            raise _removed(part)
        temporary, status = opened
        try:
            _check_unchanged(part, status)
            if part.token is None:
                part = await self._named(upload, part)
                await self._fs.keep(temporary, part.path)
            await self._parts.take(part, upload)
        except BaseException:
            await self._fs.discard(temporary)
            raise
        return temporary

    async def _named(self, upload: OpenUpload, part: Part) -> Part:
        """Give the file of a part a name with a token that keeps its ETag, whatever time the commit sets."""
        await self._parts.use_tokens(upload)
        token = token_for_copy(part.status)
        path = self._parts.path(upload, part.number, token)
        await self._fs.rename(part.path, path)
        await self._fs.sync_directory(upload.path)
        return replace(part, path=path, token=token)

    # Several parts

    async def _join(
        self, upload: OpenUpload, parts: Sequence[Part], options: CompleteOptions, checkpoint: Checkpoint
    ) -> ObjectInfo:
        """Copy the parts into a temporary, and commit it as the object."""
        temporary = await self._fs.create_temporary()
        try:
            for part in parts:
                await self._append(part, temporary, checkpoint)
            checksums = await self._checksums(upload, temporary.handle, checkpoint)
            return await self._objects.commit(
                upload.bucket,
                upload.key,
                temporary,
                Attributes.of(upload.key, upload.options.attributes, checksums),
                checkpoint,
                if_match=options.if_match,
                if_none_match=options.if_none_match,
                before=lambda: self._uploads.still_open(upload),
                after=lambda: self._uploads.end(upload),
            )
        finally:
            await self._fs.discard(temporary)

    async def _append(self, part: Part, temporary: Temporary, checkpoint: Checkpoint) -> None:
        handle = await self._open(part)
        try:
            await self._fs.copy_data(handle, temporary.handle, checkpoint)
        finally:
            await self._fs.close(handle)
        if part.token is not None:  # it may have been appended to meanwhile
            status = await self._fs.lstat(part.path)
            if status is None or etag_of(status, part.token) != part.info.etag:
                raise _removed(part)

    # Both

    async def _open(self, part: Part) -> int:
        """Open the file of a part for reading; the caller closes the handle."""
        opened = await self._fs.open(part.path)
        if opened is None:
            raise _removed(part)
        handle, status = opened
        try:
            _check_unchanged(part, status)
        except InvalidPartError:
            await self._fs.close(handle)
            raise
        return handle

    async def _checksums(self, upload: OpenUpload, handle: int, checkpoint: Checkpoint) -> dict[str, str]:
        wanted = upload.options.checksum
        if wanted is None:
            return {}
        hasher = new_hasher(wanted.algorithm)
        offset = 0
        while chunk := await self._fs.read(handle, offset, _READ_SIZE):
            checkpoint()
            hasher.update(chunk)
            offset += len(chunk)
        digest = hasher.hexdigest()
        if wanted.value is not None:
            verify(wanted.algorithm, wanted.value, digest, "the parts together")
        return {wanted.algorithm: digest}


def _check_unchanged(part: Part, status: Stat) -> None:
    now = replace(part, status=status).info
    if now.etag != part.info.etag:
        raise uploaded_again(now)


def _removed(part: Part) -> InvalidPartError:
    return InvalidPartError(f"part {part.number} was removed or uploaded again during the completion")
