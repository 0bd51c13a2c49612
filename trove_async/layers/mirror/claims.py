"""Claims: who may write a key, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from secrets import token_hex
from typing import Any, Final, TypeVar

from trove_async.cancellation import finish, to_the_end
from trove_async.errors import ClosedError, TroveError
from trove_async.jitter import jitter
from trove_async.layers.mirror.queue import RepairQueue
from trove_async.layers.mirror.records import Claim, Intent

__all__ = ["Claims"]

R = TypeVar("R")

Settle = Callable[[Claim], Awaitable[None]]

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
        settle: Settle,
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
        self._closed = False
        self._busy = 0
        self._idle = asyncio.Event()

    @asynccontextmanager
    async def claimed(self, intent: Intent, settle: Settle | None = None) -> AsyncIterator[Claim]:
        """Wait until nobody else writes the key, and keep others out; the body of the block ends the claim.

        A block that is cancelled before it has ended its claim leaves it to be settled, by anybody and at once.

        Args:
            intent: what is to be written.
            settle: settles an earlier write of the key; None for the function that all claims have.
        """
        async with (
            self._lock(intent.bucket, intent.key),
            self._waited_for(),
            self._kept(await self._begin(intent, settle or self._settle)) as claim,
        ):
            yield claim

    @asynccontextmanager
    async def taken(self, intent: Intent) -> AsyncIterator[Claim | None]:
        """Take over an intent that has expired; None if somebody else has."""
        async with self._lock(intent.bucket, intent.key), self._waited_for():
            mine = replace(intent, token=token_hex(8))
            try:
                claim = await self._to_the_end(self._queue.take(mine, seconds=self._seconds), mine)
            except BaseException:
                await self._finish(self._queue.abandon(mine), mine)
                raise
            if claim is None:
                yield None
                return
            async with self._kept(claim):
                yield claim

    @asynccontextmanager
    async def _kept(self, claim: Claim) -> AsyncIterator[Claim]:
        """Renew a claim; give it up if the block is cancelled."""
        intent = claim.intent
        self._held[intent.token] = intent
        try:
            yield claim
        except TroveError:
            raise
        except BaseException:
            await self._finish(self._queue.abandon(intent), intent)
            raise
        finally:
            del self._held[intent.token]

    @asynccontextmanager
    async def _waited_for(self) -> AsyncIterator[None]:
        """Let `close` wait for the end of the block, unless it has begun."""
        self._check_open()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._idle.set()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the mirror was closed", driver="mirror")

    async def close(self) -> None:
        """Refuse new claims, and wait until those that are held have been ended: a claim that is left keeps others out.

        Those that have not been ended after half of the time for clean-up expire later.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._cleanup_timeout / 2):
                while self._busy:
                    self._idle.clear()
                    await self._idle.wait()

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

    async def _begin(self, intent: Intent, settle: Settle) -> Claim:
        wait = _FIRST_WAIT
        while True:
            claim = await self._recorded(intent)
            if claim is None:
                self._check_open()
                await asyncio.sleep(wait * jitter.uniform(0.5, 1))
                wait = min(2 * wait, _LONGEST_WAIT)
            elif claim.intent.generation == intent.generation:
                return claim
            else:
                await self._settled(claim, settle)

    async def _settled(self, claim: Claim, settle: Settle) -> None:
        try:
            await settle(claim)
        except BaseException:
            await self._finish(self._queue.abandon(claim.intent), claim.intent)
            raise

    async def _recorded(self, intent: Intent) -> Claim | None:
        try:
            return await self._to_the_end(self._queue.begin(intent, seconds=self._seconds), intent)
        except BaseException:
            await self._finish(self._queue.withdraw(intent), intent)
            raise

    async def _to_the_end(self, work: Coroutine[Any, Any, R], intent: Intent) -> R:
        return await to_the_end(work, timeout=self._cleanup_timeout, leftover=_leftover(intent))

    async def _finish(self, work: Coroutine[Any, Any, object], intent: Intent) -> None:
        await finish(work, timeout=self._cleanup_timeout, leftover=_leftover(intent))


def _leftover(intent: Intent) -> str:
    return f"the intent to write {intent.bucket}/{intent.key}"
