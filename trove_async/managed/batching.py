"""`Batches`: items that wait at the same time share one transaction, and its statements."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Final, Generic, TypeVar

from trove_async.errors import TransientError, TroveError

__all__ = ["Batches"]

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

_LARGEST: Final = 200


class Batches(Generic[I, R]):
    """Passes items on in batches, one after another, in the order in which they come.

    Args:
        work: is awaited with the items of a batch, and returns a result for each; if it raises, none has had an effect,
            or the error is ambiguous.
    """

    def __init__(self, work: Callable[[Sequence[I]], Awaitable[Sequence[R]]]) -> None:
        self._work = work
        self._waiting: list[tuple[I, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: I) -> R:
        """Return the result of an item. A cancellation does not withdraw it."""
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, outcome))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await outcome

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
                await self._serve(batch)
        finally:
            self._task = None
            for _, outcome in self._waiting:  # the loop ends
                outcome.cancel()

    async def _serve(self, batch: Sequence[tuple[I, asyncio.Future[R]]]) -> None:
        """Give each item of a batch its outcome."""
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - those who wait get it
            if len(batch) > 1 and not isinstance(error, TransientError) and not getattr(error, "ambiguous", False):
                for one in batch:  # one of them may be to blame
                    await self._serve([one])
                return
            for _, outcome in batch:
                if not outcome.done():
                    outcome.set_exception(_own(error))
        except BaseException:
            for _, outcome in batch:
                outcome.cancel()
            raise
        else:
            for (_, outcome), result in zip(batch, results, strict=True):
                if not outcome.done():
                    outcome.set_result(result)


def _own(error: Exception) -> Exception:
    """Return a copy of an error, which is raised by several tasks; each says where it happened."""
    if not isinstance(error, TroveError):
        return error
    own = copy(error)
    own.__cause__ = error.__cause__
    return own
