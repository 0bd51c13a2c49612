"""The stacks of layers that the suite runs through: each layer alone, and all layers in two orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from trove_async.layers import (
    Cache,
    CircuitBreaker,
    Hedge,
    Layer,
    Limit,
    Prefixed,
    Quota,
    QuotaLimit,
    Retry,
    Timeout,
    log_operations,
)

__all__ = ["ALL_LAYERS", "LAYERS", "ORDINARY", "PLAIN", "STACKS", "Layer"]

LAYERS: Final[Mapping[str, Layer]] = {
    "limit": Limit(8, operations=1e6, bytes=1e10, adaptive=True, per_class=True),
    "breaker": lambda driver: CircuitBreaker()(driver),  # one for each store, so that no check opens that of another
    "timeout": Timeout(attempt=60, idle=60),
    "hedge": Hedge(delay=1e-9, budget=1),  # every read that waits for anything is made twice
    "retry": Retry(),
    "cache": Cache(),
    "prefixed": Prefixed("tenant-a/"),
    "quota": Quota({"": QuotaLimit(bytes=2**50, objects=2**50)}),  # the whole store; everything fits
    "observe": log_operations(),
}
"""Every layer of the library, by name; a layer that is added here becomes part of all stacks."""

PLAIN: Final = "plain"
ALL_LAYERS: Final = "+".join(LAYERS)
_OTHER_ORDER: Final = ["observe", "cache", "quota", "prefixed", "limit", "hedge", "retry", "timeout", "breaker"]


def _stacks() -> dict[str, tuple[Layer, ...]]:
    names = [*LAYERS]
    orders = [[], *([name] for name in names), names, _OTHER_ORDER]
    return {"+".join(order) or PLAIN: tuple(LAYERS[name] for name in order) for order in orders}


STACKS: Final[Mapping[str, tuple[Layer, ...]]] = _stacks()
"""Name to layers, the innermost first: no layers (plain), each layer alone, and all layers in two orders."""

_LONG: Final = frozenset({"breaker", "cache", "hedge", "prefixed", "quota", "retry", "timeout"})

ORDINARY: Final = tuple(name for name in STACKS if name not in _LONG)
"""The stacks of an ordinary run. It has all layers in both orders; the others alone are for a long run."""
