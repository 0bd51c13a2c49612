"""The one policy for trying again: what is worth another attempt, how long to wait for it, and what pays for it.

A `RetryPolicy` says how often something is tried, with which delays, and from which `Budget` attempts are paid. There
is one for each store, and everything that fails and is tried again draws from it: requests, bodies that are resumed,
uploads that go on after a failure.

Attempts have two levels, and each failure belongs to one of them:

- *The requests of an operation of many requests* (parts, pages, what continues a body or an upload) are tried again by
  the driver, within `many_requests`. Such an operation is never begun anew.
- *An operation of one request* is tried again by the driver, or, if there is one, by the `Retry` layer around it, which
  gives the driver its policy by `Driver.use_retry_policy` and puts it into `BEGUN_ANEW` while the operation runs.

An error that is ``exhausted`` is tried again by nobody, so that attempts do not multiply.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from trove_async.cancellation import SHIELD
from trove_async.driver.events import RequestRetried, report
from trove_async.errors import ConflictError, InvalidArgumentError, ThrottledError, TransientError, TroveError
from trove_async.jitter import jitter
from trove_async.values import is_number

__all__ = [
    "BEGUN_ANEW",
    "CONTENTION",
    "THROTTLED",
    "TRANSPORT",
    "WATCHING",
    "Attempts",
    "Backoff",
    "Budget",
    "Reason",
    "Retries",
    "RetryPolicy",
    "many_requests",
    "reason_of",
    "until_uncontended",
]

R = TypeVar("R")
Reason = Literal["throttled", "transport"]
"""Why something is tried again: the service asks for fewer requests, or a request did not get through."""

_THROTTLING: Final = frozenset({429, 503, 509})
"""Statuses that ask for fewer requests, whatever the code: S3 and Azure throttle with 503, and some proxies send no
body."""

_WINDOW: Final = 10
"""Seconds for which a success can pay for attempts."""

_PRICE: Final = 5
"""Successes that pay for one attempt."""

_REFILL: Final = 0.1
"""Attempts that time pays for, a second."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from attempt to attempt.

    Attributes:
        first: seconds before the second attempt, at most.
        longest: seconds at most.
        patience: seconds that a service may ask for by ``Retry-After``; beyond it the error is raised.

    Raises:
        InvalidArgumentError: a delay is no number or negative, or the first delay is longer than the longest.
    """

    first: float
    longest: float
    patience: float = 60.0

    def __post_init__(self) -> None:
        if not (
            all(is_number(seconds) for seconds in (self.first, self.longest, self.patience))
            and 0 <= self.first <= self.longest < math.inf
            and self.patience >= 0
        ):
            raise InvalidArgumentError(
                "a back-off has a first delay of 0 seconds or more, a longest that is not less, and a patience of 0 or "
                f"more, as in Backoff(0.05, 20), not {self.first!r}, {self.longest!r} and {self.patience!r}"
            )

    def ceiling(self, failures: int) -> float:
        """Return the longest delay after a number of failures, 1 or more."""
        # The exponent is bounded: 2**1024 does not fit into a float.
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 64))

    def delay(self, failures: int) -> float:
        """Return a random delay up to `ceiling`, so that clients that failed together do not return together."""
        return jitter.uniform(0, self.ceiling(failures))

    def wait(self, failures: int, retry_after: float | None) -> float | None:
        """Return the delay after a number of failures; None if the service asks for more than `patience`.

        Args:
            failures: 1 or more.
            retry_after: seconds that the service asks for, to which the random delay is added; None if it does not.
        """
        return None if (retry_after or 0.0) > self.patience else self.pause(failures, retry_after)

    def pause(self, failures: int, retry_after: float | None) -> float:
        """Return the delay as `wait` does, for those who have the patience for any."""
        return (retry_after or 0.0) + self.delay(failures)


TRANSPORT: Final = Backoff(first=0.05, longest=20.0)
"""Between attempts after a broken connection, a timeout, or a failure inside the service."""

THROTTLED: Final = Backoff(first=1.0, longest=60.0)
"""Between attempts after the service has asked for fewer requests."""

CONTENTION: Final = Backoff(first=0.01, longest=0.5)
"""Between the attempts of a conditional write that others keep overtaking."""

WATCHING: Final = Backoff(first=1.0, longest=60.0)
"""Between the attempts of a watch to reach its backend. There is no limit to their number, and no budget pays for them:
each watch makes one at a time, and a watch that ends because others have used the budget up would lose events."""


class Budget:
    """Pays for attempts, so that a store that tries again adds little to the load of a backend that fails.

    For 10 seconds, each success pays for a fifth of an attempt. Beside that there is a reserve, which time refills by
    one attempt in 10 seconds: a store without any success still tries again, and so finds out that the backend is back.
    While everything fails, there are at most ``reserve + 0.1 * seconds`` attempts beside the first ones.

    It belongs to one event loop, as the store does.

    Args:
        reserve: attempts that need no success; `math.inf` for a budget that always pays.
        clock: returns the time in seconds, and never goes back.

    Raises:
        InvalidArgumentError: the reserve is no number, or negative.
    """

    __slots__ = ("_capacity", "_clock", "_current", "_ends", "_past", "_refilled", "_reserve", "_ring", "_second")

    def __init__(self, reserve: float = 3.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        if not (is_number(reserve) and reserve >= 0):
            raise InvalidArgumentError(f"the reserve of a retry budget is 0 or more attempts, not {reserve!r}")
        self._clock = clock
        self._capacity = self._reserve = float(reserve)
        self._refilled = clock()
        # Counted are successes, less those that have paid: of each past second of the window, of all these seconds
        # together, and of the current second.
        self._ring = [0] * _WINDOW
        self._past = 0
        self._current = 0
        self._second = int(self._refilled)
        self._ends = self._second + 1

    def succeeded(self) -> None:
        """Take in that a request has succeeded, or was refused for a reason that shows that the backend works."""
        if self._clock() >= self._ends:
            self._advance(self._clock())
        self._current += 1

    def take(self) -> bool:
        """Pay for an attempt; False if there is nothing to pay with."""
        now = self._clock()
        if now >= self._ends:
            self._advance(now)
        if self._past + self._current >= _PRICE:
            self._current -= _PRICE
            return True
        self._reserve = min(self._capacity, self._reserve + (now - self._refilled) * _REFILL)
        self._refilled = now
        if self._reserve < 1.0:
            return False
        self._reserve -= 1.0
        return True

    def _advance(self, now: float) -> None:
        """Begin another second, and forget those that have left the window."""
        second = int(now)
        self._ring[self._second % _WINDOW] = self._current
        self._past += self._current
        for gone in range(self._second + 1, min(second, self._second + _WINDOW) + 1):
            self._past -= self._ring[gone % _WINDOW]
            self._ring[gone % _WINDOW] = 0
        self._current = 0
        self._second = second
        self._ends = second + 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetryPolicy:
    """How often and when something is tried again.

    Attributes:
        attempts: the maximum, the first one included.
        transport, throttled: the delays, by the reason of the failure.
        budget: pays for the attempts after the first one.
    """

    attempts: int = 5
    transport: Backoff = TRANSPORT
    throttled: Backoff = THROTTLED
    budget: Budget = field(default_factory=Budget)

    def backoff(self, error: TroveError) -> Backoff:
        """Return the delays after an error."""
        return self.throttled if reason_of(error) == "throttled" else self.transport


def reason_of(error: TroveError) -> Reason:
    """Return why something that failed is tried again, by the class of the error and by its status."""
    return "throttled" if isinstance(error, ThrottledError) or error.status in _THROTTLING else "transport"


class Attempts:
    """The attempts at one thing.

    Args:
        policy: says how often and when.
        limit: how many there may be, the first one included; None for the policy's.
        reported: whether `RequestRetried` is reported; a layer reports its attempts otherwise.

    Attributes:
        made: how many failed so far.
    """

    __slots__ = ("_limit", "_policy", "_reported", "made")

    def __init__(self, policy: RetryPolicy, limit: int | None = None, *, reported: bool = True) -> None:
        self._policy = policy
        self._limit = policy.attempts if limit is None else limit
        self._reported = reported
        self.made = 0

    async def failed(self, error: TroveError, *, paid: bool = False) -> None:
        """Wait for the next attempt.

        Args:
            error: of the attempt.
            paid: whether what was done since the last failure pays for the attempt, and not the budget.

        Raises:
            TroveError: the error itself, if there is no other attempt.
        """
        if not await self.another(error, pay=_nothing if paid else None):
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: they would keep each other until a garbage collection

    async def another(self, error: TroveError, *, pay: Callable[[], bool] | None = None) -> bool:
        """Wait for the next attempt after an error; False if there is none, and the error is to be raised.

        There is none if the error is final or ``exhausted``, if this was the last attempt, if the budget does not pay,
        or if the service asks for more patience than there is. The error is then ``exhausted`` where attempts were used
        up, and its message says so if the budget was. A `ConflictError` costs nothing: a backend that tells two writers
        apart does not fail.

        Args:
            error: of the attempt.
            pay: called in place of `Budget.take`, for failures that several attempts have in common.

        Raises:
            TroveError: the error itself; the caller was cancelled, and a shield holds the cancellation back.
        """
        self.made += 1
        if not error.retryable or error.exhausted:
            return False
        if self.made >= self._limit:
            error.exhausted = self.made > 1
            return False
        wait = self._policy.backoff(error).wait(self.made, error.retry_after)
        if wait is None:
            error.exhausted = True
            return False
        if (shield := SHIELD.get()) is not None:
            shield.failed(error)
        if pay is None:
            pay = _nothing if isinstance(error, ConflictError) else self._policy.budget.take
        if not pay():
            error.exhausted = True
            error.message += "; it is not tried again, since the store's retry budget is used up"
            return False
        if self._reported:
            report(RequestRetried(self.made, error, wait))
        await asyncio.sleep(wait)
        return True

    def succeeded(self) -> None:
        """Count from 0 again, for work of several steps of which one went through."""
        self.made = 0


def _nothing() -> bool:
    return True


BEGUN_ANEW: Final[ContextVar[RetryPolicy | None]] = ContextVar("BEGUN_ANEW", default=None)
"""The policy of the `Retry` layer that begins the operation of this context anew if it fails.

