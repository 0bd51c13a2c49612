"""Flushes to the disk, made by threads that do nothing else.

An operation that awaits a `Flush` leaves its worker until the flush has ended, so one worker is enough for many puts.
The flush of a directory is shared by all operations that wait for it when it begins: what they changed is in it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from copy import copy
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Final

from trove_async.drivers.local.errors import FlushError
from trove_async.drivers.local.suspension import Wait

__all__ = ["Flush", "Flushers"]

_INSTANT: Final = 20e-6
"""Seconds: a flush that takes less, as where there is no disk, is not worth passing to another thread."""
_QUICK: Final = 0.002
"""Seconds: a flush that takes less is passed on only if there is something else to do meanwhile."""
_FEW: Final = 16
_MANY: Final = 32
"""How many threads flush at once where flushes are quick, and where the disk makes them wait, which costs no CPU. Fewer
are slower: a file system writes its journal once for all files that are flushed at the same time."""
_FIRST: Final = 100e-6
"""Seconds that a flush is expected to take before one was measured."""
_UP: Final = 1.05
_DOWN: Final = 0.8
"""By what a flush that took more, or less, multiplies what is expected. A sixth of the flushes take less than that: the
others may have waited for the interpreter, or for each other."""


class Flush(Wait):
    """A flush that an operation waits for.

    Args:
        call, argument: what makes the flush: a function, and a handle or a path.
        shared: whether one flush does for all that have the same argument and began to wait before it began.

    Attributes:
        error: why the flush failed; the operation that waits for it gets it.
    """

    __slots__ = ("_call", "argument", "error", "shared")

    def __init__(self, call: Callable[[Any], object], argument: int | str, *, shared: bool = False) -> None:
        self._call = call
        self.argument = argument
        self.shared = shared
        self.error: BaseException | None = None

    def __await__(self) -> Generator[Wait, None, None]:
        """Suspend the operation until the flush has ended, and raise what has made it fail."""
        yield self
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # otherwise its traceback and this object would be a cycle, which keeps handles open

    def make(self) -> None:
        """Make the flush in this thread."""
        try:
            self._call(self.argument)
        except BaseException as error:  # noqa: BLE001 - it is raised in the operation
            self.error = error


_Waiting = list[tuple[Flush, Callable[[], object]]]
"""Those that share a flush, and what continues each of them."""


class Flushers:
    """The threads that flush for one store. They start when they are needed; `end` ends them.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._mutex = threading.Lock()
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._threads = 0
        self._seconds = _FIRST  # that a flush is expected to take
        self._next: dict[int | str, _Waiting] = {}  # by argument, those whose shared flush has not begun
        self._under_way: set[int | str] = set()  # the arguments of the shared flushes that have begun

    def worth_it(self, *, busy: bool) -> bool:
        """Return whether to have a flush made by another thread.

        Args:
            busy: whether there is something else to do meanwhile.
        """
        return self._seconds > (_INSTANT if busy else _QUICK)

    def make(self, flush: Flush) -> None:
        """Make a flush in this thread."""
        began = perf_counter()
        flush.make()
        self._seconds *= _UP if perf_counter() - began > self._seconds else _DOWN

    def take(self, flush: Flush, go_on: Callable[[], object]) -> None:
        """Have a flush made, and ``go_on`` called in the thread that has made it: this one, if no other can start."""
        waiting = [(flush, go_on)]
        if flush.shared:
            with self._mutex:
                if self._next.setdefault(flush.argument, waiting) is not waiting:
                    self._next[flush.argument] += waiting
                    return
                if flush.argument in self._under_way:
                    return  # that flush began before this operation waited for one; the next begins when it has ended
        self._queue.put(waiting)
        if self._threads < self._enough() and not self._queue.empty():
            self._start()
        with suppress(Empty):
            while not self._threads and (following := self._queue.get_nowait()) is not None:
                self._flush(following)

    def _enough(self) -> int:
        return _FEW if self._seconds < _QUICK else _MANY

    def _start(self) -> None:
        """Start a thread, if the system allows the process another one."""
        with self._mutex:
            self._threads += 1
        try:
            # Daemon threads: a flush that never ends must not keep the process from ending.
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            with self._mutex:
                self._threads -= 1

    def _work(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._flush(waiting)
            del waiting
            if self._threads > self._enough() and self._may_leave():
                return

    def _may_leave(self) -> bool:
        with self._mutex:
            leaves = self._threads > self._enough()
            self._threads -= leaves
            return leaves

    def _flush(self, waiting: _Waiting) -> None:
        flush, _ = waiting[0]
        if not flush.shared:
            self.make(flush)
        else:
            with self._mutex:
                del self._next[flush.argument]  # from now on nobody joins
                self._under_way.add(flush.argument)
            self.make(flush)
            following = self._end_shared(flush)
            if isinstance(flush.error, FlushError):
                # What those changed that wait for the next flush may be lost already. The system reports that once.
                waiting += following
            elif following:
                self._queue.put(following)
            for other, _ in waiting[1:]:
                other.error = copy(flush.error)
        for _, go_on in waiting:
            go_on()

    def _end_shared(self, flush: Flush) -> _Waiting:
        """Return those that wait for the next flush; after a failure there is none, since they share the failure."""
        with self._mutex:
            self._under_way.remove(flush.argument)
            if isinstance(flush.error, FlushError):
                return self._next.pop(flush.argument, [])
            return self._next.get(flush.argument, [])

    def end(self) -> None:
        """End the threads after the flushes that were requested."""
        # Without the mutex: in a forked child, where this may be called, it may be held for ever.
        for _ in range(self._threads):
            self._queue.put(None)
