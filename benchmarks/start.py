"""``python -m benchmarks.start``: how long processes take that do next to nothing.

They import modules, or run a command that prints a page of help or lists the buckets of a local store or of Ceph's
radosgw. The processes take turns; the first round writes the compiled modules and does not count.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple

import trove_async
from benchmarks.limited_clients import command_environment
from tests.servers import running

_IMPORTS: Final = {
    "python -c pass": "pass",
    "import asyncio": "import asyncio",
    "import trove_async": "import trove_async",
    "trove_async.open": "import trove_async; trove_async.open",
    "import obstore": "import obstore",
}
"""Programs, by what the table calls them."""


class _Run(NamedTuple):
    """What one process took: milliseconds, and milliseconds of CPU."""

    wall: float
    cpu: float


def _commands(local: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the commands to measure, by what the table calls them; those of missing clients are left out."""
    for name, program in _IMPORTS.items():
        if "obstore" in name and find_spec("obstore") is None:
            print(f"{name} is not installed")
        else:
            yield name, [sys.executable, "-c", program]
    trove = [sys.executable, "-m", "trove_async.cli"]
    server = running("ceph")
    yield "trove --help", [*trove, "--help"]
    yield "trove ls, local", [*trove, "ls", local]
    yield "trove ls, Ceph", [*trove, "ls", f"s3://{server.region}?endpoint={server.endpoint}"]
    peers = {
        "rclone lsd": ["rclone", "lsd", "ceph:"],
        "aws s3 ls": ["aws", "--endpoint-url", server.endpoint, "s3", "ls"],
    }
    for name, command in peers.items():
        if shutil.which(command[0]):
            yield f"{name}, Ceph", command
        else:
            print(f"{command[0]} is not installed")


def _run(command: list[str], environment: Mapping[str, str]) -> _Run:
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {said.decode().strip()}")
    return _Run(wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000)


def _compare(commands: Mapping[str, list[str]], rounds: int) -> None:
    """Measure, and print a table."""
    environment = {**os.environ, **command_environment()}
    found: dict[str, list[_Run]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name in commands if number % 2 == 0 else reversed(list(commands)):
            found[name].append(_run(commands[name], environment))
    print("| process | ms, least | ms, median | CPU ms, median |\n|---|--:|--:|--:|")
    for name, (_, *runs) in found.items():
        wall = [run.wall for run in runs]
        cpu = statistics.median(run.cpu for run in runs)
        print(f"| {name} | {min(wall):.0f} | {statistics.median(wall):.0f} | {cpu:.0f} |")


async def _make_store(dsn: str) -> None:
    async with trove_async.open(dsn) as store:
        for name in ("assets", "backups"):
            await store.create_bucket(name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each process (default: 15)")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    with tempfile.TemporaryDirectory() as directory:
        store_dsn = f"local://{directory}/store?create=1"
        asyncio.run(_make_store(store_dsn))
        _compare(dict(_commands(store_dsn)), given.rounds)
