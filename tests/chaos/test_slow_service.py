"""A real S3 server behind a proxy that throttles, or delays some requests; the seconds are those of a virtual clock."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import uuid4

import pytest

import trove_async as trove
from tests.chaos.virtual import Gauge, VirtualTimeLoop
from tests.s3.stores import address, opened
from trove_async.testing.answers import AnsweringProxy, s3_error

R = TypeVar("R")

TASKS: Final = 100
RATE: Final = 50
"""Requests a second that the service takes."""

LATENCY: Final = 0.2
"""Seconds of a request, on average; so the service takes ten at once."""

MOST: Final = 25
"""The limit of what runs at once, which without throttling is 2.5 times what the service takes with it."""

READS: Final = 1000
SLOWER: Final = 0.5


def virtually(work: Callable[[], Awaitable[R]]) -> R:
    async def run() -> R:
        return await work()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


@dataclass
class Service:
    """The server, a bucket in it, and the proxy in front of it.

    Attributes:
        direct: a store without the proxy.
    """

    proxy: AnsweringProxy
    direct: trove.Trove
    bucket: str

    def delay(self, mean: float) -> None:
        """Delay requests by different times: after equal ones they would arrive in bursts."""
        self.proxy.delay(0.5 * mean, jitter=mean, times=None)

    @asynccontextmanager
    async def opened(self, layers: list[trove.Layer]) -> AsyncIterator[trove.Trove]:
        """Open a store through the proxy; inside the block the clock is virtual."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        gauge = Gauge(self.proxy)
        async with opened("ceph", self.proxy.url(), layers=[gauge, *layers]) as store:
            loop.awaits_server = gauge.awaits_server
            try:
                yield store
            finally:
                loop.awaits_server = None


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    clock = asyncio.get_running_loop().time
    async with opened("ceph") as direct, AnsweringProxy(*address("ceph"), clock=clock) as proxy:
        bucket = f"chaos-{uuid4().hex[:16]}"
        await direct.create_bucket(bucket)
        try:
            yield Service(proxy, direct, bucket)
        finally:
            await direct.empty_bucket(bucket)
            await direct.delete_bucket(bucket)


@dataclass(frozen=True)
class Count:
    """What has happened until now: requests, those that the service took, and operations that have ended."""

    requests: int
    taken: int
    operations: int

    def __sub__(self, other: Count) -> Count:
        return Count(self.requests - other.requests, self.taken - other.taken, self.operations - other.operations)


class Writers:
    """Tasks that each write one new object after another.

    Attributes:
        acknowledged: the keys.
        failed: the number of writes that failed.
    """

    def __init__(self, store: trove.Trove, service: Service) -> None:
        self.acknowledged: set[str] = set()
        self.failed = 0
        self._store = store
        self._service = service
        self._stopped = False

    def count(self) -> Count:
        requests = self._service.proxy.requests
        return Count(len(requests), sum(seen.forwarded for seen in requests), len(self.acknowledged) + self.failed)

    async def during(self, seconds: float) -> Count:
        """Return what happens in the next seconds."""
        before = self.count()
        await asyncio.sleep(seconds)
        return self.count() - before

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(self._work(number))
            yield
            self._stopped = True

    async def _work(self, number: int) -> None:
        written = 0
        while not self._stopped:
            written += 1
            key = f"{number:03}-{written:04}"
            try:
                await self._store.put(self._service.bucket, key, b"data")
            except trove.TransientError:
                self.failed += 1
            else:
                self.acknowledged.add(key)


@pytest.mark.parametrize("seconds", [15, pytest.param(60, marks=pytest.mark.long)])
def test_a_service_that_throttles_is_asked_for_what_it_takes(seconds: int) -> None:
    async def work() -> None:
        clock = asyncio.get_running_loop().time
        layers: list[trove.Layer] = [
            trove.Limit(MOST, adaptive=True, clock=clock),
            # Throttling is no outage: five refused requests in a row are usual.
            trove.CircuitBreaker(threshold=None, ratio=0.5, clock=clock),
            trove.Timeout(attempt=30),
            trove.Retry(budget=trove.Budget(clock=clock)),
        ]
        async with service() as backend:
            backend.delay(LATENCY)
            async with backend.opened(layers) as store:
                writers = Writers(store, backend)
                async with writers.at_work():
                    await asyncio.sleep(4)  # the limit grows
                    usual = await writers.during(4)
                    backend.proxy.answer(s3_error(503, "SlowDown"), above=RATE, times=None)
                    beginning = await writers.during(10)
                    later = await writers.during(seconds - 10)
                    backend.proxy.clear()
                    backend.delay(LATENCY)
                    await asyncio.sleep(4)
                    again = await writers.during(4)
            assert usual.operations > 2 * RATE * 4
            assert later.requests - later.taken <= 0.1 * later.requests
            assert beginning.taken + later.taken >= 0.85 * RATE * seconds
            assert beginning.requests + later.requests <= 1.25 * (beginning.operations + later.operations)
            assert again.operations >= 0.9 * usual.operations
            assert writers.failed == 0
            assert {info.key async for info in backend.direct.list(backend.bucket)} == writers.acknowledged

    virtually(work)


def test_hedges_cut_the_tail_of_reads_for_a_few_more_requests() -> None:
    async def seconds_of_reads(layers: list[trove.Layer]) -> tuple[list[float], int]:
        """Return the seconds of each read, and the number of requests; a twentieth of them is slower."""
        clock = asyncio.get_running_loop().time
        times: list[float] = []

        async def read(store: trove.Trove, bucket: str, number: int) -> None:
            for _ in range(READS // 100):
                for key in range(number, 100, 10):
                    began = clock()
                    assert await store.read(bucket, f"key-{key}") == b"%d" % key
                    times.append(clock() - began)

        async with service() as backend:
            for key in range(100):
                await backend.direct.put(backend.bucket, f"key-{key}", b"%d" % key)
            backend.proxy.delay(SLOWER, method="GET", every=20, times=None)
            backend.delay(0.02)
            async with backend.opened(layers) as store, asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(read(store, backend.bucket, number))
            return times, backend.proxy.count("GET")

    usual, requests = virtually(lambda: seconds_of_reads([]))
    assert len(usual) == requests == READS
    hedged, hedged_requests = virtually(lambda: seconds_of_reads([trove.Hedge()]))
    assert len(hedged) == READS
    assert READS < hedged_requests <= 1.05 * READS
    assert p99(usual) >= SLOWER
    assert p99(hedged) <= p99(usual) / 4


def p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]
