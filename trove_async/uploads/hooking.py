"""How the hooks of an application are called: when, for how long, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

from trove_async.errors import OperationTimeoutError, TroveError, UploadRejectedError
from trove_async.uploads.arguments import check_changes, check_final_answer
from trove_async.uploads.hooks import Changes, Hooks, UploadEvent
from trove_async.uploads.info import FinalAnswer

__all__ = ["HookRunner", "Progress"]

R = TypeVar("R")

Told = Literal["after_create", "after_receive", "after_finish", "after_terminate"]
"""Hooks that are told what has happened, and decide nothing."""

Asked = Literal["authorize", "before_receive", "before_terminate"]
"""Hooks that refuse a request by raising, and decide nothing else."""

_log = logging.getLogger("trove_async.uploads")


class HookRunner:
    """Calls the hooks of an application, each within a time.

    The caller holds the lock of the upload, except for `authorize`: that makes the order for each upload. Hooks of
    different uploads run side by side. A hook that the application has not overridden costs nothing.

    Args:
        hooks: of the application.
        timeout: seconds that a hook may take.
        progress_seconds: seconds between two calls of `Hooks.on_progress` for a body, at least.
    """

    def __init__(self, hooks: Hooks, *, timeout: float, progress_seconds: float) -> None:
        self._hooks = hooks
        self._timeout = timeout
        self._progress_seconds = progress_seconds

    async def authorize(self, event: UploadEvent) -> None:
        """Ask whether the client may do this."""
        await self._ask("authorize", event)

    async def before_create(self, event: UploadEvent) -> Changes:
        """Ask whether an upload is created, and how."""
        changes = await self._call(self._hooks.before_create, Hooks.before_create, event)
        if changes is None:
            return Changes()
        check_changes(changes)
        return changes

    async def before_receive(self, event: UploadEvent) -> None:
        """Ask whether the body of a request is taken."""
        await self._ask("before_receive", event)

    async def before_finish(self, event: UploadEvent) -> FinalAnswer | None:
        """Ask whether a complete upload is finished, and how the client is answered."""
        answer = await self._call(self._hooks.before_finish, Hooks.before_finish, event)
        if answer is not None:
            check_final_answer(answer)
        return answer

    async def before_terminate(self, event: UploadEvent) -> None:
        """Ask whether an upload is removed."""
        await self._ask("before_terminate", event)

    async def tell(self, name: Told, event: UploadEvent) -> None:
        """Tell the application what has happened; its errors are logged."""
        try:
            await self._call(getattr(self._hooks, name), getattr(Hooks, name), event)
        except Exception as error:  # noqa: BLE001 - what has happened stays so
            _failed(name, event, error)

    def progress(self, event: UploadEvent, stop: Callable[[], object]) -> Progress | None:
        """Return what reports the progress of a body; None if the application does not want to know it.

        Args:
            event: the upload before the body.
            stop: ends the body, if the hook raises an `UploadRejectedError`.
        """
        if _is_default(self._hooks.on_progress, Hooks.on_progress):
            return None

        async def call(at: int) -> None:
            reached = replace(event, info=replace(event.info, offset=at))
            await self._call(self._hooks.on_progress, Hooks.on_progress, reached)

        return Progress(event, call, stop, self._progress_seconds)

    async def _ask(self, name: Asked, event: UploadEvent) -> None:
        result = await self._call(getattr(self._hooks, name), getattr(Hooks, name), event)
        if result is not None:  # such as False, which must not pass for a permission
            raise TypeError(
                f"the hook {name} returns nothing, not {result!r}; it refuses a request by raising UploadRejectedError"
            )

    async def _call(
        self,
        hook: Callable[[UploadEvent], Awaitable[R]],
        default: Callable[[Hooks, UploadEvent], Awaitable[R]],
        event: UploadEvent,
    ) -> R | None:
        if _is_default(hook, default):
            return None
        name = getattr(hook, "__name__", "of the application")
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                running = hook(event)
                if not isinstance(running, Awaitable):
                    raise TypeError(f"the hook {name} is no coroutine: define it with 'async def'")
                return await running
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise OperationTimeoutError(f"the hook {name} took longer than {self._timeout:g} s") from error
        except Exception as error:
            if not isinstance(error, TroveError):  # such as an HTTPException, which is no refusal here
                error.add_note(f"The hook {name} has raised it. To refuse a request, raise UploadRejectedError.")
            raise


class Progress:
    """Reports the progress of one body, from a task at its side: a slow hook does not delay the body.

    At most one call runs at a time, and none begins within the interval after the one before. It is entered for the
    time in which the body is received.
    """

    def __init__(
        self, event: UploadEvent, call: Callable[[int], Awaitable[None]], stop: Callable[[], object], interval: float
    ) -> None:
        self._event = event
        self._call = call
        self._stop = stop
        self._interval: Final = interval
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time() + interval
        self._task: asyncio.Task[None] | None = None
        self.refusal: UploadRejectedError | None = None
        """What the hook has raised to end the body."""

    def reached(self, offset: int) -> None:
        """Take in how many bytes of the upload have arrived."""
        now = self._loop.time()
        if now >= self._next and (self._task is None or self._task.done()):
            self._next = now + self._interval
            self._task = self._loop.create_task(self._report(offset))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait until no call is running; if the request is cancelled, end the call. None begins afterwards."""
        self._next = math.inf
        if self._task is None:
            return
        if isinstance(error, asyncio.CancelledError):
            self._task.cancel()
        try:
            await asyncio.wait({self._task})
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait({self._task})
            raise

    async def _report(self, offset: int) -> None:
        try:
            await self._call(offset)
        except UploadRejectedError as error:
            self.refusal = error
            self._stop()
        except Exception as error:  # noqa: BLE001 - it concerns the report, and not the upload
            _failed("on_progress", self._event, error)


def _is_default(hook: Callable[..., object], default: Callable[..., object]) -> bool:
    return getattr(hook, "__func__", None) is default


def _failed(name: str, event: UploadEvent, error: Exception) -> None:
    _log.error("the hook %s failed for the upload %s: %s", name, event.info.id, error, exc_info=error)
