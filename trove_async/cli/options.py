"""The options of every command, and the arguments of the command itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

__all__ = ["COMMON", "STORE_VARIABLE", "global_options", "sign"]

STORE_VARIABLE: Final = "TROVE_DSN"
"""The environment variable that names the store of ``bucket/key``."""

COMMON: Final = (
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
    sign(remember, [*COMMON, shown])
    app.callback(help=help_text)(remember)


def sign(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Set the signature of a function, from which Typer reads its options."""
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    function.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in (context, *parameters)}
