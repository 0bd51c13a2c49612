"""A server that is killed, and one that stalls, under a hundred tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import pytest

import trove_async as trove
from tests.chaos.crowd import Crowd
from tests.chaos.gateway import Gateway
from tests.s3.stores import PART, opened
from trove_async.cancellation import CLEANUP_TIMEOUT
from trove_async.layers.circuit import CircuitEvent, CircuitState
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio

ATTEMPTS: Final = 3
PAUSES: Final = trove.Backoff(0.01, 0.1)
UPLOAD: Final = 6
"""Requests of a put of three parts, with its clean-up."""


class Stack:
    """The layers of a service in the usual order, with short times.

    Args:
        attempt: seconds of an attempt.

    Attributes:
        circuit: the changes of the circuit breaker.
        bound: seconds that a request takes at most: its attempts, the clean-up of each, and the pauses.
    """

    def __init__(self, attempt: float) -> None:
        self.circuit: list[CircuitEvent] = []
        self.layers: list[trove.Layer] = [
            trove.Limit(50, adaptive=True),
            trove.CircuitBreaker(threshold=10, open_for=0.2, on_transition=self.circuit.append),
            trove.Timeout(attempt=attempt, idle=attempt),
            trove.Retry(ATTEMPTS, transport=PAUSES, throttled=PAUSES),
        ]
        self.bound = ATTEMPTS * (attempt + CLEANUP_TIMEOUT + PAUSES.longest)

    def enters(self, state: CircuitState) -> Callable[[], bool]:
        """Return a condition that holds once the circuit breaker has entered a state from now on."""
        seen = len(self.circuit)
        return lambda: any(event.after == state for event in self.circuit[seen:])


@pytest.mark.parametrize("kills", [2, pytest.param(30, marks=pytest.mark.long)])
async def test_a_server_that_is_killed_and_started_again_loses_nothing_acknowledged(
    gateway: Gateway, network: FaultProxy, bucket: str, kills: int
) -> None:
    stack = Stack(attempt=30)
    async with opened("ceph") as direct, opened("ceph", network.url(), layers=stack.layers) as store:
        # Every tenth writes in parts, which is an operation of many requests.
        crowd = Crowd(store, bucket, bound=UPLOAD * stack.bound, sizes=(*[4096] * 9, 3 * PART))
        async with crowd.at_work():
            for _ in range(kills):
                await crowd.until_everyone_writes()
                opens, closes = stack.enters("open"), stack.enters("closed")
                gateway.kill()
                await crowd.until(opens)
                await crowd.until_everyone_ended_a_call()
                await asyncio.to_thread(gateway.start)
                await crowd.until(closes)
            await crowd.until_everyone_writes()
        await crowd.check(direct)
        await crowd.check(store)
    assert trove.BackendUnavailableError in crowd.failures
    assert all(issubclass(failure, trove.TransientError) for failure in crowd.failures), crowd.failures


@pytest.mark.parametrize("stalls", [1, pytest.param(20, marks=pytest.mark.long)])
async def test_nothing_hangs_while_the_server_is_silent(network: FaultProxy, bucket: str, stalls: int) -> None:
    stack = Stack(attempt=1)
    async with opened("ceph") as direct, opened("ceph", network.url(), layers=stack.layers) as store:
        crowd = Crowd(store, bucket, bound=stack.bound)
        async with crowd.at_work():
            for _ in range(stalls):
                await crowd.until_everyone_writes()
                opens, closes = stack.enters("open"), stack.enters("closed")
                network.inject(ConnectionFault(blackhole=True), times=None)
                assert network.break_open("stall") > 0
                await crowd.until(opens)
                # Each call ends by itself, while nothing passes.
                await crowd.until_everyone_ended_a_call()
                network.clear()
                await crowd.until(closes)
            await crowd.until_everyone_writes()
        await crowd.check(direct)
        await crowd.check(store)
    assert any(isinstance(event.error, trove.OperationTimeoutError) for event in stack.circuit)
    assert trove.BackendUnavailableError in crowd.failures
    assert all(issubclass(failure, trove.TransientError) for failure in crowd.failures), crowd.failures
