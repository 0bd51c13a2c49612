"""Making layers and other objects of the library from their names and arguments in a configuration."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from trove_async.config.document import Document
from trove_async.config.lines import KeyPath
from trove_async.config.values import source_of, value_of
from trove_async.driver.base import Driver, Layer
from trove_async.driver.opening import checked_layers
from trove_async.driver.registry import Registry, import_path
from trove_async.errors import ConfigError, InvalidArgumentError, MissingDependencyError, TroveError

__all__ = ["LAYERS", "TARGETS", "argument_of", "made", "make_layers", "named_in"]

_BUILTIN: Final = (
    "Cache",
    "CircuitBreaker",
    "Hedge",
    "Limit",
    "Observe",
    "OpenTelemetry",
    "Prefixed",
    "Prometheus",
    "Quota",
    "ReadOnly",
    "Retry",
    "Timeout",
)

LAYERS: Final = Registry(
    "layer",
    "trove_async.layers",
    InvalidArgumentError,
    # What is imported by its name may be above this package.
    {**{name: f"trove_async.layers:{name}" for name in _BUILTIN}, "Dedup": "trove_async.managed.dedup:Dedup"},
)
"""The layers by their names: those of the library, and entry points of other packages.

An entry point names a class of layers, or a function that takes keyword arguments and returns a layer.
"""

TARGETS: Final = {
    "failover": "trove_async.layers:Failover",
    "mirror": "trove_async.layers:Mirror",
    "route": "trove_async.layers:Route",
}
"""The stores over several stores by the keys of their tables; each is called with its members and keyword arguments."""

_PARTS: Final = {
    **{name: f"trove_async.layers:{name}" for name in ("Backoff", "Budget", "QuotaLimit", "RouteRule")},
    "Chunking": "trove_async.managed.dedup:Chunking",
}
"""What an argument can be, written as a layer is."""

Refer = Callable[[str, KeyPath], object]
"""Returns the target for ``trove://…``, which a layer may take as an argument."""


def make_layers(document: Document, given: object, path: KeyPath, refer: Refer) -> tuple[Layer, ...]:
    """Return the layers of a list, each the name of a layer, or a table with ``use`` and the arguments.

    Raises:
        ConfigError: a layer is unknown, or refuses its arguments, or their order is wrong.
        MissingDependencyError: a package that it needs is not installed.
    """
    if not isinstance(given, list | tuple):
        raise document.error('layers is a list, such as ["Retry", { use = "Limit", concurrency = 8 }]', *path)
    layers = [_layer(document, item, (*path, index), refer) for index, item in enumerate(given)]
    try:
        return checked_layers(layers)
    except InvalidArgumentError as error:
        raise document.error(error.message, *path) from error


def _layer(document: Document, given: object, path: KeyPath, refer: Refer) -> Layer:
    name, arguments, at = _used(document, given, path)
    try:
        factory = LAYERS.get(name)
        unknown = LAYERS.unknown(name) if factory is None else None
    except MissingDependencyError:
        raise
    except (TroveError, AttributeError) as error:
        raise document.error(f"the layer {name!r} cannot be loaded: {error}", *at) from error
    if unknown is not None:
        if (key := name.lower()) in TARGETS:
            unknown = f"{name!r} is no layer, but a store over several: write '{key} = …' in place of 'dsn'"
        raise document.error(unknown, *at)
    values = {key: argument_of(document, value, (*path, key), refer) for key, value in arguments.items()}
    if isinstance(factory, type) and issubclass(factory, Driver):
        layer: Any = _partial_layer(document, factory, values, path)
    else:
        layer = made(document, name, factory, values, path)
    try:
        return checked_layers([layer])[0]
    except InvalidArgumentError as error:
        raise document.error(error.message, *at) from error


