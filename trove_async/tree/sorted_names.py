"""Sorting the names of a directory in little memory, however many they are.

Names are sorted in runs, and the runs are merged. Both are kept as blocks of encoded names; beyond a few megabytes they
are written to a temporary file that has no name.
"""

from __future__ import annotations

import logging
import marshal
import os
import tempfile
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Final

from trove_async.tree.packed import end_of_text

__all__ = ["SortedNames", "Sorter"]

_log = logging.getLogger("trove_async")

_MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the names of a directory in memory; more of them are in a file."""
_BLOCK: Final = 512
_SORT: Final = 2048
"""How many names are sorted at once: a single sort of many names would keep all other threads waiting."""
_STEP: Final = 16384
"""How many names are merged in one step."""
_RUN: Final = 8192
_LONG_RUN: Final = 65536
"""How many names the first runs have, and the later ones of a large directory, so that there are few to merge."""


_Block = list[str] | bytes | tuple[int, int]
"""Names in order: as they are, encoded, or where they are in the file."""


class _File:
    """A temporary file without a name, which is closed when nobody uses it any longer."""

    def __init__(self) -> None:
        self.descriptor = -1
        with tempfile.TemporaryFile() as file:
            self.descriptor = os.dup(file.fileno())
        self.size = 0

    def append(self, data: bytes) -> tuple[int, int]:
        """Write data; return where it is."""
        at = self.size
        with memoryview(data) as view:
            written = 0
            while written < len(data):
                written += os.pwrite(self.descriptor, view[written:], at + written)
        self.size += len(data)
        return at, len(data)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class _Blocks:
    """Blocks of names, in memory or in a file.

    Args:
        limit: bytes in memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._file: _File | None = None
        self._spills = True
        self.size = 0  # bytes in memory

    def add(self, names: list[str]) -> _Block:
        """Store a block."""
        encoded = marshal.dumps(names)
        if self._spills and self.size + len(encoded) > self._limit:
            try:
                if self._file is None:
                    self._file = _File()
                return self._file.append(encoded)
            except OSError as error:
                self._spills = False
                _log.warning(
                    "the names of a large directory stay in memory: no temporary file can be written: %s", error
                )
        self.size += len(encoded)
        return encoded

    def read(self, block: _Block) -> list[str]:
        """Return the names of a block."""
        if isinstance(block, list):
            return block
        if isinstance(block, tuple):
            assert self._file is not None
            at, size = block
            block = os.pread(self._file.descriptor, size, at)
        names: list[str] = marshal.loads(block)
        return names

    @property
    def in_file(self) -> bool:
        """Whether there is a file."""
        return self._file is not None


class SortedNames:
    """The packed names of a directory, in order; safe to use from several threads.

    All names of the same text are in one block.

    Attributes:
        count: how many names there are.
        last: the last of them.
    """

    def __init__(self, limit: int, block: int) -> None:
        self._blocks = _Blocks(limit)
        self._block = block
        self._index: list[str] = []  # the first name of each block
        self._places: list[_Block] = []
        self._index_size = 0
        self.last = ""
        self.count = 0

    def add_all(self, ordered: Iterable[list[str]]) -> Iterator[None]:
        """Keep names that come in order, some thousands in each step."""
        names: list[str] = []
        reached = _STEP
        for some in ordered:
            names += some
            self._add_blocks(names)
            if self.count >= reached:
                reached = self.count + _STEP
                yield
        if names:
            self._add(names, last=True)

    def _add_blocks(self, names: list[str]) -> None:
        """Move names into blocks, except the last ones, since more of the same text may follow."""
        at = 0
        while len(names) - at > self._block:
            end = end_of_text(names, at + self._block)
            if end == len(names):
                break
            self._add(names[at:end])
            at = end
        del names[:at]

    def _add(self, block: list[str], *, last: bool = False) -> None:
        # Few names are soon forgotten, so they are not encoded.
        self._places.append(block if last and not self._places else self._blocks.add(block))
        self._index.append(block[0])
        self._index_size += len(block[0])
        self.last = block[-1]
        self.count += len(block)

    @property
    def size(self) -> int:
        """Bytes of memory that the names take, about."""
        return self._blocks.size + self._index_size

    @property
    def in_file(self) -> bool:
        """Whether some are in a file, which takes a descriptor."""
        return self._blocks.in_file

    def first(self, lower: str) -> list[str]:
        """Return the first names from ``lower`` on, hundreds of them; an empty list if there are none."""
        at = max(0, bisect_right(self._index, lower) - 1)
        for place in self._places[at : at + 2]:
            names = self._blocks.read(place)
            if names[-1] >= lower:
                return names[bisect_left(names, lower) :] if names[0] < lower else names
        return []


class Sorter:
    """Sorts the packed names of a directory.

    Args:
        limit: bytes of names in memory.
        run: how many names the first runs have.
        block: how many names a block has, and a few more if these have the same text as the last.
    """

    def __init__(self, limit: int = _MAX_BYTES, run: int = _RUN, block: int = _BLOCK) -> None:
        self._limit = limit
        self._run = run
        self._block = block
        self._blocks = _Blocks(limit)
        self._runs: list[deque[_Block]] = []
        self._waiting: list[str] = []
        self._count = 0

    @property
    def is_small(self) -> bool:
        """Whether there are so few names that sorting them takes no time to speak of."""
        return self._count <= _SORT and not self._runs

    @property
    def has_run(self) -> bool:
        """Whether the caller should now call `sort`."""
        return len(self._waiting) >= max(self._run, min(_LONG_RUN, self._count // 16))

    def add(self, names: list[str]) -> None:
        """Take names, in any order."""
        self._waiting += names
        self._count += len(names)

    def sort(self) -> None:
        """Sort the names that were added since the last call."""
        ordered, self._waiting = _sorted(self._waiting), []
        blocks = (ordered[at : at + self._block] for at in range(0, len(ordered), self._block))
        self._runs.append(deque(map(self._blocks.add, blocks)))

    def finish(self) -> Iterator[SortedNames | None]:
        """Merge all names, some thousands in each step: yield None while more steps follow, and then the names."""
        last = _sorted(self._waiting)
        ordered = self._merged(last) if self._runs else [last]
        names = SortedNames(self._limit, self._block)
        yield from names.add_all(ordered)
        yield names

    def _merged(self, last: list[str]) -> Iterator[list[str]]:
        """Merge the runs: in each step up to the name before which all blocks together are complete."""
        read, runs = self._blocks.read, self._runs
        heads = [read(run.popleft()) for run in runs]
        if last:
            runs.append(deque())
            heads.append(last)
        while len(heads) > 1:
            bound = min(head[-1] for head in heads)
            step: list[str] = []
            for at in range(len(heads) - 1, -1, -1):
                head = heads[at]
                end = bisect_right(head, bound)
                step += head[:end]
                del head[:end]
                if not head:
                    if runs[at]:
                        heads[at] = read(runs[at].popleft())
                    else:
                        del heads[at], runs[at]
            step.sort()
            yield step
        yield from heads
        for run in runs:
            yield from map(read, run)


def _sorted(names: list[str]) -> list[str]:
    runs = [sorted(names[at : at + _SORT]) for at in range(0, len(names), _SORT)] or [[]]
    nothing: list[str] = []
    while len(runs) > 1:
        pairs = zip_longest(runs[::2], runs[1::2], fillvalue=nothing)
        runs = [sorted(left + right) for left, right in pairs]
    return runs[0]
