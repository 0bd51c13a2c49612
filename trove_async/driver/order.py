"""`Placed`: what has a place among layers; `check_order` refuses orders that cannot work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from trove_async.errors import InvalidArgumentError

__all__ = ["Placed", "check_order"]


class Placed:
    """A driver, or what makes one around another: it can say which layers it must not be around."""

    layer_name: ClassVar[str | None] = None
    """The name by which other layers refuse to be around this layer; None for drivers and for users' own layers."""

    never_around: ClassVar[Mapping[str, str]] = {}
    """The `layer_name` of each layer that this one must not be around, with the reason."""


def check_order(layers: Iterable[object]) -> None:
    """Check the order of layers, which are drivers, classes of drivers, or what makes layers; the outermost is first.

    Raises:
        InvalidArgumentError: a layer is around one that it must not be around; the message says the right order.
    """
    seen: list[Placed | type[Placed]] = []
    for inner in layers:
        # Of a function that makes a layer it is not known which one, until it has made it.
        if not (isinstance(inner, Placed) or (isinstance(inner, type) and issubclass(inner, Placed))):
            continue
        for outer in seen:
            reason = outer.never_around.get(inner.layer_name or "")
            if reason is None:
                continue
            first, second = inner.layer_name, outer.layer_name
            advice = (
                f"leave one {first} out"
                if first == second
                else f"put {second} before {first} in layers=[…], which is innermost first"
            )
            raise InvalidArgumentError(f"{second} must not be around {first}: {reason}; {advice}")
        seen.append(inner)
