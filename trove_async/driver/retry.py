"""The one policy for trying again: how long to wait between attempts, and when to stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from trove_async.cancellation import SHIELD
from trove_async.driver.events import RequestRetried, report
from trove_async.errors import TransientError, TroveError

__all__ = ["CONTENTION", "REQUESTS", "WATCHING", "Attempts", "Backoff", "until_uncontended"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from attempt to attempt.

    Attributes:
        first: seconds before the second attempt, at most.
        longest: seconds at most.
        patience: seconds that a service may ask for by ``Retry-After``; beyond it the error is raised.
    """

    first: float
    longest: float
    patience: float = 60.0

    def ceiling(self, failures: int) -> float:
        """Return the longest delay after a number of failures, 1 or more."""
        # The exponent is bounded: 2**1024 does not fit into a float.
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 64))

    def delay(self, failures: int) -> float:
        """Return a random delay up to `ceiling`, so that clients that failed together do not return together."""
        return random.uniform(0, self.ceiling(failures))


REQUESTS: Final = Backoff(first=0.2, longest=20.0)
"""Between the attempts of a request."""

CONTENTION: Final = Backoff(first=0.01, longest=0.5)
"""Between the attempts of a conditional write that others keep overtaking."""

WATCHING: Final = Backoff(first=1.0, longest=60.0)
"""Between the attempts of a watch to reach its backend; there is no limit to their number."""


class Attempts:
    """The attempts at one thing.

    Args:
        limit: how many there may be, the first one included.
        backoff: how long to wait between them.

    Attributes:
        made: how many failed so far.
    """

    __slots__ = ("_backoff", "_limit", "made")

    def __init__(self, limit: int, backoff: Backoff = REQUESTS) -> None:
        self._limit = limit
        self._backoff = backoff
        self.made = 0

    async def failed(self, error: TroveError) -> None:
        """Wait for the next attempt.

        Raises:
            TroveError: the error itself, if it is final or was the last attempt's, or if the caller was cancelled.
        """
        self.made += 1
        if not error.retryable or self.made >= self._limit:
            raise error
        wait = self._backoff.delay(self.made)
        if error.retry_after is not None:
            if error.retry_after > self._backoff.patience:
                raise error
            wait = max(wait, error.retry_after)
        if (shield := SHIELD.get()) is not None:
            shield.failed(error)
        report(RequestRetried(self.made, error, wait))
        await asyncio.sleep(wait)

    def succeeded(self) -> None:
        """Count from 0 again, for work of several steps of which one went through."""
        self.made = 0


async def until_uncontended(
    work: Callable[[], Awaitable[R]],
    *,
    lost: type[TroveError] | tuple[type[TroveError], ...],
    message: str,
    limit: int = 30,
) -> R:
    """Call ``work`` until no other writer overtakes it, and return its result.

    Args:
        work: looks at what there is and writes under the condition that it is still there.
        lost: the errors with which it says that another writer was faster. One that is ambiguous is raised.
        message: of the error if all attempts were lost.
        limit: how many attempts there are.

    Raises:
        TransientError: all attempts were lost; the last loss is its cause.
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
                raise TransientError(message, status=error.status, request_id=error.request_id) from error
        await asyncio.sleep(CONTENTION.delay(failures))
