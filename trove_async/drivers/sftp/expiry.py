"""Removing an expired object, but no newer one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from trove_async.driver.conditions import check_write
from trove_async.drivers.sftp.objects import SFTPObjects, is_same
from trove_async.drivers.sftp.protocol import FileStatus, Kind
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import BackendError, ObjectNotFoundError
from trove_async.tree.attributes import etag_of

__all__ = ["Expiry"]


class Expiry:
    """Removes an object if it is the expected one.

    SFTP has no request that deletes a file on a condition. So the file is moved to the directory of temporaries, where
    nobody replaces it, and its ETag is compared there. An object that was put in the meantime is moved back, unless yet
    another one has replaced it. Only in this case the key has no object for a moment.

    Args:
        objects: of the tree.
        bucket, key: the object.
        if_match: the ETag that it must have.
    """

    def __init__(self, objects: SFTPObjects, bucket: str, key: str, if_match: str) -> None:
        self._objects = objects
        self._fs = objects.fs
        self._bucket = bucket
        self._key = key
        self._if_match = if_match
        self._moved_to = self._fs.temporary()

    async def remove(self, checkpoint: Callable[[], None]) -> None:
        """Remove the object; if the connection was lost, call it again to go on.

        Raises:
            ObjectNotFoundError: there is no object.
            PreconditionFailedError: it has another ETag.
        """
        objects, bucket, key = self._objects, self._bucket, self._key
        async with objects.writers.hold((bucket, key)), objects.structure(bucket):
            path, moved = await self._move(checkpoint)
            if etag_of(moved) == self._if_match or not await self._return(path, moved):
                await objects.sidecars.drop(bucket, key, moved)
            await self._fs.unlink(self._moved_to)
        check_write(etag_of(moved), self._if_match, None)
        directory = objects.directory_to_tidy(bucket, path)
        if directory is not None:
            await objects.tidy(bucket, directory)

    async def _move(self, checkpoint: Callable[[], None]) -> tuple[str, FileStatus]:
        path, status = await self._objects.locate(self._bucket, self._key)
        moved = await self._fs.lstat(self._moved_to)
        if moved is None:
            if status is None:
                raise ObjectNotFoundError(bucket=self._bucket, key=self._key)
            check_write(etag_of(status), self._if_match, None)
            checkpoint()
            await self._fs.rename(path, self._moved_to)
            moved = await self._fs.lstat(self._moved_to)
        if moved is None:
            raise BackendError("the temporary file was removed from .trove/tmp")
        return path, moved

    async def _return(self, path: str, moved: FileStatus) -> bool:
        """Move the file back unless there is another one; return whether it is in place."""
        path = await self._objects.place(self._bucket, self._key, self._publish, path, replace=False)
        there = await self._fs.lstat(path)
        return there is not None and is_same(there, moved)

    async def _publish(self, path: str, *, replace: bool) -> None:
        source, target = path_bytes(self._moved_to), path_bytes(path)
        with suppress(FileExistsError):  # another object, or this one by an earlier attempt whose answer was lost
            if self._fs.abilities.links:
                await self._fs.link(self._moved_to, path)
            else:
                # It is an error if there is a file of the new name
                # (https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02#section-6.5).
                await self._fs.exclusively(path, lambda: self._fs.ask(Kind.RENAME, source, target))
