"""The unfinished tail of an upload in memory: the bytes of a part that is not full yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from trove_async.body import Chunk
from trove_async.checksums import is_available, new_hasher
from trove_async.uploads.store.budget import MemoryBudget

__all__ = ["STEP", "Buffer"]

STEP: Final = 1024 * 1024
"""Bytes by which a buffer grows."""


class Buffer:
    """Bytes that follow one another, in memory of a budget.

    Args:
        budget: has the memory.
        most: bytes that it will hold at the most.
    """

    __slots__ = ("_crc", "_data", "_share", "most")

    def __init__(self, budget: MemoryBudget, most: int) -> None:
        self._data = bytearray()
        self._share = budget.share(most)
        self._crc = new_hasher("crc32c") if is_available("crc32c") else None
        self.most = most

    def __len__(self) -> int:
        return len(self._data)

    async def reserve(self, size: int) -> None:
        """Wait until there is memory for ``size`` more bytes."""
        missing = len(self._data) + size - self._share.held
        if missing > 0:
            # What is certainly not needed is not taken: many uploads are smaller than a step.
            await self._share.grow(max(missing, min(STEP, self.most - self._share.held)))

    def add(self, data: Chunk) -> None:
        """Append bytes for which there is memory."""
        self._data += data
        if self._crc is not None:
            self._crc.update(data)

    @property
    def crc32c(self) -> int | None:
        """The checksum of the bytes; None if it cannot be computed here."""
        return None if self._crc is None else int(self._crc.hexdigest(), 16)

    @property
    def view(self) -> memoryview:
        """The bytes; nothing must be added any more."""
        return memoryview(self._data)

    @contextmanager
    def followed_by(self, end: bytes) -> Iterator[memoryview]:
        """Give the bytes with others behind them, without a copy; they are taken away again."""
        size = len(self._data)
        self._data += end
        view = memoryview(self._data)
        try:
            yield view
        finally:
            try:
                view.release()
                del self._data[size:]
            except BufferError:  # what was interrupted may still refer to the bytes
                self._data = self._data[:size]

    def rest(self, give_up: Callable[[], object]) -> None:
        """Keep the bytes as long as nobody else needs the memory."""
        self._share.shrink(len(self._data))
        self._share.rest(give_up)

    def wake(self, most: int) -> bool:
        """Use the buffer again, for up to ``most`` bytes; False if there is not enough memory for that now."""
        self.most = most
        return self._share.wake(most)

    def full(self) -> None:
        """Need no more memory: the bytes are being sent."""
        self._share.shrink(max(self._share.held, len(self._data)))

    def free(self) -> None:
        """Give the memory back."""
        self._data = bytearray()
        self._share.release()
