"""Layers: drivers around drivers."""

from trove_async.layers.base import Call, LayerDriver, Operation
from trove_async.layers.limit import Limit
from trove_async.layers.observe import Observation, Observe, log_operations

__all__ = ["Call", "LayerDriver", "Limit", "Observation", "Observe", "Operation", "log_operations"]
