"""A bounded number of open handles, and one writer for each key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from trove_async.errors import OperationTimeoutError

__all__ = ["KeyLocks", "Slots"]


class Slots:
    """The handles that may be open at a time. An operation takes all that it needs at once.

    Args:
        count: of handles.
        timeout: seconds that an operation waits for its turn.
    """

    def __init__(self, count: int, timeout: float) -> None:
        self.count = count
        self._free = count
        self._timeout = timeout
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How many handles are in use."""
        return self.count - self._free

    async def take(self, wanted: int) -> int:
        """Wait for handles, in turn; return how many were taken, at most the number of all handles.

        Raises:
            OperationTimeoutError: others have held theirs for too long, for example readers that are not closed.
        """
        wanted = min(wanted, self.count)
        if self._free >= wanted and not self._waiting:
            self._free -= wanted
            return wanted
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, turn))
        try:
            async with asyncio.timeout(self._timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._free += wanted
            else:
                with suppress(ValueError):  # it was cancelled, and skipped already
                    self._waiting.remove((wanted, turn))
            self._wake()
            if isinstance(error, TimeoutError):
                raise OperationTimeoutError(
                    f"all {self.count} handles were in use for {self._timeout:g} s; close readers that are not "
                    "needed, or allow more with handles="
                ) from None
            raise
        return wanted

    def give(self, count: int) -> None:
        """Return handles."""
        self._free += count
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)


class KeyLocks:
    """Locks by key, for writers of one key in this store."""

    def __init__(self) -> None:
        self._locks: dict[object, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: object) -> AsyncGenerator[None, None]:
        """Hold the lock of a key."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