def _used(document: Document, given: object, path: KeyPath) -> tuple[str, Mapping[str, Any], KeyPath]:
    """Return the name that is used, the arguments, and where the name stands."""
    if isinstance(given, str):
        return given, {}, path
    table = document.table(given, *path)
    name = table.get("use")
    if not isinstance(name, str):
        raise document.error(
            'a layer is its name, or a table with it, such as { use = "Limit", concurrency = 8 }', *path
        )
    return name, {key: value for key, value in table.items() if key != "use"}, (*path, "use")


def argument_of(document: Document, value: object, path: KeyPath, refer: Refer) -> object:
    """Return what an argument stands for: a value, an object of the library, or a store of the same configuration.

    Raises:
        ConfigError: the value is missing or malformed.
    """
    if isinstance(value, list | tuple):
        return tuple(argument_of(document, inner, (*path, index), refer) for index, inner in enumerate(value))
    if isinstance(value, Mapping) and "use" in value and not isinstance(value["use"], Mapping):
        name, arguments, at = _used(document, value, path)
        if name not in _PARTS:
            raise document.error(f"{name!r} cannot be an argument, only {', '.join(sorted(_PARTS))} can", *at)
        values = {key: argument_of(document, inner, (*path, key), refer) for key, inner in arguments.items()}
        return made(document, name, import_path(_PARTS[name]), values, path)
    if isinstance(value, Mapping) and not source_of(value):
        return {key: argument_of(document, inner, (*path, key), refer) for key, inner in value.items()}
    found = value_of(document, value, path)
    return refer(found, path) if isinstance(found, str) and found.lower().startswith("trove://") else found


def _partial_layer(document: Document, layer: Any, values: Mapping[str, object], path: KeyPath) -> Layer:
    """Return a layer for a class of layers, which is called with the driver first."""
    _check_arguments(document, layer.__name__, partial(layer, None), values, path)
    return partial(layer, **values)


def made(
    document: Document,
    name: str,
    factory: Callable[..., Any],
    arguments: Mapping[str, object],
    path: KeyPath,
    more: Iterable[str] = (),
) -> Any:
    """Call a factory with arguments from a table.

    Args:
        document, path: where the table stands.
        name: what is made, for messages.
        factory, arguments: what is called, and with what.
        more: keys that the table may have beside the arguments, for messages.

    Raises:
        ConfigError: an argument is unknown, missing, or refused.
    """
    _check_arguments(document, name, factory, arguments, path, more)
    try:
        return factory(**arguments)
    except (ConfigError, MissingDependencyError):
        raise
    except (TroveError, TypeError, ValueError) as error:
        message = error.message if isinstance(error, TroveError) else str(error)
        blamed = named_in(message, arguments)
        part = next((part for part in _PARTS if re.search(rf"\b{part}\(", message)), None)
        hint = f'; here it is written {{ use = "{part}", … }}' if part else ""
        # Without the cause, which may show a secret.
        raise document.error(f"{message}{hint}", *path, *([blamed] if blamed else [])) from None


def named_in(message: str, names: Iterable[str]) -> str | None:
    """Return the first of several names that a message has as a word: the argument that it is about."""
    # A message about one of the rules says "rule".
    words = {name: rf"\b{re.escape(name.removesuffix('s'))}s?\b" for name in names}
    found = [(match.start(), name) for name, word in words.items() if (match := re.search(word, message))]
    return min(found)[1] if found else None


def _check_arguments(
    document: Document,
    name: str,
    factory: Callable[..., Any],
    arguments: Mapping[str, object],
    path: KeyPath,
    more: Iterable[str] = (),
) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return  # calling it says what is wrong
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [*more, *(p.name for p in named)]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for key in arguments:
            if key not in known:
                raise document.unknown((*path, key), known, f"{name} has")
    missing = [p.name for p in named if p.default is p.empty and p.name not in arguments]
    if missing:
        raise document.error(
            f"{name} needs {missing[0]!r}; what TOML cannot express, such as a function, is given to open() in Python",
            *path,
        )
