"""``python -m benchmarks.layers``: what layers cost, in CPU microseconds an operation on memory.

The stores take turns, and of each the fastest round counts: what else the machine does can only add to it. Rounds are
short, so that nothing else happens in some of them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from tempfile import TemporaryDirectory
from time import process_time
from timeit import timeit
from typing import Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

import trove_async
from trove_async import Trove, UnsupportedError
from trove_async.driver import Driver, Target
from trove_async.layers import LayerDriver

Layer = Callable[[Driver], Driver]
Operation = Callable[[Trove], Awaitable[object]]

_DATA: Final = bytes(4096)

_AMPLE: Final = trove_async.QuotaLimit(bytes=2**50)

_REPLICATED: Final = "memory://replicated"
"""The store that has the object that a Failover without a queue reads, since it cannot write one."""

_LATE: Final = 10.0
"""Seconds. The delay that Hedge learns on memory is some microseconds, so that second reads would be measured."""


def _meters() -> MeterProvider:
    return MeterProvider(metric_readers=[InMemoryMetricReader()])


# The providers have no exporter: what an exporter costs is its own, and arises in its thread.
LAYERS: Final[dict[str, Callable[[], list[Layer]]]] = {
    "none": list,
    "empty": lambda: [LayerDriver],
    "Limit": lambda: [trove_async.Limit(100)],
    "CircuitBreaker": lambda: [trove_async.CircuitBreaker()],
    "Timeout": lambda: [trove_async.Timeout(attempt=10, idle=10)],
    "Hedge, no read late": lambda: [trove_async.Hedge(delay=_LATE)],
    "Retry": lambda: [trove_async.Retry()],
    "Cache": lambda: [trove_async.Cache()],
    "Cache, ttl": lambda: [trove_async.Cache(ttl=3600)],
    "Prefixed": lambda: [trove_async.Prefixed("p/")],
    "Quota, in the process": lambda: [trove_async.Quota({"b": _AMPLE})],
    "all of these": lambda: [
        trove_async.Limit(100),
        trove_async.CircuitBreaker(),
        trove_async.Timeout(attempt=10, idle=10),
        trove_async.Hedge(delay=_LATE),
        trove_async.Retry(),
        trove_async.Prefixed("p/"),
        trove_async.Quota({"b": _AMPLE}),
    ],
    "Observe, hook that does nothing": lambda: [trove_async.Observe(lambda seen: None)],
    "log_operations, level off": lambda: [trove_async.log_operations()],
    "Prometheus": lambda: [trove_async.Prometheus(CollectorRegistry())],
    "OpenTelemetry, no SDK": lambda: [trove_async.OpenTelemetry()],
    "OpenTelemetry, metrics": lambda: [trove_async.OpenTelemetry(None, _meters(), traces=False)],
    "OpenTelemetry, traces": lambda: [trove_async.OpenTelemetry(TracerProvider(), metrics=False)],
    "OpenTelemetry, traces not sampled": lambda: [
        trove_async.OpenTelemetry(TracerProvider(sampler=ALWAYS_OFF), metrics=False)
    ],
    "OpenTelemetry, both": lambda: [trove_async.OpenTelemetry(TracerProvider(), _meters())],
}

# Each is called with the URL of a database of its own.
TARGETS: Final[dict[str, Callable[[str], Target]]] = {
    "Route over two members": lambda _: trove_async.Route(
        {"hot": "memory://", "cold": "memory://"}, [("logs/**", "cold")], default="hot"
    ),
    "Failover over two members": lambda _: trove_async.Failover([_REPLICATED, "memory://"]),
    "Failover over two members, SQLite": lambda queue: trove_async.Failover(["memory://", "memory://"], queue=queue),
    "Mirror of two members, SQLite": lambda queue: trove_async.Mirror(["memory://", "memory://"], queue=queue),
}

OPERATIONS: Final[dict[str, Operation]] = {
    "put": lambda store: store.put("b", "key", _DATA),
    "read": lambda store: store.read("b", "key"),
    "head": lambda store: store.head("b", "key"),
}


def _alone() -> dict[str, Callable[[], object]]:
    """Return what the packages of the observers are asked to do for each operation, without the layer."""
    labels = {"trove.driver": "memory", "trove.operation.name": "put", "trove.outcome": "ok"}
    attributes = {**labels, "trove.bucket": "b"}
    duration = _meters().get_meter("benchmark").create_histogram("duration")
    tracer = TracerProvider().get_tracer("benchmark")
    registry, names = CollectorRegistry(), ("driver", "operation")
    active = Gauge("active", "Operations", names, registry=registry).labels("memory", "put")
    sent = Counter("bytes", "Bytes", names, registry=registry).labels("memory", "put")
    durations = Histogram("seconds", "Durations", names, registry=registry).labels("memory", "put")

    def count() -> None:
        active.inc()
        active.dec()
        sent.inc(len(_DATA))
        durations.observe(0.001)

    def trace() -> None:
        span = tracer.start_span("put", kind=SpanKind.CLIENT, attributes=attributes)
        span.set_attribute("trove.bytes", len(_DATA))
        span.end()

    return {
        "Prometheus: two changes of a gauge, a counter, a histogram": count,
        "OpenTelemetry: a value of a histogram": lambda: duration.record(0.001, labels),
        "OpenTelemetry: a span": trace,
    }


def _measure_alone(rounds: int, operations: int) -> dict[str, float]:
    """Return the CPU microseconds of each."""
    best: dict[str, float] = {}
    calls = _alone()
    for _ in range(rounds):
        for name, run in calls.items():
            spent = timeit(run, timer=process_time, number=operations) / operations * 1e6
            best[name] = min(spent, best.get(name, spent))
    return best


async def _measure(rounds: int, operations: int) -> dict[str, dict[str, float]]:
    """Return the CPU microseconds of each operation that the store has, by layers and name."""
    best: dict[str, dict[str, float]] = {}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        replicated = await stack.enter_async_context(trove_async.open(_REPLICATED))
        await _prepared(replicated)
        opened = [(name, trove_async.open("memory://", layers=make())) for name, make in LAYERS.items()]
        for number, (name, target) in enumerate(TARGETS.items()):
            opened.append((name, trove_async.open(target(f"sqlite:///{folder}/{number}.db"))))
        stores = {name: await stack.enter_async_context(store) for name, store in opened}
        having = {name: await _prepared(store) for name, store in stores.items()}
        for _ in range(rounds):
            for name, store in stores.items():
                for operation, run in having[name].items():
                    began = process_time()
                    for _ in range(operations):
                        await run(store)
                    spent = (process_time() - began) / operations * 1e6
                    found = best.setdefault(name, {})
                    found[operation] = min(spent, found.get(operation, spent))
    return best


async def _prepared(store: Trove) -> dict[str, Operation]:
    """Store the object; return the operations that the store has."""
    try:
        await store.create_bucket("b")
        await store.put("b", "key", _DATA)
    except UnsupportedError:
        return {name: run for name, run in OPERATIONS.items() if name != "put"}
    return OPERATIONS


def _cell(name: str, spent: float | None, without: float) -> str:
    if spent is None:
        return "-"
    return f"{spent:.1f}" if name == "none" else f"+{spent - without:.1f}"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--operations", type=int, default=100, help="of each kind in a round (default: 100)")
    arguments = parser.parse_args()
    best = asyncio.run(_measure(arguments.rounds, arguments.operations))
    print("| layers |" + "".join(f" {operation} |" for operation in OPERATIONS))
    print("|---|" + "---|" * len(OPERATIONS))
    for name, spent in best.items():
        cells = (_cell(name, spent.get(operation), best["none"][operation]) for operation in OPERATIONS)
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| the packages alone | an operation |\n|---|---|")
    for name, spent_alone in _measure_alone(arguments.rounds, arguments.operations).items():
        print(f"| {name} | {spent_alone:.1f} |")


if __name__ == "__main__":
    main()
