"""Requests about paths, in as few round trips as SFTP allows."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from trove_async.drivers.sftp.abilities import ASSUMED, Abilities
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.errors import RefusedError
from trove_async.drivers.sftp.protocol import HARDLINK, FileStatus, Kind, pack_string, pack_u32
from trove_async.drivers.sftp.statuses import path_bytes, statuses_of
from trove_async.tree.filesystem import is_file

__all__ = ["NO_ATTRIBUTES", "Requests", "wait_ignoring_errors"]

R = TypeVar("R")

NO_ATTRIBUTES: Final = pack_u32(0)
_TRIES: Final = 10
"""How often a refused exclusive creation is tried if the path turns out to be free."""


class Requests:
    """Requests about files and directories that are not open.

    Args:
        connection: gives the channel.

    Attributes:
        abilities: what the server was seen to support.
    """

    def __init__(self, connection: Connection, abilities: Abilities = ASSUMED) -> None:
        self._connection = connection
        self.abilities = abilities

    async def channel(self) -> Channel:
        """Return the channel; connect first if there is none."""
        return self._connection.current or await self._connection.channel()

    async def ask(self, kind: Kind, *parts: bytes) -> Any:
        """Send one request and return its answer."""
        return await (await self.channel()).request(kind, *parts)

    async def extended(self, name: bytes, *parts: bytes) -> Any:
        """Send a request of an extension.

        Raises:
            OSError: ``ENOTSUP``, if the server lacks it.
        """
        channel = await self.channel()
        if name not in channel.extensions:
            raise OSError(errno.ENOTSUP, f"the server lacks {name.decode()}")
        return await channel.request(Kind.EXTENDED, pack_string(name), *parts)

    async def has(self, name: bytes) -> bool:
        """Return whether the server has an extension."""
        return name in (await self.channel()).extensions

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection.current is not None

    async def lstat(self, path: str) -> FileStatus | None:
        """Return the status of a file, None if there is none."""
        return (await self.lstat_all((path,)))[0]

    async def lstat_all(self, paths: Iterable[str]) -> list[FileStatus | None]:
        """Return the status of several files in one round trip."""
        channel = await self.channel()
        return await statuses_of(channel, [(path, channel.request(Kind.LSTAT, path_bytes(path))) for path in paths])

    async def stat(self, path: str) -> FileStatus | None:
        """Return the status of a file, following links; None if there is none."""
        channel = await self.channel()
        return (await statuses_of(channel, [(path, channel.request(Kind.STAT, path_bytes(path)))]))[0]

    async def exists(self, path: str) -> bool:
        """Return whether anything has this name."""
        return await self.lstat(path) is not None

    async def exclusively(self, path: str, attempt: Callable[[], Awaitable[R]]) -> R:
        """Create something that must not exist yet; SFTP has one status for "it exists" and most other failures.

        Raises:
            FileExistsError: it exists.
        """
        tries = 0
        while True:
            try:
                return await attempt()
            except RefusedError as error:
                if await self.exists(path):
                    raise FileExistsError(errno.EEXIST, "file exists", path) from error
                tries += 1  # it was removed meanwhile, or the request failed for another reason and will fail again
                if tries == _TRIES:
                    raise

    async def mkdir(self, path: str) -> None:
        """Create a directory.

        Raises:
            FileExistsError: it exists.
        """
        if not self.abilities.makes_once and await self.exists(path):
            raise FileExistsError(errno.EEXIST, "file exists", path)
        await self.exclusively(path, lambda: self.ask(Kind.MKDIR, path_bytes(path), NO_ATTRIBUTES))

    async def send_mkdirs(self, paths: Sequence[str]) -> list[Any]:
        """Send requests that create directories; return the pending answers, which fail for those that exist."""
        channel = await self.channel()
        return [channel.request(Kind.MKDIR, path_bytes(path), NO_ATTRIBUTES) for path in paths]

    async def make_directories(self, path: str) -> None:
        """Create a directory and its missing parents."""
        try:
            await self.mkdir(path)
        except FileExistsError:
            pass
        except FileNotFoundError:
            await self.make_directories(path.rpartition("/")[0])
            with suppress(FileExistsError):
                await self.mkdir(path)

    async def rmdir(self, path: str) -> bool:
        """Remove an empty directory."""
        try:
            await self.ask(Kind.RMDIR, path_bytes(path))
        except (RefusedError, FileNotFoundError):
            return False
        return True

    async def rmdir_all(self, paths: Sequence[str]) -> int:
        """Remove directories, each of which may be in the next; return how many were removed before one failed."""
        channel = await self.channel()
        answers = [channel.request(Kind.RMDIR, path_bytes(path)) for path in paths]
        gone, failed = 0, False
        for answer in answers:
            try:
                await answer
            except FileNotFoundError:
                pass  # another client removed it first
            except RefusedError:
                failed = True
            gone += not failed
        return gone

    async def remove_with(self, file: str, directory: str) -> bool:
        """Remove a directory and the only file in it, in one round trip; False if the directory has more entries."""
        channel = await self.channel()
        unlinking = channel.request(Kind.REMOVE, path_bytes(file))
        removing = channel.request(Kind.RMDIR, path_bytes(directory))
        await wait_ignoring_errors(unlinking)
        try:
            await removing
        except FileNotFoundError:
            return True
        except RefusedError:
            return False
        return True

    async def unlink(self, path: str) -> bool:
        """Remove a file."""
        try:
            await self.ask(Kind.REMOVE, path_bytes(path))
        except FileNotFoundError:
            return False
        return True

    async def rename(self, source: str, target: str) -> None:
        """Rename a file or a directory over another."""
        try:
            await self.ask_rename(source, target)
        except RefusedError:
            if self.abilities.replaces or not is_file(await self.lstat(target)):
                raise
            await self.unlink(target)
            await self.ask_rename(source, target)

    async def ask_rename(self, source: str, target: str) -> None:
        """Send the request that renames on this server."""
        if self.abilities.rename is None:
            await self.ask(Kind.RENAME, path_bytes(source), path_bytes(target))
        else:
            await self.extended(self.abilities.rename, path_bytes(source), path_bytes(target))

    async def link(self, source: str, target: str) -> None:
        """Give a file a second name."""
        names = path_bytes(source), path_bytes(target)
        await self.exclusively(target, lambda: self.extended(HARDLINK, *names))


async def wait_ignoring_errors(answer: Any) -> None:
    """Wait for an answer whose result and error do not matter."""
    with suppress(OSError):
        await answer
