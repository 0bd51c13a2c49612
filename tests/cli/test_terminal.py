"""Behaviour on a terminal, and readers that close the pipe."""

from __future__ import annotations

import os
import pty
import select
import sys
from pathlib import Path

import pytest

import trove_async.cli
from tests.cli.conftest import Run
from tests.cli.shell import PATIENCE, Shell
from trove_async.cli.output import Output
from trove_async.cli.progress import count_bar
from trove_async.errors import MissingDependencyError

CURSOR_UP_OR_CLEAR = b"\x1b["


def on_terminal(shell: Shell, *arguments: str, answer: bytes = b"", stdout: int | None = None) -> tuple[int, bytes]:
    """Run on a new terminal; return the exit code and the output."""
    ours, theirs = pty.openpty()
    output = theirs if stdout is None else stdout
    environment = {**shell.environment, "TERM": "xterm", "COLUMNS": "100"}
    with shell.start(*arguments, stdin=theirs, stdout=output, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        answered = not answer
        while select.select([ours], [], [], PATIENCE)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not answered and shown.endswith(b"[y/N] "):
                answered = True
                os.write(ours, answer)
        code = process.wait(PATIENCE)
    os.close(ours)
    return code, shown


@pytest.fixture
def tree(shell: Shell, trove: Run) -> Path:
    for number in range(20):
        shell.write(f"tree/{number}", bytes(100_000))
    trove("mb", "b")
    return shell.folder / "tree"


def test_progress_shows_on_a_terminal_and_results_stay_clean(shell: Shell, tree: Path) -> None:
    reading, writing = os.pipe()
    code, shown = on_terminal(shell, "cp", "-r", "./tree", "b/t", "--json", stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as results:
        lines = results.read().splitlines()
    assert code == 0
    assert CURSOR_UP_OR_CLEAR in shown
    assert b"of 20" in shown
    assert b"trove: 20 copied, 0 unchanged" in shown
    assert len(lines) == 20
    assert all(line.startswith(b"{") and line.endswith(b"}") for line in lines)


def test_quiet_shows_nothing_on_a_terminal(shell: Shell, tree: Path) -> None:
    assert on_terminal(shell, "cp", "-r", "--quiet", "./tree", "b/t") == (0, b"")


def test_no_progress_without_a_terminal(shell: Shell, tree: Path) -> None:
    done = shell.run("cp", "-r", "./tree", "b/t", FORCE_COLOR="1")
    assert (done.code, done.out, done.err) == (0, b"", "trove: 20 copied, 0 unchanged\n")


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 2), (b"\n", 2), (b"\x04", 2), (b"y\n", 0)])
def test_rm_asks_on_a_terminal(shell: Shell, trove: Run, answer: bytes, left: int) -> None:
    trove("mb", "b")
    for key in ("b/t/1", "b/t/2"):
        trove("put", "-", key)
    code, shown = on_terminal(shell, "rm", "-r", "b/t", answer=answer)
    assert (code, b"remove all of 'b/t'? [y/N]" in shown) == (0, True)
    assert len(trove("ls", "-r", "b").lines) == left


@pytest.mark.parametrize("arguments", [["cat", "b/big"], ["ls", "-r", "b"]])
def test_a_reader_that_closes_the_pipe_is_not_an_error(
    shell: Shell, trove: Run, tree: Path, arguments: list[str]
) -> None:
    trove("put", "-", "b/big", stdin=bytes(1024 * 1024))
    for number in range(3):
        trove("cp", "-r", "./tree", f"b/{'x' * 250}/{number}")
    reading, writing = os.pipe()
    with shell.start(*arguments, stdout=writing) as process:
        os.close(writing)
        os.close(reading)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (141, b"")


def test_a_full_output_device_is_an_error(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    trove("put", "-", "b/k", stdin=b"1")
    for arguments in (["cat", "b/k"], ["ls", "b"]):
        with open("/dev/full", "wb") as full, shell.start(*arguments, stdout=full) as process:
            _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err.count(b"\n")) == (1, 1)
        assert err.startswith(b"trove: ")


def test_standard_streams_that_are_closed(shell: Shell, trove: Run) -> None:
    """No file of the store takes the number of a closed stream, where it would be read or written in its place."""
    trove("mb", "b")
    trove("put", "-", "b/k", stdin=b"1")
    runs = [
        (["cat", "b/k"], 1, b"trove: standard output is closed\n"),
        (["cp", "b/k", "-"], 1, b"trove: standard output is closed\n"),
        (["ls", "b"], 1, b"trove: standard output is closed\n"),
        (["cp", "-", "b/k"], 0, b"trove: standard input is closed\n"),
        (["ls", "b"], 2, b""),
        (["ls", "missing"], 2, b""),
    ]
    for arguments, stream, said in runs:
        with shell.start(*arguments, preexec_fn=lambda stream=stream: os.close(stream)) as process:
            _, err = process.communicate(timeout=PATIENCE)
        assert (err, process.returncode != 0) == (said, bool(said) or "missing" in arguments), arguments
    trove("mb", "c")
    with shell.start("rm", "b/k", preexec_fn=lambda: os.closerange(0, 3)) as process:
        assert process.wait(PATIENCE) == 0
    assert trove("ls", "b").lines == []


def test_a_pipeline(shell: Shell, trove: Run) -> None:
    trove("mb", "b")
    body = bytes(range(256)) * 20_000
    trove("put", "-", "b/k", stdin=body)
    with shell.start("cat", "b/k") as source:
        with shell.start("put", "-", "b/copy", stdin=source.stdout) as sink:
            assert source.stdout is not None
            source.stdout.close()
            assert sink.wait(PATIENCE) == 0
        assert source.wait(PATIENCE) == 0
    assert trove("cat", "b/copy").out == body


def test_a_progress_bar_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Output, "shows_progress", True)
    monkeypatch.delitem(sys.modules, "trove_async.cli.bars", raising=False)
    monkeypatch.delattr(trove_async.cli, "bars", raising=False)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'trove-async\[cli\]', or give --quiet"):
        count_bar(Output(), "removed")
