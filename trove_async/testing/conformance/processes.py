"""Other processes, for checks of state that outlives a process."""

from __future__ import annotations

import asyncio
import pickle
import sys

import pytest

from trove_async.layers import Prefixed
from trove_async.testing.conformance.context import Context

__all__ = ["OPEN", "run_python", "store_for_another_process"]

OPEN = """
import asyncio, pickle, sys
import trove_async

def open_store(dsn, layers):
    return trove_async.open(dsn, layers=pickle.loads(bytes.fromhex(layers)))
"""
"""Code for `run_python`: ``open_store`` opens what `store_for_another_process` names."""


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


def store_for_another_process(ctx: Context) -> tuple[str, str]:
    """Return a DSN and layers, as arguments, with which another process sees the same data; or skip the check.

    The layers are those that change what is stored.
    """
    dsn = ctx.harness.dsn() if ctx.harness.outlives_process else None
    if dsn is None:
        pytest.skip("no other process sees what this backend holds")
    return dsn, pickle.dumps([layer for layer in ctx.layers if isinstance(layer, Prefixed)]).hex()
