"""Layers that carry an operation out more than once, and what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trove_async import ObjectInfo, OpenTelemetry, TroveError
from trove_async.driver import HeadOptions, events
from trove_async.layers import Call, LayerDriver, Operation
from trove_async.testing.mock import MockDriver

R = TypeVar("R")

_OBJECT = ObjectInfo("k", 1, "e")


class TwiceMore(LayerDriver):
    """Tries what failed up to three times."""

    async def around(self, operation: Operation, call: Call[R]) -> R:
        attempts = events.attempts("retry")
        for _ in range(2):
            try:
                with attempts.begin():
                    return await call()
            except TroveError:
                pass
        with attempts.begin():
            return await call()


class Race(LayerDriver):
    """Begins an attempt beside a slow one, which loses."""

    async def around(self, operation: Operation, call: Call[R]) -> R:
        if operation.name != "head":
            return await call()
        attempts = events.attempts("hedge")
        first = attempts.begin()

        async def slow() -> None:
            with first:
                await asyncio.Event().wait()

        losing = asyncio.create_task(slow())
        await asyncio.sleep(0)
        try:
            with attempts.begin() as second:
                result = await call()
                first.lost_to(second)
                return result
        finally:
            losing.cancel()
            await asyncio.wait({losing})


class FullDriver(MockDriver):
    """A store that has an object at every key, and keeps nothing of what it is asked."""

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        return _OBJECT


def in_turn(*answers: ObjectInfo | Exception) -> Callable[..., ObjectInfo]:
    """Return what answers each call with the next answer."""
    left = iter(answers)

    def answer(*_: object) -> ObjectInfo:
        given = next(left)
        if isinstance(given, Exception):
            raise given
        return given

    return answer


class Telemetry:
    """An SDK that keeps everything in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self._reader])

    def layer(self, *, bucket_label: bool = False) -> OpenTelemetry:
        return OpenTelemetry(self.tracers, self.meters, bucket_label=bucket_label)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def _metrics(self) -> list[Metric]:
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data is not None else ()
        return [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]

    def points(self) -> dict[str, list[tuple[Mapping[str, object], float]]]:
        """The attributes and values of all metrics; of histograms the numbers of measurements."""
        return {
            metric.name: [
                (dict(point.attributes or {}), point.value if isinstance(point, NumberDataPoint) else point.count)
                for point in metric.data.data_points
            ]
            for metric in self._metrics()
        }

    def exemplars(self, name: str) -> list[int | None]:
        """The ids of the spans to which the measurements of a metric are linked."""
        points = (point for metric in self._metrics() if metric.name == name for point in metric.data.data_points)
        return [exemplar.span_id for point in points for exemplar in point.exemplars]


def named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    [span] = [span for span in spans if span.name == name]
    return span


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})
