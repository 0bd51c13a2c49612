"""A circuit breaker in front of a real service that goes away and comes back."""

from __future__ import annotations

import pytest

import trove_async as trove
from tests.s3.stores import ServerName, opened, pattern
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("delays")]


async def test_a_service_that_is_down_is_left_alone_until_one_call_succeeds(
    server: ServerName, bucket: str, network: FaultProxy
) -> None:
    now = 0.0
    breaker = trove.CircuitBreaker(threshold=3, open_for=30, jitter=0, clock=lambda: now)
    async with opened(server, network.url(), layers=[breaker]) as store:
        await store.put(bucket, "key", b"data")
        network.break_open("reset")
        network.inject(ConnectionFault(refuse=True), times=None)
        for _ in range(3):
            with pytest.raises(trove.UnavailableError):
                await store.head(bucket, "key")
        assert breaker.state == "open"
        connections = network.accepted
        for _ in range(10):
            with pytest.raises(trove.BackendUnavailableError):
                await store.read(bucket, "key")
        assert network.accepted == connections
        network.clear()
        now = 30
        assert await store.read(bucket, "key") == b"data"
        assert [breaker.state, breaker.transitions] == ["closed", 3]


async def test_bodies_that_break_in_the_middle_open_it(server: ServerName, bucket: str, network: FaultProxy) -> None:
    data = pattern(1024 * 1024)
    breaker = trove.CircuitBreaker(threshold=3)
    async with opened(server) as direct:
        await direct.put(bucket, "key", data)
    async with opened(server, network.url(), layers=[breaker]) as store:
        network.inject(ConnectionFault(reset_down_after=100_000), times=None)
        with pytest.raises(trove.BackendUnavailableError) as caught:
            await store.read(bucket, "key")
        assert isinstance(caught.value.__cause__, trove.UnavailableError)
        assert network.accepted == 3
        network.clear()
        breaker.reset()
        assert await store.read(bucket, "key") == data
