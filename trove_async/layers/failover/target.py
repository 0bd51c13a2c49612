"""`Failover`: one store over several that hold the same objects, read from the first one that works."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Final

from trove_async.driver.base import Driver
from trove_async.driver.opening import Member, Target
from trove_async.driver.options import OpenOptions
from trove_async.driver.retry import Budget
from trove_async.errors import InvalidArgumentError
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.failover.driver import FailoverDriver
from trove_async.layers.failover.written import FirstWritten
from trove_async.layers.members import named, open_members

if TYPE_CHECKING:
    from trove_async.database import Database

__all__ = ["Failover"]

_REPAIR_EVERY: Final = 1.0
"""Seconds between two looks at the queue: until then there is one copy."""


@dataclass(frozen=True)
class Failover(Target):
    """Read from the first of several stores that works. Give it to `trove_async.open` in place of a DSN.

    The stores hold the same objects. Without a queue somebody else replicates them, and what changes something raises
    `UnsupportedError`. With a queue they are written too: the first one that works, and the queue, which outlives the
    process, brings what was written to the others. It is then a `Mirror` that acknowledges a write with one copy.

    Attributes:
        members: the stores in the order of preference: DSNs, targets, open drivers, or a `Member` that has layers of
            its own. What is given as a DSN or a target is opened and closed with the store.
        threshold: failures in a row after which a member is asked only if no other works.
        open_for: seconds for which that lasts at least; then one read tests the member.
        budget: pays for each member that is asked after another one has failed; None for that of a `Retry` around
            it, or its own. Not with a queue.
        queue: the URL of a database, as for `trove_async.database.connect`, or one that is open and stays open. All
            processes that use the store share it, and all writes go through the store.

    Raises:
        InvalidArgumentError: there is no member, or a value is out of range.
        InvalidDSNError: a DSN, or the URL of the queue, is malformed.
        MissingDependencyError: there is a queue, and the packages for databases are not installed.
    """

    members: Iterable[str | Driver | Target | Member]
    _: KW_ONLY
    threshold: int = 1
    open_for: float = 30.0
    budget: Budget | None = field(default=None, repr=False)
    queue: str | Database | None = field(default=None, repr=False)
    _written: FirstWritten | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        unordered = isinstance(self.members, str | Driver | Target | Member | Mapping | Set)
        if unordered or not isinstance(self.members, Iterable):
            raise InvalidArgumentError(
                "the members of a Failover are a list of stores, as in ['s3://…', 'local:///srv/copy'], "
                f"not {type(self.members).__name__}"
            )
        members = tuple(Member.of(member) for member in self.members)  # a repr must not show the secrets of a DSN
        if not members:
            raise InvalidArgumentError("a Failover has no member; give the stores in their order of preference")
        if not (self.budget is None or isinstance(self.budget, Budget)):
            raise InvalidArgumentError(f"budget is a Budget, as in Budget(10), or None, not {self.budget!r}")
        if self.threshold is None:
            raise InvalidArgumentError("threshold is a whole number of 1 or more, not None")
        object.__setattr__(self, "members", members)
        self._breaker("checked")
        if self.queue is not None:
            object.__setattr__(self, "_written", self._with_queue(members, self.queue))

    def _with_queue(self, members: tuple[Member, ...], queue: str | Database) -> FirstWritten:
        if self.budget is not None:
            raise InvalidArgumentError("a Failover with a queue has no budget: its circuit breakers bound the attempts")
        return FirstWritten(
            members,
            queue=queue,
            write_quorum=1,
            repair_every=_REPAIR_EVERY,
            test_every=self.open_for,
            threshold=self.threshold,
        )

    def _breaker(self, name: str) -> CircuitBreaker:
        return CircuitBreaker(name, threshold=self.threshold, open_for=self.open_for)

    async def open(self, options: OpenOptions) -> Driver:
        """Open the members, one after another; if one fails, the others are closed again.

        Raises:
            TroveError: a member cannot be opened; a note of the error names it.
        """
        if self._written is not None:
            return await self._written.open(options)
        members = await open_members(named([*self.members]), options)
        return FailoverDriver(members, self._breaker, self.budget)
