"""Locks of one process."""

from __future__ import annotations

from collections.abc import Callable

from trove_async.uploads.lockers.claims import Claims
from trove_async.uploads.lockers.turns import TIMEOUT, Turn, Turns

__all__ = ["MemoryLocker"]


class MemoryLocker:
    """Locks for a server of one process, and of one event loop.

    Requests that wait for a lock get it in the order in which they asked.

    A second process would not see these locks. So a server of uploads calls `claim` when it starts, which fails in the
    second process of a machine, such as another worker.

    Args:
        timeout: seconds to wait for a holder to stop; default: 20.

    Raises:
        InvalidArgumentError: the timeout is no number of seconds.
    """

    def __init__(self, *, timeout: float = TIMEOUT) -> None:
        self._claims = Claims()
        self._turns = Turns(timeout, self._claims.forget)

    def claim(self, name: str) -> None:
        """Make sure that no other process of this machine, and no other locker, locks the same uploads.

        The claim is held until `aclose`, or the end of the process. Once more for the same name has no effect.

        Args:
            name: what identifies the place in which the uploads are, whichever process computes it. It is not kept.

        Raises:
            InvalidArgumentError: another process or locker has claimed it, or the name is no text.
            AccessDeniedError, StorageFullError: there is no temporary folder in which the claim can be made.
        """
        self._turns.use()
        self._claims.add(name)

    async def acquire(self, name: str, on_request: Callable[[], object]) -> MemoryLock:
        """Wait for a lock and take it; see `Locker.acquire`."""
        turn = self._turns.enter(name, on_request)
        try:
            await turn.granted()
        except BaseException:
            self._turns.leave(turn)
            raise
        return MemoryLock(self._turns, turn)

    async def aclose(self) -> None:
        """Ask all holders to stop, wait until they have, ``timeout`` seconds at most, and drop the claims.

        Locks that were not released by then are lost. Requests that wait get an `UploadLockedError`.
        """
        try:
            await self._turns.close()
        finally:
            self._claims.forget()


class MemoryLock:
    """A lock of a `MemoryLocker` that is held."""

    def __init__(self, turns: Turns, turn: Turn) -> None:
        self._turns = turns
        self._turn = turn

    @property
    def lost(self) -> bool:
        """Whether the locker was closed before the lock was released."""
        return self._turn.lost

    async def release(self) -> None:
        """Release the lock; there is nothing to wait for."""
        self._turns.leave(self._turn)
