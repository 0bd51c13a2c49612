"""The benchmark of starts, with one measurement of each process."""

from __future__ import annotations

import subprocess
import sys


def test_every_process_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.start", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")]
    least = {name.strip(): int(wall) for name, wall, *_ in rows[1:]}
    ours = {"python -c pass", "import asyncio", "import trove_async", "trove_async.open"}
    ours |= {"trove --help", "trove ls, local", "trove ls, Ceph"}
    assert ours <= set(least)
    assert min(least.values()) > 0
