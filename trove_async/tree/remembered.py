"""A cache of the names in directories that a listing reads for several pages."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from trove_async.tree.filesystem import Stat

__all__ = ["MAX_NAMES", "Name", "RememberedNames"]

MAX_NAMES: Final = 250_000
"""How many names are cached for all directories together."""
_DIRECTORIES: Final = 1_000
_STATUS_SECONDS: Final = 30.0
"""How long the status of files is cached: an edit in place changes a file but not its directory."""


class Name(NamedTuple):
    """A name in a directory, sorted like the keys that it stands for."""

    text: str  # the part of the key; ends in a slash for a directory
    path: str
    is_dir: bool
    status: Stat | None = None  # if reading the directory returned it; not compared, since paths differ


class _Directory(NamedTuple):
    mtime_ns: int
    names: list[Name]
    until: float


class RememberedNames:
    """The sorted names of directories, valid for one modification time; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._directories: OrderedDict[str, _Directory] = OrderedDict()
        self._size = 0

    def want(self, directory: str) -> None:
        """Note that a page ended within a directory, so the next page will read it again."""
        with self._lock:
            self._wanted[directory] = None
            if len(self._wanted) > _DIRECTORIES:
                self._wanted.popitem(last=False)

    def wants(self, directory: str) -> bool:
        """Return whether all names of a directory should be cached."""
        return directory in self._wanted

    def get(self, directory: str, mtime_ns: int) -> list[Name] | None:
        """Return the names of a directory with this modification time; None if they are not cached."""
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
        """Cache names; those of the directories that were used least recently are removed beyond `MAX_NAMES`."""
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
