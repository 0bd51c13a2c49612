"""`LoopStores`: a store for each event loop that asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from trove_async.opening import Opening
from trove_async.store import Trove

__all__ = ["LoopStores"]


class LoopStores:
    """Opens a store when a loop first needs it, and closes it when the loop ends or nobody needs it any more."""

    def __init__(self, opening: Callable[[], Opening[Trove]]) -> None:
        self._opening = opening
        self._entries: dict[asyncio.AbstractEventLoop, _Entry] = {}

    async def get(self) -> Trove:
        """Return the store of the running loop; after a fork, the child's own."""
        loop = asyncio.get_running_loop()
        entry = self._entries.get(loop)
        if entry is None:
            for other in [other for other in list(self._entries) if other.is_closed()]:  # other threads add their loops
                self._entries.pop(other, None)
            entry = self._entries[loop] = _Entry()
        async with entry.lock:
            if entry.store is None or entry.store.closed:
                # A loop that ends closes the generators that were begun on it, and one that is collected is closed too.
                entry.life = _life(self._opening)
                entry.store = await anext(entry.life)
            return entry.store


class _Entry:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.life: AsyncGenerator[Trove, None] | None = None
        self.store: Trove | None = None


async def _life(opening: Callable[[], Opening[Trove]]) -> AsyncGenerator[Trove, None]:
    store = await opening()
    try:
        yield store
    finally:
        await store.aclose()
