"""Parts that grow: bytes are appended to the file of a part itself, so that they are kept however the writer ends."""

from __future__ import annotations

from dataclasses import dataclass

from trove_async.errors import ConflictError, InvalidPartError
from trove_async.tree.clock import WriteClock
from trove_async.tree.filesystem import FileSystem, Temporary
from trove_async.tree.layout import Layout
from trove_async.tree.objects import Objects
from trove_async.tree.parts import OpenUpload, Part, Parts
from trove_async.tree.uploads import Uploads
from trove_async.types import PartInfo

__all__ = ["Appending", "Appends"]


@dataclass(frozen=True, slots=True)
class Appending:
    """A part that is open for appending; `Temporary.path` is the part's, which `FileSystem.discard` leaves there."""

    upload: OpenUpload
    number: int
    token: str
    path: str
    temporary: Temporary


class Appends:
    """Lets the parts of the uploads of a tree grow.

    A part is claimed as long as it is being appended to, and while a completion makes it the object: nothing is
    appended to an object. A part that loses bytes gets a new token first, so that every ETag stands for one content.
    """

    def __init__(
        self, fs: FileSystem, layout: Layout, objects: Objects, uploads: Uploads, parts: Parts, clock: WriteClock
    ) -> None:
        self._fs = fs
        self._layout = layout
        self._objects = objects
        self._uploads = uploads
        self._parts = parts
        self._now = clock

    async def begin(self, bucket: str, key: str, upload_id: str, number: int, offset: int) -> Appending:
        """Cut a part off at an offset, and open it for appending; the caller discards `Appending.temporary`.

        Raises:
            ConflictError: it is being appended to.
            InvalidPartError: it is smaller.
            UploadNotFoundError: the upload is not open.
        """
        # The lock keeps others from completing or aborting the upload, which would leave this part without an upload.
        async with self._fs.lock(self._layout.stripe(bucket, key)):
            upload = await self._uploads.require(bucket, key, upload_id, again=True)
            part = (await self._parts.stored(upload)).get(number)
            if part is None:
                _check(number, offset, 0)
                token, path, temporary = await self._create(upload, number)
            else:
                token, path, temporary = await self._open(upload, part, offset)
        return Appending(upload, number, token, path, temporary)

    async def _create(self, upload: OpenUpload, number: int) -> tuple[str, str, Temporary]:
        await self._parts.use_tokens(upload)
        time_ns = self._now()
        token = self._parts.new_token((), time_ns)
        path = self._parts.path(upload, number, token)
        temporary = await self._fs.create_temporary()
        try:
            await self._fs.claim(temporary, self._parts.claim(upload, number))
            status = await self._fs.set_time(temporary.handle, time_ns)
            await self._objects.inherit(upload.bucket, upload.key, temporary.handle, status)
            await self._fs.publish(temporary, path, replace=False)
            await self._fs.keep(temporary, path)
            await self._fs.sync_directory(upload.path)
        except BaseException:
            await self._fs.discard(temporary)
            raise
        return token, path, temporary

    async def _open(self, upload: OpenUpload, part: Part, offset: int) -> tuple[str, str, Temporary]:
        opened = await self._fs.open_claimed(part.path, self._parts.claim(upload, part.number))
        if opened is None:
            raise InvalidPartError(f"part {part.number} is no file, or was removed")
        temporary, status = opened
        token, path = part.token, part.path
        try:
            _check(part.number, offset, status.st_size)
            if token is None or offset < status.st_size:
                token, path = await self._renamed(upload, part)
                await self._fs.keep(temporary, path)
                await self._fs.truncate(temporary.handle, offset)
        except BaseException:
            await self._fs.discard(temporary)
            raise
        return token, path, temporary

    async def _renamed(self, upload: OpenUpload, part: Part) -> tuple[str, str]:
        """Give the file of a part a new token, durably: the old one stands for the bytes that it has now."""
        await self._parts.use_tokens(upload)
        await self._parts.leave(upload)
        before, token = await self._parts.replaced(upload, part.number, self._now())
        assert token is not None
        path = self._parts.path(upload, part.number, token)
        await self._fs.rename(part.path, path)
        for other in before:
            if other.path != part.path:
                await self._fs.unlink(other.path)
        await self._fs.sync_directory(upload.path)
        return token, path

    async def finish(self, appending: Appending) -> PartInfo:
        """Make what was appended durable, and return the part.

        Raises:
            ConflictError: the part was uploaded again meanwhile.
            UploadNotFoundError: the upload was ended meanwhile.
        """
        await self._fs.sync(appending.temporary.handle)
        status = await self._fs.lstat(appending.path)
        if status is None:
            await self._uploads.still_open(appending.upload)
            raise ConflictError(f"part {appending.number} was uploaded again while it was appended to")
        return Part(appending.number, appending.path, status, appending.token).info


def _check(number: int, offset: int, size: int) -> None:
    if offset > size:
        raise InvalidPartError(f"part {number} has {size} bytes, so nothing can be appended at {offset}")
