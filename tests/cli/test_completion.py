"""Completion in shells, with the lines that docs/cli.md names."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import COMMAND, PATIENCE, Shell
from trove_async.cli.completion import complete_name


def test_names_are_completed_a_level_at_a_time(shell: Shell, trove: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trove("mb", "assets", "other")
    for key in ("assets/photos/1.jpg", "assets/plain"):
        trove("put", "-", key)
    monkeypatch.setenv("TROVE_DSN", shell.dsn)
    assert complete_name("") == ["assets/", "other/"]
    assert complete_name("as") == ["assets/"]
    assert complete_name("assets/p") == ["assets/photos/", "assets/plain"]
    assert complete_name("missing/p") == []
    assert complete_name("./p") == []
    monkeypatch.setenv("TROVE_DSN", "local:///no/such/root")
    assert complete_name("as") == []


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ls", "as"], "assets/"),
        (["ls", "assets/p"], "assets/photos/"),
        (["ls", "media:as"], "media:assets/"),
        (["managed", "f"], "fsck"),
        (["ls", "--rec"], "--recursive"),
    ],
)
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_gets_the_completions(shell: Shell, trove: Run, name: str, words: list[str], completed: str) -> None:
    trove("mb", "assets")
    trove("put", "-", "assets/photos/1.jpg")
    shell.write("trove.toml", f'[stores.media]\ndsn = "{shell.dsn}"\n'.encode())
    position = words[-1] if name == "fish" else str(len(words))
    done = shell.run(_TROVE_COMPLETE=f"{name}_complete", COMP_WORDS=" ".join(["trove", *words]), COMP_CWORD=position)
    found = done.text.replace("\n", ",").replace("\t", ",").split(",")
    assert (done.code, done.err, found[:2]) == (0, "", ["plain", completed])


def test_the_path_of_a_file_is_completed_by_the_shell(shell: Shell) -> None:
    done = shell.run("cp", _TROVE_COMPLETE="bash_complete", COMP_WORDS="trove cp ./f", COMP_CWORD="2")
    assert done.text == "file,./f\n"


def test_bash_completes_after_one_line_in_its_start_up_file(shell: Shell, trove: Run) -> None:
    trove("mb", "assets")
    shell.write("trove", f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n'.encode()).chmod(0o755)
    script = (
        'eval "$(_TROVE_COMPLETE=bash_source trove)"; complete -p trove\n'
        'COMP_WORDS=(trove ls as); COMP_CWORD=2; _trove_completion trove; echo "${COMPREPLY[@]}"'
    )
    environment = {**shell.environment, "PATH": f"{shell.folder}:{shell.environment['PATH']}"}
    out = subprocess.check_output(["bash", "-c", script], env=environment, text=True, timeout=PATIENCE)
    assert out == "complete -o nosort -F _trove_completion trove\nassets/\n"
