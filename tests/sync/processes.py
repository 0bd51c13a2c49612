"""Run a piece of Python in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent
from typing import Final

__all__ = ["run", "start"]

_STRICT: Final = (sys.executable, "-X", "dev", "-W", "error")  # what asyncio or a finalizer complains about is printed


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in which every warning is an error, and return what it printed."""
    return subprocess.run(
        [*_STRICT, "-c", dedent(code), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start such code; its standard output and error are one pipe."""
    return subprocess.Popen(
        [*_STRICT, "-u", "-c", dedent(code), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
