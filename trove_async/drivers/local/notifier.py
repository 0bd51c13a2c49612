"""The notifications of the system (inotify, through watchfiles), passed from a thread to the event loop.

The system limits how many processes and directories one user may watch. So a directory is watched once, for all watches
of a store.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Final

from trove_async.errors import BackendError, MissingDependencyError, WatchOverflowError

__all__ = ["Notifiers", "Subscription"]

_DEBOUNCE_MS: Final = 100
_STEP_MS: Final = 20
_PAUSE: Final = 0.5
"""Seconds before a watch begins again, so that a file that is written all the time costs little."""
_NOT_UTF8: Final = "Unable to decode path"
"""The error with which watchfiles ends a watch after a file changed whose name is not UTF-8."""
_TOO_MANY_INSTANCES: Final = ("os error 24", "Too many open files")
_TOO_MANY_WATCHES: Final = ("os error 28", "No space left on device", "watch limit reached")


class Notifiers:
    """The notifiers of a store: one for each directory that is watched, however many watch it."""

    def __init__(self) -> None:
        self._notifiers: dict[str, _Notifier] = {}

    def subscribe(self, directory: str) -> Subscription:
        """Begin to watch a directory, whose path is without symbolic links."""
        notifier = self._notifiers.get(directory)
        if notifier is None or not notifier.is_current():
            notifier = self._notifiers[directory] = _Notifier(directory)
        subscription = Subscription(self, notifier)
        notifier.subscriptions.add(subscription)
        return subscription

    def fail(self, error: Exception) -> None:
        """End all watches with an error."""
        for notifier in list(self._notifiers.values()):
            notifier.fail(error)

    async def leave(self, subscription: Subscription, notifier: _Notifier) -> None:
        """End a watch; the last one of a directory ends its thread."""
        notifier.subscriptions.discard(subscription)
        if not notifier.subscriptions:
            if self._notifiers.get(notifier.directory) is notifier:
                del self._notifiers[notifier.directory]
            await notifier.aclose()


class Subscription:
    """One watch of a directory.

    Attributes:
        ready: set once the directory is watched, or cannot be.
        changed: set while there is something to take.
        capacity: how many changed paths may wait to be taken.
    """

    def __init__(self, notifiers: Notifiers, notifier: _Notifier) -> None:
        self._notifiers = notifiers
        self._notifier = notifier
        self._paths: dict[str, None] = {}
        self._failure = notifier.failure
        self.ready = notifier.ready
        self.changed = asyncio.Event()
        self.capacity = 0

    def is_current(self) -> bool:
        """Return whether this surely watches the directory that has its path now."""
        return self._failure is None and self._notifier.is_current()

    def add(self, paths: tuple[str, ...]) -> None:
        """Add paths that changed."""
        self._paths.update(dict.fromkeys(paths))
        if len(self._paths) > self.capacity:
            self.fail(WatchOverflowError(f"more than {self.capacity} changes waited, and some are lost; list again"))
        self.changed.set()

    def fail(self, error: Exception) -> None:
        """End the watch with an error."""
        self._failure = self._failure or error
        self.changed.set()

    def take(self) -> list[str]:
        """Return the paths that changed since the last call, each once."""
        self.changed.clear()
        if self._failure is not None:
            raise self._failure
        paths, self._paths = list(self._paths), {}
        return paths

    async def aclose(self) -> None:
        """End the watch."""
        await self._notifiers.leave(self, self._notifier)


class _Notifier:
    """A thread that waits for notifications of the system and passes their paths to the event loop."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._inode = _inode(directory)
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._outdated = False
        self.subscriptions: set[Subscription] = set()
        self.failure: Exception | None = None
        self.ready = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="trove-local-watch", daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """Return whether this surely watches the directory: one that was removed and made again is another one."""
        return self.failure is None and not self._outdated and self._inode == _inode(self.directory)

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._pass_on()
                except FileNotFoundError:
                    self._call_in_loop(self._begin)  # the watches find out whether the bucket was deleted
                self._stop.wait(_PAUSE)
        except ImportError as error:
            failure: Exception = MissingDependencyError("watch needs: pip install 'trove-async[local]'")
            failure.__cause__ = error
            self._call_in_loop(lambda: self.fail(failure))
        except Exception as error:  # noqa: BLE001 - it is raised to the consumer
            cause = error
            self._call_in_loop(lambda: self.fail(_failed(cause)))
        finally:
            self._call_in_loop(self._ended.set)

    def _pass_on(self) -> None:
        """Pass notifications on until the thread is to end, or watchfiles stops at a name that is not UTF-8."""
        from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

        with RustNotify([self.directory], False, False, 0, True, True) as watcher:
            self._call_in_loop(self._begin)
            while not self._stop.is_set():
                try:
                    changes = watcher.watch(_DEBOUNCE_MS, _STEP_MS, 0, self._stop)
                except WatchfilesRustInternalError as error:
                    if _NOT_UTF8 not in str(error):
                        raise
                    return
                if isinstance(changes, set):
                    self._call_in_loop(lambda found=tuple(path for _, path in changes): self._take(found))

    def _begin(self) -> None:
        if self.ready.is_set():  # changes were missed meanwhile: the directory itself stands for everything in it
            for subscription in self.subscriptions:
                subscription.add((self.directory,))
        self.ready.set()

    def _call_in_loop(self, callback: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)  # type: ignore[arg-type]
        except RuntimeError:
            self._stop.set()  # the loop is closed

    def _take(self, paths: tuple[str, ...]) -> None:
        if self.directory in paths:
            self._outdated = True
        for subscription in self.subscriptions:
            subscription.add(paths)

    def fail(self, error: Exception) -> None:
        """End all watches of the directory with an error."""
        self.failure = self.failure or error
        self.ready.set()
        for subscription in self.subscriptions:
            subscription.fail(error)

    async def aclose(self) -> None:
        """End the thread."""
        self._stop.set()
        await self._ended.wait()
        self._thread.join()  # it has nothing left to do


def _inode(directory: str) -> int | None:
    try:
        return os.stat(directory).st_ino
    except OSError:
        return None


def _failed(error: Exception) -> Exception:
    text = str(error)
    if any(sign in text for sign in _TOO_MANY_INSTANCES):
        hint = "raise the setting fs.inotify.max_user_instances, or the limit of open files (ulimit -n)"
    elif any(sign in text for sign in _TOO_MANY_WATCHES):
        hint = "raise the setting fs.inotify.max_user_watches: each directory of the bucket needs one"
    else:
        hint = "see the settings fs.inotify.max_user_instances and fs.inotify.max_user_watches"
    failure = BackendError(f"the directory cannot be watched: {text}; {hint}")
    failure.__cause__ = error
    return failure
