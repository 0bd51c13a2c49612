"""`MemoryBudget`: how much memory the large transfers of a store take together; `Share`: of one of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

import anyio

__all__ = ["BUDGET", "TRANSFER_MEMORY", "Borrower", "MemoryBudget", "Share", "spending"]

TRANSFER_MEMORY: Final = 128 * 1024 * 1024
"""The default size in bytes of a store's budget."""

_PATIENCE: Final = 1.0
"""Seconds that a task waits before those that hold memory are asked for what they do not use."""


class Borrower(Protocol):
    """Holds memory of a budget for work that may stand still, such as what was read ahead for a slow consumer."""

    def reclaim(self) -> None:
        """Give back what nobody has used since the last call; called again and again while a task waits for memory."""


class MemoryBudget:
    """A number of bytes, for which tasks wait in the order in which they ask.

    Args:
        size: bytes.

    Attributes:
        size: bytes.
        held: the bytes that are taken now.
        borrowers: those that are asked for unused memory while a task waits.
    """

    def __init__(self, size: int) -> None:
        self.size: Final = size
        self.held = 0
        self.borrowers: Final[set[Borrower]] = set()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, amount: int) -> None:
        """Take a number of bytes, `size` at most; wait until they are free and all who asked before have theirs."""
        if not self._waiting and self.held + amount <= self.size:
            self.held += amount
            return
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append((amount, turn))
        if self._timer is None:
            self._timer = loop.call_later(_PATIENCE, self._reclaim, loop)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give(amount)
            self._serve()  # those behind may fit where this one did not
            raise

    def give(self, amount: int) -> None:
        """Give bytes back."""
        self.held -= amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.done():
                if self.held + amount > self.size:
                    return
                self.held += amount
                turn.set_result(None)
            self._waiting.popleft()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reclaim(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_PATIENCE, self._reclaim, loop)
        for borrower in list(self.borrowers):
            borrower.reclaim()


BUDGET: Final[ContextVar[MemoryBudget | None]] = ContextVar("BUDGET", default=None)
"""The budget of the store whose operation runs; None outside of a store."""


@contextmanager
def spending(budget: MemoryBudget) -> Iterator[None]:
    """Give uploads that the block begins a budget."""
    token = BUDGET.set(budget)
    try:
        yield
    finally:
        BUDGET.reset(token)


class Share:
    """The memory of one upload. One piece at a time needs none of the budget, so that no upload waits for another.

    Args:
        budget: for all other pieces.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._pieces = 0
        self._held = 0
        self._waiting: anyio.CancelScope | None = None

    async def take(self, amount: int) -> int:
        """Wait until there is memory for another piece; return how many bytes of the budget it takes.

        Args:
            amount: bytes that the piece needs; 0 if it needs none.
        """
        if self._pieces and amount:
            with anyio.CancelScope() as self._waiting:
                if amount > self._budget.size:
                    await anyio.sleep_forever()
                await self._budget.take(amount)
                self._pieces += 1
                self._held += amount
                return amount
        self._pieces += 1
        return 0

    def give(self, amount: int) -> None:
        """Give back a piece, which has taken so much of the budget."""
        self._pieces -= 1
        self._held -= amount
        self._budget.give(amount)
        if self._waiting is not None and not self._pieces:
            self._waiting.cancel()

    def close(self) -> None:
        """Give back what pieces still hold that were given up."""
        self._budget.give(self._held)
        self._pieces = self._held = 0
