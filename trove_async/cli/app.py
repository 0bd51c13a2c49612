"""The application: all commands, and the handling of invalid command lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from trove_async.cli.commands import Commands, Group
from trove_async.cli.errors import ExitCode
from trove_async.cli.options import COMMON
from trove_async.cli.streams import reserve_streams
from trove_async.version import __version__

__all__ = ["run"]

_HELP: Final = """Objects in any store.

A NAME is a DSN that goes on to bucket and key (local:///srv/data/bucket/key); or STORE:bucket/key for a store of
trove.toml; or bucket/key of the store that --store or TROVE_DSN names. For cp and mv, a name that begins with /, ./,
../ or ~ is a file of this machine.
"""


class _Group(Group):
    """The commands, of which only the one that is run is imported."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the commands for ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl([*Commands.summaries().items()])


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"trove {__version__}")
        ctx.exit()


_VERSION: Final = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)

_command: Final = _Group(
    "trove",
    commands=Commands(),
    params=[*COMMON, _VERSION],
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    reserve_streams()
    try:
        code = _command.main(args=[*arguments], prog_name="trove", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except click.UsageError as error:
        from trove_async.cli.output import Output

        Output().error(_in_one_line(error))
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.OK


def _in_one_line(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else "trove"
    return f"{' '.join(error.format_message().split())} (see {path} --help)"
