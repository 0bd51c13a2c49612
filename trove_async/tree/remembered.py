"""What listings remember of the directories that their pages come back to."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from trove_async.tree.filesystem import Stat

__all__ = ["MAX_NAMES", "Name", "RememberedNames"]

MAX_NAMES: Final = 250_000
"""How many names are remembered of all directories together."""
_DIRECTORIES: Final = 1_000
_STATUS_SECONDS: Final = 30.0
"""How long the status of names is remembered with them: an edit in place changes a file, and not its directory."""


class Name(NamedTuple):
    """A name in a directory, which sorts as the keys that it stands for."""

    text: str  # what it adds to a key; with a slash at the end for a directory
    path: str
    is_dir: bool
    status: Stat | None = None  # where reading the directory has told it; no two names have the same path


class _Directory(NamedTuple):
    mtime_ns: int
    names: list[Name]
    until: float


class RememberedNames:
    """The sorted names of directories, by the time at which they had them; for several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._directories: OrderedDict[str, _Directory] = OrderedDict()
        self._size = 0

    def want(self, directory: str) -> None:
        """Note that a page has left a directory in the middle, so that the next one will come back to it."""
        with self._lock:
            self._wanted[directory] = None
            if len(self._wanted) > _DIRECTORIES:
                self._wanted.popitem(last=False)

    def wants(self, directory: str) -> bool:
        """Tell whether it is worth knowing all the names of a directory."""
        return directory in self._wanted

    def get(self, directory: str, mtime_ns: int) -> list[Name] | None:
        """Return the names that a directory of that time has; None if they are not known."""
        with self._lock:
            known = self._directories.get(directory)
            if known is None:
                return None
            if known.mtime_ns == mtime_ns and time.monotonic() < known.until:
                self._directories.move_to_end(directory)
                return known.names
            self._forget(directory)
            return None

    def keep(self, directory: str, mtime_ns: int, names: list[Name]) -> None:
        """Remember up to `MAX_NAMES` names, in place of those that were not asked for of late."""
        with self._lock:
            self._forget(directory)
            dated = any(name.status is not None for name in names)
            until = time.monotonic() + _STATUS_SECONDS if dated else math.inf
            self._directories[directory] = _Directory(mtime_ns, names, until)
            self._size += len(names)
            while self._size > MAX_NAMES:
                self._forget(next(iter(self._directories)))

    def _forget(self, directory: str) -> None:
        known = self._directories.pop(directory, None)
        if known is not None:
            self._size -= len(known.names)
