"""What OpenTelemetry sees of an operation: a span, the spans of its attempts, and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from types import TracebackType
from typing import Any, Final, Self, cast

from opentelemetry import trace
from opentelemetry.context import Context, attach, create_key, get_current, get_value, set_value
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)

from trove_async.driver.events import OBSERVER, Attempt, AttemptKind, AttemptSeries, Event, OperationObserver
from trove_async.errors import TroveError
from trove_async.layers.base import Operation
from trove_async.layers.events import describe
from trove_async.layers.instrumentation import Instrumentation, Ongoing, Outcome, error_type
from trove_async.layers.labels import OperationLabels
from trove_async.layers.otel.metrics import SCHEMA_URL, SCOPE, Counts, Metrics, metrics_of
from trove_async.version import __version__

__all__ = ["instrumentation"]

_ATTEMPT: Final = create_key("trove-attempt")
"""Of the context, the attempt that is made in it."""

_CANCELLED: Final = {"trove.outcome": "cancelled"}


def instrumentation(
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    *,
    traces: bool,
    metrics: bool,
    bucket_label: bool,
) -> Instrumentation:
    """Return what follows operations for OpenTelemetry; the arguments are those of `OpenTelemetry`."""
    tracer = trace.get_tracer(SCOPE, __version__, tracer_provider, SCHEMA_URL) if traces else None
    return _Telemetry(tracer, metrics_of(meter_provider) if metrics else None, bucket_label)


class _Telemetry(Instrumentation):
    def __init__(self, tracer: Tracer | None, metrics: Metrics | None, bucket_label: bool) -> None:
        self.tracer = tracer
        self.metrics = metrics
        self._bucket_label = bucket_label
        self.labels = OperationLabels(Counts if metrics is None else metrics.counts, bucket_label)

    def begin(self, operation: Operation) -> Ongoing:
        counts = self.labels.of(operation)
        if self.metrics is not None:
            self.metrics.began(counts)
        if self.tracer is None:
            return _Measured(operation, self.metrics, counts)
        try:
            return _Traced(operation, self.metrics, counts, self.tracer)
        except BaseException:
            if self.metrics is not None:
                self.metrics.left(counts)
            raise

    def on_event(self, event: Event) -> None:
        if self.metrics is not None:
            self.metrics.event(event)


class _Measured(Ongoing):
    """An operation with metrics."""

    def __init__(self, operation: Operation, metrics: Metrics | None, counts: Counts) -> None:
        super().__init__(operation)
        self._metrics = metrics
        self._counts = counts

    def yielding(self) -> None:
        super().yielding()
        if self._metrics is not None:
            self._metrics.yielding(self._counts)

    def on_ready(self, duration: float) -> None:
        self._measure_ready(duration, None)

    def on_end(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        self._measure_end(duration, outcome, error, None)

    def _measure_ready(self, duration: float, context: Context | None) -> None:
        if self._metrics is not None:
            self._metrics.ready(self._counts, duration, context)

    def _measure_end(
        self, duration: float, outcome: Outcome, error: BaseException | None, context: Context | None
    ) -> None:
        if self._metrics is not None:
            self._metrics.ended(self._counts, self, duration, outcome, error, context)


class _Traced(_Measured):
    """An operation with a span, and with metrics if they are wanted.

    The span is current only while the driver works. It ends with the operation; that of a watch, which may be
    open for months, when it has subscribed.
    """

    def __init__(self, operation: Operation, metrics: Metrics | None, counts: Counts, tracer: Tracer) -> None:
        super().__init__(operation, metrics, counts)
        self._tracer = tracer
        bucket = counts.attributes.get("trove.bucket")
        self._name = operation.name if bucket is None else f"{operation.name} {bucket}"
        self._attributes = {**counts.attributes}
        if operation.bucket is not None:
            self._attributes["trove.bucket"] = operation.bucket
        if operation.key is not None:
            self._attributes["trove.key"] = operation.key
        if operation.part_of is not None:
            self._attributes["trove.part_of"] = operation.part_of
        self._around = get_current()
        self._span = tracer.start_span(self._name, self._around, SpanKind.CLIENT, self._attributes)
        # Without an SDK there is no span to be current; one that is not sampled tells those inside it so.
        valid = self._span.is_recording() or self._span.get_span_context().is_valid
        self._context = set_span_in_context(self._span, self._around) if valid else None

    def enter(self) -> object:
        before = OBSERVER.get()
        OBSERVER.set(self)
        if self._context is None:
            return before, None
        current = get_current()
        attach(self._context)
        return before, current

    def step_out(self) -> object:
        before = super().step_out()
        if self._context is None:
            return before, None
        current = get_current()
        attach(self._around)
        return before, current

    def leave(self, entered: object) -> None:
        before, current = cast(tuple[OperationObserver | None, Context | None], entered)
        OBSERVER.set(before)
        if current is not None:
            # Not by a token, which a generator or coroutine that is closed in another context could not use.
            attach(current)

    def on_event(self, event: Event) -> None:
        if self._span.is_recording():
            name, attributes = describe(event)
            self._span.add_event(name, attributes)

    def on_ready(self, duration: float) -> None:
        try:
            self._measure_ready(duration, self._context)
        finally:
            self._finish("ok", None)
            self._context = None

    def on_end(self, duration: float, outcome: Outcome, error: BaseException | None) -> None:
        if not self.was_ready:
            try:
                self._measure_end(duration, outcome, error, self._context)
            finally:
                self._finish(outcome, error)
            return
        self._measure_end(duration, outcome, error, None)
        if outcome == "error" and self._span.get_span_context().is_valid:
            # The span of the subscription has ended long ago: what ended the watch is one of its own.
            subscription = Link(self._span.get_span_context())
            self._span = self._tracer.start_span(
                self._name, Context(), SpanKind.CLIENT, self._attributes, links=[subscription]
            )
            self._finish(outcome, error)

    def _finish(self, outcome: Outcome, error: BaseException | None) -> None:
        span = self._span
        if span.is_recording():
            # One by one: the SDK takes twice as long for the usual one or two as a mapping.
            if outcome != "ok":
                span.set_attribute("trove.outcome", outcome)
            if self.bytes:
                span.set_attribute("trove.bytes", self.bytes)
            if self.streamed and self.time_to_first_byte is not None:
                span.set_attribute("trove.time_to_first_byte", self.time_to_first_byte)
            if self.retries or self.hedges:
                span.set_attribute("trove.attempts", 1 + self.retries + self.hedges)
            if self.resent:
                span.set_attribute("trove.requests.resent", self.resent)
            if outcome == "error" and error is not None:
                _set_error(span, error)
        span.end()

    def series(self, kind: AttemptKind) -> AttemptSeries:
        return _Series(self, kind) if self._span.is_recording() else super().series(kind)

    def start_attempt(self, kind: AttemptKind, number: int, parent: Context, began: int) -> Span:
        """Start the span of an attempt, at the time ``began`` in nanoseconds."""
        attributes: Mapping[str, Any] = {
            **self._counts.attributes,
            "trove.attempt.number": number,
            "trove.attempt.kind": kind if number > 1 else "first",
        }
        try:
            return self._tracer.start_span(
                f"{self._name} attempt", parent, SpanKind.INTERNAL, attributes, start_time=began
            )
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            self.log_failure()
            return INVALID_SPAN


class _Series(AttemptSeries):
    """Attempts, which have spans as soon as there are two: a single one is the operation."""

    __slots__ = ("_around", "_first", "_kind", "_number", "ongoing")

    def __init__(self, ongoing: _Traced, kind: AttemptKind) -> None:
        self.ongoing = ongoing
        self._around = get_current()
        self._kind = kind
        self._number = 0
        self._first: _Attempt | None = None

    def begin(self) -> Attempt:
        self._number += 1
        attempt = _Attempt(self, self._number)
        if self._first is None:
            self._first = attempt
        else:
            self.ongoing.again(self._kind)
            self._first.show()
        return attempt

    def start(self, number: int, began: int) -> Span:
        """Start the span of an attempt, at the time ``began`` in nanoseconds."""
        parent = self._around
        enclosing = get_value(_ATTEMPT, parent)
        if isinstance(enclosing, _Attempt) and enclosing.ongoing is self.ongoing:
            parent = set_span_in_context(enclosing.show(), parent)  # as hedges within the first try of a retry
        return self.ongoing.start_attempt(self._kind, number, parent, began)


class _Attempt(Attempt):
    __slots__ = ("_before", "_began", "_ended", "_error", "_number", "_series", "_span")

    def __init__(self, series: _Series, number: int) -> None:
        self._series = series
        self._number = number
        self._span: Span | None = None
        self._before: Context | None = None
        self._began = self._ended = 0
        self._error: BaseException | None = None

    @property
    def ongoing(self) -> _Traced:
        """What it is an attempt at."""
        return self._series.ongoing

    def show(self) -> Span:
        """Return its span; that of the first one is made once there are others."""
        if self._span is None:
            self._span = self._series.start(self._number, self._began)
            if self._ended:
                self._finish(self._span)
        return self._span

    def lost_to(self, winner: Attempt) -> None:
        assert isinstance(winner, _Attempt)
        if self._span is not None and winner._span is not None:
            self._span.set_attribute("trove.attempt.lost", True)
            self._span.add_link(winner._span.get_span_context())

    def __enter__(self) -> Self:
        self._began = time_ns()
        self._before = context = get_current()
        if self._number > 1:
            context = set_span_in_context(self.show(), context)
        attach(set_value(_ATTEMPT, self, context))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = time_ns()
        self._error = error
        assert self._before is not None
        attach(self._before)
        if self._span is not None:
            self._finish(self._span)

    def _finish(self, span: Span) -> None:
        error, self._error = self._error, None
        try:
            if isinstance(error, Exception):
                _set_error(span, error)
            elif error is not None:
                span.set_attributes(_CANCELLED)
            span.end(self._ended)
        except Exception:  # noqa: BLE001 - observers must not change what they observe
            self.ongoing.log_failure()


def _set_error(span: Span, error: BaseException) -> None:
    attributes: dict[str, Any] = {"error.type": error_type(error)}
    message = None
    if isinstance(error, TroveError):
        message = str(error)  # secrets are redacted; who knows what is in the messages of others
        if error.status is not None:
            attributes["http.response.status_code"] = error.status
        if error.request_id is not None:
            attributes["trove.request_id"] = error.request_id
    span.set_attributes(attributes)
    span.set_status(StatusCode.ERROR, message)
