"""Layers: drivers around drivers."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from trove_async.driver.base import Layer
from trove_async.driver.retry import Backoff, Budget
from trove_async.layers.aimd import LimitChanged
from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.breaker import BreakerDriver, CircuitBreaker
from trove_async.layers.cache.driver import CacheDriver
from trove_async.layers.cache.layer import Cache
from trove_async.layers.cache.stats import CacheRead, CacheStats, CacheStoreFailed
from trove_async.layers.circuit import CircuitEvent
from trove_async.layers.deadlines import timeout_behind
from trove_async.layers.failover.driver import FailoverDriver
from trove_async.layers.failover.target import Failover
from trove_async.layers.hedge import Hedge
from trove_async.layers.limit import Limit, LimitDriver
from trove_async.layers.mirror import Mirror
from trove_async.layers.observe import Observation, Observe, log_operations
from trove_async.layers.otel.layer import OpenTelemetry
from trove_async.layers.prefixed import Prefixed
from trove_async.layers.prometheus.layer import Prometheus
from trove_async.layers.quota.layer import Quota, QuotaDriver
from trove_async.layers.quota.limits import QuotaLimit, QuotaUsage
from trove_async.layers.read_only import READS, ReadOnly
from trove_async.layers.retry import Retry
from trove_async.layers.route.driver import RouteDriver
from trove_async.layers.route.rules import RouteFunction, RouteRule, RouteRuleLike
from trove_async.layers.route.target import Route
from trove_async.layers.timeout import Timeout

if _TYPE_CHECKING:
    from trove_async.layers.mirror.driver import MirrorDriver
else:

    def __getattr__(name: str) -> object:
        """Import the driver of `Mirror` when it is used: it needs the packages of the extra ``database``."""
        if name == "MirrorDriver":
            from trove_async.layers.mirror.driver import MirrorDriver

            return MirrorDriver
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "READS",
    "Backoff",
    "BreakerDriver",
    "Budget",
    "Cache",
    "CacheDriver",
    "CacheRead",
    "CacheStats",
    "CacheStoreFailed",
    "Call",
    "CircuitBreaker",
    "CircuitEvent",
    "Failover",
    "FailoverDriver",
    "Hedge",
    "Layer",
    "LayerDriver",
    "Limit",
    "LimitChanged",
    "LimitDriver",
    "Mirror",
    "MirrorDriver",
    "Observation",
    "Observe",
    "OpenTelemetry",
    "Operation",
    "Prefixed",
    "Prometheus",
    "Quota",
    "QuotaDriver",
    "QuotaLimit",
    "QuotaUsage",
    "ReadOnly",
    "Retry",
    "Route",
    "RouteDriver",
    "RouteFunction",
    "RouteRule",
    "RouteRuleLike",
    "Timeout",
    "log_operations",
    "timeout_behind",
]
