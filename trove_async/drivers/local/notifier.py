"""`Notifier`: the notifications of the system (inotify, through watchfiles), passed from a thread to the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from trove_async.errors import BackendError, MissingDependencyError, WatchOverflowError

__all__ = ["Notifier"]

_DEBOUNCE_MS: Final = 100
_STEP_MS: Final = 20


class Notifier:
    """A thread that waits for notifications of the system and passes their paths to the event loop."""

    def __init__(self, directory: str, capacity: int) -> None:
        self._directory = directory
        self._capacity = capacity
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended = asyncio.Event()
        self._paths: dict[str, None] = {}
        self._failure: Exception | None = None
        self.ready = asyncio.Event()
        self.changed = asyncio.Event()
        threading.Thread(target=self._work, name="trove-local-watch", daemon=True).start()

    def _work(self) -> None:
        try:
            from watchfiles._rust_notify import RustNotify

            with RustNotify([self._directory], False, False, 0, True, True) as watcher:
                self._call_in_loop(self.ready.set)
                while not self._stop.is_set():
                    changes = watcher.watch(_DEBOUNCE_MS, _STEP_MS, 0, self._stop)
                    if isinstance(changes, set):
                        self._call_in_loop(lambda found=tuple(path for _, path in changes): self._take(found))
        except ImportError as error:
            failure: Exception = MissingDependencyError("watch needs: pip install 'trove-async[local]'")
            failure.__cause__ = error
            self._call_in_loop(lambda: self.fail(failure))
        except Exception as error:  # noqa: BLE001 - it is raised to the consumer
            cause = error
            self._call_in_loop(lambda: self.fail(_failed(cause)))
        finally:
            self._call_in_loop(self._ended.set)

    def _call_in_loop(self, callback: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)  # type: ignore[arg-type]
        except RuntimeError:
            self._stop.set()  # the loop is closed

    def _take(self, paths: tuple[str, ...]) -> None:
        self._paths.update(dict.fromkeys(paths))
        if len(self._paths) > self._capacity:
            self.fail(WatchOverflowError(f"more than {self._capacity} changes waited, and some are lost; list again"))
        self.changed.set()

    def fail(self, error: Exception) -> None:
        """End the watch with an error."""
        self._failure = self._failure or error
        self.ready.set()
        self.changed.set()

    def take(self) -> list[str]:
        """Return the paths that changed since the last call, each once."""
        self.changed.clear()
        if self._failure is not None:
            raise self._failure
        paths, self._paths = list(self._paths), {}
        return paths

    async def aclose(self) -> None:
        """End the thread."""
        self._stop.set()
        await self._ended.wait()


def _failed(error: Exception) -> Exception:
    failure = BackendError(f"the directory cannot be watched: {error}; see fs.inotify.max_user_watches")
    failure.__cause__ = error
    return failure
