"""From an async function to a command of Typer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from trove_async.cli.completion import complete_name
from trove_async.cli.names import store_of
from trove_async.cli.options import COMMON, STORE_VARIABLE, sign
from trove_async.cli.running import execute
from trove_async.cli.session import GlobalOptions, Session

__all__ = [
    "AnyNames",
    "Jobs",
    "Literally",
    "Name",
    "Names",
    "VersionID",
    "command",
    "database_option",
]

P = ParamSpec("P")

Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_name, show_default=False)]
Names = Annotated[list[str], typer.Argument(metavar="NAME", autocompletion=complete_name, show_default=False)]
AnyNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", autocompletion=complete_name, show_default=False)]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, max=1000, help="The number of copies at once.")]
Literally = Annotated[bool, typer.Option("--literal", help="Treat * and ? in names as plain characters.")]
VersionID = Annotated[str | None, typer.Option("--version-id", help="Use this version, not the latest one.")]


def database_option(of: str, variable: str) -> Any:
    """Return the option ``--database``, which an environment variable may give instead.

    Args:
        of: whose database it is, for the help.
        variable: the name of the environment variable.
    """
    return typer.Option(
        "--database",
        metavar="URL",
        envvar=variable,
        show_default=False,
        show_envvar=False,
        help=f"The database of {of}; default {variable}.",
    )


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], Awaitable[None]]], Callable[Concatenate[Session, P], Awaitable[None]]]:
    """Register an async function as a command; its docstring is the help.

    Its first parameter is the `Session`, the others are arguments and options as Typer knows them; those of
    every command are added. The function itself is returned as it is, to be called without Typer.
    """

    def register(
        function: Callable[Concatenate[Session, P], Awaitable[None]],
    ) -> Callable[Concatenate[Session, P], Awaitable[None]]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

        def run(ctx: typer.Context, **arguments: Any) -> None:
            options = _global_options(ctx, {option.name: arguments.pop(option.name) for option in COMMON})
            work = partial(_call, function, arguments)
            raise typer.Exit(execute(work, options))

        sign(run, [*(parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own), *COMMON])
        app.command(name, help=inspect.getdoc(function))(run)
        return function

    return register


def _call(function: Callable[..., Awaitable[None]], arguments: Mapping[str, Any], session: Session) -> Awaitable[None]:
    return function(session, **arguments)


def _global_options(ctx: typer.Context, given: Mapping[str, Any]) -> GlobalOptions:
    before: Mapping[str, Any] = ctx.find_root().obj or {}
    chosen = {name: value or before.get(name) or value for name, value in given.items()}
    store = chosen["store"] or os.environ.get(STORE_VARIABLE)
    chosen["store"] = store_of(store) if store else None
    return GlobalOptions(**chosen)
