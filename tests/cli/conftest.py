"""Fixtures of the tests of the command."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

import pytest

from tests.cli.shell import COMMAND_VARIABLES, Done, Shell
from trove_async.cli.app import run


class Run(Protocol):
    """Runs the command with arguments and standard input."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Done: ...


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with an empty store."""
    return Shell(tmp_path)


@pytest.fixture
def trove(shell: Shell, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs the command within the test's process, which is faster, with descriptors like those of a process."""
    monkeypatch.chdir(shell.folder)
    for name in os.environ.keys() & COMMAND_VARIABLES:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TROVE_DSN", shell.dsn)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(shell.folder / "no-configuration"))

    def call(*arguments: str, stdin: bytes = b"") -> Done:
        capfdbinary.readouterr()
        with TemporaryFile() as file, _as_standard_input(file, stdin):
            code = run(arguments)
        out, err = capfdbinary.readouterr()
        return Done(code, out, err.decode())

    return call


@contextmanager
def _as_standard_input(file: IO[bytes], data: bytes) -> Iterator[None]:
    file.write(data)
    file.seek(0)
    saved = os.dup(0)
    os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)
