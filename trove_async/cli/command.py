"""From an async function to a command of Typer."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer

from trove_async.cli.completion import complete_name
from trove_async.cli.names import STORE_VARIABLE, store_of
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
    "global_options",
]

P = ParamSpec("P")

_COMMON: Final = (
    inspect.Parameter(
        "store",
        inspect.Parameter.KEYWORD_ONLY,
        default="",
        annotation=Annotated[
            str,
            typer.Option(metavar="DSN", show_default=False, help=f"The store of bucket/key; default {STORE_VARIABLE}."),
        ],
    ),
    inspect.Parameter(
        "json",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")],
    ),
    inspect.Parameter(
        "quiet",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")],
    ),
    inspect.Parameter(
        "debug",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
    ),
)
"""The options of every command; they may also stand before its name."""

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
            options = _global_options(ctx, {option.name: arguments.pop(option.name) for option in _COMMON})
            work = partial(_call, function, arguments)
            raise typer.Exit(execute(work, options))

        _sign(run, [*(parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own), *_COMMON])
        app.command(name, help=inspect.getdoc(function))(run)
        return function

    return register


def _call(function: Callable[..., Awaitable[None]], arguments: Mapping[str, Any], session: Session) -> Awaitable[None]:
    return function(session, **arguments)


def global_options(app: typer.Typer, help_text: str, version: str) -> None:
    """Add the options that may stand before the name of a command."""

    def show_version(value: bool) -> None:
        if value:
            typer.echo(f"trove {version}")
            raise typer.Exit

    def remember(ctx: typer.Context, **arguments: Any) -> None:
        del arguments["version"]
        ctx.obj = arguments

    option = typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    shown = inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    _sign(remember, [*_COMMON, shown])
    app.callback(help=help_text)(remember)


def _sign(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Set the signature of a function, from which Typer reads its options."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    function.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *parameters)}


def _global_options(ctx: typer.Context, given: Mapping[str, Any]) -> GlobalOptions:
    before: Mapping[str, Any] = ctx.find_root().obj or {}
    chosen = {name: value or before.get(name) or value for name, value in given.items()}
    store = chosen["store"] or os.environ.get(STORE_VARIABLE)
    chosen["store"] = store_of(store) if store else None
    return GlobalOptions(**chosen)
