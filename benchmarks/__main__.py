"""``python -m benchmarks``: measure, and write ``results.md``, ``results.json`` and ``results.png``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.client import Target
from benchmarks.measure import Result
from benchmarks.registry import BACKENDS, PEERS, REMOTES, S3_SERVERS, has_client, make_client, workloads_on
from benchmarks.report import Measurements, chart, table, write_json
from benchmarks.targets import targets
from benchmarks.workloads import WORKLOADS, run_workload
from tests.servers import ServerError, running

_PACKAGES = {"trove": "trove-async", "gcloud-aio": "gcloud-aio-storage", "azure-sdk": "azure-storage-blob"}
_TIMEOUT = 300
_SETTLE = 6
"""Seconds to wait after many files were removed. ext4 avoids inodes that were freed in the last minute, which
affects all clients equally; waiting for a minute after every workload would take longer than the measurement."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--backend", default=",".join(BACKENDS), help="backends, separated by commas (default: all)")
    parser.add_argument("--vs", default=",".join(PEERS), help="peers, separated by commas (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument(
        "--only",
        default="",
        help="workloads by name, size or kind, such as 'put 1 MiB', '4 KiB' or 'list', separated by commas",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the work (default: 1)")
    parser.add_argument("--fsync", action="store_true", help="sync every put; only clients that can are measured")
    parser.add_argument("--directory", type=Path, help="directory for local files (default: a temporary directory)")
    parser.add_argument("--output", type=Path, default=Path("build/benchmark"), help="(default: build/benchmark)")
    parser.add_argument("--one", nargs=3, metavar=("CLIENT", "WORKLOAD", "PLACE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    _check(parser, "--backend", arguments.backend, BACKENDS)
    _check(parser, "--vs", arguments.vs, PEERS)
    kinds = {workload.kind for workload in WORKLOADS.values()}
    sizes = {name.removeprefix(f"{workload.kind} ") for name, workload in WORKLOADS.items()}
    _check(parser, "--only", arguments.only, (*WORKLOADS, *kinds, *sizes))
    return arguments


def _check(parser: argparse.ArgumentParser, option: str, given: str, known: Iterable[str]) -> None:
    unknown = [name for name in filter(None, given.split(",")) if name not in known]
    if unknown:
        parser.error(f"{option}: unknown: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")


def _start_servers(backends: str) -> None:
    """Start the servers first, so that a missing one is reported immediately."""
    for backend in backends.split(","):
        server: Any = REMOTES[backend].server if backend in REMOTES else S3_SERVERS.get(backend)
        if server is not None:
            try:
                running(server)
            except ServerError as error:
                raise SystemExit(f"--backend {backend}: {error}") from None


async def _measure_one(name: str, workload: str, target: Target, scale: float) -> Result:
    client = make_client(name, target)
    await client.open()
    try:
        return await run_workload(client, workloads_on(target.backend)[workload].scaled(scale))
    finally:
        await client.close()


def _in_a_process(name: str, workload: str, target: Target, scale: float) -> Result | None:
    """Measure in a separate process, so that all clients have the same conditions."""
    command = [sys.executable, "-m", "benchmarks", "--one", name, workload, target.dump(), "--scale", str(scale)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        print(f"  {name}: gave up after {_TIMEOUT} s")
        return None
    *notes, last = done.stdout.strip().splitlines() or [""]
    measured = last.startswith("{")
    for note in notes if measured else [*notes, last]:
        print(f"  {name}: {note.strip()}")
    if done.returncode:  # a library may crash when its process ends; the measurement is valid nevertheless
        print(f"  {name}: ended with {done.returncode}, {'after' if measured else 'and not'} having measured")
    return Result(**json.loads(last)) if measured else None


def _run(arguments: argparse.Namespace, backend: str, measurements: Measurements) -> None:
    for name in workloads_on(backend):
        if not arguments.only or any(_is_meant(name, part) for part in arguments.only.split(",")):
            _run_rounds(arguments, backend, name, measurements)
            if backend == "local":
                time.sleep(_SETTLE * min(1.0, arguments.scale))


def _is_meant(workload: str, part: str) -> bool:
    return part in (workload, WORKLOADS[workload].kind) or workload.endswith(f" {part}")


def _run_rounds(arguments: argparse.Namespace, backend: str, name: str, measurements: Measurements) -> None:
    """Measure one workload.

    Rounds are interleaved, so that a machine that slows down affects all clients equally, and every second round has
    the reverse order: a server allocates memory that the next client finds ready. The first client has a warm-up.
    """
    fsync, scale = arguments.fsync, arguments.scale
    workload = workloads_on(backend)[name].scaled(scale)
    kind = {"streams": workload.streams, "deep": workload.deep}
    clients = [client for client in _clients(arguments) if has_client(client, backend, fsync=fsync, **kind)]
    with targets(backend, workload, fsync=fsync, directory=arguments.directory) as target_for:
        if backend in REMOTES or backend in S3_SERVERS:
            with target_for("warm-up") as target:
                _in_a_process(clients[0], name, target, scale)
        for number in range(arguments.rounds):
            for client in clients[:: -1 if number % 2 else 1]:
                with target_for(f"{client}-{number}") as target:
                    result = _in_a_process(client, name, target, scale)
                if result is not None:
                    measurements.setdefault((backend, name, client), []).append(result)
            print(f"{backend}: {name}: round {number + 1} of {arguments.rounds}", flush=True)


def _clients(arguments: argparse.Namespace) -> list[str]:
    return ["trove", *filter(None, arguments.vs.split(","))]


def _version(client: str) -> str:
    """Return the version of a client."""
    if client == "openssh":
        return subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.partition(",")[0]
    return version(_PACKAGES.get(client, client))


def _write(measurements: Measurements, conditions: dict[str, object], output: Path) -> str:
    """Write the results; return them as tables."""
    output.mkdir(parents=True, exist_ok=True)
    text = table(measurements)
    heading = "\n".join(f"- {name}: {value}" for name, value in conditions.items())
    (output / "results.md").write_text(f"# Benchmark\n\n{heading}\n\n{text}\n")
    write_json(measurements, output / "results.json", conditions)
    chart(measurements, output / "results.png")
    return text


def main() -> None:
    """Run the benchmark with the options of the command line."""
    arguments = _arguments()
    if arguments.one:
        client, workload, target = arguments.one
        result = asyncio.run(_measure_one(client, workload, Target.load(target), arguments.scale))
        print(json.dumps(asdict(result)))
        return
    _start_servers(arguments.backend)
    backends = arguments.backend.split(",")
    conditions: dict[str, object] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "rounds": arguments.rounds,
        "fsync": arguments.fsync,
        "scale": arguments.scale,
        "versions": {
            client: _version(client)
            for client in _clients(arguments)
            if any(has_client(client, backend, fsync=arguments.fsync) for backend in backends)
        },
    }
    measurements: Measurements = {}
    text = ""
    for backend in backends:
        _run(arguments, backend, measurements)
        text = _write(measurements, conditions, arguments.output)  # a later measurement may fail
    print(text)
    print(f"written to {arguments.output}/results.md, results.json and results.png")


if __name__ == "__main__":
    main()
