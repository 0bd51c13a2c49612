"""The methods of a driver, described once: for layers, mocks and whatever else stands in for any driver."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trove_async.driver.base import Driver, methods_of
from trove_async.driver.capabilities import CAPABILITIES, PresignDriver

__all__ = ["METHODS", "SIGNING", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of `Driver` or of a capability.

    Attributes:
        name: of the method.
        parameters: their names, without ``self``, in order.
        capability: the Protocol that the method belongs to; None for the methods of `Driver`.
        signature: with ``self``.
    """

    name: str
    parameters: tuple[str, ...]
    capability: type | None
    signature: inspect.Signature

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the arguments of a call in the order of the parameters, defaults included.

        Raises:
            TypeError: the arguments do not fit, as in Python.
        """
        try:
            bound = self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None
        bound.apply_defaults()
        return tuple(bound.arguments.values())[1:]

    def change(self, arguments: tuple[Any, ...], changes: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return arguments with some of them replaced, by the names of the parameters.

        Raises:
            TypeError: the method has no parameter of a name.
        """
        changed = list(arguments)
        for name, value in changes.items():
            try:
                changed[self.parameters.index(name)] = value
            except ValueError:
                message = f"{self.name}() has no parameter {name!r}; it has {', '.join(self.parameters)}"
                raise TypeError(message) from None
        return tuple(changed)


def _described(name: str, owner: type, capability: type | None) -> Method:
    signature = inspect.signature(getattr(owner, name))
    return Method(name, tuple(signature.parameters)[1:], capability, signature)


def _methods() -> dict[str, Method]:
    found = {name: _described(name, Driver, None) for name in sorted(Driver.__abstractmethods__ - {"name"})}
    for capability in CAPABILITIES:
        for name in sorted(methods_of(capability) - found.keys()):
            found[name] = _described(name, capability, capability)
    return found


METHODS: Final[Mapping[str, Method]] = _methods()
"""Every method that a driver can have and that does I/O, by its name."""

SIGNING: Final = frozenset(name for name, method in METHODS.items() if method.capability is PresignDriver)
"""The methods that sign URLs, which most drivers do without a request."""
