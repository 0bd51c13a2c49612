"""Who holds which lock within this process, and who waits for it: first come, first served."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from typing import Final

from trove_async.cancellation import CleanupWarning
from trove_async.errors import (
    ClosedError,
    ForkedError,
    InvalidArgumentError,
    LifetimeError,
    TroveError,
    UploadLockedError,
    WrongLoopError,
)
from trove_async.values import check_function, check_text, is_number

__all__ = ["TIMEOUT", "Turn", "Turns"]

TIMEOUT: Final = 20.0
"""The default time in seconds to wait for a holder."""

_all: Final[weakref.WeakSet[Turns]] = weakref.WeakSet()


def _forget_in_child() -> None:
    for turns in list(_all):
        turns._forget()


os.register_at_fork(after_in_child=_forget_in_child)


class Turn:
    """One request for a lock: it waits for those before it, then has the lock as far as this process is concerned.

    Attributes:
        name: of the lock.
        deadline: on the loop's clock; after it, the request no longer waits for a holder.
        asked: whether the request was asked to stop.
        lost: whether the lock is no longer held, though it was not released.
    """

    def __init__(self, name: str, on_request: Callable[[], object], loop: AbstractEventLoop, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self.asked = False
        self.lost = False
        self._on_request = on_request
        self._loop = loop
        self._granted: asyncio.Future[None] = loop.create_future()
        self._failure: TroveError | None = None
        self._woken = asyncio.Event()

    def ask(self) -> None:
        """Ask the request to stop; only the first call has an effect."""
        if not self.asked:
            self.asked = True
            self._loop.call_soon(self._on_request)

    def lose(self) -> None:
        """Take the lock away."""
        self.lost = True
        self.ask()

    def grant(self) -> None:
        """Give it the turn."""
        if not self._granted.done():
            self._granted.set_result(None)

    def fail(self, error: TroveError) -> None:
        """End the wait for the lock with an error."""
        self._failure = self._failure or error
        self.wake()
        self.grant()

    def wake(self) -> None:
        """End one `sleep`: another process may have released the lock."""
        self._woken.set()

    async def granted(self) -> None:
        """Wait for the turn.

        Raises:
            UploadLockedError: those before it did not stop in time, or the locker is closed.
        """
        timer = self._loop.call_at(self.deadline, lambda: self.fail(UploadLockedError()))
        try:
            await self._granted
        finally:
            timer.cancel()
        if self._failure is not None:
            raise self._failure

    async def sleep(self, seconds: float) -> None:
        """Wait until `wake` was called since the last call, or time has passed.

        Raises:
            UploadLockedError: the deadline has passed, or the locker is closed.
        """
        if not self._woken.is_set() and self._failure is None:
            if self._loop.time() >= self.deadline:
                raise UploadLockedError
            try:
                async with asyncio.timeout_at(min(self.deadline, self._loop.time() + seconds)):
                    await self._woken.wait()
            except TimeoutError:
                pass
        self._woken.clear()
        if self._failure is not None:
            raise self._failure


class Turns:
    """The turns of one locker, on the event loop that first asks for one.

    Args:
        timeout: seconds to wait for a holder.
        on_fork: called in a forked child; it closes what the child inherited.

    Raises:
        InvalidArgumentError: the time is no number of seconds, or negative.
    """

    def __init__(self, timeout: float, on_fork: Callable[[], object] | None = None) -> None:
        if not is_number(timeout) or not 0 <= timeout < float("inf"):
            raise InvalidArgumentError(f"timeout is a number of seconds, 0 or more; not {timeout!r}")
        self.timeout = timeout
        self._on_fork = on_fork
        self._queues: dict[str, deque[Turn]] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: AbstractEventLoop | None = None
        self._closing = False
        self._in_use = False
        self._unusable: type[LifetimeError] | None = None
        _all.add(self)

    def _forget(self) -> None:
        if self._in_use:
            self._unusable = ForkedError
            self._queues.clear()
            if self._on_fork is not None:
                self._on_fork()

    def use(self) -> None:
        """Check that the locker can be used, and note that a forked child must not use it.

        Raises:
            ClosedError: it was closed.
            ForkedError: the process was forked since it was used.
        """
        if self._unusable is not None:
            raise self._unusable(_REFUSALS[self._unusable])
        self._in_use = True

    def enter(self, name: str, on_request: Callable[[], object]) -> Turn:
        """Queue up for a lock, and ask the one before to stop.

        Raises:
            InvalidArgumentError: the name is no text, or the function cannot be called.
            UploadLockedError: the locker is being closed.
            LifetimeError: it is closed, or used on another event loop or in another process.
        """
        check_text("the name of a lock", name)
        check_function("on_request", "no argument", on_request)
        self.use()
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if loop is not self._loop:
            raise WrongLoopError(_REFUSALS[WrongLoopError])
        if self._closing:
            raise UploadLockedError(_CLOSING)
        turn = Turn(name, on_request, loop, loop.time() + self.timeout)
        queue = self._queues.setdefault(name, deque())
        queue.append(turn)
        self._idle.clear()
        if len(queue) == 1:
            turn.grant()
        else:
            queue[0].ask()
        return turn

    def leave(self, turn: Turn) -> None:
        """End a turn, or the wait for it; the next one has the turn then. Nothing happens the second time."""
        queue = self._queues.get(turn.name, deque())
        if turn not in queue:
            return
        queue.remove(turn)
        if not queue:
            del self._queues[turn.name]
            if not self._queues:
                self._idle.set()
            return
        queue[0].grant()
        if len(queue) > 1:
            queue[0].ask()

    async def close(self) -> bool:
        """Ask all holders to stop and wait until they have, but not for longer than ``timeout``; then take the locks.

        Those that wait get an `UploadLockedError`. Returns False if the locker was closed before.
        """
        if self._unusable is not None:
            return False
        self._closing = True
        for turn in self._present():
            turn.fail(UploadLockedError(_CLOSING))
            turn.ask()
        try:
            async with asyncio.timeout(self.timeout):
                await self._idle.wait()
        except TimeoutError:
            names = ", ".join(repr(name) for name in sorted(self._queues))
            warnings.warn(f"locks were not released in {self.timeout:g} s: {names}", CleanupWarning, stacklevel=3)
        finally:
            closed_before = self._unusable is not None
            self._unusable = ClosedError
            for turn in self._present():
                turn.lose()
            self._queues.clear()
            _all.discard(self)
        return not closed_before

    def _present(self) -> list[Turn]:
        return [turn for queue in self._queues.values() for turn in queue]


_CLOSING: Final = "the server is shutting down; try again"
_REFUSALS: Final[dict[type[LifetimeError], str]] = {
    ClosedError: "the locker was closed",
    WrongLoopError: "the locker was used on another event loop; make one for each loop",
    ForkedError: "the process was forked after the locker was used; make the locker in the child process",
}
