"""Run a piece of Python in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from textwrap import dedent
from typing import Final

__all__ = ["STRICT", "run", "start"]

STRICT: Final = (sys.executable, "-W", "error")  # what a finalizer complains about is printed


def run(code: str, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in which every warning is an error, unless the options of Python say otherwise."""
    return subprocess.run(
        [*STRICT, *options, "-c", dedent(code), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start such code; its standard output and error are one pipe."""
    return subprocess.Popen(
        [*STRICT, "-u", "-c", dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
