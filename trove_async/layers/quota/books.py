"""`Books`: what the rules of a quota read and write, in memory or in a transaction of a database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol, TypeAlias, TypeVar

from trove_async.layers.quota.accounts import Account, Reservation, Slot, Total
from trove_async.layers.quota.limits import Coverage, QuotaLimit, Scope

__all__ = ["UNCLEAR", "Books", "Ledger", "Settle", "Work"]

R = TypeVar("R")

UNCLEAR: Final = "unclear"
"""The versioning of a bucket while it is being changed."""


class Books(ABC):
    """What is known, for one piece of work, which takes place as a whole or not at all.

    Accounts and totals that it returns are changed in place; `save` keeps what was changed in an account.

    Attributes:
        owner: whose reservations are made.
    """

    owner: str

    @abstractmethod
    def totals(self, bucket: str, key: str) -> Sequence[Total]:
        """Return the limits that a key is under."""

    @abstractmethod
    def charge(self, total: Total, nbytes: int, objects: int) -> None:
        """Charge a limit with more bytes and objects, or with fewer."""

    @abstractmethod
    def account(self, slot: Slot) -> Account:
        """Return an account; a new one if there is none."""

    @abstractmethod
    def save(self, account: Account) -> None:
        """Keep what was changed in an account."""

    @abstractmethod
    def objects(self, scope: Scope, after: str | None, upto: str | None) -> Sequence[Account]:
        """Return the accounts of the objects of a bucket, in order.

        Args:
            scope: the bucket, and what their keys begin with.
            after, upto: their keys sort after the one and not after the other; None for no such bound.
        """

    @abstractmethod
    def parts(self, scope: Scope, upload: str | None = None) -> Sequence[Account]:
        """Return the accounts of the parts of open uploads, or of one upload, whose key is then ``scope.prefix``."""

    @abstractmethod
    def idle(self, count: int) -> Sequence[Account]:
        """Return the accounts that are `Account.is_idle`, ``count`` at most."""

    @abstractmethod
    def reserve(self, reservation: Reservation) -> None:
        """Keep a reservation, or another size of it."""

    @abstractmethod
    def release(self, reservation: Reservation) -> Reservation | None:
        """Remove a reservation and return it as it was kept; None if it is not there any more."""

    @abstractmethod
    def reservations(self, slot: Slot) -> Sequence[Reservation]:
        """Return the reservations for a slot."""

    @abstractmethod
    def buckets(self) -> Sequence[str]:
        """Return the buckets that have accounts."""

    @abstractmethod
    def versioning(self, bucket: str) -> str | None:
        """Return whether a bucket keeps versions: a `VersioningStatus`, `UNCLEAR`, or None if nobody has asked yet."""

    @abstractmethod
    def set_versioning(self, bucket: str, status: str | None) -> None:
        """Keep whether a bucket keeps versions."""

    @abstractmethod
    def usage(self) -> Sequence[Total]:
        """Return all limits, in the order of their names."""

    @abstractmethod
    def sum(self, scope: Scope) -> None:
        """Charge a limit with the sum of its accounts, whatever it was charged with; its objects are counted now."""

    @abstractmethod
    def clock(self) -> int:
        """Return a time; an account that is saved later is touched at this time or later."""


Work: TypeAlias = Callable[[Books], R]
"""A piece of work: it does nothing but read and write books, and may run more than once."""

Settle: TypeAlias = Callable[[Sequence[Reservation]], Awaitable[object]]


class Ledger(Protocol):
    """Books that stay, and change by one piece of work after another.

    Attributes:
        coverage: the limits, when they were last read.
        immediate: True if `write` does not wait for anything, so that it cannot be cancelled.
        interval: seconds between two calls of `keep`; None if it need not be called.
    """

    @property
    def coverage(self) -> Coverage:
        """Return the limits."""

    @property
    def immediate(self) -> bool:
        """Return whether `write` is never cancelled."""

    @property
    def interval(self) -> float | None:
        """Return the time between two calls of `keep`."""

    async def open(self, limits: Mapping[Scope, QuotaLimit] | None) -> None:
        """Take in the limits, or with None use those that are kept."""

    async def uncounted(self) -> Collection[Scope]:
        """Return the limits under which nobody has yet counted what was there before them."""

    async def write(self, work: Work[R]) -> R:
        """Do work that changes the books."""

    async def read(self, work: Work[R]) -> R:
        """Do work that only reads."""

    def counting(self) -> AbstractAsyncContextManager[None]:
        """Wait until nobody else counts."""

    async def keep(self) -> None:
        """Tell others that this owner lives."""

    async def recover(self, settle: Settle) -> None:
        """Call ``settle`` with the reservations of owners that have died."""

    async def close(self) -> None:
        """Stop; idempotent."""
