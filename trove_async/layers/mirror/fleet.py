"""The members of a mirror: which of them can be asked, and how they are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from trove_async.cancellation import finish
from trove_async.driver.base import Driver
from trove_async.driver.options import HeadOptions
from trove_async.errors import BackendUnavailableError, NotFoundError, TroveError
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.verdict import verdict_on
from trove_async.types import ObjectInfo

__all__ = ["Fleet", "Replica", "failures", "new_breaker", "over", "together"]

R = TypeVar("R")

_HEAD: Final = HeadOptions()
_THRESHOLD: Final = 3
"""Failures in a row after which a member is not asked any more."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A member: its name, its driver, and the circuit breaker around it, which tests it while it is down."""

    name: str
    driver: Driver
    breaker: CircuitBreaker

    @property
    def healthy(self) -> bool:
        """Whether it can be asked now."""
        return self.breaker.state == "closed"

    async def head(self, bucket: str, key: str) -> ObjectInfo | None:
        """Describe the copy of an object as the member has it; None if it has none."""
        try:
            return await self.driver.head(bucket, key, _HEAD)
        except NotFoundError:
            return None


def new_breaker(name: str, test_every: float) -> CircuitBreaker:
    """Return the circuit breaker of a member."""
    return CircuitBreaker(f"mirror/{name}", threshold=_THRESHOLD, open_for=test_every, prober=True)


class Fleet:
    """The members in their order.

    Args:
        replicas: the members.
        quorum: the number of members that must have a write before it is acknowledged.
        cleanup_timeout: seconds.
    """

    def __init__(self, replicas: Sequence[Replica], quorum: int, cleanup_timeout: float) -> None:
        self.replicas: Final = replicas
        self.names: Final = tuple(replica.name for replica in replicas)
        self.quorum: Final = quorum
        self.cleanup_timeout: Final = cleanup_timeout

    def named(self, name: str) -> Replica | None:
        """Return the member of a name; None if the mirror has it no more."""
        return next((replica for replica in self.replicas if replica.name == name), None)

    @property
    def healthy(self) -> list[Replica]:
        """The members that can be asked now, in order."""
        return [replica for replica in self.replicas if replica.healthy]

    def writable(self, *, without: Container[str] = ()) -> list[Replica]:
        """Return the members to write to.

        Args:
            without: the names of members that cannot take this write.

        Raises:
            BackendUnavailableError: they are fewer than the quorum; nothing was sent.
        """
        found = [replica for replica in self.healthy if replica.name not in without]
        if len(found) < self.quorum:
            needed = f"a write needs {self.quorum} of {len(self.replicas)} members, and {len(found)} can take it"
            raise self.unavailable(needed, [name for name in self.names if name in without])
        return found

    def unavailable(self, why: str, behind: Sequence[str]) -> BackendUnavailableError:
        """Return the error of a call for which there are not enough members.

        Args:
            why: what is missing.
            behind: the names of the members whose copy is not good.
        """
        down = [replica for replica in self.replicas if not replica.healthy]
        names = ", ".join(replica.name for replica in down) or "none"
        error = BackendUnavailableError(f"{why}; down: {names}; waiting for repair: {', '.join(behind) or 'none'}")
        error.__cause__ = next((replica.breaker.error for replica in down if replica.breaker.error), None)
        return error

    async def first(
        self,
        replicas: Sequence[Replica],
        call: Callable[[Replica], Awaitable[R]],
        *,
        why: str,
        behind: Sequence[str] = (),
        lacked: Callable[[], object] = lambda: None,
    ) -> R:
        """Call one member after another until one answers.

        Args:
            replicas: the members to call.
            call: asks a member.
            why, behind: as for `unavailable`, if there is no member to call.
            lacked: called if a member that was asked before the one that answers does not have what is asked for.

        Raises:
            NotFoundError: no member that can be reached has it.
            BackendUnavailableError: there is no member to call.
            TroveError: the error of the first member, if all have failed; or the answer of one that works.
        """
        absent: NotFoundError | None = None
        failed: TroveError | None = None
        for replica in replicas:
            try:
                found = await call(replica)
            except NotFoundError as error:
                absent = absent or error
            except TroveError as error:
                if verdict_on(error) != "failed":
                    raise
                failed = failed or error
            else:
                if absent is not None:
                    lacked()
                return found
        raise absent or failed or self.unavailable(why, behind)

    async def ask(
        self, replicas: Sequence[Replica], call: Callable[[Replica], Coroutine[Any, Any, R]]
    ) -> dict[str, R | Exception]:
        """Ask members at the same time; see `together`."""
        calls = {replica.name: call(replica) for replica in replicas}
        return await together(calls, cleanup_timeout=self.cleanup_timeout)


async def together(calls: Mapping[str, Coroutine[Any, Any, R]], *, cleanup_timeout: float) -> dict[str, R | Exception]:
    """Await calls at the same time, and return what each has returned or raised.

    If the caller is cancelled, all are cancelled, and have ended before the cancellation is raised.
    """
    tasks = {name: asyncio.create_task(call, name=f"trove-mirror-{name}") for name, call in calls.items()}
    try:
        if tasks:
            await asyncio.wait(tasks.values())
    except BaseException:
        for task in tasks.values():
            task.cancel()
        await finish(over([*tasks.values()]), timeout=cleanup_timeout, leftover="calls to members of a mirror")
        raise
    errors = [None if task.cancelled() else task.exception() for task in tasks.values()]
    for error in errors:
        if error is not None and not isinstance(error, Exception):
            raise error
    return {name: _outcome(task) for name, task in tasks.items()}


async def over(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until tasks have ended, whatever they return or raise."""
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved


def _outcome(task: asyncio.Task[R]) -> R | Exception:
    if task.cancelled():
        return TroveError("the call was cancelled within the member's driver", ambiguous=True)
    error = task.exception()
    return error if isinstance(error, Exception) else task.result()


def failures(outcomes: Mapping[str, object]) -> list[Exception]:
    """Return the errors, first those with which a member that works has answered."""
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, Exception)]
    return sorted(errors, key=lambda error: verdict_on(error) != "works")
