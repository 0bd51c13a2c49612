from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
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


@pytest.mark.parametrize(("arguments", "module"), [("--help", "asyncio"), ("ls --help", "trove_async.transfers")])
def test_help_imports_only_what_it_needs(arguments: str, module: str) -> None:
    script = (
        f"import sys; from trove_async.cli.app import run; run({arguments.split()}); print({module!r} in sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60)
    assert out.endswith("\nFalse\n")