None if no layer does, or if the operation takes many requests.
"""


class Retries:
    """How one store tries again: shared by all of its parts, with a policy that a `Retry` layer may replace.

    Args:
        policy: the driver's own.

    Attributes:
        policy, budget: the current ones.
    """

    __slots__ = ("budget", "policy")

    def __init__(self, policy: RetryPolicy) -> None:
        self.use(policy)

    def use(self, policy: RetryPolicy) -> None:
        """Replace the policy; see `Driver.use_retry_policy`."""
        self.policy = policy
        self.budget = policy.budget

    @property
    def left_to_layer(self) -> bool:
        """Whether a `Retry` layer begins the operation of this context anew."""
        return BEGUN_ANEW.get() is self.policy

    def of_request(self, limit: int | None = None) -> Attempts:
        """Return the attempts at a request: only one if a `Retry` layer begins the operation anew.

        Args:
            limit: the maximum; None for the policy's.
        """
        return Attempts(self.policy, 1 if self.left_to_layer else limit)

    def of_step(self) -> Attempts:
        """Return the attempts at a step of an operation, which goes on from that step."""
        return Attempts(self.policy)


@contextmanager
def many_requests() -> Iterator[None]:
    """Have each request in the block tried again on its own: the operation is never begun anew.

    A transient error that leaves the block is ``exhausted``, so that no `Retry` layer begins the operation anew.
    """
    layer = BEGUN_ANEW.get()
    if layer is None:
        yield
        return
    token = BEGUN_ANEW.set(None)
    try:
        yield
    except TroveError as error:
        error.exhausted = error.exhausted or error.retryable
        raise
    finally:
        BEGUN_ANEW.reset(token)


async def until_uncontended(
    work: Callable[[], Awaitable[R]],
    *,
    lost: type[TroveError] | tuple[type[TroveError], ...],
    message: str,
    limit: int = 30,
) -> R:
    """Call ``work`` until no other writer overtakes it, and return its result.

    These attempts are not paid from the store's `Budget`: the backend has answered each of them, and a budget for
    failures would let the busiest keys fail first.

    Args:
        work: looks at what there is and writes under the condition that it is still there.
        lost: the errors with which it says that another writer was faster. One that is ambiguous is raised.
        message: of the error if all attempts were lost.
        limit: how many attempts there are.

    Raises:
        TransientError: all attempts were lost; the last loss is its cause. It is ``exhausted``.
    """
    failures = 0
    while True:
        try:
            return await work()
        except lost as error:
            if error.ambiguous:
                raise
            failures += 1
            if failures == limit:
                failure = TransientError(message, status=error.status, request_id=error.request_id)
                failure.exhausted = True
                raise failure from error
        await asyncio.sleep(CONTENTION.delay(failures))
