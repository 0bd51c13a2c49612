"""The one step of a write that counts: a rename, or for create-only a second name."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from trove_async.driver.conditions import check_write
from trove_async.drivers.sftp.errors import DisconnectedError, RefusedError, translated
from trove_async.drivers.sftp.places import Place
from trove_async.drivers.sftp.protocol import FileStatus
from trove_async.drivers.sftp.requests import over
from trove_async.errors import TroveError, UnavailableError
from trove_async.tree import Temporary
from trove_async.tree.attributes import etag_of
from trove_async.tree.filesystem import is_dir

if TYPE_CHECKING:
    from trove_async.drivers.sftp.objects import SFTPObjects

__all__ = ["Commit"]

_log = logging.getLogger("trove_async")


class Commit:
    """Gives a temporary its place.

    A connection that is lost meanwhile leaves the outcome open; then the server is asked, on another one. Every file
    of ours has a time of its own, so that ours at the place means that it was done, and ours in the
    folder of temporaries that it was not.

    Args:
        objects: where to.
        bucket, key: the object.
        temporary: written, flushed and closed.
        status: that it has.
        checkpoint: called right before the step; raises to stop it.
        create_only: whether nothing may be there.

    Attributes:
        may_be_done: True once the object is there, or may be.
    """

    def __init__(
        self,
        objects: SFTPObjects,
        bucket: str,
        key: str,
        temporary: Temporary,
        status: FileStatus,
        checkpoint: Callable[[], None],
        *,
        create_only: bool,
    ) -> None:
        self._objects = objects
        self._fs = objects.fs
        self._bucket = bucket
        self._key = key
        self._temporary = temporary
        self._status = status
        self._checkpoint = checkpoint
        self._create_only = create_only
        self._unsettled = False
        self.may_be_done = False
        self._taken: str | None = None  # the ETag of the object that was there, if it was to be created only

    async def publish(self, place: Place) -> FileStatus | None:
        """Do it; return the status of the file that was replaced, None for none.

        Raises:
            ObjectAlreadyExistsError: it is create-only, and there is an object.
        """
        self._checkpoint()
        if not place.odd:
            making = [] if not place.missing else await self._fs.send_mkdirs(place.missing)
            try:
                await self._step(place.path, replace=place.status is not None)
            except (FileNotFoundError, IsADirectoryError, RefusedError):
                pass  # a directory came or went meanwhile; what is wrong else shows again
            else:
                if self._taken is not None:
                    check_write(self._taken, None, "*")
                return place.status
            finally:
                for answer in making:
                    await over(answer)
                if place.missing and not self.may_be_done:
                    await self._tidy(place.missing[-1])
        return await self._publish_slowly()

    async def _tidy(self, directory: str) -> None:
        try:
            await self._objects.tidy(self._bucket, directory)
        except (OSError, TroveError) as error:
            _log.warning("empty directories may be left at %r: %s", directory, error)

    async def _publish_slowly(self) -> FileStatus | None:
        """Do it under the lease under which no one else makes names with marks or removes directories."""
        async with self._objects.structure(self._bucket):
            path, current = await self._objects.place_again(self._bucket, self._key)
            if self._create_only and not self._unsettled:
                check_write(None if current is None else etag_of(current), None, "*")
            self._checkpoint()
            await self._objects.put_in_place(self._bucket, self._key, self._step, path, replace=current is not None)
            if self._taken is not None:
                check_write(self._taken, None, "*")
            return current

    async def _step(self, path: str, *, replace: bool) -> None:
        """Rename or link, until it is known what became of it."""
        failures = 0
        while True:
            try:
                if failures and await self._is_done(path):
                    self._temporary.committed = not self._create_only
                elif self._create_only:
                    await self._link(path)
                else:
                    await self._fs.publish(self._temporary, path, replace=replace)
                self.may_be_done = self._taken is None
                return
            except DisconnectedError as error:
                self._unsettled = True
                failures += 1
                if failures >= self._fs.attempts:
                    raise self._ambiguous(translated(error)) from error
            except UnavailableError as error:
                if not self._unsettled:
                    raise
                raise self._ambiguous(error) from error
            except asyncio.CancelledError:
                self.may_be_done = True  # it was given up, since the server did not answer for too long
                raise

    async def _link(self, path: str) -> None:
        assert self._temporary.path is not None
        try:
            await self._fs.link(self._temporary.path, path)
        except FileExistsError:
            there = await self._fs.lstat(path)
            if there is None or is_dir(there):
                raise RefusedError(errno.EEXIST, "something was in the way") from None
            if not self._is_ours(there):
                self._taken = etag_of(there)

    def _is_ours(self, there: FileStatus | None) -> bool:
        return there is not None and (there.st_size, there.st_mtime_ns) == (
            self._status.st_size,
            self._status.st_mtime_ns,
        )

    async def _is_done(self, path: str) -> bool:
        """Ask the server whether the step was taken, after a connection was lost."""
        assert self._temporary.path is not None
        there, temporary = await self._fs.lstat_all((path, self._temporary.path))
        if self._is_ours(there):
            return True
        if temporary is not None or self._create_only:
            return False
        if self._fs.scratch_lapsed():
            raise self._ambiguous(UnavailableError("the connection was lost for longer than our lease held"))
        return True  # it was done, and the object was replaced or deleted since

    def _ambiguous(self, error: TroveError) -> TroveError:
        self.may_be_done = error.ambiguous = True
        return error
