"""The metrics: their names, and how they are counted.

Only durations are recorded for each operation. Everything that is a sum is counted here, and read when the metrics are
collected, since recording takes the SDK several microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from trove_async.driver.events import Event
from trove_async.layers.circuit import CIRCUIT_STATES, CircuitEvent, CircuitState
from trove_async.layers.instrumentation import Ongoing, Outcome
from trove_async.layers.labels import LIFETIMES, SECONDS, outcome_labels
from trove_async.version import __version__

__all__ = ["SCHEMA_URL", "SCOPE", "Counts", "Metrics", "metrics_of"]

SCOPE: Final = "trove_async"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.37.0"
"""The version of OpenTelemetry's conventions that the attributes follow which are not our own."""

Attributes = dict[str, str]


class Counts:
    """What is counted for one driver, operation and bucket.

    Attributes:
        attributes: of all its metrics.
        ok: those of operations that succeeded.
        active: operations that are under way.
    """

    __slots__ = (
        "_by_outcome",
        "active",
        "attributes",
        "events",
        "hedges",
        "ok",
        "received",
        "resent",
        "retries",
        "sent",
    )

    def __init__(self, driver: str, operation: str, bucket: str) -> None:
        self.attributes: Attributes = {"trove.driver": driver, "trove.operation.name": operation}
        if bucket:
            self.attributes["trove.bucket"] = bucket
        self.active = self.sent = self.received = self.retries = self.hedges = self.resent = self.events = 0
        self.ok: Attributes = {**self.attributes, "trove.outcome": "ok"}
        self._by_outcome: dict[tuple[str, str], Attributes] = {}

    def with_outcome(self, outcome: Outcome, error: BaseException | None) -> Attributes:
        """Return the attributes with the outcome."""
        if error is None:
            return self.ok
        ended = outcome_labels(outcome, error)
        found = self._by_outcome.get(ended)
        if found is None:
            found = {**self.attributes, "trove.outcome": outcome}
            if ended[1]:
                found["error.type"] = ended[1]
            self._by_outcome[ended] = found
        return found


class Metrics:
    """The metrics of all stores that share a provider."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(SCOPE, __version__, meter_provider=provider, schema_url=SCHEMA_URL)
        self._lock = Lock()
        self._counts: list[Counts] = []
        self._circuits: dict[str, CircuitState] = {}
        self._last_event: Event | None = None
        self._duration = meter.create_histogram(
            "trove.client.operation.duration",
            unit="s",
            description="Duration of operations; of a watch until it has subscribed",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._first_byte = meter.create_histogram(
            "trove.client.operation.time_to_first_byte",
            unit="s",
            description="Time until the first byte of an object that is read as a stream",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._watch = meter.create_histogram(
            "trove.client.watch.duration",
            unit="s",
            description="Time from a subscription to its end",
            explicit_bucket_boundaries_advisory=LIFETIMES,
        )
        meter.create_observable_up_down_counter(
            "trove.client.active_operations",
            [self._observe(lambda counts: [({}, counts.active)], zero=True)],
            unit="{operation}",
            description="Operations that are under way",
        )
        meter.create_observable_counter(
            "trove.client.io",
            [
                self._observe(
                    lambda counts: [
                        ({"network.io.direction": "transmit"}, counts.sent),
                        ({"network.io.direction": "receive"}, counts.received),
                    ]
                )
            ],
            unit="By",
            description="Bytes of bodies that were sent and received",
        )
        meter.create_observable_counter(
            "trove.client.retries",
            [
                self._observe(
                    lambda counts: [
                        ({"trove.retry.kind": "retry"}, counts.retries),
                        ({"trove.retry.kind": "hedge"}, counts.hedges),
                        ({"trove.retry.kind": "request"}, counts.resent),
                    ]
                )
            ],
            unit="{retry}",
            description="Attempts beyond the first, and requests that were sent again",
        )
        meter.create_observable_counter(
            "trove.client.watch.events",
            [self._observe(lambda counts: [({}, counts.events)])],
            unit="{event}",
            description="Events that watches yielded",
        )
        meter.create_observable_up_down_counter(
            "trove.circuit.state",
            [self._states],
            unit="1",
            description="1 for the state in which a circuit breaker is, 0 for the others",
        )
        self._transitions = meter.create_counter(
            "trove.circuit.transitions",
            unit="{transition}",
            description="Changes of the state of circuit breakers, by the new state",
        )

    def _observe(
        self, values: Callable[[Counts], list[tuple[Attributes, int]]], zero: bool = False
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def collect(_: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(value, {**counts.attributes, **attributes})
                for counts in tuple(self._counts)
                for attributes, value in values(counts)
                if value or zero
            ]

        return collect

    def counts(self, driver: str, operation: str, bucket: str) -> Counts:
        """Return new counts, which are collected from now on."""
        made = Counts(driver, operation, bucket)
        self._counts.append(made)
        return made

    def began(self, counts: Counts) -> None:
        """Count an operation that begins."""
        with self._lock:
            counts.active += 1

    def yielding(self, counts: Counts) -> None:
        """Count an event of a watch."""
        with self._lock:
            counts.events += 1

    def left(self, counts: Counts) -> None:
        """Undo `began`, for an operation that cannot be followed."""
        with self._lock:
            counts.active -= 1

    def ready(self, counts: Counts, duration: float, context: Context | None) -> None:
        """Record a watch that has subscribed."""
        self._duration.record(duration, counts.with_outcome("ok", None), context)

    def ended(
        self,
        counts: Counts,
        ongoing: Ongoing,
        duration: float,
        outcome: Outcome,
        error: BaseException | None,
        context: Context | None,
    ) -> None:
        """Record an operation that has ended; ``context`` is that of its span, for exemplars."""
        with self._lock:
            counts.active -= 1
            if ongoing.operation.body is not None:
                counts.sent += ongoing.bytes
            else:
                counts.received += ongoing.bytes
            if ongoing.retries or ongoing.hedges or ongoing.resent:
                counts.retries += ongoing.retries
                counts.hedges += ongoing.hedges
                counts.resent += ongoing.resent
        attributes = counts.with_outcome(outcome, error)
        if ongoing.was_ready:
            self._watch.record(duration, attributes, context)
            return
        self._duration.record(duration, attributes, context)
        if ongoing.streamed and ongoing.time_to_first_byte is not None:
            self._first_byte.record(ongoing.time_to_first_byte, attributes, context)

    def event(self, event: Event) -> None:
        """Take in the transition of a circuit. Stores that share one report the same event, which counts once."""
        if not isinstance(event, CircuitEvent) or event is self._last_event:
            return
        self._last_event = event
        self._circuits[event.name] = event.after
        change = {"trove.circuit.name": event.name, "trove.circuit.state": event.after}
        self._transitions.add(1, change)

    def _states(self, _: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(int(state == current), {"trove.circuit.name": name, "trove.circuit.state": state})
            for name, current in tuple(self._circuits.items())
            for state in CIRCUIT_STATES
        ]


class _GlobalProvider:
    """Stands for the global provider, which may be set after it was first asked for."""


_GLOBAL: Final = _GlobalProvider()
_METRICS: Final[WeakKeyDictionary[MeterProvider | _GlobalProvider, Metrics]] = WeakKeyDictionary()


def metrics_of(provider: MeterProvider | None) -> Metrics:
    """Return the metrics of a provider, None for the global one; a second metric of the same name is an error."""
    key = _GLOBAL if provider is None or provider is metrics.get_meter_provider() else provider
    found = _METRICS.get(key)
    if found is None:
        found = _METRICS[key] = Metrics(provider)
    return found
