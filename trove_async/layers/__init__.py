"""Layers: drivers around drivers. Each is imported when it is used for the first time."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
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
    from trove_async.layers.mirror.driver import MirrorDriver
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

_MODULES = {
    "READS": "trove_async.layers.read_only",
    "Backoff": "trove_async.driver.retry",
    "BreakerDriver": "trove_async.layers.breaker",
    "Budget": "trove_async.driver.retry",
    "Cache": "trove_async.layers.cache.layer",
    "CacheDriver": "trove_async.layers.cache.driver",
    "CacheRead": "trove_async.layers.cache.stats",
    "CacheStats": "trove_async.layers.cache.stats",
    "CacheStoreFailed": "trove_async.layers.cache.stats",
    "Call": "trove_async.layers.base",
    "CircuitBreaker": "trove_async.layers.breaker",
    "CircuitEvent": "trove_async.layers.circuit",
    "Failover": "trove_async.layers.failover.target",
    "FailoverDriver": "trove_async.layers.failover.driver",
    "Hedge": "trove_async.layers.hedge",
    "Layer": "trove_async.driver.base",
    "LayerDriver": "trove_async.layers.base",
    "Limit": "trove_async.layers.limit",
    "LimitChanged": "trove_async.layers.aimd",
    "LimitDriver": "trove_async.layers.limit",
    "Mirror": "trove_async.layers.mirror",
    "MirrorDriver": "trove_async.layers.mirror.driver",
    "Observation": "trove_async.layers.observe",
    "Observe": "trove_async.layers.observe",
    "OpenTelemetry": "trove_async.layers.otel.layer",
    "Operation": "trove_async.layers.base",
    "Prefixed": "trove_async.layers.prefixed",
    "Prometheus": "trove_async.layers.prometheus.layer",
    "Quota": "trove_async.layers.quota.layer",
    "QuotaDriver": "trove_async.layers.quota.layer",
    "QuotaLimit": "trove_async.layers.quota.limits",
    "QuotaUsage": "trove_async.layers.quota.limits",
    "ReadOnly": "trove_async.layers.read_only",
    "Retry": "trove_async.layers.retry",
    "Route": "trove_async.layers.route.target",
    "RouteDriver": "trove_async.layers.route.driver",
    "RouteFunction": "trove_async.layers.route.rules",
    "RouteRule": "trove_async.layers.route.rules",
    "RouteRuleLike": "trove_async.layers.route.rules",
    "Timeout": "trove_async.layers.timeout",
    "log_operations": "trove_async.layers.observe",
    "timeout_behind": "trove_async.layers.deadlines",
}
"""Where the names of the package are."""

if not _TYPE_CHECKING:  # a type checker would take every name for one of the module's

    def __getattr__(name: str) -> object:
        """Import what is used for the first time."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_MODULES[name]), name)
        return value


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
