from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import Shell
from trove_async.cli.commands import Commands


def test_the_list_of_commands_has_the_summary_of_each(trove: Run) -> None:
    done = trove("--help")
    listed = done.text.partition("Commands:")[2]
    for name, summary in Commands.summaries().items():
        assert f"  {name} " in listed
        assert summary in listed
        assert f"\n  {summary.removesuffix('.')}" in trove(name, "--help").text


def test_an_unknown_command_is_an_error_of_one_line_that_suggests_another(trove: Run) -> None:
    done = trove("stats")
    assert done.code == 2
    assert "stat" in done.err.partition("'stats'")[2]


@pytest.mark.parametrize(("group", "names"), [("managed", ["migrate", "stats"]), ("config", ["check", "list"])])
def test_a_command_that_asks_no_store_has_no_option_for_one(trove: Run, group: str, names: list[str]) -> None:
    for name in names:
        assert "--store" not in trove(group, name, "--help").text
    assert "--store DSN" in trove("managed", "gc", "--help").text


_UNUSED = {"difflib", "importlib.metadata", "pickle", "pydantic", "rich", "sqlalchemy", "tomllib", "typer", "zipfile"}


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["--help"], _UNUSED | {"asyncio", "ctypes", "trove_async.store"}),
        (["ls", "--help"], _UNUSED | {"trove_async.drivers.local", "trove_async.transfers"}),
        (["ls"], _UNUSED | {"click.shell_completion", "trove_async.layers", "trove_async.transfers"}),
    ],
)
def test_a_command_imports_only_what_it_needs(shell: Shell, arguments: list[str], unused: set[str]) -> None:
    shell.ok("mb", "b")
    script = f"import sys; from trove_async.cli.app import run; run({arguments}); print({unused} & {{*sys.modules}})"
    command = [sys.executable, "-c", script]
    out = subprocess.check_output(command, env=shell.environment, cwd=shell.folder, text=True, timeout=60)
    assert out.endswith("\nset()\n")
