"""Removing an object that has expired, and nothing newer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from trove_async.driver.conditions import check_write
from trove_async.drivers.sftp.objects import SFTPObjects, is_same
from trove_async.drivers.sftp.protocol import FileStatus, Kind
from trove_async.drivers.sftp.requests import path_bytes
from trove_async.errors import BackendError, ObjectNotFoundError
from trove_async.tree.attributes import etag_of

__all__ = ["Expiry"]


class Expiry:
    """Removes an object, if it is the expected one.

    SFTP has no request that deletes a file on a condition. So the file is moved to our folder of temporaries and looked
    at there, where nobody replaces it. One that was put since it was found to be old goes back, which is the only case
    in which a key has no object for a moment; unless another was put meanwhile, which would have replaced it.

    Args:
        objects: where it is.
        bucket, key: which.
        if_match: the ETag that it must have.
    """

    def __init__(self, objects: SFTPObjects, bucket: str, key: str, if_match: str) -> None:
        self._objects = objects
        self._fs = objects.fs
        self._bucket = bucket
        self._key = key
        self._if_match = if_match
        self._aside = self._fs.temporary()

    async def remove(self, checkpoint: Callable[[], None]) -> None:
        """Do it; after a lost connection it goes on where it was.

        Raises:
            ObjectNotFoundError: there is none.
            PreconditionFailedError: it is another.
        """
        objects, bucket, key = self._objects, self._bucket, self._key
        async with objects.writers.hold((bucket, key)), objects.structure(bucket):
            path, moved = await self._move(checkpoint)
            if etag_of(moved) == self._if_match or not await self._return(path, moved):
                await objects.sidecars.drop(bucket, key, moved)
            await self._fs.unlink(self._aside)
        check_write(etag_of(moved), self._if_match, None)
        directory = objects.left_by(bucket, path)
        if directory is not None:
            await objects.tidy(bucket, directory)

    async def _move(self, checkpoint: Callable[[], None]) -> tuple[str, FileStatus]:
        path, status = await self._objects.place_again(self._bucket, self._key)
        moved = await self._fs.lstat(self._aside)
        if moved is None:
            if status is None:
                raise ObjectNotFoundError(bucket=self._bucket, key=self._key)
            check_write(etag_of(status), self._if_match, None)
            checkpoint()
            await self._fs.rename(path, self._aside)
            moved = await self._fs.lstat(self._aside)
        if moved is None:
            raise BackendError("our temporary file is gone from .trove/tmp")
        return path, moved

    async def _return(self, path: str, moved: FileStatus) -> bool:
        """Give the file its place again, unless there is another; tell whether it has it."""
        path = await self._objects.put_in_place(self._bucket, self._key, self._publish, path, replace=False)
        there = await self._fs.lstat(path)
        return there is not None and is_same(there, moved)

    async def _publish(self, path: str, *, replace: bool) -> None:
        source, target = path_bytes(self._aside), path_bytes(path)
        with suppress(FileExistsError):  # another, or this very file by an attempt whose answer was lost
            if self._fs.has_links:
                await self._fs.link(self._aside, path)
            else:
                # It is an error if there is a file of the new name
                # (https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02#section-6.5).
                await self._fs.exclusively(path, lambda: self._fs.ask(Kind.RENAME, source, target))
