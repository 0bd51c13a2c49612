"""A cache of the names in directories, for the pages of listings."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Final, NamedTuple

from trove_async.tree.sorted_names import SortedNames

__all__ = ["Directories", "KnownNames", "RememberedNames"]

_MAX_BYTES: Final = 16 * 1024 * 1024
_FILES: Final = 8
_ENTRIES: Final = 1_000
"""How many temporary files, and levels and listings together, are cached at most."""
_IDLE: Final = 300.0
"""Seconds after the last use until names are removed."""

Directories = tuple[str, ...]
"""The directories of a level: what they together stand for; usually one."""


class KnownNames(NamedTuple):
    """The names at a level, as they were read.

    Attributes:
        names: sorted.
        times: when each directory that was read had been modified; None if later changes may not show in that.
        until: when the status of the files has to be asked for again, in seconds: an edit in place changes it, and not
            the time of the directory. None if the names have no status.
    """

    names: SortedNames
    times: Mapping[str, int] | None
    until: float | None


_Levels = Mapping[Directories, KnownNames]


class _Kept(NamedTuple):
    levels: _Levels
    until: float


class RememberedNames:
    """Names at the levels of trees: the last ones of each level, and those that a listing has to go on with.

    This is safe to use from several threads.

    Args:
        clock: returns seconds.
        max_bytes: of the names in memory.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_bytes: int = _MAX_BYTES) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()  # by directories, and by listing

    def get(self, directories: Directories) -> KnownNames | None:
        """Return the names of a level that were read last; None if they are not cached."""
        return self._find(directories).get(directories)

    def keep(self, directories: Directories, known: KnownNames | None) -> None:
        """Cache the names of a level; None removes those that are cached, except for listings."""
        self._keep(directories, {} if known is None else {directories: known})

    def get_for(self, listing: str) -> _Levels:
        """Return the names that `keep_for` was given for a listing; none if they are not cached."""
        return self._find(listing)

    def keep_for(self, listing: str, levels: _Levels) -> None:
        """Cache the names at which a listing goes on, in place of those that were cached for it."""
        self._keep(listing, levels)

    def forget_unused(self) -> float | None:
        """Remove names that nobody has used for some time; return after how many seconds others may be removed.

        None says that there are no others.
        """
        with self._lock:
            self._forget_unused()
            return next((kept.until - self._clock() for kept in self._kept.values()), None)

    def clear(self) -> None:
        """Remove all names, and close their files."""
        with self._lock:
            self._kept.clear()

    def _find(self, key: Hashable) -> _Levels:
        if not self._kept:
            return {}
        with self._lock:
            self._forget_unused()
            kept = self._kept.get(key)
            if kept is None:
                return {}
            self._kept.move_to_end(key)
            self._kept[key] = kept._replace(until=self._clock() + _IDLE)
            return kept.levels

    def _keep(self, key: Hashable, levels: _Levels) -> None:
        """Cache levels; those that were used least recently are removed while there are too many."""
        with self._lock:
            self._forget_unused()
            before = self._kept.pop(key, None)
            if not levels:
                return
            self._kept[key] = _Kept(levels, self._clock() + _IDLE)
            if before is None or before.levels != levels:
                while self._is_full():
                    self._kept.popitem(last=False)

    def _forget_unused(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._kept.popitem(last=False)

    def _is_full(self) -> bool:
        known = {id(level.names): level.names for kept in self._kept.values() for level in kept.levels.values()}
        return (
            len(self._kept) > _ENTRIES
            or sum(names.size for names in known.values()) > self._max_bytes
            or sum(names.in_file for names in known.values()) > _FILES
        )
