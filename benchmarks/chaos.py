"""``python -m benchmarks.chaos``: what layers make of a real S3 server that throttles, or is slow now and then.

The tests in ``tests/chaos`` assert the same by a virtual clock. Here are real times, which only mean something on an
idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import trove_async
from tests.servers import running
from trove_async.testing.answers import AnsweringProxy, s3_error

TASKS: Final = 100
SLOWER: Final = 0.5
EVERY: Final = 20
"""One of this number of reads is slower."""

_DATA: Final = bytes(4096)
_USUAL_SECONDS: Final = 10
_RECOVERY_SECONDS: Final = 15


@asynccontextmanager
async def _service() -> AsyncIterator[tuple[AnsweringProxy, trove_async.Trove, str]]:
    """Yield a proxy in front of the server, a store without the proxy, and a bucket."""
    url = urlsplit(running("ceph").endpoint)
    async with AnsweringProxy(str(url.hostname), int(url.port or 80)) as proxy, await _open(url.geturl(), []) as direct:
        bucket = f"bench-{uuid4().hex[:16]}"
        await direct.create_bucket(bucket)
        try:
            yield proxy, direct, bucket
        finally:
            await direct.empty_bucket(bucket)
            await direct.delete_bucket(bucket)


async def _open(endpoint: str, layers: list[trove_async.Layer]) -> trove_async.Trove:
    handle = running("ceph")
    return await trove_async.open(
        f"s3://{handle.region}/",
        endpoint=endpoint,
        profile="ceph",
        access_key=handle.access_key,
        secret_key=handle.secret_key,
        layers=layers,
    )


def _delay(proxy: AnsweringProxy, latency: float) -> None:
    """Delay each request, as a network does."""
    proxy.delay(latency / 2, jitter=latency, times=None)


class _Load:
    """Tasks that put one object after another; counts by second."""

    def __init__(self, store: trove_async.Trove, bucket: str) -> None:
        self._store = store
        self._bucket = bucket
        self.done: list[float] = []
        self.stopped = False

    async def work(self, number: int) -> None:
        while not self.stopped:
            try:
                await self._store.put(self._bucket, f"key-{number}", _DATA)
            except trove_async.TransientError as error:
                await asyncio.sleep(min(error.retry_after or 0.1, 1))
            self.done.append(time.perf_counter())

    def rate(self, since: float, until: float) -> float:
        """Return the operations a second that ended in an interval."""
        return sum(since <= ended < until for ended in self.done) / (until - since)


async def measure_throttling(rate: float, seconds: float, latency: float) -> None:
    """Print how much of the rate is used, and how soon the throughput is back."""
    layers: list[trove_async.Layer] = [
        trove_async.Limit(TASKS, adaptive=True),
        trove_async.CircuitBreaker(threshold=None, ratio=0.5),
        trove_async.Timeout(attempt=10),
        trove_async.Retry(),
    ]
    async with _service() as (proxy, _, bucket), await _open(proxy.url(), layers) as store:
        load = _Load(store, bucket)
        _delay(proxy, latency)
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(load.work(number))
            await asyncio.sleep(_USUAL_SECONDS)
            usual = load.rate(time.perf_counter() - 2, time.perf_counter())
            first, done = len(proxy.requests), len(load.done)
            proxy.answer(s3_error(503, "SlowDown"), above=rate, times=None)
            await asyncio.sleep(min(10, seconds / 2))
            second = len(proxy.requests)
            await asyncio.sleep(seconds - min(10, seconds / 2))
            during, later = proxy.requests[first:], proxy.requests[second:]
            operations = len(load.done) - done
            proxy.clear()
            _delay(proxy, latency)
            ended = time.perf_counter()
            await asyncio.sleep(_RECOVERY_SECONDS)
            load.stopped = True
    back = [
        at / 2 for at in range(2, 2 * _RECOVERY_SECONDS) if load.rate(ended + at / 2 - 1, ended + at / 2) >= 0.9 * usual
    ]
    print(f"throttled above {rate:g} requests a second for {seconds:g} s; without it {usual:.0f} operations a second")
    print(f"  used: {sum(seen.forwarded for seen in during) / (rate * seconds):.0%}")
    print(f"  refused after 10 s: {sum(not seen.forwarded for seen in later) / len(later):.1%} of the requests")
    print(f"  requests for each operation: {len(during) / operations:.2f}")
    print(f"  90 % of the throughput again after: {back[0] if back else f'more than {_RECOVERY_SECONDS}'} s")


async def measure_hedges(reads: int) -> None:
    """Print the quantiles of reads of which some are slower, with and without `Hedge`."""
    print(f"{reads} reads by 10 tasks, each {EVERY}th slower by {SLOWER * 1000:g} ms")
    choices: dict[str, list[trove_async.Layer]] = {"without": [], "with": [trove_async.Hedge()]}
    for name, layers in choices.items():
        async with _service() as (proxy, direct, bucket), await _open(proxy.url(), layers) as store:
            await direct.put(bucket, "key", _DATA)
            proxy.delay(SLOWER, method="GET", every=EVERY, times=None)
            times: list[float] = []
            async with asyncio.TaskGroup() as group:
                for _ in range(10):
                    group.create_task(_read(store, bucket, reads // 10, times))
            cuts = statistics.quantiles(times, n=1000)
            median, p95, p99 = (1000 * cuts[at] for at in (499, 949, 989))
            requests = proxy.count("GET") / len(times)
        quantiles = f"median {median:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms"
        print(f"  {name} Hedge: {quantiles}, {requests:.3f} requests a read")


async def _read(store: trove_async.Trove, bucket: str, count: int, times: list[float]) -> None:
    for _ in range(count):
        began = time.perf_counter()
        await store.read(bucket, "key")
        times.append(time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="requests a second that are not refused (default: 200)")
    parser.add_argument("--seconds", type=float, default=60, help="of throttling (default: 60)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that a network adds (default: 0.05)")
    parser.add_argument("--reads", type=int, default=2000, help="with and without Hedge each (default: 2000)")
    arguments = parser.parse_args()
    asyncio.run(measure_throttling(arguments.rate, arguments.seconds, arguments.latency))
    asyncio.run(measure_hedges(arguments.reads))


if __name__ == "__main__":
    main()
