"""Call coroutines from code that has no event loop: one thread of the process runs a loop for all such calls.

::

    portal = current()
    data = portal.call(store.read, "assets", "photos/a.jpg")
"""

from __future__ import annotations

import asyncio
import atexit
import os
import selectors
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Generic, ParamSpec, TypeVar, cast

from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.errors import ForkedError, LifetimeError

__all__ = ["Portal", "current"]

P = ParamSpec("P")
R = TypeVar("R")


class Portal:
    """An event loop in a thread of its own; `current` returns the one of the process.

    Any number of threads may use it at the same time. It belongs to its process: in a forked child its methods raise
    `ForkedError`, and `current` returns another portal.
    """

    def __init__(self) -> None:
        self._forked = False
        self._running = True
        self._ending = asyncio.Event()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._run, name="trove-portal", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads
            self._loop.close()
            raise

    def call(self, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function on the loop, await what it returns, and return the result.

        The function runs in a task with a copy of the caller's context variables. The caller's thread waits. If the
        wait ends with an exception of a signal handler, such as `KeyboardInterrupt`, the task is cancelled, and the
        exception is raised once the task has ended; another one, such as that of a second Ctrl-C, is raised at once.
        A result that comes too late for the caller is closed, if it has ``aclose``.

        Args:
            function: a coroutine function, or another function that returns an awaitable.
            *args: for the function.
            **kwargs: for the function.

        Raises:
            LifetimeError: the caller is in the thread of the loop, and would wait for itself; or the interpreter is
                ending.
            ForkedError: the portal belongs to a parent process.
        """
        if self._forked:
            raise ForkedError
        if not self._running:
            raise LifetimeError("the interpreter is ending, and with it the thread of the event loop")
        if threading.get_ident() == self._thread.ident:
            raise LifetimeError(
                "a blocking call was made on the thread of the event loop that it would wait for, for example in "
                "on_progress; make it in another thread"
            )
        call = _Call(self, lambda: function(*args, **kwargs))
        try:
            self._loop.call_soon_threadsafe(call.start)
            call.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(call.cancel)
            call.wait()
            if (aclose := getattr(call.value, "aclose", None)) is not None:
                self.call(aclose)
            raise
        return call.result()

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function that needs the running loop, and return the result. In all else it is like `call`."""
        return self.call(_plain, lambda: function(*args, **kwargs))

    def post(self, function: Callable[[], object]) -> None:
        """Have the loop call a function soon, without waiting; for finalizers, which may run in any thread.

        Nothing happens in a forked child, which must not touch its parent's connections, or after the loop was closed.
        """
        if not self._forked:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        # A task that lives as long as the loop: anyio keeps its threads for as long.
        serving = self._loop.create_task(self._serve())
        while not serving.done():
            with suppress(SystemExit, KeyboardInterrupt):  # asyncio lets those of a task end its loop
                self._loop.run_until_complete(serving)
        self._loop.close()

    async def _serve(self) -> None:
        await self._ending.wait()
        # What `asyncio.run` does at its end, except for the threads of the executor, which the interpreter has ended.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _end(self) -> None:
        self._running = False
        self._ending.set()

    def _forget(self) -> None:
        """Let go, in a forked child, of what belongs to the parent."""
        self._forked = True
        # Finalizers may run here too. Closing a connection would end that of the parent, which shares it.
        with socket.socket(socket.AF_UNIX) as nothing:
            for key in list(self._selector.get_map().values()):
                os.dup2(nothing.fileno(), key.fd, inheritable=False)
        self._loop.set_exception_handler(lambda loop, context: None)  # what is unclosed, the parent closes

    def _close(self) -> None:
        self.post(self._end)
        self._thread.join(CLEANUP_TIMEOUT)


class _Call(Generic[R]):
    """One call: it is started, cancelled and finished by the thread of the loop, and one other thread waits."""

    def __init__(self, portal: Portal, function: Callable[[], Awaitable[R]]) -> None:
        self._portal = portal
        self._function = function
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self.value: R | None = None
        self._error: BaseException | None = None
        self._begun = False
        self._finished = False
        self._done = threading.Lock()  # acquiring it can be interrupted by a signal handler
        self._done.acquire()

    def start(self) -> None:
        self._task = self._portal._loop.create_task(self._run(), context=self._context)

    async def _run(self) -> None:
        self._begun = True
        try:
            self.value = await self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error
        if self._portal._running:  # at exit, a daemon thread that waits is not to report that its call was cancelled
            self._finish()

    def _finish(self) -> None:
        self._task = None  # freed here: Python drops a Ctrl-C that comes while the caller's thread frees a task
        self._finished = True
        self._done.release()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if not self._begun:  # and never will
            self._finish()

    def wait(self) -> None:
        if not self._finished:  # else the lock may have been acquired already: it is released once
            self._done.acquire()

    def result(self) -> R:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # the traceback refers to this frame
        return cast(R, self.value)


async def _plain(function: Callable[[], R]) -> R:
    return function()


_lock = threading.Lock()
_portal: Portal | None = None


def current() -> Portal:
    """Return the portal of the process; the first call starts its thread."""
    global _portal
    if _portal is None:
        with _lock:
            if _portal is None:
                _portal = Portal()
    return _portal


def _forget_in_child() -> None:
    global _lock, _portal
    _lock = threading.Lock()  # another thread may have held it
    if _portal is not None:
        _portal._forget()
        _portal = None


def _close_at_exit() -> None:
    if _portal is not None:
        _portal._close()


os.register_at_fork(after_in_child=_forget_in_child)
atexit.register(_close_at_exit)
