"""`Line`: tasks that wait, first come, first served, for places or tokens."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Protocol

from trove_async.layers.deadlines import mark_unsent

__all__ = ["Line", "Places", "Supply"]


class Supply(Protocol):
    """What tasks wait for."""

    def take(self, amount: float, /) -> bool:
        """Take an amount; False, and nothing is taken, if there is not enough now."""

    def give(self, amount: float, /) -> None:
        """Give an amount back; one below 0 is taken in any case."""

    def wait(self, amount: float, /) -> float | None:
        """Return the seconds until there is enough; None if that takes a `give`."""


class Places:
    """A number of places.

    Attributes:
        limit: how many there are; it may change at any time.
        taken: how many of them are taken.
    """

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken: float = 0

    def take(self, amount: float, /) -> bool:
        """Take places."""
        if self.taken + amount > self.limit:
            return False
        self.taken += amount
        return True

    def give(self, amount: float, /) -> None:
        """Give places back."""
        self.taken -= amount

    def wait(self, _amount: float, /) -> None:
        """Return None: only `give` and a higher limit make places free."""


class Line:
    """The tasks that wait for a supply. The first one is served before all others, however much it needs.

    It is also the ``async with`` of an amount of 1.

    Args:
        supply: what they wait for; when it has grown in another way than by time and `give`, call `serve`.
    """

    __slots__ = ("_supply", "_timer", "_waiting")

    def __init__(self, supply: Supply) -> None:
        self._supply = supply
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, amount: float = 1) -> None:
        """Take an amount, when it is this task's turn.

        A task that is cancelled takes nothing; what is asked of the backend has then not been sent.
        """
        if not self._waiting and self._supply.take(amount):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, amount))
        try:
            self.serve()
            await turn
        except asyncio.CancelledError as error:
            mark_unsent(error)
            if turn.cancelled():
                self.serve()  # the next one may need less
            else:
                self.give(amount)
            raise

    def give(self, amount: float = 1) -> None:
        """Give an amount back; one below 0 is taken at once, which those who wait then wait for too."""
        self._supply.give(amount)
        if self._waiting:
            self.serve()

    def serve(self) -> None:
        """Serve those for whom there is enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn, amount = self._waiting[0]
            if not turn.done():
                if not self._supply.take(amount):
                    wait = self._supply.wait(amount)
                    if wait is not None:
                        self._timer = turn.get_loop().call_later(wait, self.serve)
                    return
                turn.set_result(None)
            self._waiting.popleft()

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give()
