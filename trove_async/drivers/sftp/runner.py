"""Running operations over a connection that may be lost, for callers that may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from trove_async.cancellation import finish
from trove_async.drivers.sftp.errors import DisconnectedError, translated
from trove_async.drivers.sftp.leftovers import Leftovers
from trove_async.drivers.sftp.locks import cancellation_check
from trove_async.drivers.sftp.steps import Recovery
from trove_async.errors import ClosedError, TransientError, TroveError
from trove_async.tree import Checkpoint

__all__ = ["Runner"]

R = TypeVar("R")


class _Operation:
    """One call, and whether its caller still waits for it."""

    __slots__ = ("_runner", "cancelled")

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.cancelled = False

    def check(self) -> None:
        """Raise if the caller was cancelled, or the store is closed."""
        if self.cancelled:
            raise asyncio.CancelledError
        if self._runner.closed:
            raise ClosedError("the store was closed during the operation")


class Runner:
    """Runs operations to their end, and repeats them where that is safe.

    Args:
        leftovers: files to remove after an operation that has worked.
        recovery: of the store.
        cleanup_timeout: seconds that a cancelled caller waits for the end of its operation.
    """

    def __init__(self, leftovers: Leftovers, *, recovery: Recovery, cleanup_timeout: float) -> None:
        self._leftovers = leftovers
        self._recovery = recovery
        self._cleanup_timeout = cleanup_timeout
        self._running: set[asyncio.Future[Any]] = set()
        self.closed = False

    def close(self) -> None:
        """Refuse further operations; those under way stop at their next checkpoint and are not repeated."""
        self.closed = True

    async def drain(self) -> None:
        """Wait until no operation is running, for three quarters of ``cleanup_timeout`` at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._cleanup_timeout * 0.75)

    def check_open(self) -> None:
        """Raise `ClosedError` after `close`."""
        if self.closed:
            raise ClosedError("the store is closed")

    async def run(
        self,
        work: Callable[[Checkpoint], Awaitable[R]],
        *,
        repeat: bool = True,
        uncertain: bool = False,
        reads: bool = False,
        discard: Callable[[R], Awaitable[object]] | None = None,
    ) -> R:
        """Run an operation; a cancellation makes it stop at its next checkpoint, and waits for that.

        Args:
            work: the operation; its argument is a function that raises once the caller was cancelled.
            repeat: whether it can be repeated after the connection was lost.
            reads: whether it only reads; then a cancellation stops it at once.
            uncertain: whether it may have taken effect when the connection was lost.
            discard: called with the result if the caller was cancelled before it could be returned.
        """
        self.check_open()
        operation = _Operation(self)
        task = asyncio.ensure_future(self._run(work, operation, repeat, uncertain))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            operation.cancelled = True
            if reads:
                task.cancel()
            try:
                ended = _wait_and_discard(task, discard)
                await finish(ended, timeout=self._cleanup_timeout, leftover="an operation over SFTP")
            finally:
                task.cancel()
            raise

    async def _run(
        self, work: Callable[[Checkpoint], Awaitable[R]], operation: _Operation, repeat: bool, uncertain: bool
    ) -> R:
        cancellation_check.set(operation.check)
        attempts = self._recovery.retries.of_request()
        while True:
            try:
                result = await work(operation.check)
            except (DisconnectedError, TransientError) as error:
                failure = error if isinstance(error, TransientError) else translated(error)
                if failure is not error:
                    failure.ambiguous = uncertain
                if self.closed:
                    raise ClosedError("the store was closed during the operation") from error
                if not repeat or failure.ambiguous:
                    failure.exhausted = failure.retryable
                operation.check()
                if not await self._recovery.again(attempts, failure):
                    raise failure from (None if failure is error else error)
            except OSError as error:
                if isinstance(error, TroveError):
                    self._recovery.retries.budget.succeeded()  # such as that of a missing object: the server works
                    raise
                raise translated(error) from error
            else:
                self._recovery.retries.budget.succeeded()
                if self._leftovers:
                    await self._leftovers.remove()
                return result


async def _wait_and_discard(task: asyncio.Future[R], discard: Callable[[R], Awaitable[object]] | None) -> None:
    """Wait until a task ends, and discard its result."""
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is None and discard is not None:
        await discard(task.result())
