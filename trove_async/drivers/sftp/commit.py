"""The step that commits a write: a rename, or a second name if it is create-only."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from trove_async.driver.conditions import check_write
from trove_async.driver.retry import Attempts
from trove_async.drivers.sftp.errors import DisconnectedError, RefusedError, translated
from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.location import Location
from trove_async.drivers.sftp.protocol import FileStatus
from trove_async.drivers.sftp.requests import wait_ignoring_errors
from trove_async.errors import TroveError, UnavailableError
from trove_async.tree import Temporary
from trove_async.tree.attributes import etag_of
from trove_async.tree.filesystem import is_dir

__all__ = ["Commit"]

_log = logging.getLogger("trove_async")


class _Objects(Protocol):
    """The objects of the tree, as far as a commit needs them; see `SFTPObjects`."""

    @property
    def fs(self) -> SFTPFileSystem: ...

    async def tidy(self, bucket: str, directory: str) -> None: ...

    def structure(self, bucket: str) -> AbstractAsyncContextManager[None]: ...

    async def locate(self, bucket: str, key: str) -> tuple[str, FileStatus | None]: ...

    async def place(
        self, bucket: str, key: str, publish: Callable[..., Awaitable[None]], path: str, *, replace: bool
    ) -> str: ...


class Commit:
    """Moves a temporary to its object's path.

    If the connection is lost during that, the server is asked on a new one what happened. Every file has its own time,
    so it is known again: at the object's path the commit was done, in the directory of temporaries it was not.

    Args:
        objects: of the tree.
        bucket, key: the object.
        temporary: written, flushed and closed.
        status: of the temporary.
        checkpoint: called right before the commit; raises to stop it.
        create_only: whether an existing object makes it fail.

    Attributes:
        may_be_done: True once the object is in place, or may be.
    """

    def __init__(
        self,
        objects: _Objects,
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
        self._taken: str | None = None  # the ETag of the existing object, if this is create-only

    async def publish(self, location: Location) -> FileStatus | None:
        """Commit; return the status of the file that was replaced, None if there was none.

        Raises:
            ObjectAlreadyExistsError: it is create-only, and there is an object.
        """
        self._checkpoint()
        if not location.conflict:
            making = [] if not location.missing else await self._fs.send_mkdirs(location.missing)
            try:
                await self._move(location.path, replace=location.status is not None)
            except (FileNotFoundError, IsADirectoryError, RefusedError):
                pass  # a directory was created or removed meanwhile; another cause shows again below
            else:
                if self._taken is not None:
                    check_write(self._taken, None, "*")
                return location.status
            finally:
                for answer in making:
                    await wait_ignoring_errors(answer)
                if location.missing and not self.may_be_done:
                    await self._tidy(location.missing[-1])
        return await self._publish_locked()

    async def _tidy(self, directory: str) -> None:
        try:
            await self._objects.tidy(self._bucket, directory)
        except (OSError, TroveError) as error:
            _log.warning(
                "the object %r was not stored; empty directories may be left at %r: %s", self._key, directory, error
            )

    async def _publish_locked(self) -> FileStatus | None:
        """Commit under the lock for creating names with marks and removing directories."""
        async with self._objects.structure(self._bucket):
            path, current = await self._objects.locate(self._bucket, self._key)
            if self._create_only and not self._unsettled:
                check_write(None if current is None else etag_of(current), None, "*")
            self._checkpoint()
            await self._objects.place(self._bucket, self._key, self._move, path, replace=current is not None)
            if self._taken is not None:
                check_write(self._taken, None, "*")
            return current

    async def _move(self, path: str, *, replace: bool) -> None:
        """Rename or link, until the outcome is known."""
        attempts: Attempts | None = None
        while True:
            try:
                if attempts is not None and await self._is_done(path):
                    self._temporary.committed = not self._create_only
                elif self._create_only:
                    await self._link(path)
                else:
                    await self._fs.publish(self._temporary, path, replace=replace)
                self.may_be_done = self._taken is None
                return
            except DisconnectedError as error:
                self._unsettled = True
                if attempts is None:
                    attempts = self._fs.recovery.retries.of_step()
                if not await self._again(attempts, error):
                    raise self._ambiguous(translated(error)) from error
            except UnavailableError as error:
                if not self._unsettled:
                    raise
                raise self._ambiguous(error) from error
            except asyncio.CancelledError:
                self.may_be_done = True  # the caller stopped waiting for the answer
                raise

    async def _again(self, attempts: Attempts, error: DisconnectedError) -> bool:
        try:
            return await self._fs.recovery.settle_again(attempts, error)
        except asyncio.CancelledError:
            self.may_be_done = True  # the connection was lost before the answer came
            raise

    async def _link(self, path: str) -> None:
        assert self._temporary.path is not None
        try:
            await self._fs.link(self._temporary.path, path)
        except FileExistsError:
            there = await self._fs.lstat(path)
            if there is None or is_dir(there):
                raise RefusedError(errno.EEXIST, "the path is taken by something that is no object") from None
            if not self._is_own(there):
                self._taken = etag_of(there)

    def _is_own(self, there: FileStatus | None) -> bool:
        return there is not None and (there.st_size, there.st_mtime_ns) == (
            self._status.st_size,
            self._status.st_mtime_ns,
        )

    async def _is_done(self, path: str) -> bool:
        """Ask the server whether the commit was done, after the connection was lost."""
        assert self._temporary.path is not None
        there, temporary = await self._fs.lstat_all((path, self._temporary.path))
        if self._is_own(there):
            return True
        if temporary is not None or self._create_only:
            return False
        if self._fs.lease_expired():
            raise self._ambiguous(
                UnavailableError("the connection was lost for longer than the lease of this client holds")
            )
        return True  # it was done, and the object was replaced or deleted afterwards

    def _ambiguous(self, error: TroveError) -> TroveError:
        self.may_be_done = error.ambiguous = True
        return error
