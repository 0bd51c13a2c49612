"""Threads for file operations, which share the wake-ups of the event loop.

Passing an operation to a thread and back costs more than most file operations, and most of that is waking the event
loop. So the workers take operations from one queue and wake the loop once for all results that are ready: at once when
the queue is empty, otherwise when many are ready. The loop also checks every millisecond while operations are running,
so no result waits for a slow operation. When an operation is slow and others are waiting, another worker replaces the
one that is blocked, which ends when its operation returns. So a slow file delays other operations by a few milliseconds
at most. How many workers there are otherwise follows the rate of completed operations, see `PoolSize`.

An operation may also return `Suspended`: it waits for something without a thread, and goes on in any worker later.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Final, TypeVar

from trove_async.cancellation import finish
from trove_async.drivers.local.errors import release_frames
from trove_async.drivers.local.flushing import Flush, Flushers
from trove_async.drivers.local.pool_size import PoolSize
from trove_async.drivers.local.suspension import Pause, Suspended
from trove_async.errors import ClosedError, UnavailableError
from trove_async.tree import Checkpoint

__all__ = ["Cancelled", "Workers"]

R = TypeVar("R")

_LOOK_EVERY: Final = 0.001
_PATIENCE: Final = 0.01
_ENOUGH: Final = 48


class Cancelled(BaseException):
    """The caller of an operation was cancelled before the operation committed."""


def _closed() -> ClosedError:
    return ClosedError("the store was closed during the operation")


class _Job:
    __slots__ = (
        "abandoned",
        "cancelled",
        "discard",
        "ending",
        "error",
        "finished",
        "future",
        "operation",
        "result",
        "resume",
        "started",
        "suspended",
        "waiter",
    )

    def __init__(
        self,
        operation: Callable[[Checkpoint], Any],
        future: asyncio.Future[Any],
        discard: Callable[[Any], object] | None,
    ) -> None:
        self.operation = operation
        self.suspended: Suspended[Any] | None = None
        self.resume: Callable[[], Any] | None = None
        self.future = future
        self.discard = discard
        self.started = False
        self.abandoned = False
        self.cancelled = False
        self.ending: Callable[[], BaseException] | None = None  # what the next checkpoint raises
        self.finished = False
        self.waiter: asyncio.Event | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def flush(self) -> Flush | None:
        """The flush that it waits for, if it does."""
        result = self.result
        return result.wait if type(result) is Suspended and type(result.wait) is Flush else None

    def checkpoint(self) -> None:
        if self.ending is not None:
            raise self.ending()

    def cancel(self) -> None:
        self.cancelled = True
        self.ending = Cancelled

    def run(self) -> None:
        self.started = True
        resume = self.resume
        if self.ending is not None and resume is None:
            self.error = self.ending()
            return
        try:
            self.result = self.operation(self.checkpoint) if resume is None else resume()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            release_frames(error)
            self.error = error

    def drop(self) -> None:
        """Discard the result of a cancelled operation, once."""
        discard, self.discard = self.discard, None
        if discard is not None and self.error is None and self.result is not None:
            discard(self.result)


class _Worker:
    """What the event loop knows about a thread."""

    __slots__ = ("job", "leaving", "seen", "since", "taken")

    def __init__(self) -> None:
        self.job: _Job | None = None  # that it runs
        self.taken = 0  # number of jobs taken, from which the loop sees whether it is still the same job
        self.seen = 0
        self.since = 0.0
        self.leaving = False  # it ends after its job


class _Exchange:
    """What the event loop and the threads share. Threads refer to nothing else, so a pool can be garbage-collected."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[], None], flushers: Flushers | None) -> None:
        self.loop = loop
        self.deliver = deliver
        self.flushers = flushers
        self.flushing: set[_Job] = set()  # those that wait for a flush by another thread
        self.queue: SimpleQueue[_Job | None] = SimpleQueue()
        self.done: deque[_Job] = deque()
        self.woken = False
        self.workers: set[_Worker] = set()

    def work(self, worker: _Worker) -> None:
        """Run jobs until the pool ends or this worker has to leave."""
        queue, done = self.queue, self.done
        while not worker.leaving:
            job = queue.get()
            if job is None:
                break
            worker.taken += 1
            worker.job = job
            job.run()
            while (flush := job.flush) is not None and not self.passes_on(job, flush):
                job.run()
            worker.job = None
            if flush is None:
                done.append(job)
            del job
            # The loop clears the flag before it takes the results, so every result gets a wake-up.
            if done and not self.woken and (queue.empty() or len(done) >= _ENOUGH):
                self.woken = True
                try:
                    self.loop.call_soon_threadsafe(self.deliver)
                except RuntimeError:
                    self._do_without_loop()
        self.workers.discard(worker)

    def _do_without_loop(self) -> None:
        """End what has begun, and may hold locks, after the loop was closed before the store."""
        self.stop()
        while self.done:
            job = self.done.popleft()
            if type(job.result) is Suspended:
                job.resume, job.result = partial(job.result.abandon, _closed()), None
                self.queue.put(job)
            else:
                job.drop()
        self.woken = False  # for the next results

    def stop(self) -> None:
        """Make the operations that run, wait for a flush or are in the queue end at their next checkpoint."""
        running = [worker.job for worker in list(self.workers)]
        waiting: list[_Job | None] = []
        with suppress(Empty):
            while True:
                waiting.append(self.queue.get_nowait())
        for job in (*running, *list(self.flushing), *waiting):
            if job is not None and job.ending is None:
                job.ending = _closed
        for queued in waiting:
            self.queue.put(queued)

    def passes_on(self, job: _Job, flush: Flush) -> bool:
        """Have the flush that a job waits for made by another thread, or make it here; return whether it was passed on.

        To the event loop, a job that waits for a flush is running.
        """
        suspended, job.result = job.result, None
        job.resume = suspended.resume
        flushers = self.flushers
        if flushers is None:
            flush.make()
            return False
        if not flushers.worth_it(busy=not self.queue.empty()):
            flushers.make(flush)
            return False
        self.flushing.add(job)
        flushers.take(flush, partial(self._go_on, job))
        return True

    def _go_on(self, job: _Job) -> None:
        self.flushing.discard(job)  # first: once it is in the queue, it may begin to wait for its next flush
        self.queue.put(job)


