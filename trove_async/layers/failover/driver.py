"""`FailoverDriver`: the driver of a `Failover`, which reads from the first member that works."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final, cast, get_args

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import (
    AppendDriver,
    BulkDeleteDriver,
    Condition,
    LifecycleDriver,
    LifecycleSweepDriver,
    MultipartDriver,
    NotificationDriver,
    PartCopyDriver,
    PresignMethod,
    ServerCopyDriver,
)
from trove_async.driver.events import Listener
from trove_async.driver.options import GetOptions, WatchOptions
from trove_async.driver.retry import Budget, RetryPolicy
from trove_async.errors import BackendUnavailableError, TroveError, UnsupportedError
from trove_async.layers.base import Operation
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.continued import ContinuedStream
from trove_async.layers.failover.listing import list_page, list_versions_page
from trove_async.layers.failover.replicas import Replica, Replicas, joined
from trove_async.layers.members import MembersDriver, OpenMembers
from trove_async.layers.read_only import READS, SIGNED_READS
from trove_async.layers.trial import CountedStream
from trove_async.ranges import ByteRange
from trove_async.reader import ObjectReader
from trove_async.types import ObjectEvent, ObjectInfo

__all__ = ["FailoverDriver"]

_READS_ONLY: Final = (
    "a Failover without queue= only reads; give it a queue, or write to the member from which the others are replicated"
)


def _writes() -> dict[type | str, str]:
    """Return all that only changes something."""
    uploads = (MultipartDriver, AppendDriver, PartCopyDriver)
    capabilities = (*uploads, BulkDeleteDriver, ServerCopyDriver, LifecycleDriver, LifecycleSweepDriver)
    conditions = set(get_args(Condition)) - {"get"}
    methods = set(get_args(PresignMethod)) - SIGNED_READS
    return dict.fromkeys((*capabilities, *sorted(conditions), *sorted(methods)), _READS_ONLY)


class FailoverDriver(MembersDriver):
    """Reads from the first member that works; refuses everything that changes something."""

    name = "failover"
    drops: ClassVar[Mapping[type | str, str]] = _writes()

    def __init__(self, members: OpenMembers, breaker: Callable[[str], CircuitBreaker], budget: Budget | None) -> None:
        super().__init__(members)
        self._replicas: Final = Replicas(self.name, self.members, breaker, budget or Budget())
        self._has_own_budget = budget is None
        # Where server copies are dropped a copy is streamed: it would be refused only after a look at the source.
        dropped = {what: reason for what, reason in self._features.dropped.items() if what is not ServerCopyDriver}
        # The token of one member means nothing to another.
        self._features = replace(self._features, watch_resume=False, dropped=dropped)

    @property
    def breakers(self) -> Mapping[str, CircuitBreaker]:
        """The circuit breaker of each member: its state, and how to take a member out of service by hand."""
        return {replica.name: replica.breaker for replica in self._replicas.all}

    def use_retry_policy(self, policy: RetryPolicy) -> bool:
        """Pass the policy on to each member, and pay from its budget, unless another one was given."""
        pays_in = super().use_retry_policy(policy)
        if self._has_own_budget:
            self._replicas.budget = policy.budget
        self._replicas.pays_in = self._replicas.budget is not policy.budget
        return pays_in

    def add_listener(self, listener: Listener) -> None:
        """Pass the listener on to each member and its circuit breaker."""
        for replica in self._replicas.all:
            replica.guarded.add_listener(listener)

    async def perform(self, operation: Operation) -> Any:
        """Carry out a read at the first member that works."""
        name = operation.name
        if name not in READS:
            raise UnsupportedError(f"{name} would change something: {_READS_ONLY}")
        if name == "list_page":
            return await list_page(self._replicas, operation)
        if name == "list_versions_page":
            return await list_versions_page(self._replicas, operation)
        return await self._replicas.first(partial(self._read, operation))

    async def _read(self, operation: Operation, replica: Replica, driver: Driver) -> Any:
        result = await operation.on(driver)
        if isinstance(result, ObjectReader) and not result.buffered:
            reopen = partial(self._reopened, operation, result.info, result.stop)
            result.wrap(lambda stream: _Continued(stream, replica, reopen))
        return result

    async def _reopened(
        self, operation: Operation, info: ObjectInfo, stop: int, before: Replica | None, offset: int
    ) -> tuple[Replica, ObjectReader] | None:
        """Open an object that is being read from an offset on at another member; None if none has the same object."""
        place = cast(str, operation.bucket), cast(str, operation.key)
        options = GetOptions(range=ByteRange(offset, stop - offset))
        for replica, driver in self._replicas.in_order():
            if replica is before or driver is replica.driver:
                continue
            if not self._replicas.budget.take():
                return None
            try:
                reader = await driver.get(*place, options)
            except TroveError:
                continue  # its circuit breaker has counted it
            if _is_same(reader.info, info):
                return replica, reader
            reader.abort()
        return None

    async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[ObjectEvent, None]:
        """Yield the events of the first member that can be subscribed to; what fails later ends the watch."""
        replicas = self._replicas
        subscribed = False
        failure: TroveError | None = None

        def ready() -> None:
            nonlocal subscribed
            subscribed = True
            options.on_ready()

        try:
            for replica, driver in replicas.in_order():
                if failure is not None and not replicas.pays_after(failure):
                    break
                try:
                    events = cast(NotificationDriver, driver).watch(bucket, replace(options, on_ready=ready))
                    async with aclosing(events):
                        async for event in events:
                            yield replace(event, resume_token=None) if event.resume_token is not None else event
                    return
                except TroveError as error:
                    if not replicas.goes_on_after(error, replica, driver) or subscribed:
                        raise
                    failure = joined(failure, error)
            raise failure or replicas.all_isolated()
        finally:
            failure = None  # its traceback refers to this frame


class _Continued(ContinuedStream[Replica]):
    """Returns to its member past the circuit breaker if no other member has the object: that is better than none."""

    async def seek(self, offset: int) -> None:
        try:
            await super().seek(offset)
        except BackendUnavailableError:
            if not isinstance(self.inner, CountedStream):
                raise
            self.inner = self.inner.inner
            await self.inner.seek(offset)


def _is_same(found: ObjectInfo, info: ObjectInfo) -> bool:
    """Tell whether two members have the same bytes: of one size, and of one digest or, without any, of one ETag."""
    if found.size != info.size:
        return False
    shared = found.checksums.keys() & info.checksums.keys()
    if shared:
        return all(found.checksums[name] == info.checksums[name] for name in shared)
    return found.etag == info.etag
