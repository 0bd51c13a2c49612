"""The locks of a store: a byte of one file for each stripe of keys, and the order of the waiting in this process.

The byte ranges have the semantics of open file descriptions (``F_OFD_SETLK``, fcntl_locking(2)): the kernel releases
them when the process is killed, and two stores of one process exclude each other. An operation that finds a stripe
taken is suspended, and takes no thread. Operations of one store wait in a queue. Of other processes it is only known
whether they still hold the lock, so the first operation in the queue tries again and again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final

from trove_async.drivers.local.lock_file import LockFile
from trove_async.drivers.local.suspension import Pause, Wait, pauses
from trove_async.tree.layout import STRIPES

__all__ = ["Locks"]

_ALL: Final = -1
"""The turn of those that want all locks."""
_PATIENCE: Final = 0.1
"""Seconds for which one that wants all locks keeps others waiting, before it lets them go on and tries again."""
_LONGEST_PATIENCE: Final = 2.0


class Turn(Wait):
    """A place in a queue. Whoever hands over the stripe calls ``resume``, from any thread."""

    __slots__ = ("_resume", "granted", "stripe")

    def __init__(self, stripe: int) -> None:
        self.stripe = stripe
        self.granted = False
        self._resume: Callable[[], object] | None = None

    def grant(self) -> None:
        """Give the stripe to the one that waits; call it under the mutex."""
        self.granted = True
        if self._resume is not None:
            self._resume()

    def when_granted(self, resume: Callable[[], object]) -> None:
        """Set what continues the operation; call it under the mutex."""
        self._resume = resume
        if self.granted:
            resume()


class Locks:
    """The locks of one store."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queues: dict[int, deque[Turn]] = {}  # of the stripes that this store holds or is waiting for
        self._gate: deque[Turn] | None = None  # where others wait while one wants all locks
        self.file = LockFile()
        self._locks = [_Lock(self, stripe) for stripe in range(STRIPES)]

    def lock(self, stripe: int) -> AbstractAsyncContextManager[None]:
        """Return the lock of a stripe."""
        return self._locks[stripe]

    def lock_all(self) -> AbstractAsyncContextManager[None]:
        """Return all locks as one."""
        return _AllLocks(self)

    # Turns within this process

    def try_turn(self, stripe: int) -> bool:
        """Take the stripe if no other operation of this store holds it or is waiting."""
        mine: deque[Turn] = deque()
        # One that passes a gate that closes at this moment is waited for like all that have passed it before.
        return self._gate is None and self._queues.setdefault(stripe, mine) is mine

    async def take_turn(self, stripe: int) -> None:
        """Wait until no other operation of this store holds the stripe."""
        with self._mutex:
            gate, queues = self._gate, self._queues
            if stripe not in queues and (gate is None or stripe == _ALL):
                mine: deque[Turn] = deque()
                if queues.setdefault(stripe, mine) is mine:
                    return
            turn = Turn(stripe)
            (gate if gate is not None and stripe != _ALL else queues[stripe]).append(turn)
        try:
            await turn
        except BaseException:
            self._leave(turn)
            raise

    def _leave(self, turn: Turn) -> None:
        with self._mutex:
            if not turn.granted:
                for queue in (self._gate, self._queues.get(turn.stripe)):
                    if queue is not None and turn in queue:
                        queue.remove(turn)
                return
        self.end_turn(turn.stripe)

    def end_turn(self, stripe: int) -> None:
        """Hand the stripe over to the next operation that waits for it."""
        with self._mutex:
            queue = self._queues[stripe]
            if queue:
                queue.popleft().grant()
            else:
                del self._queues[stripe]

    def resume_with(self, turn: Turn, resume: Callable[[], object]) -> None:
        """Have ``resume`` called, from any thread, once it is somebody's turn."""
        with self._mutex:
            turn.when_granted(resume)

    # All at once

    def close_gate(self) -> None:
        """Make operations wait that need a lock from now on."""
        with self._mutex:
            self._gate = deque()

    def open_gate(self) -> None:
        """Let them go on, in order."""
        with self._mutex:
            waiting, self._gate = self._gate, None
            for turn in waiting or ():
                mine: deque[Turn] = deque()
                queue = self._queues.setdefault(turn.stripe, mine)
                if queue is mine:
                    turn.grant()
                else:
                    queue.append(turn)

    def only_all(self) -> bool:
        """Return whether no operation of this store holds a single lock."""
        return self._queues.keys() == {_ALL}


class _Lock(AbstractAsyncContextManager[None]):
    """The lock of a stripe."""

    __slots__ = ("_locks", "_stripe")

    def __init__(self, locks: Locks, stripe: int) -> None:
        self._locks = locks
        self._stripe = stripe

    async def __aenter__(self) -> None:
        locks, stripe = self._locks, self._stripe
        if not locks.try_turn(stripe):
            await locks.take_turn(stripe)
        try:
            if not locks.file.try_lock(stripe, 1):
                for pause in pauses():
                    await pause
                    if locks.file.try_lock(stripe, 1):
                        break
        except BaseException:
            locks.end_turn(stripe)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._locks.file.unlock(self._stripe, 1)
        finally:
            self._locks.end_turn(self._stripe)


class _AllLocks(AbstractAsyncContextManager[None]):
    """All locks. While they are being collected others wait, but never for long: one lock may be held for hours."""

    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    async def __aenter__(self) -> None:
        locks = self._locks
        await locks.take_turn(_ALL)
        patience = _PATIENCE
        try:
            while True:
                locks.close_gate()
                try:
                    if await self._collect(time.monotonic() + patience):
                        return
                except BaseException:
                    locks.open_gate()
                    raise
                locks.open_gate()
                await Pause(patience)
                patience = min(2 * patience, _LONGEST_PATIENCE)
        except BaseException:
            locks.end_turn(_ALL)
            raise

    async def _collect(self, until: float) -> bool:
        """Take all locks; return False, with none taken, if that takes too long."""
        for pause in pauses():
            if self._locks.only_all():
                break
            if time.monotonic() > until:
                return False
            await pause
        file = self._locks.file
        if file.try_lock(0, STRIPES):
            return True
        taken = 0
        try:
            for pause in pauses():
                # One after the other, in the same order everywhere: at no moment may all of them be free.
                while taken < STRIPES and file.try_lock(taken, 1):
                    taken += 1
                if taken == STRIPES:
                    return True
                if time.monotonic() > until:
                    break
                await pause
        except BaseException:
            file.unlock(0, taken)
            raise
        if taken:
            file.unlock(0, taken)
        return False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        locks = self._locks
        try:
            locks.file.unlock(0, STRIPES)
        finally:
            locks.open_gate()
            locks.end_turn(_ALL)
