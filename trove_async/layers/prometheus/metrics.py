"""The metrics: their names, and what they count. Children are looked up once for each combination of labels."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from trove_async.driver.events import Event
from trove_async.layers.base import Operation
from trove_async.layers.circuit import CIRCUIT_STATES, CircuitEvent
from trove_async.layers.instrumentation import Instrumentation, Ongoing, Outcome
from trove_async.layers.labels import LIFETIMES, SECONDS, OperationLabels, outcome_labels

__all__ = ["instrumentation"]

_OPERATION: Final = ("driver", "operation", "bucket")
_ENDED: Final = (*_OPERATION, "outcome", "error_type")


class _Metrics:
    """The metrics of a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            "trove_operation_duration_seconds",
            "Duration of operations; of a watch until it has subscribed",
            _ENDED,
            registry=registry,
            buckets=SECONDS,
        )
        self.first_byte = Histogram(
            "trove_time_to_first_byte_seconds",
            "Time until the first byte of an object that is read as a stream",
            _OPERATION,
            registry=registry,
            buckets=SECONDS,
        )
        self.watch = Histogram(
            "trove_watch_duration_seconds",
            "Time from a subscription to its end",
            _ENDED,
            registry=registry,
            buckets=LIFETIMES,
        )
        self.active = Gauge(
            "trove_operations_in_flight",
            "Operations that are under way",
            _OPERATION,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.bytes = Counter(
            "trove_bytes_total",
            "Bytes of bodies that were sent and received",
            (*_OPERATION, "direction"),
            registry=registry,
        )
        self.retries = Counter(
            "trove_retries_total",
            "Attempts beyond the first, and requests that were sent again",
            (*_OPERATION, "kind"),
            registry=registry,
        )
        self.events = Counter("trove_watch_events_total", "Events that watches yielded", _OPERATION, registry=registry)
        self.circuit = Gauge(
            "trove_circuit_state",
            "1 for the state in which a circuit breaker is, 0 for the others",
            ("name", "state"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.transitions = Counter(
            "trove_circuit_transitions_total",
            "Changes of the state of circuit breakers, by the new state",
            ("name", "state"),
            registry=registry,
        )
        self._last_event: Event | None = None

    def event(self, event: Event) -> None:
        """Take in the transition of a circuit. Stores that share one report the same event, which counts once."""
        if not isinstance(event, CircuitEvent) or event is self._last_event:
            return
        self._last_event = event
        for state in CIRCUIT_STATES:
            self.circuit.labels(event.name, state).set(int(state == event.after))
        self.transitions.labels(event.name, event.after).inc()


class _Children:
    """The children of the metrics for one driver, operation and bucket; rare ones are made when they are needed."""

    def __init__(self, metrics: _Metrics, driver: str, operation: str, bucket: str) -> None:
        self._metrics = metrics
        self._labels = (driver, operation, bucket)
        self._durations: dict[tuple[str, str], Histogram] = {}
        self.active = metrics.active.labels(*self._labels)
        self._bytes: dict[str, Counter] = {}
        self._first_byte: Histogram | None = None

    def ended(self, ongoing: Ongoing, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        """Count an operation that has ended."""
        self.active.dec()
        if ongoing.bytes:
            self._direction("received" if ongoing.operation.body is None else "sent").inc(ongoing.bytes)
        if ongoing.was_ready:
            self._metrics.watch.labels(*self._labels, *outcome_labels(outcome, error)).observe(duration)
        else:
            self.timed(duration, outcome, error)
        if ongoing.streamed and ongoing.time_to_first_byte is not None:
            if self._first_byte is None:
                self._first_byte = self._metrics.first_byte.labels(*self._labels)
            self._first_byte.observe(ongoing.time_to_first_byte)
        if ongoing.retries or ongoing.hedges or ongoing.resent:
            for kind, count in (("retry", ongoing.retries), ("hedge", ongoing.hedges), ("request", ongoing.resent)):
                if count:
                    self._metrics.retries.labels(*self._labels, kind).inc(count)

    def yielding(self) -> None:
        """Count an event of a watch."""
        self._metrics.events.labels(*self._labels).inc()

    def timed(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        """Record a duration."""
        ended = outcome_labels(outcome, error)
        child = self._durations.get(ended)
        if child is None:
            child = self._durations[ended] = self._metrics.duration.labels(*self._labels, *ended)
        child.observe(duration)

    def _direction(self, direction: str) -> Counter:
        found = self._bytes.get(direction)
        if found is None:
            found = self._bytes[direction] = self._metrics.bytes.labels(*self._labels, direction)
        return found


class _Counting(Instrumentation):
    def __init__(self, metrics: _Metrics, bucket_label: bool) -> None:
        self._metrics = metrics
        self._labels = OperationLabels(lambda *labels: _Children(metrics, *labels), bucket_label)

    def begin(self, operation: Operation) -> Ongoing:
        return _Counted(operation, self._labels.of(operation))

    def on_event(self, event: Event) -> None:
        self._metrics.event(event)


class _Counted(Ongoing):
    """An operation that is counted."""

    def __init__(self, operation: Operation, children: _Children) -> None:
        super().__init__(operation)
        self._children = children
        children.active.inc()

    def yielding(self) -> None:
        super().yielding()
        self._children.yielding()

    def on_ready(self, duration: float) -> None:
        self._children.timed(duration, "ok", None)

    def on_end(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        self._children.ended(self, duration, outcome, error)


_METRICS: Final[WeakKeyDictionary[CollectorRegistry, _Metrics]] = WeakKeyDictionary()


def instrumentation(registry: CollectorRegistry | None, bucket_label: bool) -> Instrumentation:
    """Return what counts operations in a registry, which refuses a second metric of the same name."""
    key = REGISTRY if registry is None else registry
    metrics = _METRICS.get(key)
    if metrics is None:
        metrics = _METRICS[key] = _Metrics(key)
    return _Counting(metrics, bucket_label)
