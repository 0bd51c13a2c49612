"""The books of a quota in the memory of one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import takewhile
from typing import TypeVar

from sortedcontainers import SortedDict

from trove_async.layers.quota.accounts import Account, Reservation, Slot, Total
from trove_async.layers.quota.books import Books, Settle, Work
from trove_async.layers.quota.limits import Coverage, QuotaLimit, Scope

__all__ = ["ProcessLedger"]

R = TypeVar("R")


class _Memory(Books):
    """Work on it is atomic, since it waits for nothing and raises before it has changed something."""

    owner = ""

    def __init__(self) -> None:
        self.coverage = Coverage(())
        self._totals: dict[Scope, Total] = {}
        self._accounts: SortedDict[Slot, Account] = SortedDict()
        self._unsure: set[Slot] = set()
        self._reservations: dict[Slot, dict[int, Reservation]] = {}
        self._versioning: dict[str, str | None] = {}
        self._time = 0

    def take_in(self, limits: Mapping[Scope, QuotaLimit]) -> None:
        """Begin with these limits."""
        self._totals = {scope: Total(scope, limits[scope], 0, 0) for scope in sorted(limits)}
        self.coverage = Coverage(limits)

    def totals(self, bucket: str, key: str) -> Sequence[Total]:
        return [self._totals[scope] for scope in self.coverage.of(bucket, key)]

    def charge(self, total: Total, nbytes: int, objects: int) -> None:
        total.bytes += nbytes
        total.objects += objects

    def account(self, slot: Slot) -> Account:
        # An account that was forgotten and made again must not have the same number of changes twice.
        return self._accounts.get(slot) or Account(slot, changes=self.clock())

    def save(self, account: Account) -> None:
        account.touched = self.clock()
        (self._unsure.add if account.unsure else self._unsure.discard)(account.slot)
        is_empty = not (account.running or account.unsure or account.bytes or account.objects)
        # While a listing goes on, an account without anything says that an object in the listing was deleted since.
        if is_empty and not self.listing:
            self._accounts.pop(account.slot, None)
        else:
            self._accounts[account.slot] = account

    listing = 0
    """How many counts are under way."""

    def tidy(self) -> None:
        """Forget the accounts without anything."""
        for account in list(self._accounts.values()):
            if not (account.running or account.unsure or account.bytes or account.objects):
                del self._accounts[account.slot]

    def objects(self, scope: Scope, after: str | None, upto: str | None) -> Sequence[Account]:
        first = Slot(scope.bucket, scope.prefix if after is None else max(after, scope.prefix))
        found = takewhile(
            lambda slot: (
                slot.bucket == scope.bucket and slot.key.startswith(scope.prefix) and (upto is None or slot.key <= upto)
            ),
            self._accounts.irange(minimum=first),
        )
        return [self._accounts[slot] for slot in found if slot.key and not slot.upload and slot.key != after]

    def parts(self, scope: Scope, upload: str | None = None) -> Sequence[Account]:
        found = takewhile(
            lambda slot: slot.bucket == scope.bucket and slot.key.startswith(scope.prefix),
            self._accounts.irange(minimum=Slot(scope.bucket, scope.prefix)),
        )
        if upload is None:
            return [self._accounts[slot] for slot in found if slot.part]
        return [self._accounts[slot] for slot in found if slot.part and slot[1:3] == (scope.prefix, upload)]

    def idle(self, count: int) -> Sequence[Account]:
        return [account for slot in self._unsure if (account := self._accounts[slot]).is_idle][:count]

    def reserve(self, reservation: Reservation) -> None:
        self._reservations.setdefault(reservation.slot, {})[reservation.number] = reservation

    def release(self, reservation: Reservation) -> Reservation | None:
        held = self._reservations.get(reservation.slot, {})
        found = held.pop(reservation.number, None)
        if not held:
            self._reservations.pop(reservation.slot, None)
        return found

    def reservations(self, slot: Slot) -> Sequence[Reservation]:
        return [*self._reservations.get(slot, {}).values()]

    def buckets(self) -> Sequence[str]:
        return sorted({slot.bucket for slot in self._accounts})

    def versioning(self, bucket: str) -> str | None:
        return self._versioning.get(bucket)

    def set_versioning(self, bucket: str, status: str | None) -> None:
        self._versioning[bucket] = status

    def usage(self) -> Sequence[Total]:
        return [*self._totals.values()]

    def sum(self, scope: Scope) -> None:
        total = self._totals[scope]
        under = [account for slot, account in self._accounts.items() if scope.covers(slot.bucket, slot.key)]
        total.bytes = sum(account.charged_bytes for account in under)
        total.objects = sum(account.charged_objects for account in under)

    def clock(self) -> int:
        self._time += 1
        return self._time


class ProcessLedger:
    """Counts in memory, for one open store; what other stores and processes write is seen when it is opened."""

    immediate = True
    interval = None

    def __init__(self) -> None:
        self._books = _Memory()

    @property
    def coverage(self) -> Coverage:
        """The limits."""
        return self._books.coverage

    async def open(self, limits: Mapping[Scope, QuotaLimit] | None) -> None:
        """Begin with these limits."""
        assert limits is not None
        self._books.take_in(limits)

    async def uncounted(self) -> Collection[Scope]:
        """Return all limits: nothing is known when a store is opened."""
        return [total.scope for total in self._books.usage()]

    async def write(self, work: Work[R]) -> R:
        """Do work."""
        return work(self._books)

    read = write

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Keep the accounts of objects that are deleted meanwhile."""
        self._books.listing += 1
        try:
            yield
        finally:
            self._books.listing -= 1
            if not self._books.listing:
                self._books.tidy()

    async def keep(self) -> None:
        """Do nothing: nobody else sees the reservations."""

    async def recover(self, settle: Settle) -> None:
        """Do nothing: reservations end with the process."""

    async def close(self) -> None:
        """Do nothing: the memory is freed with the store."""
