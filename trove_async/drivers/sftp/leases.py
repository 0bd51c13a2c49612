"""Who may do what: files that are made exclusively, and hold only as long as their owner renews them.

Whether one has expired is told by the server's clock alone: what is written at the server gets its time, and each
store writes a file of its own now and then. So no two clients need agree about the time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from secrets import token_hex
from types import TracebackType
from typing import Final

from trove_async.drivers.sftp.filesystem import SFTPFileSystem
from trove_async.drivers.sftp.protocol import Kind, OpenFlag, pack_string, pack_u32, pack_u64
from trove_async.drivers.sftp.requests import path_bytes
from trove_async.errors import TroveError
from trove_async.tree.buckets import remove_all
from trove_async.tree.filesystem import is_dir
from trove_async.tree.layout import Layout

__all__ = ["Leases", "checkpoint"]

_NAME: Final = "lease"
_GRACE: Final = 2
"""Seconds beyond its end for which a lease still holds: times of files are in whole seconds."""
_FIRST_WAIT: Final = 0.01
_LONGEST_WAIT: Final = 0.25

checkpoint: ContextVar[Callable[[], object]] = ContextVar("checkpoint", default=lambda: None)
"""Raises, where the operation under way was cancelled: it need not wait for a lock any more."""

_log = logging.getLogger("trove_async")


class Leases:
    """The leases of one store: that of its folder of temporaries, and the locks that it holds.

    Args:
        fs, layout: the tree.
        seconds: for which a lease holds after it was renewed.

    Attributes:
        owner: names this store to others.
        begun: whether there may be a folder to be removed.
    """

    def __init__(self, fs: SFTPFileSystem, layout: Layout, seconds: float) -> None:
        self._fs = fs
        self._layout = layout
        self.seconds = seconds
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{token_hex(8)}"
        self.begun = False
        self._offset: float | None = None
        self._renewed = 0.0
        self._held: dict[str, float] = {}
        self._inner: dict[int, asyncio.Lock] = {}
        self._keeper: asyncio.Task[None] | None = None

    @property
    def _lease(self) -> str:
        return f"{self._fs.scratch}/{_NAME}"

    # Time

    def clock(self) -> float:
        """Return the server's time in seconds; it is as old as the file's time was cut, a second at most."""
        return 0.0 if self._offset is None else _seconds() + self._offset

    def lapsed(self) -> bool:
        """Tell whether our folder may have been swept, since we could not renew its lease in time."""
        return _seconds() - self._renewed > self.seconds

    async def renew(self) -> None:
        """Write our lease again, and see by it what time it is at the server."""
        asked = _seconds()
        status = await self._touch(self._lease, create=True)
        self._renewed = asked
        self._offset = status / 1_000_000_000 - _seconds()
        for path, since in list(self._held.items()):
            if asked - since > self.seconds / 3:
                await self._touch(path, create=False)
                self._held[path] = asked

    async def _touch(self, path: str, *, create: bool) -> int:
        """Write a lease; return its new time."""
        channel = await self._fs.channel()
        flags = OpenFlag.WRITE | (OpenFlag.CREATE if create else OpenFlag(0))
        try:
            raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), pack_u32(0))
        except FileNotFoundError:
            if not create:
                return 0
            await self._fs.make_directories(self._fs.scratch)
            raw = await channel.request(Kind.OPEN, path_bytes(path), pack_u32(flags), pack_u32(0))
        writing = channel.request(Kind.WRITE, pack_string(raw), pack_u64(0), pack_string(self._content()))
        asking = channel.request(Kind.FSTAT, pack_string(raw))
        closing = channel.close_handle(raw)
        await writing
        mtime_ns: int = (await asking).st_mtime_ns
        await closing
        return mtime_ns

    def _content(self) -> bytes:
        return json.dumps({"owner": self.owner, "seconds": self.seconds}).encode()

    # Our folder of temporaries

    async def begin(self) -> None:
        """Take a folder for our temporaries, and keep its lease until `end`."""
        self._fs.scratch = f"{self._layout.tmp}/{self.owner}"
        self.begun = True
        with suppress(FileExistsError):  # made, and the answer was lost
            await self._fs.mkdir(self._fs.scratch)
        await self.renew()
        if self._keeper is None:
            self._keeper = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.seconds / 3)
            try:
                await self.renew()
            except (OSError, TroveError) as error:
                _log.warning("the lease of a store over SFTP could not be renewed: %s", error)

    async def end(self) -> None:
        """Remove our folder."""
        if self._keeper is not None:
            keeper, self._keeper = self._keeper, None
            keeper.cancel()
            await asyncio.wait({keeper})
        if not self.begun or not self._fs.is_connected:
            return  # what is left is swept when its lease has expired
        if not await self._fs.remove_with(self._lease, self._fs.scratch):
            await remove_all(self._fs, self._fs.scratch)

    async def sweep(self) -> int:
        """Remove the folders of temporaries whose leases have expired, and such locks; return how many folders."""
        if _seconds() - self._renewed > 1:
            await self.renew()
        names, locks = await asyncio.gather(self._names(self._layout.tmp), self._names(self._layout.locks))
        swept = 0
        for name in names:
            path = f"{self._layout.tmp}/{name}"
            if name != self.owner and await self._is_dead(path):
                await remove_all(self._fs, path)
                swept += 1
        for name in locks:
            await self._take_away_expired(f"{self._layout.locks}/{name}")
        return swept

    async def _names(self, directory: str) -> list[str]:
        return [entry.name async for entry in self._fs.scan(directory)]

    async def _is_dead(self, folder: str) -> bool:
        path = f"{folder}/{_NAME}"
        found, at = await self._fs.lstat_all((path, folder))
        if found is None:
            # One that is being made; or one that is being removed.
            return is_dir(at) and at is not None and self._expired(at.st_mtime_ns, self.seconds)
        return self._expired(found.st_mtime_ns, _seconds_of(await self._fs.read_file(path), self.seconds))

    def _expired(self, mtime_ns: int, seconds: float) -> bool:
        return self.clock() - mtime_ns / 1_000_000_000 > seconds + _GRACE

    # Locks

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Hold a lock of the store, against its users in this process and others."""
        inner = self._inner.get(stripe)
        if inner is None:
            inner = self._inner[stripe] = asyncio.Lock()
        return _Lock(self, inner, f"{self._layout.locks}/{stripe:03}")

    async def acquire(self, path: str) -> None:
        """Make a lease exclusively, waiting for whoever has it; one that has expired is taken away.

        Where the server has links, it is a second name of the lease of our folder, and renewed with that.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                if self._fs.has_links:
                    await self._fs.link(self._lease, path)
                else:
                    await self._make(path)
                return
            except FileExistsError:
                if await self._is_ours(path):
                    return  # the answer was lost; or it could not be given back
                if await self._take_away_expired(path):
                    continue
                checkpoint.get()()
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, _LONGEST_WAIT)
            except FileNotFoundError:
                await self._fs.make_directories(self._layout.locks)
                await self.renew()

    async def _make(self, path: str) -> None:
        handle = await self._fs.create(path)
        self._held[path] = _seconds()
        try:
            await self._fs.write(handle, (self._content(),))
        finally:
            await self._fs.close(handle)

    async def _is_ours(self, path: str) -> bool:
        content = await self._fs.read_file(path)
        try:
            return bool(content) and json.loads(content or b"")["owner"] == self.owner
        except (ValueError, TypeError, KeyError):
            return False

    async def _take_away_expired(self, path: str) -> bool:
        """Tell whether a lease is gone, since its owner is."""
        status = await self._fs.lstat(path)
        if status is None:
            return True
        content = await self._fs.read_file(path)
        if content is None:
            return True
        if not self._expired(status.st_mtime_ns, _seconds_of(content, self.seconds)):
            return False
        await self.renew()
        if not self._expired(status.st_mtime_ns, _seconds_of(content, self.seconds)):
            return False
        return await self._remove_dead(path, content)

    async def _remove_dead(self, path: str, content: bytes) -> bool:
        # Others see it too: whoever moves it away looks at what it has in hand before it is thrown away.
        taken = self._fs.temporary()
        try:
            await self._fs.rename(path, taken)
        except FileNotFoundError:
            return True
        if await self._fs.read_file(taken) == content:
            await self._fs.unlink(taken)
            return True
        with suppress(OSError):
            await self._fs.ask(Kind.RENAME, path_bytes(taken), path_bytes(path))
        await self._fs.unlink(taken)
        return False

    async def release(self, path: str) -> None:
        """Give a lease back."""
        self._held.pop(path, None)
        for _ in range(2):
            try:
                if not self.lapsed() or await self._is_ours(path):
                    await self._fs.unlink(path)
                return
            except (OSError, TroveError) as error:
                _log.warning("a lock of a store over SFTP was not given back, and may have to expire: %s", error)


class _Lock(AbstractAsyncContextManager[None]):
    """One lock of the store."""

    def __init__(self, leases: Leases, inner: asyncio.Lock, path: str) -> None:
        self._leases = leases
        self._inner = inner
        self._path = path

    async def __aenter__(self) -> None:
        await self._inner.acquire()
        try:
            await self._leases.acquire(self._path)
        except BaseException:
            self._inner.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._leases.release(self._path)
        finally:
            self._inner.release()


def _seconds() -> float:
    """Return a time that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _seconds_of(content: bytes | None, default: float) -> float:
    """Return for how many seconds a lease says that it holds."""
    try:
        return float(json.loads(content or b"")["seconds"])
    except (ValueError, TypeError, KeyError):
        return default  # its owner died before it had written it
