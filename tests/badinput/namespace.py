"""Run checks that mount a file system, in a mount namespace of root or one that this user may create."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

__all__ = ["run_in_namespace"]

_REPOSITORY = Path(__file__).parents[2]


async def run_in_namespace(module: str, *arguments: str | Path, **environment: str) -> None:
    """Run a module with arguments, and fail with what it prints if it fails."""
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    process = await asyncio.create_subprocess_exec(
        *namespace, sys.executable, "-m", module, *arguments, cwd=_REPOSITORY, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    output = out.decode()
    if "unshare: " in output or "permission denied" in output:
        pytest.fail(
            "this test mounts a small tmpfs in a new namespace: run it as root, or allow it to users "
            f"(sysctl kernel.unprivileged_userns_clone=1)\n{output}"
        )
    assert process.returncode == 0, output
