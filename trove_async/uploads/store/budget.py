"""Memory that many uploads share: a bound on all their buffers together, by waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["MemoryBudget", "Share"]

_SHORTAGE: Final = 1.0
"""Seconds between two reports that somebody waits."""


class Share:
    """What one buffer has of a budget.

    Args:
        budget: of which it is a share.
        most: bytes that it will need at the most.

    Attributes:
        held: bytes that it has.
        give_up: frees the buffer while it is idle; None while it is in use.
    """

    __slots__ = ("_budget", "give_up", "held", "most")

    def __init__(self, budget: MemoryBudget, most: int) -> None:
        self._budget = budget
        self.most = most
        self.held = 0
        self.give_up: Callable[[], object] | None = None

    @property
    def need(self) -> int:
        """Bytes that it may still ask for."""
        return 0 if self.give_up is not None else max(self.most - self.held, 0)

    async def grow(self, size: int) -> None:
        """Take more bytes; wait until there are enough."""
        await self._budget.grow(self, size)

    def shrink(self, size: int) -> None:
        """Keep only ``size`` bytes, and need no more."""
        self.held = self.most = size
        self._budget.changed(self)

    def rest(self, give_up: Callable[[], object]) -> None:
        """Let the buffer be freed if others wait for memory; those that have been idle for longest go first."""
        self.give_up = give_up
        self._budget.changed(self)

    def wake(self, most: int) -> bool:
        """Use an idle buffer again, which may need ``most`` bytes now.

        Returns:
            Whether that is possible; if not, the buffer must be freed first, and filled again.
        """
        return self._budget.wake(self, most)

    def release(self) -> None:
        """Give everything back."""
        self.give_up = None
        self.held = self.most = 0
        self._budget.changed(self)


class MemoryBudget:
    """A number of bytes, and who waits for some of them.

    Buffers grow step by step, so that a client that stalls holds only what it has sent. No step is taken after which it
    would be possible that none of the buffers becomes full: that is the rule of the banker's algorithm (Dijkstra,
    EWD 108), and a full buffer is always given back. Buffers without memory wait in line; those that have some go
    first.

    Args:
        size: of all buffers together.

    Attributes:
        peak: the largest number of bytes that were in use at once.
        on_shortage: called every second in which somebody waits.
    """

    def __init__(self, size: int) -> None:
        self.size: Final = size
        self.peak = 0
        self.on_shortage: list[Callable[[], object]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._shares: dict[Share, None] = {}  # in the order in which they became idle, or began
        self._waiting: list[tuple[Share, int, asyncio.Future[None]]] = []

    @property
    def used(self) -> int:
        """Bytes that are in use."""
        return sum(share.held for share in self._shares)

    def share(self, most: int) -> Share:
        """Return a new share without bytes."""
        return Share(self, most)

    async def grow(self, share: Share, size: int) -> None:
        """Add bytes to a share, when that is safe."""
        share.most = max(share.most, share.held + size)
        if not self._must_wait_behind(share) and self._take(share, size):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (share, size, future)
        self._waiting.append(waiting)
        self._serve()
        self._watch()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                share.held -= size
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
            self.changed(share)
            raise

    def _watch(self) -> None:
        """Look again in a second, if somebody waits."""
        if self.on_shortage and self._waiting and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SHORTAGE, self._report)

    def _report(self) -> None:
        self._timer = None
        if self._waiting:
            for report in self.on_shortage:
                report()
        self._watch()

    def _must_wait_behind(self, share: Share) -> bool:
        return not share.held and bool(self._waiting)

    def wake(self, share: Share, most: int) -> bool:
        """Make an idle share one that is in use, if that is safe."""
        before = share.give_up, share.most
        share.give_up, share.most = None, max(most, share.held)
        while not self._is_safe():
            if not self._free_idle():
                share.give_up, share.most = before
                return False
        return True

    def changed(self, share: Share) -> None:
        """Take in that a share has become smaller, or idle."""
        self._shares.pop(share, None)
        if share.held:
            self._shares[share] = None
        self._serve()

    def _serve(self) -> None:
        """Let those go on for whom there is memory: who has some already, then the first in line."""
        progress = True
        while progress:
            progress = False
            holders = [waiting for waiting in self._waiting if waiting[0].held]
            newcomers = [waiting for waiting in self._waiting if not waiting[0].held]
            for waiting in holders + newcomers[:1]:
                share, size, future = waiting
                if not future.done() and self._take(share, size):
                    self._waiting.remove(waiting)
                    future.set_result(None)
                    progress = True

    def _take(self, share: Share, size: int) -> bool:
        """Give bytes to a share if that is safe; idle buffers are freed for it."""
        while True:
            share.held += size
            self._shares.setdefault(share)
            if self.used <= self.size and self._is_safe():
                self.peak = max(self.peak, self.used)
                return True
            share.held -= size
            if not share.held:
                del self._shares[share]
            if not self._free_idle():
                return False

    def _free_idle(self) -> bool:
        idle = next((share for share in self._shares if share.give_up is not None), None)
        if idle is None:
            return False
        give_up, idle.give_up = idle.give_up, None
        del self._shares[idle]
        idle.held = idle.most = 0
        assert give_up is not None
        give_up()
        return True

    def _is_safe(self) -> bool:
        """Tell whether all buffers can become full, one after another."""
        free = self.size - self.used
        for share in sorted(self._shares, key=lambda share: share.need):
            if share.need > free:
                return False
            free += share.held
        return True