class Workers:
    """A pool of threads for the operations of the running loop.

    Args:
        name: of the threads.
        size: how many threads there are while none is blocked.
        maximum: how many threads there may be.
        cleanup_timeout: seconds that a cancelled call waits for its operation.
        await_turn: arranges that a function is called, in any thread, when a `Wait` is over that is no `Pause`.
        flushers: make the flushes of operations; without them, the worker does that runs the operation.
        on_idle: called in the event loop when no operation is running any longer.
    """

    def __init__(
        self,
        name: str,
        *,
        size: PoolSize,
        maximum: int,
        cleanup_timeout: float,
        await_turn: Callable[[Any, Callable[[], object]], object] | None = None,
        flushers: Flushers | None = None,
        on_idle: Callable[[], object] = lambda: None,
    ) -> None:
        self._await_turn = await_turn
        self._on_idle = on_idle
        self._name = name
        self._size = size
        self._staying = 0  # threads that do not leave
        self._maximum = maximum
        self._cleanup_timeout = cleanup_timeout
        self._loop = asyncio.get_running_loop()
        myself = weakref.ref(self)

        def deliver() -> None:
            if (pool := myself()) is not None:
                pool._deliver()

        self._exchange = _Exchange(self._loop, deliver, flushers)
        self._under_way = 0
        self._suspended: set[_Job] = set()
        self._pausing: dict[_Job, asyncio.TimerHandle] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._looked = 0.0
        self._completed = 0  # since then
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def run(
        self, operation: Callable[[Checkpoint], R | Suspended[R]], *, discard: Callable[[R], object] | None = None
    ) -> R:
        """Run an operation in a thread and return what it returns.

        If the caller is cancelled before the operation has begun, it never begins. If the caller is cancelled later it
        waits for the operation, which may be committing; the operation stops at its next checkpoint. If it returns a
        result after all, ``discard`` is called with that.
        """
        if self._closed:
            raise ClosedError("the store is closed")
        return await self._run(operation, discard)

    async def _run(
        self, operation: Callable[[Checkpoint], R | Suspended[R]], discard: Callable[[R], object] | None
    ) -> R:
        job = _Job(operation, self._loop.create_future(), discard)
        exchange = self._exchange
        if self._staying < self._size.threads and self._staying <= self._under_way:
            self._start_worker()
        if not exchange.workers:
            raise UnavailableError("the system allows the process no more threads")
        if not self._under_way:
            self._idle.clear()
        self._under_way += 1
        exchange.queue.put(job)
        if self._looking is None:
            self._begin_to_look()
        try:
            return await job.future  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            job.cancel()
            if job.started and not job.finished:
                self._abandon(job, Cancelled())
                job.waiter = asyncio.Event()
                await finish(job.waiter.wait(), timeout=self._cleanup_timeout, leftover=f"an operation of {self._name}")
            elif job.finished:
                job.drop()
            raise

    def _start_worker(self) -> bool:
        """Start a worker, if there may be another one; return whether it was started."""
        workers = self._exchange.workers
        if len(workers) >= self._maximum:
            return False
        worker = _Worker()
        workers.add(worker)
        try:
            # Daemon threads: a file operation that never returns must not keep the process from ending.
            threading.Thread(target=self._exchange.work, args=(worker,), name=self._name, daemon=True).start()
        except RuntimeError:  # the system allows the process no more threads
            workers.discard(worker)
            return False
        self._staying += 1
        return True

    def _deliver(self) -> None:
        """Deliver the results that are ready."""
        exchange = self._exchange
        exchange.woken = False
        done = exchange.done
        while done:
            job = done.popleft()
            if type(job.result) is Suspended:
                self._suspend(job, job.result)
                continue
            self._under_way -= 1
            self._completed += 1
            job.finished = True
            future = job.future
            if job.cancelled or future.cancelled():
                if job.waiter is not None:
                    job.waiter.set()
                job.drop()
            elif job.error is not None:
                future.set_exception(job.error)
                # The frames of the error refer to the job. Without these two, what they have open is closed with the
                # error, and not by the garbage collector.
                job.error = None
                del job.future
            else:
                future.set_result(job.result)
        if not self._under_way:
            self._idle.set()
            self._on_idle()

    # Suspended operations

    def _suspend(self, job: _Job, suspended: Suspended[Any]) -> None:
        """Continue an operation when its wait is over."""
        job.result = None
        job.suspended = suspended
        self._suspended.add(job)
        if job.cancelled and not job.abandoned:
            self._abandon(job, Cancelled())
        elif isinstance(suspended.wait, Pause):
            self._pausing[job] = self._loop.call_later(suspended.wait.seconds, self._continue, job, suspended)
        else:
            assert self._await_turn is not None
            self._await_turn(suspended.wait, lambda: self._call_in_loop(job, suspended))

    def _call_in_loop(self, job: _Job, suspended: Suspended[Any]) -> None:
        with suppress(RuntimeError):  # the loop was closed before the store
            self._loop.call_soon_threadsafe(self._continue, job, suspended)

    def _continue(self, job: _Job, suspended: Suspended[Any], error: BaseException | None = None) -> None:
        if job.suspended is not suspended:
            return  # it was abandoned at the same time
        job.suspended = None
        self._suspended.discard(job)
        if (pause := self._pausing.pop(job, None)) is not None:
            pause.cancel()
        job.resume = suspended.resume if error is None else partial(suspended.abandon, error)
        self._exchange.queue.put(job)
        if self._looking is None:
            self._begin_to_look()

    def _abandon(self, job: _Job, error: BaseException) -> None:
        """End an operation if it is suspended; its clean-up runs in a worker, and may be suspended again."""
        if job.suspended is not None and not job.abandoned:
            job.abandoned = True
            self._continue(job, job.suspended, error)

    # The number of threads

    def _begin_to_look(self) -> None:
        self._looked = monotonic()
        self._keep_looking()

    def _keep_looking(self) -> None:
        self._looking = self._loop.call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        """Deliver results, and see whether there are as many threads as are needed; runs every millisecond."""
        self._deliver()
        now, waiting = monotonic(), not self._exchange.queue.empty()
        self._size.observe(now - self._looked, self._completed, waiting=waiting)
        self._looked, self._completed = now, 0
        if self._under_way == len(self._suspended):
            self._looking = None
            return
        if waiting:
            self._replace_blocked(now)
        self._fit(waiting)
        self._keep_looking()

    def _replace_blocked(self, now: float) -> None:
        for worker in list(self._exchange.workers):
            if worker.leaving or worker.job is None:
                continue
            if worker.seen != worker.taken:
                worker.seen, worker.since = worker.taken, now
            elif now - worker.since > _PATIENCE and self._start_worker():
                self._dismiss(worker)

    def _fit(self, waiting: bool) -> None:
        while waiting and self._staying < self._size.threads and self._start_worker():
            pass
        for worker in list(self._exchange.workers):
            if self._staying <= self._size.threads:
                break
            if not worker.leaving:
                self._dismiss(worker)

    def _dismiss(self, worker: _Worker) -> None:
        worker.leaving = True
        self._staying -= 1

    async def drain(self) -> None:
        """Refuse new operations, and wait for the running ones; idempotent.

        Operations that still wait after a quarter of ``cleanup_timeout``, for a lock of another process, fail. Those
        that still run after three quarters fail at their next checkpoint.
        """
        self._closed = True
        quarters = 0
        try:
            while not self._idle.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._cleanup_timeout / 4):
                        await self._idle.wait()
                    continue
                quarters += 1
                for job in list(self._suspended):
                    self._abandon(job, ClosedError("the store was closed while the operation waited for others"))
                if quarters >= 3:
                    self._exchange.stop()
        except asyncio.CancelledError:
            self._exchange.stop()
            raise

    async def aclose(self, last: Callable[[], object] | None = None) -> None:
        """Drain the pool and end the threads; idempotent.

        Args:
            last: called in a thread after all operations.
        """
        await self.drain()
        if last is not None:
            await self._run(lambda checkpoint: last(), None)
        self._end_threads()

    def close_when_idle(self, last: Callable[[], object]) -> None:
        """End the threads once the operations have ended that did not end while `drain` waited.

        Args:
            last: called in the event loop after them.
        """

        def on_idle() -> None:
            self._on_idle = lambda: None
            self._end_threads()
            last()

        self._on_idle = on_idle
        if self._idle.is_set():
            on_idle()

    def _end_threads(self) -> None:
        for _ in range(len(self._exchange.workers)):
            self._exchange.queue.put(None)
        if self._exchange.flushers is not None:
            self._exchange.flushers.end()

    def __del__(self) -> None:
        if hasattr(self, "_exchange"):
            self._end_threads()
