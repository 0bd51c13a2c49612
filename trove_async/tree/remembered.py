"""A cache of the names in directories that a listing reads for several pages."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from trove_async.tree.sorted_names import SortedNames

__all__ = ["RememberedNames"]

_MAX_BYTES: Final = 16 * 1024 * 1024
_FILES: Final = 8
_LEVELS: Final = 1_000
"""How many temporary files and levels are cached at most."""
_SECONDS: Final = 30.0
"""How long names are cached: since they were used, or since they were read if they have a status, because an edit in
place changes the status of a file and not its directory."""


class _Level(NamedTuple):
    names: SortedNames
    times: Mapping[str, int]
    dated: bool
    until: float


class RememberedNames:
    """The names at the levels of trees, each with the times of the directories that they come from.

    A level is what several directories together stand for, usually one. This is safe to use from several threads.

    Args:
        clock: returns seconds.
        max_bytes: of the names in memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_bytes: int = _MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._wanted: OrderedDict[tuple[str, ...], None] = OrderedDict()
        self._levels: OrderedDict[tuple[str, ...], _Level] = OrderedDict()

    def want(self, directories: tuple[str, ...]) -> None:
        """Note that the next page may read a level again."""
        with self._lock:
            self._wanted[directories] = None
            if len(self._wanted) > _LEVELS:
                self._wanted.popitem(last=False)

    def wants(self, directories: tuple[str, ...]) -> bool:
        """Return whether a level should be cached when it is read."""
        return directories in self._wanted

    def get(self, directories: tuple[str, ...]) -> tuple[SortedNames, Mapping[str, int]] | None:
        """Return the names of a level, and the times that its directories must still have; None if it is not cached."""
        if not self._levels:
            return None
        with self._lock:
            self._forget_old()
            known = self._levels.get(directories)
            if known is None:
                return None
            self._levels.move_to_end(directories)
            if not known.dated:
                self._levels[directories] = known._replace(until=self._clock() + _SECONDS)
            return known.names, known.times

    def keep(
        self, directories: tuple[str, ...], names: SortedNames, times: Mapping[str, int], *, dated: bool = False
    ) -> None:
        """Cache names; the levels that were used least recently are removed if there are too many.

        Args:
            directories, names: a level.
            times: of modification of each directory that was read.
            dated: whether the names have a status.
        """
        with self._lock:
            self._forget_old()
            self._levels[directories] = _Level(names, times, dated, self._clock() + _SECONDS)
            self._levels.move_to_end(directories)
            while self._is_full():
                self._levels.popitem(last=False)

    def forget(self, directories: tuple[str, ...]) -> None:
        """Remove a level from the cache."""
        with self._lock:
            self._levels.pop(directories, None)

    def clear(self) -> None:
        """Remove all levels, and close their files."""
        with self._lock:
            self._levels.clear()

    def _forget_old(self) -> None:
        now = self._clock()
        for directories in [key for key, level in self._levels.items() if level.until <= now]:
            del self._levels[directories]

    def _is_full(self) -> bool:
        known = self._levels.values()
        return (
            len(known) > _LEVELS
            or sum(level.names.size for level in known) > self._max_bytes
            or sum(level.names.in_file for level in known) > _FILES
        )
