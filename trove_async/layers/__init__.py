"""Layers: drivers around drivers."""

from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.breaker import CircuitBreaker
from trove_async.layers.circuit import CircuitEvent
from trove_async.layers.limit import Limit
from trove_async.layers.observe import Observation, Observe, log_operations

__all__ = [
    "Call",
    "CircuitBreaker",
    "CircuitEvent",
    "LayerDriver",
    "Limit",
    "Observation",
    "Observe",
    "Operation",
    "log_operations",
]
