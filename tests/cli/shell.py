"""`Shell`: runs the command as a process, as people and scripts do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trove_async.cli.harness import DSN_VARIABLE, PREFIX_VARIABLE
from trove_async.cli.options import STORE_VARIABLE
from trove_async.cli.upload import HEADERS_VARIABLE
from trove_async.config import VARIABLE as CONFIG_VARIABLE

COMMAND_VARIABLES = {STORE_VARIABLE, CONFIG_VARIABLE, DSN_VARIABLE, PREFIX_VARIABLE, HEADERS_VARIABLE}
"""The environment variables that the command reads; others, such as ``TROVE_SERVERS``, are the tests' own."""
COMMAND = [sys.executable, "-m", "trove_async.cli"]
PATIENCE = 60.0


@dataclass(frozen=True)
class Done:
    """A finished run."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def heed_interrupts() -> None:
    """Let this process take notice of SIGINT, which one that was started in the background ignores."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Process(subprocess.Popen[bytes]):
    """A running command, which is killed if the test fails."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


def until(condition: Callable[[], object], process: Process) -> None:
    """Wait until a condition holds while a process runs."""
    while not condition():
        assert process.poll() is None, "the process ended first"
        time.sleep(0.01)


class Shell:
    """A folder, and a store in it that ``TROVE_DSN`` names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "store"
        self.root.mkdir()
        self.dsn = f"local://{self.root}?fsync=0"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in COMMAND_VARIABLES},
            "TROVE_DSN": self.dsn,
        }

    def start(self, *arguments: str, **options: Any) -> Process:
        """Start a run; its output comes through pipes unless ``options`` say otherwise."""
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": heed_interrupts,
        }
        return Process([*COMMAND, *arguments], **settings | options)

    def run(self, *arguments: str, stdin: bytes = b"", **environment: str | None) -> Done:
        """Run to the end; ``environment`` changes variables, None removes one."""
        variables = {**self.environment, **environment}
        env = {name: value for name, value in variables.items() if value is not None}
        with self.start(*arguments, stdin=subprocess.PIPE, env=env) as process:
            out, err = process.communicate(stdin, timeout=PATIENCE)
        return Done(process.returncode, out, err.decode())

    def ok(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run to the end, and assert success."""
        done = self.run(*arguments, stdin=stdin)
        assert done.code == 0, f"{arguments} ended with {done.code}: {done.err}"
        return done

    def write(self, path: str, data: bytes) -> Path:
        """Write a file in the folder."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return target
