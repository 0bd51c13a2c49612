"""Threads for file operations, which share the wake-ups of the event loop.

Handing one operation to a thread and back costs more than most file operations themselves, and most of that
is waking the loop. So the workers take operations one at a time from one queue, and wake the loop once for
all the results that are ready: at once when the queue is empty, else when many are ready; and the
loop looks by itself every millisecond while anything is under way, so that no result waits for an operation
that is slow. When an operation is slow while others wait, another worker is started in the place of the one that
is held up, which goes when it comes back. A slow file holds up nobody for more than a few milliseconds.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from trove_async.cancellation import finish
from trove_async.errors import ClosedError
from trove_async.tree import Checkpoint

__all__ = ["Cancelled", "Workers"]

R = TypeVar("R")

_LOOK_EVERY: Final = 0.001
_PATIENCE: Final = 0.01
_ENOUGH: Final = 48


class Cancelled(BaseException):
    """The caller of an operation was cancelled before it committed anything."""


class _Job:
    __slots__ = ("cancelled", "discard", "error", "finished", "future", "operation", "result", "started", "waiter")

    def __init__(
        self,
        operation: Callable[[Checkpoint], Any],
        future: asyncio.Future[Any],
        discard: Callable[[Any], object] | None,
    ) -> None:
        self.operation = operation
        self.future = future
        self.discard = discard
        self.started = False
        self.cancelled = False
        self.finished = False
        self.waiter: asyncio.Event | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def checkpoint(self) -> None:
        if self.cancelled:
            raise Cancelled

    def run(self) -> None:
        self.started = True
        if self.cancelled:
            return
        try:
            self.result = self.operation(self.checkpoint)
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            self.error = error

    def drop(self) -> None:
        """Free what an operation has returned for which nobody waits any more; once."""
        discard, self.discard = self.discard, None
        if discard is not None and self.error is None and self.result is not None:
            discard(self.result)


class _Worker:
    """What the loop knows of a thread."""

    __slots__ = ("busy", "replaced", "seen", "since", "taken")

    def __init__(self) -> None:
        self.busy = False
        self.taken = 0  # how many jobs, so that the loop sees whether it is still the same one
        self.seen = 0
        self.since = 0.0
        self.replaced = False


class _Exchange:
    """What the loop and the threads share. The threads know nothing else, so that a pool can be collected."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[], None]) -> None:
        self.loop = loop
        self.deliver = deliver
        self.queue: SimpleQueue[_Job | None] = SimpleQueue()
        self.done: deque[_Job] = deque()
        self.woken = False
        self.workers: set[_Worker] = set()

    def work(self, worker: _Worker) -> None:
        """Take jobs until told to end, or until another worker has taken this one's place."""
        queue, done = self.queue, self.done
        while not worker.replaced:
            job = queue.get()
            if job is None:
                break
            worker.taken += 1
            worker.busy = True
            job.run()
            worker.busy = False
            done.append(job)
            del job
            # The flag is cleared before the results are taken, so that none is ever left without a wake-up.
            if not self.woken and (queue.empty() or len(done) >= _ENOUGH):
                self.woken = True
                try:
                    self.loop.call_soon_threadsafe(self.deliver)
                except RuntimeError:
                    break  # the loop was closed before the store
        self.workers.discard(worker)


class Workers:
    """A pool of threads for the operations of the running loop.

    Args:
        name: of the threads.
        usual: how many threads there are while nothing is slow.
        maximum: how many there may be at most.
        cleanup_timeout: seconds that a cancelled call waits for its operation.
    """

    def __init__(self, name: str, *, usual: int, maximum: int, cleanup_timeout: float) -> None:
        self._name = name
        self._usual = usual
        self._maximum = maximum
        self._cleanup_timeout = cleanup_timeout
        self._loop = asyncio.get_running_loop()
        myself = weakref.ref(self)

        def deliver() -> None:
            if (pool := myself()) is not None:
                pool._deliver()

        self._exchange = _Exchange(self._loop, deliver)
        self._under_way = 0
        self._looking: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def run(self, operation: Callable[[Checkpoint], R], *, discard: Callable[[R], object] | None = None) -> R:
        """Run an operation in a thread and return what it returns.

        A caller that is cancelled before the operation has begun makes it never begin. One that is
        cancelled later waits for it, since it may be committing: the operation learns of it at its next
        checkpoint. ``discard`` is then called with what it returned after all.
        """
        if self._closed:
            raise ClosedError("the store is closed")
        job = _Job(operation, self._loop.create_future(), discard)
        exchange = self._exchange
        if not self._under_way:
            self._idle.clear()
        self._under_way += 1
        exchange.queue.put(job)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK_EVERY, self._look)
        if len(exchange.workers) < self._usual and len(exchange.workers) < self._under_way:
            self._start_worker()
        try:
            return await job.future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            job.cancelled = True
            if job.started and not job.finished:
                job.waiter = asyncio.Event()
                await finish(job.waiter.wait(), timeout=self._cleanup_timeout, leftover=f"an operation of {self._name}")
            elif job.finished:
                job.drop()
            raise

    def _start_worker(self) -> None:
        worker = _Worker()
        self._exchange.workers.add(worker)
        # Daemons: a file operation that never returns must not keep the process from ending.
        threading.Thread(target=self._exchange.work, args=(worker,), name=self._name, daemon=True).start()

    def _deliver(self) -> None:
        """Hand the results that are ready to those who wait for them."""
        exchange = self._exchange
        exchange.woken = False
        done = exchange.done
        while done:
            job = done.popleft()
            self._under_way -= 1
            job.finished = True
            future = job.future
            if job.cancelled or future.cancelled():
                if job.waiter is not None:
                    job.waiter.set()
                job.drop()
            elif job.error is not None:
                future.set_exception(job.error)
            else:
                future.set_result(job.result)
        if not self._under_way:
            self._idle.set()

    def _look(self) -> None:
        """Every millisecond: deliver what is ready, and put another worker in the place of one that is held up."""
        self._deliver()
        if not self._under_way:
            self._looking = None
            return
        if not self._exchange.queue.empty():
            self._replace_slow()
        self._looking = self._loop.call_later(_LOOK_EVERY, self._look)

    def _replace_slow(self) -> None:
        now = self._loop.time()
        workers = self._exchange.workers
        for worker in list(workers):
            if worker.replaced or not worker.busy:
                continue
            if worker.seen != worker.taken:
                worker.seen, worker.since = worker.taken, now
            elif now - worker.since > _PATIENCE and len(workers) < self._maximum:
                worker.replaced = True
                self._start_worker()

    async def aclose(self) -> None:
        """Refuse new operations, wait for those that there are, and end the threads; idempotent."""
        self._closed = True
        await self._idle.wait()
        self._end_threads()

    def _end_threads(self) -> None:
        for _ in range(len(self._exchange.workers)):
            self._exchange.queue.put(None)

    def __del__(self) -> None:
        if hasattr(self, "_exchange"):
            self._end_threads()
