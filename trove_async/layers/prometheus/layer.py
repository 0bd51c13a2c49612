"""`Prometheus`: metrics of all operations, for Prometheus to collect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trove_async.driver.base import Driver
from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.layers.instrumentation import Instrumentation, InstrumentedDriver

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Prometheus"]


@dataclass(frozen=True)
class Prometheus:
    """Count and time all operations in the metrics of a registry; they are in docs/observability.md.

    Args:
        registry: has the metrics; None for prometheus_client's global one. Stores with the same registry share them.
        bucket_label: whether the label ``bucket`` is filled; it is empty otherwise. Of more than 100 buckets the later
            ones count as ``_OTHER``.

    Raises:
        InvalidArgumentError: the registry is none.
        MissingDependencyError: prometheus-client is not installed.
    """

    registry: CollectorRegistry | None = None
    bucket_label: bool = False
    _instrumentation: Instrumentation = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            from trove_async.layers.prometheus.metrics import instrumentation
        except ImportError as error:
            raise MissingDependencyError("Prometheus needs: pip install 'trove-async[prometheus]'") from error
        if not (self.registry is None or callable(getattr(self.registry, "register", None))):
            raise InvalidArgumentError(f"registry is a CollectorRegistry of prometheus_client, not {self.registry!r}")
        object.__setattr__(self, "_instrumentation", instrumentation(self.registry, self.bucket_label))

    def __call__(self, driver: Driver) -> Driver:
        """Put the layer around a driver; it may be put around several."""
        return InstrumentedDriver(driver, self._instrumentation)
