"""`Retry`: begin an operation anew that failed for a transient reason."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, TypeVar, cast

from trove_async.driver.base import Driver
from trove_async.driver.events import attempts as observed_attempts
from trove_async.driver.order import Placed
from trove_async.driver.put_settling import Find, find_for, find_put, settle_put
from trove_async.driver.retry import BEGUN_ANEW, THROTTLED, TRANSPORT, Attempts, Backoff, Budget, RetryPolicy
from trove_async.errors import BackendUnavailableError, InvalidArgumentError, ThrottledError, TroveError
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.verdict import verdict_on
from trove_async.reader import ObjectReader
from trove_async.types import ObjectEvent
from trove_async.values import is_whole

__all__ = ["Retry"]

R = TypeVar("R")

_NEVER_TWICE: Final = frozenset({"complete_multipart", "copy", "restore_version", "server_copy"})
"""What is not repeated if it may have been done: an upload is gone once it is complete, and the source of a copy may
have changed meanwhile. Drivers and `Trove.copy` look at the destination instead."""


@dataclass(frozen=True)
class Retry(Placed):
    """Begin an operation anew that failed with a ``retryable`` error, after a delay, as long as the budget pays.

    It covers every operation: a get until its first answer (after that its body is resumed by the same policy), and a
    watch until it is subscribed. A body is sent again from its first byte, if it is replayable.

    The driver inside gets the policy too. It tries the requests of operations of many requests again by it, which are
    never begun anew, and leaves all others to this layer, so that attempts do not multiply.

    An operation that is repeated after an attempt of unknown outcome may meet what that attempt did: a create-only put
    finds its own object. The error is then ``ambiguous``, as is that of the last attempt. A copy or a completion of
    unknown outcome is not repeated. A put of unknown outcome is repeated only after a look at the object: if it is what
    was to be stored, the put has succeeded; if that cannot be found out, the error is raised.

    Attributes:
        attempts: the maximum for each operation, the first one included.
        budget: pays for the attempts after the first; None for one of its own for each store. Layers that are given
            the same one share it.
        transport, throttled: the delays after a broken connection or a failure of the service, and after the service
            has asked for fewer requests.

    Raises:
        InvalidArgumentError: the number of attempts is not a whole number of 1 or more, or something else is of a wrong
            type.
    """

    layer_name: ClassVar[str | None] = "Retry"
    never_around: ClassVar[Mapping[str, str]] = {"Retry": "their attempts would multiply"}

    attempts: int = 4
    budget: Budget | None = None
    transport: Backoff = TRANSPORT
    throttled: Backoff = THROTTLED

    def __post_init__(self) -> None:
        if not is_whole(self.attempts) or self.attempts < 1:
            raise InvalidArgumentError(
                f"attempts is a whole number of 1 or more, as in Retry(attempts=4), not {self.attempts!r}"
            )
        if not (self.budget is None or isinstance(self.budget, Budget)):
            raise InvalidArgumentError(
                f"budget is a Budget, as in Retry(budget=Budget(10)), or None, not {self.budget!r}"
            )
        for name, backoff in (("transport", self.transport), ("throttled", self.throttled)):
            if not isinstance(backoff, Backoff):
                raise InvalidArgumentError(
                    f"{name} is a Backoff, as in Retry({name}=Backoff({getattr(Retry, name).first}, "
                    f"{getattr(Retry, name).longest})), not {backoff!r}"
                )

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver."""
        policy = RetryPolicy(
            attempts=self.attempts,
            transport=self.transport,
            throttled=self.throttled,
            budget=Budget() if self.budget is None else self.budget,
        )
        return _RetryDriver(driver, policy)


class _RetryDriver(LayerDriver):
    layer_name: ClassVar[str | None] = Retry.layer_name
    never_around: ClassVar[Mapping[str, str]] = Retry.never_around

    def __init__(self, inner: Driver, policy: RetryPolicy) -> None:
        super().__init__(inner)
        self._policy: Final = policy
        self._resumption: Final = partial(Attempts, policy)
        self._driver_pays_in = False

    async def start(self) -> None:
        """Give the driver the policy."""
        self._driver_pays_in = self.inner.use_retry_policy(self._policy)

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name == "watch":
            return cast(R, self._watch(operation, cast(Call[AsyncGenerator[ObjectEvent, None]], call)))
        series = observed_attempts("retry")
        failures: Attempts | None = None
        ambiguous = False
        while True:
            token = BEGUN_ANEW.set(self._policy)
            try:
                with series.begin():
                    result = await call()
            except TroveError as error:
                lost = error.ambiguous and not _is_refusal(error)
                ambiguous = error.ambiguous = ambiguous or error.ambiguous
                if not error.retryable or not _can_be_repeated(operation, error):
                    if not self._driver_pays_in and verdict_on(error) == "works":
                        self._policy.budget.succeeded()
                    raise
                failure = error
            else:
                return self._succeeded(result)
            finally:
                BEGUN_ANEW.reset(token)
            if failures is None:
                failures = Attempts(self._policy, reported=False)
            try:
                unsettled = ambiguous and not _is_settled(failure)
                another = await failures.another(failure)
                if unsettled and (lost or not another) and (find := self._settling(operation)) is not None:
                    found = await settle_put(failure, find)
                    if found is not None:
                        return self._succeeded(cast(R, found))
                if not another:
                    raise failure
            finally:
                del failure  # its traceback refers to this frame: together they would keep the body
            if operation.body is not None:
                await operation.body.rewind()

    def _settling(self, operation: Operation) -> Find | None:
        """Return what looks for what a put was to store, with as many attempts as any read; None if nothing is to."""
        if operation.name != "put":
            return None
        bucket, key, body, options = (operation[name] for name in ("bucket", "key", "body", "options"))
        find = partial(find_put, self, bucket, key, body, options)
        return find_for(options.if_match, options.if_none_match, find)

    def _succeeded(self, result: R) -> R:
        if not self._driver_pays_in:
            self._policy.budget.succeeded()
        if isinstance(result, ObjectReader):
            result.resume_by(self._resumption)
        return result

    async def _watch(
        self, operation: Operation, call: Call[AsyncGenerator[ObjectEvent, None]]
    ) -> AsyncGenerator[ObjectEvent, None]:
        """Subscribe, again if that fails; once subscribed, the driver decides what an error means."""
        options = operation.arguments["options"]
        failures = Attempts(self._policy, reported=False)
        subscribed = False

        def on_ready() -> None:
            nonlocal subscribed
            subscribed = True
            options.on_ready()

        while True:
            try:
                async with aclosing(await call(options=replace(options, on_ready=on_ready))) as events:
                    async for event in events:
                        subscribed = True
                        yield event
                return
            except TroveError as error:
                if subscribed:
                    raise
                failure = error
            try:
                await failures.failed(failure)
            finally:
                del failure


def _is_settled(failure: TroveError) -> bool:
    """Tell whether a look can say no more than the error does.

    What the driver has given up, it has settled as well as it can. A backend that is down answers no look; and a mirror
    that reached too few of its stores raises the same error, although the object can be seen.
    """
    return failure.exhausted or isinstance(failure, BackendUnavailableError)


def _is_refusal(error: TroveError) -> bool:
    """Tell whether the service itself asks for fewer requests: it did not lose an answer, and a look is one more."""
    return isinstance(error, ThrottledError) and error.request_id is not None


def _can_be_repeated(operation: Operation, error: TroveError) -> bool:
    if error.ambiguous and operation.name in _NEVER_TWICE:
        return False
    return operation.body is None or operation.body.replayable
