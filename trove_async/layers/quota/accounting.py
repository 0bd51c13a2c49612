"""`Accounting`: what happens to the books when an operation begins and ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from trove_async.cancellation import CLEANUP_TIMEOUT, finish
from trove_async.driver.base import Driver
from trove_async.errors import (
    BackendError,
    BackendUnavailableError,
    ConflictError,
    CopyError,
    QuotaExceededError,
    ThrottledError,
    TransientError,
    TroveError,
)
from trove_async.layers.quota.accounts import Claim, Outcome, Pending, Reservation, Slot, Total, Unsure
from trove_async.layers.quota.books import UNCLEAR, Books, Ledger, Work
from trove_async.layers.quota.counting import count
from trove_async.layers.quota.limits import Coverage, QuotaLimit, Scope
from trove_async.layers.quota.looking import Looker
from trove_async.layers.quota.rules import (
    Unasked,
    begin,
    extend,
    learn_versioning,
    reconcile_parts,
    record,
    record_bucket,
    settle,
)
from trove_async.types import VersioningStatus

__all__ = ["Accounting", "nothing_changed"]

R = TypeVar("R")

_log: Final = logging.getLogger("trove_async.quota")

_LEFTOVER: Final = "what an operation has reserved in its quota; it is settled later, or by 'trove quota recount'"
_IDLE: Final = 1000

_NOTHING_CHANGED: Final = (BackendUnavailableError, ConflictError, ThrottledError)
"""Transient errors of operations that the backend has refused."""


def nothing_changed(error: BaseException) -> bool:
    """Tell whether an operation that failed has certainly changed nothing."""
    if not isinstance(error, TroveError) or error.ambiguous:
        return False
    return isinstance(error, _NOTHING_CHANGED) or not isinstance(error, TransientError | BackendError | CopyError)


Outcomes = Callable[[Sequence[Reservation], R], Sequence[Outcome]]
"""Returns how each reservation has ended, from the result of the operation."""


class Accounting:
    """Keeps the books of a driver.

    Args:
        driver: around which the quota is.
        ledger: the books.
    """

    def __init__(self, driver: Driver, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looker = Looker(driver)
        self._keeper: asyncio.Task[None] | None = None
        self._late: list[Work[list[Pending]]] = []

    @property
    def coverage(self) -> Coverage:
        """Finds the limits that a key is under."""
        return self._ledger.coverage

    async def open(self, limits: Mapping[Scope, QuotaLimit] | None) -> None:
        """Settle what others have left, and count what was never counted."""
        await self._ledger.open(limits)
        await self._ledger.recover(self._recover)
        if await self._ledger.uncounted():
            async with self._ledger.counting():  # another process may have done it meanwhile
                await count(self._ledger, self._looker, self.look, await self._ledger.uncounted())
        if self._ledger.interval is not None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(self._ledger.interval))

    async def close(self) -> None:
        """Stop."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        await self._ledger.close()

    async def carry_out(
        self,
        claims: Sequence[Claim],
        call: Callable[[], Awaitable[R]],
        outcomes: Outcomes[R],
    ) -> R:
        """Reserve what an operation needs, carry it out, and take in how it has ended.

        Args:
            claims: what it needs.
            call: carries it out.
            outcomes: returns how it has ended.

        Raises:
            QuotaExceededError: a limit does not allow it; it was not begun.
        """
        reservations = await self.begin(claims)
        return await self.carry_on(reservations, call, outcomes)

    async def carry_on(
        self,
        reservations: Sequence[Reservation],
        call: Callable[[], Awaitable[R]],
        outcomes: Outcomes[R],
        is_unchanged: Callable[[BaseException], bool] = nothing_changed,
    ) -> R:
        """Carry out an operation for which everything is reserved; see `carry_out`.

        Args:
            reservations, call, outcomes: as there.
            is_unchanged: tells by the error of an operation that failed whether it has certainly changed nothing.
        """
        try:
            result = await call()
        except (Exception, asyncio.CancelledError) as error:
            outcome = Unsure.UNCHANGED if is_unchanged(error) else Unsure.LOOK
            await self.settle(reservations, [outcome] * len(reservations))
            raise
        await self.settle(reservations, outcomes(reservations, result))
        return result

    async def begin(self, claims: Sequence[Claim]) -> Sequence[Reservation]:
        """Reserve what an operation needs; if this raises, nothing is reserved."""
        missing: set[str] = set()
        has_looked = False
        while True:
            try:
                return await self._ledger.write(partial(begin, claims=claims, missing=missing))
            except QuotaExceededError:
                # What is unsure is charged the most that it may be.
                if has_looked or not await self._look_at_idle():
                    raise
                has_looked = True
            except Unasked as question:
                await self._ask_versioning(question.bucket, missing)
            except (asyncio.CancelledError, TroveError) as error:
                if isinstance(error, asyncio.CancelledError) or error.ambiguous:
                    await self._take_back(claims)
                raise

    async def _ask_versioning(self, bucket: str, missing: set[str]) -> None:
        """Find out whether a bucket keeps versions, unless somebody else has found it out meanwhile."""
        found = await self._looker.versioning(bucket)
        if found is None:
            missing.add(bucket)
        else:
            await self._ledger.write(
                lambda books: None if books.versioning(bucket) else learn_versioning(books, bucket, found)
            )

    async def _take_back(self, claims: Sequence[Claim]) -> None:
        """Release reservations of which it is not known whether they were made."""

        def work(books: Books) -> list[Pending]:
            made = [Reservation(books.owner, claim.number, claim.slot, 0, 0, False, UNCLEAR) for claim in claims]
            return _settle_all(books, made, [Unsure.UNCHANGED] * len(made))

        await finish(self._settle(work, work), timeout=CLEANUP_TIMEOUT, leftover=_LEFTOVER)

    async def extend(self, reservation: Reservation, nbytes: int) -> Reservation:
        """Reserve more bytes for an operation that is under way; see `rules.extend`."""
        return await self._ledger.write(partial(extend, reservation=reservation, nbytes=nbytes))

    async def settle(self, reservations: Sequence[Reservation], outcomes: Sequence[Outcome]) -> None:
        """Take in how an operation has ended, also if the caller is cancelled meanwhile.

        What cannot be taken in now, since the database or the backend cannot be reached, is taken in later.
        """
        work = partial(_settle_all, reservations=reservations, outcomes=outcomes)
        if not self._ledger.immediate:
            unsure = partial(_settle_all, reservations=reservations, outcomes=[Unsure.LOOK] * len(reservations))
            await finish(self._settle(work, unsure), timeout=CLEANUP_TIMEOUT, leftover=_LEFTOVER)
        elif pending := await self._ledger.write(work):
            await finish(self.look(pending), timeout=CLEANUP_TIMEOUT, leftover=_LEFTOVER)

    async def _settle(self, work: Work[list[Pending]], later: Work[list[Pending]]) -> None:
        """Do work, or other work later if the database cannot be reached."""
        try:
            pending = await self._ledger.write(work)
        except BaseException:
            self._late.append(later)
            raise
        await self.look(pending)

    async def look(self, pending: Sequence[Pending]) -> None:
        """Look at accounts that are unsure, one after another."""
        uploads: dict[Slot, Mapping[int, int]] = {}
        for one in pending:
            bucket, key, upload, part = one.slot
            if upload:
                whole = one.slot._replace(part=0)
                if whole not in uploads:
                    uploads[whole] = await self._looker.parts(bucket, key, upload)
                await self._ledger.write(partial(record, pending=one, size=(uploads[whole].get(part, 0), 0)))
            elif key:
                await self._look_at_object(one)
            else:
                found = await self._looker.bucket(bucket)
                await self._ledger.write(partial(record_bucket, pending=one, versioning=found))

    async def _look_at_object(self, pending: Pending) -> None:
        slot = pending.slot
        versioning = await self._looker.versioning(slot.bucket)
        versions = versioning != VersioningStatus.UNVERSIONED
        size = await self._looker.settled_object(slot.bucket, slot.key, versions=versions)
        await self._ledger.write(partial(record, pending=pending, size=size, versioning=versioning))

    async def change_versioning(self, bucket: str, call: Callable[[], Awaitable[R]]) -> R:
        """Carry out an operation after which it has to be asked whether a bucket keeps versions."""
        reservations = await self.begin([Claim(Slot(bucket, ""))])
        try:
            await self._ledger.write(lambda books: books.set_versioning(bucket, UNCLEAR))
            return await call()
        finally:
            await self.settle(reservations, [Unsure.LOOK])

    async def versioning(self, bucket: str) -> str | None:
        """Return whether a bucket keeps versions, as the books have it."""
        return await self._ledger.read(lambda books: books.versioning(bucket))

    async def forget_versioning(self, bucket: str) -> None:
        """Take in that a bucket is to be made, and may keep other versions than one of its name before."""
        await self._ledger.write(lambda books: books.set_versioning(bucket, None))

    async def usage(self) -> Sequence[Total]:
        """Return all limits, after a look at what is unsure."""
        await self._look_at_idle()
        return await self._ledger.read(lambda books: books.usage())

    async def recount(self, scopes: Collection[Scope]) -> None:
        """Compare everything under some limits with what the backend lists."""
        await self._ledger.recover(self._recover)
        async with self._ledger.counting():
            await count(self._ledger, self._looker, self.look, scopes)

    async def _look_at_idle(self) -> bool:
        """Look at accounts at which nobody else looks; return whether there were any, and their objects were seen."""
        idle = await self._ledger.read(lambda books: [Pending(one.slot, one.changes) for one in books.idle(_IDLE)])
        return bool(idle) and await self._try_to_look(idle)

    async def _try_to_look(self, pending: Sequence[Pending]) -> bool:
        """Look at accounts, or leave them for later if the backend cannot be reached."""
        try:
            await self.look(pending)
        except TroveError:
            _log.warning("the quota cannot find out now what is stored; it is tried again", exc_info=True)
            return False
        return True

    async def _keep(self, interval: float) -> None:
        """Tell others that this store lives, and finish what operations and dead stores have left."""
        while True:
            await asyncio.sleep(interval)
            for step in (self._ledger.keep, self._settle_late, self._recover_others, self._look_at_idle):
                try:
                    await step()
                except Exception:  # noqa: BLE001 - it goes on until the store is closed
                    _log.warning("the quota cannot be kept up to date now; it is tried again", exc_info=True)

    async def _settle_late(self) -> None:
        while self._late:
            work = self._late.pop(0)
            await self._settle(work, work)  # if it fails, it is the last one the next time

    async def _recover_others(self) -> None:
        await self._ledger.recover(self._recover)

    async def _recover(self, reservations: Sequence[Reservation]) -> None:
        """Settle what a store that has died has reserved: look what has become of its operations."""
        outcomes = [Unsure.LOOK] * len(reservations)
        pending = await self._ledger.write(partial(_settle_all, reservations=reservations, outcomes=outcomes))
        if not await self._try_to_look(pending):
            return
        for slot in {one.slot for one in reservations if one.bytes and not one.slot.upload}:
            await self._count_uploads(Scope(slot.bucket, slot.key))

    async def _count_uploads(self, scope: Scope) -> None:
        """Count the open uploads of a key: a driver may have begun one for a put, which nobody aborts any more."""
        since = await self._ledger.read(lambda books: books.clock())
        listed = await self._looker.uploads(scope)
        pending = await self._ledger.write(partial(reconcile_parts, scope=scope, listed=listed, since=since))
        await self.look(pending)


def _settle_all(books: Books, reservations: Sequence[Reservation], outcomes: Sequence[Outcome]) -> list[Pending]:
    pending: dict[Slot, Pending] = {}
    for reservation, outcome in zip(reservations, outcomes, strict=True):
        for one in settle(books, reservation, outcome):
            pending[one.slot] = one
    return [*pending.values()]
