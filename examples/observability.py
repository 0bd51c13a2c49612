"""Logs, metrics and traces of a store, without a collector: ``python -m examples.observability``.

Spans and metrics of OpenTelemetry are printed by its console exporters, one line each; then the page that Prometheus
would collect, and a line of JSON for each operation from the standard library's `logging`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    HistogramDataPoint,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import trove_async as trove
from trove_async.testing.faults import Fault, Faults


def span_line(span: ReadableSpan) -> str:
    parent = "" if span.parent is None else f", parent {span.parent.span_id:016x}"
    return f"span {span.name} {span.status.status_code.name} {dict(span.attributes or {})}{parent}\n"


def metric_lines(data: MetricsData) -> str:
    metrics = [m for resource in data.resource_metrics for scope in resource.scope_metrics for m in scope.metrics]
    return "".join(
        f"metric {metric.name} {point.count if isinstance(point, HistogramDataPoint) else point.value} "
        f"{dict(point.attributes or {})}\n"
        for metric in metrics
        for point in metric.data.data_points
        if not hasattr(point, "scale")  # no exponential histograms
    )


class JsonFormatter(logging.Formatter):
    """Prints the fields of an operation; python-json-logger and structlog do the same with a record's attributes."""

    def format(self, record: logging.LogRecord) -> str:
        fields = record.trove.fields() if hasattr(record, "trove") else {}
        return json.dumps({"level": record.levelname, **fields})


async def use(t: trove.Trove, outage: Faults) -> None:
    await t.create_bucket("photos")
    await t.put("photos", "2024/beach.jpg", b"not really a photo")
    async with t.get("photos", "2024/beach.jpg") as reader:
        await reader.read()
    outage.add(Fault("head", error=trove.ThrottledError("slow down"), times=1))
    try:
        await t.head("photos", "2024/beach.jpg")
    except trove.ThrottledError as error:
        print("refused:", error.message)


async def main() -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(out=sys.stdout, formatter=span_line)))
    console = ConsoleMetricExporter(out=sys.stdout, formatter=metric_lines)
    meters = MeterProvider(metric_readers=[PeriodicExportingMetricReader(console)])
    registry = CollectorRegistry()
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("examples.observability")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    outage = Faults()
    async with trove.open(
        "memory://",
        layers=[
            outage,
            trove.Prometheus(registry),
            trove.OpenTelemetry(tracers, meters),
            trove.log_operations(logger, logging.INFO),
        ],
    ) as t:
        await use(t, outage)

    tracers.shutdown()  # prints what is left
    meters.shutdown()
    print(generate_latest(registry).decode(), end="")


if __name__ == "__main__":
    asyncio.run(main())
