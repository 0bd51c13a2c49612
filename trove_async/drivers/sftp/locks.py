"""The locks of a store: files that are created exclusively, and hold only as long as their owner renews them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Final

from trove_async.drivers.sftp.lease import LEASE_NAME, ClientLease, lease_seconds
from trove_async.drivers.sftp.protocol import Kind
from trove_async.drivers.sftp.remote_files import RemoteFiles
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.errors import TroveError
from trove_async.jitter import jitter
from trove_async.tree import Layout
from trove_async.tree.directories import remove_all
from trove_async.tree.filesystem import is_dir
from trove_async.tree.layout import STRIPES

__all__ = ["Locks", "cancellation_check"]

_FIRST_WAIT: Final = 0.01
_LONGEST_WAIT: Final = 0.25

cancellation_check: ContextVar[Callable[[], object]] = ContextVar("cancellation_check", default=lambda: None)
"""Raises if the current operation was cancelled, so that it stops waiting for a lock."""

_log = logging.getLogger("trove_async")


class Locks:
    """The locks of one store.

    Args:
        files: of the server.
        layout: the paths of the store.
        lease: of this client.
        links: whether a file can be given a second name. Then a lock is a second name of the client's lease, and is
            renewed with it; otherwise it is a lease of its own.
    """

    def __init__(self, files: RemoteFiles, layout: Layout, lease: ClientLease, *, links: bool) -> None:
        self._files = files
        self._layout = layout
        self._lease = lease
        self._links = links
        self._local: dict[int, asyncio.Lock] = {}
        self._claimed: set[str] = set()

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return a lock that excludes all users of the store, in this process and others."""
        local = self._local.get(stripe)
        if local is None:
            local = self._local[stripe] = asyncio.Lock()
        return _Lock(self, local, f"{self._layout.leases}/{stripe:03}")

    def lock_structure(self, bucket: str) -> AbstractAsyncContextManager[None]:
        """Return the lock for creating, deleting and configuring a bucket, and for its directories and marked names."""
        # It has its own number, so that an operation never waits for a lock that it holds for its key.
        return self.lock(STRIPES + self._layout.stripe(bucket, ""))

    async def claim(self, name: str) -> bool:
        """Take the lock with a name, for which nobody waits; return whether it was free."""
        if name in self._claimed:
            return False
        self._claimed.add(name)
        claimed = False
        try:
            claimed = await self.acquire(f"{self._layout.leases}/{name}", wait=False)
        finally:
            if not claimed:
                self._claimed.discard(name)
        return claimed

    async def give_up(self, name: str) -> None:
        """Release a lock that was claimed."""
        try:
            await self.release(f"{self._layout.leases}/{name}")
        finally:
            self._claimed.discard(name)

    async def acquire(self, path: str, *, wait: bool = True) -> bool:
        """Create the file of a lock exclusively; remove a lock that has expired.

        Args:
            path: of the file.
            wait: whether to wait for its owner; otherwise this returns False if there is one.
        """
        seconds = _FIRST_WAIT
        while True:
            try:
                if self._links:
                    await self._files.link(self._lease.path, path)
                else:
                    await self._create(path)
                return True
            except FileExistsError:
                if await self._is_own(path):
                    return True  # an answer was lost, or the lock could not be released before
                if await self._remove_if_expired(path):
                    continue
                if not wait:
                    return False
                cancellation_check.get()()
                await asyncio.sleep(seconds * jitter.uniform(0.5, 1.0))
                seconds = min(2 * seconds, _LONGEST_WAIT)
            except FileNotFoundError:
                await self._files.make_directories(self._layout.leases)
                await self._lease.renew()

    async def _create(self, path: str) -> None:
        handle = await self._files.create(path)
        self._lease.add(path)
        try:
            await self._files.write(handle, (self._lease.content(),))
        finally:
            await self._files.close(handle)

    async def _is_own(self, path: str) -> bool:
        content = await self._files.read_file(path)
        try:
            return bool(content) and json.loads(content or b"")["owner"] == self._lease.owner
        except (ValueError, TypeError, KeyError):
            return False

    async def release(self, path: str) -> None:
        """Remove the file of a lock."""
        self._lease.remove(path)
        for _ in range(2):
            try:
                if not self._lease.expired_here() or await self._is_own(path):
                    await self._files.unlink(path)
                return
            except (OSError, TroveError) as error:
                _log.warning("a lock of a store over SFTP was not released, and may have to expire: %s", error)

    # Locks and temporaries of clients that have died

    async def sweep(self) -> int:
        """Remove directories of temporaries and locks whose lease has expired; return how many directories."""
        await self._lease.renew_if_older(1)
        names, locks = await asyncio.gather(self._names(self._layout.tmp), self._names(self._layout.leases))
        swept = 0
        for name in names:
            path = f"{self._layout.tmp}/{name}"
            if name != self._lease.owner and await self._is_abandoned(path):
                await remove_all(self._files, path)
                swept += 1
        for name in locks:
            await self._remove_if_expired(f"{self._layout.leases}/{name}")
        return swept

    async def _names(self, directory: str) -> list[str]:
        return [entry.name async for entry in self._files.scan(directory)]

    async def _is_abandoned(self, folder: str) -> bool:
        path = f"{folder}/{LEASE_NAME}"
        lease, directory = await self._files.lstat_all((path, folder))
        if lease is None:
            # The directory is being created or removed.
            if directory is None or not is_dir(directory):
                return False
            return self._lease.has_expired(directory.st_mtime_ns, self._lease.seconds)
        return self._lease.has_expired(
            lease.st_mtime_ns, lease_seconds(await self._files.read_file(path), self._lease.seconds)
        )

    async def _remove_if_expired(self, path: str) -> bool:
        """Return whether a lock is gone."""
        status = await self._files.lstat(path)
        if status is None:
            return True
        content = await self._files.read_file(path)
        if content is None:
            return True
        seconds = lease_seconds(content, self._lease.seconds)
        if not self._lease.has_expired(status.st_mtime_ns, seconds):
            return False
        await self._lease.renew()
        if not self._lease.has_expired(status.st_mtime_ns, seconds):
            return False
        return await self._remove_expired(path, content)

    async def _remove_expired(self, path: str, content: bytes) -> bool:
        # Other clients may do the same, so the lock is moved away first, and removed only if it is still the same one.
        moved = self._lease.temporary()
        try:
            await self._files.rename(path, moved)
        except FileNotFoundError:
            return True
        if await self._files.read_file(moved) == content:
            await self._files.unlink(moved)
            return True
        with suppress(OSError):
            await self._files.ask(Kind.RENAME, path_bytes(moved), path_bytes(path))
        await self._files.unlink(moved)
        return False


class _Lock(AbstractAsyncContextManager[None]):
    """One lock of the store."""

    def __init__(self, locks: Locks, local: asyncio.Lock, path: str) -> None:
        self._locks = locks
        self._local = local
        self._path = path

    async def __aenter__(self) -> None:
        await self._local.acquire()
        try:
            await self._locks.acquire(self._path)
        except BaseException:
            self._local.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._locks.release(self._path)
        finally:
            self._local.release()
