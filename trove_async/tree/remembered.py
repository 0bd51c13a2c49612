"""What listings remember of the directories that their pages come back to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, NamedTuple

__all__ = ["MAX_NAMES", "Name", "RememberedNames"]

MAX_NAMES: Final = 250_000
"""How many names are remembered of all directories together."""
_DIRECTORIES: Final = 1_000


class Name(NamedTuple):
    """A name in a directory, which sorts as the keys that it stands for."""

    text: str  # what it adds to a key; with a slash at the end for a directory
    path: str
    is_dir: bool


class _Directory(NamedTuple):
    mtime_ns: int
    names: list[Name]


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
            if known.mtime_ns == mtime_ns:
                self._directories.move_to_end(directory)
                return known.names
            self._forget(directory)
            return None

    def keep(self, directory: str, mtime_ns: int, names: list[Name]) -> None:
        """Remember up to `MAX_NAMES` names, in place of those that were not asked for of late."""
        with self._lock:
            self._forget(directory)
            self._directories[directory] = _Directory(mtime_ns, names)
            self._size += len(names)
            while self._size > MAX_NAMES:
                self._forget(next(iter(self._directories)))

    def _forget(self, directory: str) -> None:
        known = self._directories.pop(directory, None)
        if known is not None:
            self._size -= len(known.names)
