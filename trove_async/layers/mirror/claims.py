"""Claims: who may write a key, and for how long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from trove_async.cancellation import finish, to_the_end
from trove_async.errors import TroveError
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Claim, Intent

__all__ = ["Claims"]

_FIRST_WAIT: Final = 0.005
_LONGEST_WAIT: Final = 0.25
_RENEWALS: Final = 3
"""An intent is renewed this often in the time that it lasts."""


class Claims:
    """The claims of one mirror, which last until they are ended, as long as the process lives.

    Args:
        queue: records them.
        settle: settles a claim of a write that somebody else has begun, and raises if that is not possible now.
        seconds: after which a claim expires that nobody renews, because its process has died.
        cleanup_timeout: seconds.
    """

    def __init__(
        self,
        queue: RepairQueue,
        settle: Callable[[Claim], Awaitable[None]],
        *,
        seconds: float,
        cleanup_timeout: float,
    ) -> None:
        self._queue = queue
        self._settle = settle
        self._seconds = seconds
        self._cleanup_timeout = cleanup_timeout
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}
        self._held: dict[str, Intent] = {}

    @asynccontextmanager
    async def claimed(self, intent: Intent) -> AsyncIterator[Claim]:
        """Wait until nobody else writes the key, and keep others out; the body of the block ends the claim.

        A block that raises without having ended its claim leaves it to be settled.
        """
        async with self._lock(intent.bucket, intent.key):
            claim = await self._begin(intent)
            self._held[claim.intent.token] = claim.intent
            try:
                yield claim
            finally:
                del self._held[claim.intent.token]

    @asynccontextmanager
    async def taken(self, intent: Intent) -> AsyncIterator[Claim | None]:
        """Take over an intent that has expired; None if somebody else has."""
        async with self._lock(intent.bucket, intent.key):
            claim = await self._queue.take(intent, seconds=self._seconds)
            if claim is None:
                yield None
                return
            self._held[claim.intent.token] = claim.intent
            try:
                yield claim
            finally:
                del self._held[claim.intent.token]

    async def keep(self) -> None:
        """Renew what is claimed, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            if held := [*self._held.values()]:
                with suppress(TroveError):  # the next one may succeed; `RepairQueue.end` finds out what was lost
                    await self._queue.renew(held, seconds=self._seconds)

    @asynccontextmanager
    async def _lock(self, bucket: str, key: str) -> AsyncIterator[None]:
        """Let the tasks of this process wait here, in turn, and one of them for other processes."""
        place = bucket, key
        lock, users = self._locks.get(place, (asyncio.Lock(), 0))
        self._locks[place] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(place)
            if users > 1:
                self._locks[place] = lock, users - 1

    async def _begin(self, intent: Intent) -> Claim:
        wait = _FIRST_WAIT
        while True:
            claim = await self._recorded(intent)
            if claim is None:
                await asyncio.sleep(wait * random.uniform(0.5, 1))
                wait = min(2 * wait, _LONGEST_WAIT)
            elif claim.intent.generation == intent.generation:
                return claim
            else:
                await self._settled(claim)

    async def _settled(self, claim: Claim) -> None:
        try:
            await self._settle(claim)
        except BaseException:
            leftover = f"the intent of another write of {claim.intent.bucket}/{claim.intent.key}"
            await finish(self._queue.abandon(claim.intent), timeout=self._cleanup_timeout, leftover=leftover)
            raise

    async def _recorded(self, intent: Intent) -> Claim | None:
        work = self._queue.begin(intent, seconds=self._seconds)
        leftover = f"the intent to write {intent.bucket}/{intent.key}"
        try:
            return await to_the_end(work, timeout=self._cleanup_timeout, leftover=leftover)
        except BaseException:
            await finish(self._queue.withdraw(intent), timeout=self._cleanup_timeout, leftover=leftover)
            raise
