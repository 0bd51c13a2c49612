"""Locks that several processes take from each other: what is the same for files and databases.

Within a process, `Turns` decides; whoever has the turn takes the lock from the other processes. One that finds it held
sends "stop, please" to all processes, which the holder obeys, and waits for "released". These two messages make a
take-over fast, and are sent only when somebody waits; none is needed for the locks to be right. A holder that was
killed sends none, so whoever waits tries again from time to time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.uploads.lockers.turns import Turn, Turns

__all__ = ["SharedLock", "SharedLocker"]

Key = TypeVar("Key")

_AGAIN: Final = 1.0
"""Seconds after which whoever waits tries again: the holder may have been killed."""


class _Taking(Generic[Key]):
    """A lock that a process has, or tries to get.

    Attributes:
        turn: of the request within this process.
        key: of the lock.
        held: this process has the lock.
        wanted: another process has asked for it, maybe before this one had it, and waits for the message that it is
            released.
        ended: nobody in this process wants the lock any more.
    """

    def __init__(self, turn: Turn, key: Key) -> None:
        self.turn = turn
        self.key = key
        self.held = False
        self.wanted = False
        self.ended = False


class SharedLocker(ABC, Generic[Key]):
    """A locker of several processes."""

    def __init__(self, timeout: float) -> None:
        self._turns = Turns(timeout, self._forget)
        self._takings: dict[Key, _Taking[Key]] = {}

    async def acquire(self, name: str, on_request: Callable[[], object]) -> SharedLock[Key]:
        """Wait for a lock and take it; see `Locker.acquire`."""
        turn = self._turns.enter(name, on_request)
        taking = _Taking(turn, self._key_of(name))
        try:
            await turn.granted()
            self._takings[taking.key] = taking
            await self._prepare()
            while not (await self._attempt(taking, ask=True) or await self._attempt(taking, ask=False)):
                await turn.sleep(_AGAIN)
                await self._prepare()
        except BaseException:
            await self._release(taking)
            raise
        return SharedLock(self, taking)

    async def _attempt(self, taking: _Taking[Key], *, ask: bool) -> bool:
        # The second attempt, after asking, is for a holder that released the lock between attempt and request.
        await to_the_end(self._try(taking, ask), timeout=CLEANUP_TIMEOUT, leftover=f"the lock {taking.turn.name!r}")
        return taking.held

    async def _try(self, taking: _Taking[Key], ask: bool) -> None:
        taking.held = await self._try_lock(taking.key, ask=ask)
        if taking.held and taking.ended:
            await self._unlock(taking.key, announce=True)
        elif taking.held and taking.wanted:
            taking.turn.ask()

    async def _release(self, taking: _Taking[Key]) -> None:
        if taking.ended:
            return
        taking.ended = True
        if taking.held and not taking.turn.lost:
            await finish(
                self._give_back(taking), timeout=CLEANUP_TIMEOUT, leftover=f"the lock {taking.turn.name!r} of an upload"
            )
        else:
            self._leave(taking)

    async def _give_back(self, taking: _Taking[Key]) -> None:
        try:
            announced = taking.wanted
            await self._unlock(taking.key, announce=announced)
            # Somebody may have asked meanwhile, and found the lock still held.
            self._hear()
            if taking.wanted and not announced:
                await self._announce(taking.key)
        finally:
            self._leave(taking)

    def _leave(self, taking: _Taking[Key]) -> None:
        if self._takings.get(taking.key) is taking:
            del self._takings[taking.key]
        self._turns.leave(taking.turn)

    def _requested(self, key: Key) -> None:
        """Take in that another process wants a lock."""
        taking = self._takings.get(key)
        if taking is not None:
            taking.wanted = True
            if taking.held:
                taking.turn.ask()

    def _released(self, key: Key) -> None:
        """Take in that another process has released a lock."""
        taking = self._takings.get(key)
        if taking is not None:
            # All those that wait try again now, and ask again if they do not succeed.
            taking.wanted = taking.wanted and taking.held
            taking.turn.wake()

    def _lose(self) -> None:
        """Take in that all locks of this process are lost."""
        for taking in list(self._takings.values()):
            if taking.held:
                taking.turn.lose()
            taking.turn.wake()

    async def aclose(self) -> None:
        """Ask all holders of this process to stop, wait until they have, ``timeout`` seconds at most, and clean up.

        Locks that were not released by then are lost. Requests that wait get an `UploadLockedError`.
        """
        try:
            await self._turns.close()
        finally:
            await finish(self._end(), timeout=CLEANUP_TIMEOUT, leftover="the locks of uploads")

    @abstractmethod
    def _key_of(self, name: str) -> Key:
        """Return what stands for a name between processes."""

    async def _prepare(self) -> None:
        """Get ready for `_try_lock`. It may be cancelled. The default does nothing."""

    @abstractmethod
    async def _try_lock(self, key: Key, *, ask: bool) -> bool:
        """Take a lock, and return whether that succeeded; if not, ask the holder to stop if ``ask`` says so.

        It is not cancelled, unless it takes `CLEANUP_TIMEOUT`.
        """

    @abstractmethod
    async def _unlock(self, key: Key, *, announce: bool) -> None:
        """Release a lock, and tell the others if ``announce`` says so."""

    async def _announce(self, key: Key) -> None:
        """Tell the others that a lock was released. The default does nothing."""

    def _hear(self) -> None:
        """Take in the messages that have arrived, where they do not arrive before the answer of `_unlock`."""

    async def _end(self) -> None:
        """Release all locks, and what they need; called again, it does nothing."""

    def _forget(self) -> None:
        """Close in a forked child what it inherited. The default does nothing."""


class SharedLock(Generic[Key]):
    """A lock of a `SharedLocker` that is held."""

    def __init__(self, locker: SharedLocker[Key], taking: _Taking[Key]) -> None:
        self._locker = locker
        self._taking = taking

    @property
    def lost(self) -> bool:
        """Whether the lock was taken away before it was released."""
        return self._taking.turn.lost

    async def release(self) -> None:
        """Release the lock, however often the calling task is cancelled meanwhile."""
        await self._locker._release(self._taking)
