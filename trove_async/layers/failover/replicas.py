"""The members of a `Failover`: which of them works, and how one after the other is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.driver.base import Driver
from trove_async.driver.events import attempts
from trove_async.driver.retry import Budget
from trove_async.errors import BackendUnavailableError, TroveError
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.verdict import verdict_on

__all__ = ["Replica", "Replicas", "joined"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Replica:
    """A member.

    Attributes:
        name: of the member.
        driver: as it was opened.
        guarded: the same behind its circuit breaker.
        breaker: opens when the member fails.
    """

    name: str
    driver: Driver
    guarded: Driver
    breaker: CircuitBreaker

    @property
    def works(self) -> bool:
        """Whether it is worth asking: nothing is known against it, or it may be back."""
        return self.breaker.state == "closed" or self.breaker.retry_after == 0

    def recovered(self) -> None:
        """Take in that it answered although its circuit breaker is open."""
        if self.breaker.state != "closed":
            self.breaker.reset()


class Replicas:
    """The members of a `Failover` in their order.

    Args:
        name: of the driver, for errors.
        members: the drivers by their names.
        breaker: makes the circuit breaker of a member of a name.
        budget: pays for every member that is asked after another one has failed.
    """

    def __init__(
        self, name: str, members: Mapping[str, Driver], breaker: Callable[[str], CircuitBreaker], budget: Budget
    ) -> None:
        self._name = name
        self.budget = budget
        self.pays_in = True
        """Whether successes are paid into the budget here; a `Retry` layer, or a driver for it, does so otherwise."""
        self.all: Final[Sequence[Replica]] = [
            Replica(member, driver, (found := breaker(f"{name}/{member}"))(driver), found)
            for member, driver in members.items()
        ]

    def named(self, name: str | None) -> Replica | None:
        """Return the member of a name; None if there is none."""
        return next((replica for replica in self.all if replica.name == name), None)

    def in_order(self, first: Replica | None = None) -> Iterator[tuple[Replica, Driver]]:
        """Yield the members to ask, those that work first, each with the driver to call.

        The others follow, without their circuit breakers: to ask them is better than to ask nobody. A member that is
        isolated by hand is not asked.

        Args:
            first: asked before all others if it works.
        """
        ordered = self.all if first is None else [first, *(replica for replica in self.all if replica is not first)]
        failing: list[Replica] = []
        for replica in ordered:
            if replica.works:
                yield replica, replica.guarded
            else:
                failing.append(replica)
        for replica in failing:
            if replica.breaker.state != "isolated":
                yield replica, replica.driver

    async def first(
        self, ask: Callable[[Replica, Driver], Awaitable[R]], order: Iterator[tuple[Replica, Driver]] | None = None
    ) -> R:
        """Ask one member after the other until one answers, and return its answer.

        An error that only a member that works can give, such as that of a missing object, is an answer too.

        Args:
            ask: asks a member.
            order: the members to ask; by default all, in order.

        Raises:
            TroveError: the answer, or the error of the first member if all have failed or the budget does not pay.
        """
        series = attempts("retry")
        failure: TroveError | None = None
        try:
            for replica, driver in self.in_order() if order is None else order:
                if failure is not None and not self.pays_after(failure):
                    break
                try:
                    with series.begin():
                        result = await ask(replica, driver)
                except TroveError as error:
                    if not self.goes_on_after(error, replica, driver):
                        raise
                    failure = joined(failure, error)
                else:
                    self.answered(replica, driver)
                    return result
            raise failure or self.all_isolated()
        finally:
            failure = None  # its traceback refers to this frame

    def goes_on_after(self, error: TroveError, replica: Replica, driver: Driver) -> bool:
        """Name the member in an error, and tell whether another one can be asked; an answer is taken in."""
        error.driver = error.driver or f"{self._name}/{replica.name}"
        verdict = verdict_on(error)
        if verdict == "works":
            self.answered(replica, driver)
        return verdict == "failed"

    def pays_after(self, failure: TroveError) -> bool:
        """Pay for another member after the first failure; if the budget does not, say so in the error."""
        if isinstance(failure, BackendUnavailableError) or self.budget.take():
            return True  # a call that was refused has sent nothing
        failure.exhausted = True
        failure.message += "; no other member is asked, since the budget is used up"
        return False

    def answered(self, replica: Replica, driver: Driver) -> None:
        """Take in that a member has answered."""
        if self.pays_in:
            self.budget.succeeded()
        if driver is replica.driver:
            replica.recovered()

    def all_isolated(self) -> TroveError:
        """Return the error of a call for which there is no member to ask."""
        return self.all[0].breaker.refusal()


def joined(first: TroveError | None, error: TroveError) -> TroveError:
    """Return the error of the first member that failed, with a note about another one."""
    if first is None:
        return error
    first.add_note(f"another member failed too: {error}")
    return first
