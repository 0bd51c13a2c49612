"""Locks of several processes of one machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

from trove_async.errors import InvalidArgumentError
from trove_async.lock_files import lock_at, make_lock_folder, reporting
from trove_async.uploads.lockers.mailbox import Mailbox
from trove_async.uploads.lockers.shared import SharedLocker
from trove_async.uploads.lockers.turns import TIMEOUT

__all__ = ["FileLocker"]

R = TypeVar("R")

_STOP: Final = b"stop "
_RELEASED: Final = b"released "


class FileLocker(SharedLocker[str]):
    """Locks for the processes of one machine and one user, such as workers.

    Each lock that is held is a file in a folder, locked by flock(2): the kernel releases it when the process ends,
    however it ends. The processes send each other messages through sockets in the folder, so that a lock is taken over
    at once. After a holder that was killed it may take a second.

    The folder is on a local file system: on one of the network, machines may not see each other's locks, and never get
    each other's messages. For several machines there is `PostgresLocker`.

    Args:
        folder: for the files of the locks alone. It is created, for this user alone, if it is missing; its parent must
            exist.
        timeout: seconds to wait for a holder to stop; default: 20.

    Raises:
        InvalidArgumentError: the folder is no path, or the timeout no number of seconds.
        AccessDeniedError: the folder, or a file or socket in it, cannot be made.
        StorageFullError: the disk is full.
        UnsupportedError: the file system has no locks.
    """

    def __init__(self, folder: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            raise InvalidArgumentError(f"the folder of locks is a path, not {folder!r}")
        self._folder = Path(folder).absolute()
        self._descriptors: dict[str, int] = {}
        self._mailbox: Mailbox | None = None
        self._loop: AbstractEventLoop | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="trove-upload-locks")
        super().__init__(timeout)
        make_lock_folder(self._folder, mode=0o700)
        probe = f"probe-{os.getpid()}-{id(self)}"
        if self._try_file(probe):
            self._unlock_file(probe)
        self._new_mailbox().close()

    def _new_mailbox(self) -> Mailbox:
        with reporting(f"a socket in the folder of locks {self._folder} cannot be made"):
            return Mailbox(self._folder, self._receive)

    def _key_of(self, name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()[:40]

    async def _prepare(self) -> None:
        if self._mailbox is None:
            self._mailbox = self._new_mailbox()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._mailbox.fileno(), self._mailbox.hear)

    async def _try_lock(self, key: str, *, ask: bool) -> bool:
        return await self._in_thread(self._try_to_lock, key, ask)

    def _try_to_lock(self, key: str, ask: bool) -> bool:
        held = self._try_file(key)
        if not held and ask:
            self._send(_STOP, key)
        return held

    def _try_file(self, key: str) -> bool:
        descriptor = lock_at(self._path(key))
        if descriptor is None:
            return False
        self._descriptors[key] = descriptor
        return True

    async def _unlock(self, key: str, *, announce: bool) -> None:
        await self._in_thread(self._unlock_file, key)
        if announce:
            await self._announce(key)

    def _unlock_file(self, key: str) -> None:
        descriptor = self._descriptors.pop(key, None)
        if descriptor is not None:
            # Those that have opened the file meanwhile find out that it is gone. One that cannot be removed is no harm.
            with suppress(OSError):
                self._path(key).unlink()
            os.close(descriptor)

    async def _announce(self, key: str) -> None:
        await self._in_thread(self._send, _RELEASED, key)

    def _hear(self) -> None:
        if self._mailbox is not None:
            self._mailbox.hear()

    def _send(self, verb: bytes, key: str) -> None:
        if self._mailbox is not None:
            self._mailbox.send(verb + key.encode())

    def _receive(self, message: bytes) -> None:
        if message.startswith(_STOP):
            self._requested(message.removeprefix(_STOP).decode("ascii", "replace"))
        elif message.startswith(_RELEASED):
            self._released(message.removeprefix(_RELEASED).decode("ascii", "replace"))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.lock"

    async def _in_thread(self, function: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def _end(self) -> None:
        if self._loop is not None and self._mailbox is not None:
            self._loop.remove_reader(self._mailbox.fileno())
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._threads.shutdown()
        for key in list(self._descriptors):
            self._unlock_file(key)
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.close()

    def _forget(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
        mailbox, self._mailbox = self._mailbox, None
        if mailbox is not None:
            mailbox.forget()
