"""Operations that wait without a thread.

The algorithms of a tree are coroutines that a worker thread runs to their end in one call. One that has to wait awaits
a `Wait`: its thread becomes free, and a worker continues it when the wait is over.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Final, Generic, TypeVar

from trove_async.jitter import jitter

__all__ = ["Pause", "Suspended", "Wait", "pauses", "start"]

R = TypeVar("R")

_FIRST: Final = 0.001
_LONGEST: Final = 0.05


class Wait:
    """What a suspended operation waits for."""

    __slots__ = ()

    def __await__(self) -> Generator[Wait, None, None]:
        """Suspend the operation."""
        yield self


class Pause(Wait):
    """A time in seconds to wait for."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def pauses() -> Iterator[Pause]:
    """Yield the pauses between two looks at something that others are using: none, then up to 50 ms."""
    yield Pause(0)
    longest = _FIRST
    while True:
        yield Pause(longest * jitter.uniform(0.5, 1.0))
        longest = min(2 * longest, _LONGEST)


class Suspended(Generic[R]):
    """An operation that waits.

    Attributes:
        wait: what it waits for.
    """

    __slots__ = ("_again", "_work", "wait")

    def __init__(self, work: Coroutine[Any, Any, R], wait: Wait, again: Callable[[], object]) -> None:
        self._work = work
        self._again = again
        self.wait = wait

    def resume(self) -> R | Suspended[R]:
        """Continue the operation in this thread; return its result, or what it waits for next."""
        self._again()
        return start(self._work, self._again)

    def abandon(self, error: BaseException) -> R | Suspended[R]:
        """Continue the operation with an error, so that it gives up what it holds."""
        self._again()
        try:
            wait = self._work.throw(error)
        except StopIteration as end:
            result: R = end.value
            return result
        return Suspended(self._work, wait, self._again)


def start(work: Coroutine[Any, Any, R], again: Callable[[], object]) -> R | Suspended[R]:
    """Run an operation in this thread until it ends or has to wait.

    Args:
        work: the operation.
        again: called in each thread that continues the operation after a wait.
    """
    try:
        wait = work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    if isinstance(wait, Wait):
        return Suspended(work, wait, again)
    work.close()
    raise RuntimeError("an operation of a local file system waited for the event loop")
