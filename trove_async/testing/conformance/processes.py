"""Other processes, for checks of state that outlives a process."""

from __future__ import annotations

import asyncio
import sys

import pytest

from trove_async.testing.conformance.context import Context

__all__ = ["dsn_for_another_process", "run_python"]


async def run_python(code: str, *arguments: str) -> str:
    """Run code in a new process and return its output.

    Raises:
        AssertionError: it failed; with what it wrote to stderr.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


def dsn_for_another_process(ctx: Context) -> str:
    """Return a DSN with which another process sees the same data, or skip the check."""
    dsn = ctx.harness.dsn() if ctx.harness.outlives_process else None
    if dsn is None:
        pytest.skip("no other process sees what this backend holds")
    return dsn
