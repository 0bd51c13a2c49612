"""`OpenTelemetry`: a span and metrics for every operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.layers.instrumentation import Instrumentation, InstrumentedDriver

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetry"]


@dataclass(frozen=True)
class OpenTelemetry:
    """Make a span of every operation, and metrics of all of them; names and attributes are in docs/observability.md.

    It needs the API of OpenTelemetry alone (the extra ``otel``); the providers decide what becomes of spans and
    metrics. Keys appear in spans and never in metrics.

    Args:
        tracer_provider: makes the spans; None for the global one.
        meter_provider: makes the metrics; None for the global one. Stores with the same provider share their metrics.
        traces, metrics: whether there are spans, and metrics.
        bucket_label: whether the bucket is an attribute of metrics, and part of the names of spans. Of more than
            100 buckets the later ones count as ``_OTHER``.

    Raises:
        InvalidArgumentError: neither traces nor metrics are wanted, a provider for what is not wanted is given,
            or what is given is no provider.
        MissingDependencyError: opentelemetry-api is not installed.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    traces: bool = True
    metrics: bool = True
    bucket_label: bool = False
    _instrumentation: Instrumentation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.traces or self.metrics):
            raise InvalidArgumentError("with neither traces nor metrics the layer shows nothing; leave it out")
        if (self.tracer_provider is not None and not self.traces) or (
            self.meter_provider is not None and not self.metrics
        ):
            raise InvalidArgumentError("a provider is given for what is turned off by traces=False or metrics=False")
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = getattr(self, name)
            if not (provider is None or callable(getattr(provider, method, None))):
                raise InvalidArgumentError(f"{name} is a provider of OpenTelemetry, with {method}(), not {provider!r}")
        try:
            from trove_async.layers.otel.operations import instrumentation
        except ImportError as error:
            raise MissingDependencyError("OpenTelemetry needs: pip install 'trove-async[otel]'") from error
        made = instrumentation(
            self.tracer_provider,
            self.meter_provider,
            traces=self.traces,
            metrics=self.metrics,
            bucket_label=self.bucket_label,
        )
        object.__setattr__(self, "_instrumentation", made)

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver; it may be put around several."""
        return InstrumentedDriver(driver, self._instrumentation)
