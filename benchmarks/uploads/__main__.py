"""``python -m benchmarks.uploads``: resumable uploads on several HTTP servers, and other servers of the tus protocol.

Each measurement has a new server, and a client in a process of its own; the CPU time and memory are those of the server
alone. The servers take turns, in the reverse order in every second round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import uuid
from collections.abc import Collection, Iterable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.uploads.report import Measurements, UploadResult, table
from benchmarks.uploads.rows import ROWS, Load, Row, content, missing, run, warm_up
from benchmarks.uploads.servers import PATH, SERVERS, Place, Server, remove_bucket
from benchmarks.uploads.usage import Probe, Usage
from tests.servers import ServerError, running
from tests.servers.registry import SERVERS as TEST_SERVERS
from tests.servers.registry import SOFTWARE
from tests.uploads.processes import ServerProcess

_TIMEOUT: Final = 300
_PACKAGES: Final = ("uvicorn", "uvloop", "httptools", "aiohttp", "granian", "hypercorn", "fastapi")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--rows", default="", help="rows by name or kind, separated by commas (default: all)")
    parser.add_argument("--servers", default="", help="parts of their names, separated by semicolons (default: all)")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="of uvicorn (default: uvloop)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the work (default: 1)")
    parser.add_argument("--directory", type=Path, help="directory for files (default: a temporary directory)")
    parser.add_argument("--output", type=Path, default=Path("build/benchmark"), help="(default: build/benchmark)")
    parser.add_argument("--load", nargs=2, metavar=("ROW", "PORT"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _chosen(option: str, given: str, known: Collection[str], separator: str) -> list[str]:
    """Return the names that are given or contain a given word, in their order."""
    words = [word.strip() for word in given.split(separator) if word.strip()]
    for word in words:
        if not any(word in name for name in known):
            raise SystemExit(f"{option}: unknown: {word}; there are: {f'{separator} '.join(known)}")
    return [
        name
        for name in known
        if not words or any(name == word or (word in name and word not in known) for word in words)
    ]


def _prepare(servers: Iterable[Server]) -> None:
    """Start or look for what the servers need, so that something that is missing is reported immediately."""
    for server in servers:
        needed: Any = server.needs
        try:
            if needed in TEST_SERVERS:
                running(needed)
            elif needed is not None and SOFTWARE[needed].missing():
                raise ServerError(f"install it: python -m tests.servers install {needed}")
        except ServerError as error:
            raise SystemExit(f"{server.name}: {error}") from None


def _load(row: Row, port: int) -> None:
    """Upload, in the process of the client, when a line arrives; print what was seen."""
    content(0, row.size)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(asyncio.run(run(row, port, PATH)))), flush=True)


async def _measure(server: Server, row: Row, scale: float, loop: str, folder: Path) -> UploadResult:
    place = Place(folder, f"trove-bench-{uuid.uuid4().hex[:12]}", loop)
    with tempfile.NamedTemporaryFile(prefix="trove-bench-", suffix=".log") as log:
        async with ServerProcess(partial(_command, server, place), Path(log.name)) as process:
            await warm_up(process.port, PATH)
            client = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.uploads", "--load", row.name, str(process.port)),
                *("--scale", str(scale)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert client.stdin is not None
            assert client.stdout is not None
            await client.stdout.readline()
            usage = Usage(process.pid)
            with Probe(process.port) as probe:
                client.stdin.write(b"\n")
                printed = await client.stdout.readline()
            cpu, memory = usage.cpu(), usage.memory()
            await client.wait()
        load = Load(**json.loads(printed))
        scaled = row.scaled(scale)
        errors = load.errors
        if server.stored is not None:
            lost = missing(scaled, await server.stored(place, scaled.size))
            errors = [*errors, *["not stored as it was sent"] * (lost - len(errors))]
        if server.needs == "ceph":
            await remove_bucket(place)
    for error in dict.fromkeys(errors):
        print(f"  {server.name}: {row.name}: {error}")
    times = sorted(load.times)
    return UploadResult(
        cpu=cpu,
        size=scaled.uploads * scaled.size,
        elapsed=load.elapsed,
        p50=times[len(times) // 2] if times else None,
        p99=times[min(len(times) - 1, len(times) * 99 // 100)] if times else None,
        memory=memory,
        uploads=scaled.uploads,
        wait=probe.longest,
        failures=len(errors),
    )


def _command(server: Server, place: Place, port: int) -> list[str]:
    return list(server.command(place, port))


def _run(arguments: argparse.Namespace, rows: list[Row], servers: list[Server]) -> Measurements:
    measurements: Measurements = {}
    for row in rows:
        for number in range(arguments.rounds):
            for server in servers[:: -1 if number % 2 else 1]:
                if row.kind not in server.rows:
                    continue
                with tempfile.TemporaryDirectory(prefix="trove-bench-", dir=arguments.directory) as folder:
                    work = _measure(server, row, arguments.scale, arguments.loop, Path(folder))
                    result = asyncio.run(asyncio.wait_for(work, _TIMEOUT))
                measurements.setdefault((row.name, server.name), []).append(result)
            print(f"{row.name}: round {number + 1} of {arguments.rounds}", flush=True)
    return measurements


def _write(measurements: Measurements, arguments: argparse.Namespace) -> str:
    """Write the results; return them as a table."""
    conditions = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "rounds": arguments.rounds,
        "scale": arguments.scale,
        "loop": arguments.loop,
        "versions": {name: version(name) for name in _PACKAGES},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = table(measurements)
    heading = "\n".join(f"- {name}: {value}" for name, value in conditions.items())
    (arguments.output / "uploads.md").write_text(f"# Resumable uploads\n\n{heading}\n\n{text}\n")
    rounds = [
        {"row": row, "server": server, "rounds": [asdict(each) for each in results]}
        for (row, server), results in measurements.items()
    ]
    written = json.dumps({"conditions": conditions, "measurements": rounds}, indent=1)
    (arguments.output / "uploads.json").write_text(written)
    return text


def main() -> None:
    """Measure with the options of the command line, and print the table."""
    arguments = _arguments()
    if arguments.load:
        name, port = arguments.load
        _load(ROWS[name].scaled(arguments.scale), int(port))
        return
    rows = [ROWS[name] for name in _chosen("--rows", arguments.rows, ROWS, ",")]
    servers = [SERVERS[name] for name in _chosen("--servers", arguments.servers, SERVERS, ";")]
    _prepare(servers)
    print(_write(_run(arguments, rows, servers), arguments))
    print(f"written to {arguments.output}/uploads.md and uploads.json")


if __name__ == "__main__":
    main()
