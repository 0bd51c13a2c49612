"""Exit codes that scripts can rely on, and one-line errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tests.cli.shell import Shell


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["stat", "b/k"], 3),
        (["stat", "missing/k"], 3),
        (["cat", "b/missing"], 3),
        (["rm", "b/missing"], 3),
        (["cp", "b/missing", "./x"], 3),
        (["cp", "./missing", "b/x"], 3),
        (["cp", "-r", "b/none/", "./x"], 3),
        (["put", "missing", "b/x"], 3),
        (["mb", "b"], 4),
        (["mb", ".trove"], 2),
        (["stat", "b"], 2),
        (["stat", "./b"], 2),
        (["stat", "nosuch://x/b/k"], 2),
        (["cat", "b/k", "--range", "x"], 2),
        (["put", "f", "b/k", "--metadata", "novalue"], 2),
        (["presign", "get", "b/k"], 1),
        (["presign", "get", "b/k", "--expires", "soon"], 2),
        (["presign", "jump", "b/k"], 2),
        (["cp", "f", "b/k", "--jobs", "0"], 2),
        (["cp", "./f", "./g"], 2),
        (["cp", "./dir", "b/x"], 2),
        (["cp", "b", "./x"], 2),
        (["versions", "get", "b/f", "missing"], 3),
        (["lifecycle", "get", "missing"], 3),
        (["watch", "missing"], 3),
        (["watch", "b", "--event", "exploded"], 2),
        (["no-such-command"], 2),
        (["ls", "--no-such-option"], 2),
        (["tag"], 2),
        ([], 2),
        (["stat"], 2),
        (["ping", "b"], 2),
        (["--store", "local:///no/such", "ls"], 3),
        (["ls", "--store", "memory://?typo=1"], 2),
    ],
)
def test_a_failure_is_a_code_and_one_line(shell: Shell, trove: Run, arguments: list[str], code: int) -> None:
    shell.write("f", b"")
    shell.write("dir/f", b"")
    trove("mb", "b")
    trove("put", "f", "b/f")
    done = trove(*arguments)
    assert (done.code, done.out) == (code, b""), done.err
    assert done.err.startswith("trove: ")
    assert done.err.count("\n") == 1


def test_a_missing_method_of_presign_is_told_in_the_words_of_the_command(trove: Run) -> None:
    assert "trove: Invalid value for 'METHOD': 'b/k' is not one of 'get', 'put'" in trove("presign", "b/k").err


def test_failures_of_different_kinds_are_a_failure(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    assert trove("rm", "b/missing", "b/other").code == 3
    mixed = trove("mb", "b", ".trove")
    assert (mixed.code, mixed.err.count("\n")) == (1, 2)


def test_access_denied_has_its_own_code() -> None:
    from trove_async.cli.errors import code_of
    from trove_async.errors import AccessDeniedError, UnauthenticatedError

    assert [code_of(error()) for error in (AccessDeniedError, UnauthenticatedError, PermissionError)] == [5, 5, 5]


def test_debug_shows_the_traceback(shell: Shell, trove: Run) -> None:
    shown = trove("--debug", "ls", "local:///no/store/here")
    assert (shown.code, "Traceback" in shown.err) == (2, True)
    assert "Traceback" not in trove("ls", "local:///no/store/here").err


def test_a_missing_store_is_reported_with_advice(trove: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TROVE_DSN")
    done = trove("cat", "photos/a.jpg")
    assert done.code == 2
    assert "set TROVE_DSN, give --store, or write ./photos/a.jpg" in done.err
    monkeypatch.setenv("TROVE_DSN", "")
    assert trove("ls").code == 2


def test_the_store_option_may_precede_or_follow_the_command(
    shell: Shell, trove: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trove("mb", "b")
    monkeypatch.setenv("TROVE_DSN", "local:///elsewhere")
    for arguments in (["--store", shell.dsn, "--json", "ls"], ["ls", "--store", shell.dsn, "--json"]):
        assert [record["name"] for record in trove(*arguments).records] == ["b"]


def test_no_error_shows_a_secret_of_the_dsn(trove: Run) -> None:
    dsn = "local://user:hunter2@host/x?presign_key=hunter2hunter2hunter2"
    for arguments in (["ls", "--store", dsn, "--debug"], ["ping", dsn], ["ls", dsn]):
        done = trove(*arguments)
        assert (done.code, done.out) == (2, b"")
        assert "hunter2" not in done.err


def test_without_its_packages_the_command_names_the_extra(shell: Shell) -> None:
    script = "import sys; sys.modules['click'] = None; from trove_async.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "trove: the command needs: pip install 'trove-async[cli]'\n"


def test_help_and_version(shell: Shell, trove: Run) -> None:
    shown = trove("--help")
    assert shown.code == 0
    commands = {
        *("ls", "cp", "mv", "rm", "cat", "put", "stat", "mb", "rb", "presign", "watch", "tag"),
        *("versions", "lifecycle", "ping", "conformance", "upload"),
    }
    assert [name for name in commands if f"\n  {name} " not in shown.text] == []
    assert all(trove(name, "--help").code == 0 for name in commands)
    assert trove("--version").text.startswith("trove 0.")


@pytest.mark.parametrize("arguments", [["-h"], ["cp", "-h"], ["versions", "ls", "-h"]])
def test_short_help(trove: Run, arguments: list[str]) -> None:
    done = trove(*arguments)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(b"Usage: trove")


def test_options_that_need_others_say_so(trove: Run) -> None:
    done = trove("presign", "get", "b/k", "--content-type", "text/plain")
    assert (done.code, done.err) == (2, "trove: --content-type is what a put must have; it needs the method put\n")
    assert trove("presign", "put", "b/k", "--version-id", "1").code == 2


def test_python_m_trove_async(shell: Shell) -> None:
    command = [sys.executable, "-m", "trove_async", "--version"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.startswith("trove ")
