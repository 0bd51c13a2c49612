"""The configuration: named stores with their DSNs, settings and layers, in ``trove.toml``."""

from trove_async.config.config import Config
from trove_async.config.document import VARIABLE, ConfigWarning, find
from trove_async.config.named import NamedStore
from trove_async.config.reference import Reference

__all__ = ["VARIABLE", "Config", "ConfigWarning", "NamedStore", "Reference", "find"]
