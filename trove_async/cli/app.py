"""The application: all commands, and the handling of invalid command lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import typer
from typer.core import TyperGroup

from trove_async.cli.commands import Commands
from trove_async.cli.errors import ExitCode
from trove_async.cli.options import global_options
from trove_async.cli.streams import reserve_streams
from trove_async.version import __version__

__all__ = ["run"]

_HELP: Final = """Objects in any store.

A NAME is a DSN that goes on to bucket and key (local:///srv/data/bucket/key); or STORE:bucket/key for a store of
trove.toml; or bucket/key of the store that --store or TROVE_DSN names. For cp and mv, a name that begins with /, ./,
../ or ~ is a file of this machine.
"""


class _Group(TyperGroup):
    """The commands, of which only the one that is run is imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast(Any, Commands())

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of the commands for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([*Commands.summaries().items()])


# Without Rich's markup, whose boxes take several lines: errors here take one line.
_app = typer.Typer(
    name="trove",
    cls=_Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
global_options(_app, _HELP, __version__)

_command: Final = typer.main.get_command(_app)

_ParseError: Final = typer.BadParameter.mro()[1]
"""The error of Typer for an invalid command line; Typer does not export the class."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    reserve_streams()
    try:
        code = _command.main(args=[*arguments], prog_name="trove", standalone_mode=False)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except Exception as error:
        if not isinstance(error, _ParseError):
            raise
        from trove_async.cli.output import Output

        Output().error(_in_one_line(error))
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.OK


def _in_one_line(error: Any) -> str:
    path = error.ctx.command_path if error.ctx is not None else "trove"
    message = error.format_message().replace("Value error, ", "")  # the words of the parser's validation
    return f"{' '.join(message.split())} (see {path} --help)"
