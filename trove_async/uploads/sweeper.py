"""The task of a server that lets its data store remove what has expired."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from trove_async.jitter import jitter
from trove_async.uploads.datastore import SweeperDataStore

__all__ = ["SWEEP_EVERY", "Sweeper"]

SWEEP_EVERY: Final = 3600.0
"""The default time in seconds between two sweeps."""

_JITTER: Final = 0.1
"""The part of a wait that is random: servers that were started together do not come at once."""
_FIRST: Final = 60.0
"""Seconds until the first sweep, at most: a server that is restarted often sweeps too."""

_log = logging.getLogger("trove_async.uploads")


class Sweeper:
    """Sweeps a data store while a server runs.

    A sweep that fails is logged, and the next one comes after the same time.

    Args:
        store: the data store. Of several servers, it lets one sweep.
        every: seconds between two sweeps.
        orphans: whether leftovers that belong to no upload are removed too.
        sleep: waits for a number of seconds.
        random: a number from 0 to 1.
    """

    def __init__(
        self,
        store: SweeperDataStore,
        every: float,
        *,
        orphans: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = jitter.random,
    ) -> None:
        self._store = store
        self._every = every
        self._orphans = orphans
        self._sleep = sleep
        self._random = random
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep, in a task of the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="trove-uploads-sweeper")

    async def aclose(self) -> None:
        """End the task; a sweep that runs is interrupted between two removals."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        wait = min(self._every, _FIRST) * (1 + self._random()) / 2
        while True:
            await self._sleep(wait)
            wait = await self._sweep()
            wait += self._every * _JITTER * self._random()

    async def _sweep(self) -> float:
        try:
            return await self._store.sweep_if_due(self._every, orphans=self._orphans)
        except Exception as error:  # noqa: BLE001 - uploads go on without it
            _log.error("uploads could not be swept: %s", error, exc_info=error)
            return self._every
