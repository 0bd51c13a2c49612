"""`ClientLease`: a client's directory of temporaries, and the lease that says that the client is alive.

Whether a lease has expired is decided by the server's clock alone: a file that is written gets the server's time, and
every client writes its lease again at intervals. So clients need not agree about the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from contextlib import suppress
from itertools import count
from secrets import token_hex
from typing import Final

from trove_async.drivers.sftp.protocol import FileStatus, Kind, OpenFlag, pack_string, pack_u32, pack_u64
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import TroveError
from trove_async.tree import Layout
from trove_async.tree.directories import remove_all

__all__ = ["LEASE_NAME", "ClientLease", "lease_seconds"]

LEASE_NAME: Final = "lease"
"""The name of the lease in a client's directory of temporaries."""
_GRACE: Final = 2
"""Seconds for which a lease still holds after its end: times of files are in whole seconds."""

_log = logging.getLogger("trove_async")


class ClientLease:
    """The lease of one store, and the directory of temporaries that it protects.

    Args:
        files: of the server.
        seconds: for which a lease holds after it was renewed.

    Attributes:
        owner: identifies this store to others.
        folder: the directory of temporaries, from `begin` on.
        path: of the lease.
        begun: whether there may be a directory to remove.
    """

    def __init__(self, files: RemoteFiles, seconds: float) -> None:
        self._files = files
        self._numbers = count()
        self._offset: float | None = None
        self._renewed = 0.0
        self._others: dict[str, float] = {}
        self._renewing: asyncio.Task[None] | None = None
        self.seconds = seconds
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{token_hex(8)}"
        self.folder = self.path = ""
        self.begun = False

    def temporary(self) -> str:
        """Return a new path in the directory of temporaries."""
        return f"{self.folder}/{next(self._numbers)}"

    def content(self) -> bytes:
        """Return what a lease of this client contains."""
        return json.dumps({"owner": self.owner, "seconds": self.seconds}).encode()

    # Time

    def server_time(self) -> float:
        """Return the server's time in seconds, at most a second late."""
        return 0.0 if self._offset is None else _now() + self._offset

    def expired_here(self) -> bool:
        """Return whether others may have removed the directory, since the lease was not renewed in time."""
        return _now() - self._renewed > self.seconds

    def has_expired(self, mtime_ns: int, seconds: float) -> bool:
        """Return whether a lease that was last renewed at a time, and holds for ``seconds``, has expired."""
        return self.server_time() - mtime_ns / 1_000_000_000 > seconds + _GRACE

    # Renewal

    async def begin(self, layout: Layout) -> None:
        """Create the directory of temporaries of a store, and renew its lease until `end`."""
        self.folder = f"{layout.tmp}/{self.owner}"
        self.path = f"{self.folder}/{LEASE_NAME}"
        self.begun = True
        with suppress(FileExistsError):  # an earlier attempt created it, and its answer was lost
            await self._files.mkdir(self.folder)
        await self.renew()
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew_regularly())

    async def _renew_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.seconds / 3)
            try:
                await self.renew()
            except (OSError, TroveError) as error:
                _log.warning("the lease of a store over SFTP could not be renewed: %s", error)

    def add(self, path: str) -> None:
        """Renew the lease at another path too."""
        self._others[path] = _now()

    def remove(self, path: str) -> None:
        """Stop renewing the lease at a path."""
        self._others.pop(path, None)

    async def renew_if_older(self, seconds: float) -> None:
        """Renew the lease unless it was renewed within ``seconds``."""
        if _now() - self._renewed > seconds:
            await self.renew()

    async def renew(self) -> None:
        """Write the lease again, and learn the server's time from it."""
        asked = _now()
        mtime_ns = await self._touch(self.path, create=True)
        self._renewed = asked
        self._offset = mtime_ns / 1_000_000_000 - _now()
        for path, since in list(self._others.items()):
            if asked - since > self.seconds / 3:
                await self._touch(path, create=False)
                self._others[path] = asked

    async def _touch(self, path: str, *, create: bool) -> int:
        """Write a lease; return its new time."""
        channel = await self._files.channel()
        flags = OpenFlag.WRITE | (OpenFlag.CREATE if create else OpenFlag(0))
        try:
            opening = channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), pack_u32(0))
            raw = await channel.handle_of(opening)
        except FileNotFoundError:
            if not create:
                return 0
            await self._files.make_directories(self.folder)
            opening = channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), pack_u32(0))
            raw = await channel.handle_of(opening)
        writing = channel.request(Kind.WRITE, pack_string(raw), pack_u64(0), pack_string(self.content()))
        asking = channel.request(Kind.FSTAT, pack_string(raw))
        closing = channel.close_handle(raw)
        await writing
        status: FileStatus | None = await asking
        await closing
        if status is not None and not status.is_complete:
            status = await self._files.lstat(path)
        return 0 if status is None else status.st_mtime_ns

    async def end(self) -> None:
        """Stop renewing the lease, and remove the directory."""
        if self._renewing is not None:
            renewing, self._renewing = self._renewing, None
            renewing.cancel()
            await asyncio.wait({renewing})
        if not self.begun or not self._files.is_connected:
            return  # another client removes the directory after the lease has expired
        if not await self._files.remove_with(self.path, self.folder):
            await remove_all(self._files, self.folder)


def _now() -> float:
    """Return a time that also advances while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def lease_seconds(content: bytes | None, default: float) -> float:
    """Return for how many seconds a lease says that it holds."""
    try:
        return float(json.loads(content or b"")["seconds"])
    except (ValueError, TypeError, KeyError):
        return default  # its owner died before it was written
