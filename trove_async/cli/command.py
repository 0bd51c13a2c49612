"""From an async function to a command of click."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Concatenate, ParamSpec

import click

from trove_async.cli.completion import complete
from trove_async.cli.names import store_of
from trove_async.cli.options import COMMON, STORE_VARIABLE
from trove_async.cli.parameters import argument, option, parameters_of
from trove_async.cli.running import execute
from trove_async.cli.session import GlobalOptions, Session

__all__ = [
    "Jobs",
    "Literally",
    "Name",
    "Names",
    "VersionID",
    "command",
    "database_option",
]

P = ParamSpec("P")

_NAME = argument("NAME", shell_complete=complete, help="[STORE:]BUCKET[/KEY], or a DSN that goes on to them.")

Name = Annotated[str, _NAME]
Names = Annotated[tuple[str, ...], _NAME]
Jobs = Annotated[
    int, option("--jobs", "-j", metavar="N", type=click.IntRange(1, 1000), help="The number of copies at once.")
]
Literally = Annotated[bool, option("--literal", help="Treat * and ? in names as plain characters.")]
VersionID = Annotated[str | None, option("--version-id", help="Use this version, not the latest one.")]


def database_option(of: str, variable: str) -> Any:
    """Return the option ``--database``, which an environment variable may give instead.

    Args:
        of: whose database it is, for the help.
        variable: the name of the environment variable.
    """
    return option(
        "--database",
        metavar="URL",
        envvar=variable,
        help=f"The database of {of}; default {variable}.",
    )


def command(
    app: click.Group, name: str, *, store: bool = True
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[None]]], Callable[Concatenate[Session, P], Awaitable[None]]]:
    """Register an async function as a command; its docstring is the help.

    Its first parameter is the `Session`, the others are the arguments and options that their annotations declare;
    those of every command are added. The function itself is returned as it is, to be called without click.

    Args:
        app: gets the command.
        name: its name.
        store: whether it asks a store, and so has the option ``--store``.
    """
    common = [option for option in COMMON if store or option.name != "store"]

    def register(
        function: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[Concatenate[Session, P], Awaitable[None]]:
        def run(**arguments: Any) -> int:
            options = _global_options({option.name: arguments.pop(option.name) for option in common})
            return execute(partial(_call, function, arguments), options)

        parameters = [*parameters_of(function), *common]
        app.add_command(click.Command(name, callback=run, params=parameters, help=inspect.getdoc(function)))
        return function

    return register


def _call(function: Callable[..., Awaitable[None]], arguments: Mapping[str, Any], session: Session) -> Awaitable[None]:
    return function(session, **arguments)


def _global_options(given: Mapping[str, Any]) -> GlobalOptions:
    before = click.get_current_context().find_root().params
    chosen = {name: given.get(name) or value for name, value in before.items()}
    store = chosen["store"] or os.environ.get(STORE_VARIABLE)
    chosen["store"] = store_of(store) if store else None
    return GlobalOptions(**chosen)
