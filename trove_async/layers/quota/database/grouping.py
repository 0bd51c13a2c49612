"""`Group`: pieces of work that wait at the same time share one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish, to_the_end
from trove_async.errors import LeaseLostError, QuotaExceededError
from trove_async.layers.quota.books import Books, Work
from trove_async.layers.quota.rules import Unasked

__all__ = ["Group", "Piece"]

R = TypeVar("R")

_REFUSALS: Final = (LeaseLostError, QuotaExceededError, Unasked)
"""What the rules raise before they have changed anything."""

_LEFTOVER: Final = "a transaction of a quota"
_LARGEST: Final = 500


class Piece:
    """A piece of work and how it has ended."""

    __slots__ = ("ended", "error", "result", "work")

    def __init__(self, work: Work[Any]) -> None:
        self.work = work
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self, books: Books) -> None:
        """Do the work, which may be done again if the transaction fails."""
        self.result = self.error = None
        try:
            self.result = self.work(books)
        except _REFUSALS as error:
            self.error = error


class Group:
    """Does work in the order in which it comes, as much as waits in one transaction.

    Every write under a limit changes its row: transactions beside each other would only get in each other's way.

    Args:
        transaction: does pieces of work in one transaction.
    """

    def __init__(self, transaction: Callable[[Sequence[Piece]], Awaitable[object]]) -> None:
        self._transaction = transaction
        self._waiting: list[Piece] = []
        self._turn = asyncio.Lock()

    async def do(self, work: Work[R]) -> R:
        """Do work and return its result.

        If the call is cancelled, work that has not begun never begins; otherwise the call waits for its end.
        """
        piece = Piece(work)
        self._waiting.append(piece)
        try:
            async with self._turn:
                if not piece.ended:
                    # Whoever comes first does the work of all; the others then find theirs done.
                    pieces = self._waiting[:_LARGEST]
                    del self._waiting[:_LARGEST]
                    await to_the_end(self._do(pieces), timeout=CLEANUP_TIMEOUT, leftover=_LEFTOVER)
        except asyncio.CancelledError:
            if piece in self._waiting:
                self._waiting.remove(piece)
            elif not piece.ended:
                await finish(self._pass(), timeout=CLEANUP_TIMEOUT, leftover=_LEFTOVER)
            raise
        if piece.error is not None:
            raise piece.error
        result: R = piece.result
        return result

    async def _do(self, pieces: Sequence[Piece]) -> None:
        try:
            await self._transaction(pieces)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            for piece in pieces:
                piece.error = error
        for piece in pieces:
            piece.ended = True

    async def _pass(self) -> None:
        async with self._turn:
            pass
