"""The arguments and options of a command, declared in the annotations of its function.

``names: Annotated[tuple[str, ...], argument("NAME")]`` is ``NAME...``, and
``recursive: Annotated[bool, option("--recursive", "-r")] = False`` is a flag.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

import click

__all__ = ["argument", "option", "parameters_of"]


class _Declaration(NamedTuple):
    kind: type[click.Parameter]
    names: tuple[str, ...]
    attributes: dict[str, Any]


def option(*names: str, **attributes: Any) -> _Declaration:
    """Declare an option; a bool is a flag, and a tuple may be given several times.

    Args:
        names: how it is written; default ``--`` and the name of the parameter.
        attributes: those of `click.Option` beyond what the parameter says.
    """
    return _Declaration(click.Option, names, attributes)


def argument(metavar: str, **attributes: Any) -> _Declaration:
    """Declare an argument; it is required unless the parameter has a default value, and a tuple takes several.

    Args:
        metavar: what the help calls one value.
        attributes: those of `click.Argument` beyond what the parameter says.
    """
    return _Declaration(click.Argument, (metavar,), attributes)


def parameters_of(function: Callable[..., object]) -> Iterator[click.Parameter]:
    """Yield the arguments and options of a function; its first parameter is neither."""
    _, *parameters = inspect.signature(function, eval_str=True).parameters.values()
    for parameter in parameters:
        kind, declaration = get_args(parameter.annotation)
        several = get_origin(kind) is tuple
        required = parameter.default is parameter.empty
        derived: dict[str, Any] = {
            "type": get_args(kind)[0] if several or isinstance(kind, UnionType) else kind,
            "required": required,
        }
        if not required:
            derived["default"] = parameter.default
        if declaration.kind is click.Argument:
            names = [parameter.name]
            (shown,) = declaration.names
            derived["metavar"] = (shown if required else f"[{shown}]") + "..." * several
            derived["nargs"] = -1 if several else 1
        else:
            names = [parameter.name, *(declaration.names or [f"--{parameter.name.replace('_', '-')}"])]
            derived |= {"is_flag": kind is bool, "multiple": several, "show_default": bool(parameter.default)}
        yield declaration.kind(names, **(derived | declaration.attributes))
