"""``python -m benchmarks.limited``: one large object over a link that limits each connection, read and written.

Ceph's radosgw is reached through a proxy of this project, in a process of its own, which delays what passes and limits
the rate of each connection. Every measurement has a process of its own, and the clients take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.limited_clients import CLIENTS, KEY, MIB, contents, open_store
from benchmarks.measure import Meter
from tests.servers import running
from trove_async.testing.proxy import ConnectionFault, FaultProxy

_COLUMNS: Final = ("rate", "connections", "cpu", "memory")


async def _measure(client: str, endpoint: str, bucket: str, path: Path) -> None:
    """Measure one transfer, and print the result; ``trove cp`` is a process, whose CPU and memory count."""
    size = (await asyncio.to_thread(path.stat)).st_size
    chosen = CLIENTS[client]
    moved: list[object] = []
    with tempfile.TemporaryDirectory() as directory:
        own = path if chosen.uploads else Path(directory) / "file"
        async with chosen.opened(endpoint, bucket, own) as transfer:

            async def timed() -> None:
                moved.append(await transfer())

            async with Meter() as meter:
                await meter.time(timed)
    if not moved or (moved != [size] and not chosen.uploads):
        raise SystemExit(f"{client} read {moved} of {size} bytes")
    result = meter.result(1, size)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = result.cpu + children.ru_utime + children.ru_stime
    memory = max(result.memory, children.ru_maxrss * 1024)
    print(json.dumps({"rate": result.bytes_per_second, "cpu": cpu, "memory": memory}))


async def _proxy(rate: float, latency: float) -> None:
    """Forward connections to the server until the process ends; answer each line with the number of connections."""
    url = urlsplit(running("ceph").endpoint)
    async with FaultProxy(str(url.hostname), int(url.port or 80)) as proxy:
        if rate or latency:
            proxy.inject(ConnectionFault(rate=rate * 1e6 or None, latency=latency), times=None)
        print(proxy.url(), flush=True)
        seen = 0
        while await asyncio.to_thread(sys.stdin.readline):
            print(len(proxy.connections) - seen, flush=True)
            seen = len(proxy.connections)


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.limited", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


class _Comparison:
    """Clients that take turns at one object.

    Args:
        t: the store, without the proxy.
        bucket: holds the object.
        path: a file with the bytes of the object.
        clients: their names; all download, or all upload.
    """

    def __init__(self, t: Any, bucket: str, path: Path, clients: list[str]) -> None:
        self._t = t
        self._bucket = bucket
        self._path = path
        self._clients = clients
        self._etags: dict[int, str] = {}

    async def run(self, rate: float, latency: float, rounds: int) -> None:
        """Measure, and print a table."""
        found: dict[str, list[dict[str, float]]] = {name: [] for name in self._clients}
        with _process("--proxy", str(rate), str(latency)) as proxy:
            assert proxy.stdin is not None
            assert proxy.stdout is not None
            endpoint = (await asyncio.to_thread(proxy.stdout.readline)).strip()
            if not rate:
                endpoint = running("ceph").endpoint  # the proxy would be the limit
            for number in range(rounds):
                for name in self._clients if number % 2 == 0 else reversed(self._clients):
                    result = await self._one(name, endpoint)
                    proxy.stdin.write("\n")
                    proxy.stdin.flush()
                    connections = float(await asyncio.to_thread(proxy.stdout.readline))
                    if result is not None:
                        found[name].append({**result, "connections": connections})
        print("| client | MB/s | connections | CPU s | peak MiB | failed |\n|---|--:|--:|--:|--:|--:|")
        for name, results in found.items():
            median = {of: statistics.median(result[of] for result in results) if results else 0.0 for of in _COLUMNS}
            made = f"{median['connections']:.0f}" if rate else ""
            columns = f"{median['rate'] / 1e6:.0f} | {made} | {median['cpu']:.2f} | {median['memory'] / MIB:.0f}"
            print(f"| {name} | {columns} | {rounds - len(results)} |", flush=True)

    async def _one(self, client: str, endpoint: str) -> dict[str, float] | None:
        """Return what one measurement has found; None if it failed or the object is not what it should be."""
        uploads = CLIENTS[client].uploads
        if uploads:
            await self._t.delete(self._bucket, KEY)
        with _process("--one", client, endpoint, self._bucket, str(self._path)) as one:
            assert one.stdout is not None
            printed = await asyncio.to_thread(one.stdout.readline)
        if not printed.startswith("{") or (uploads and not await self._is_stored()):
            print(f"{client} failed: {printed.strip()}", file=sys.stderr)
            return None
        return dict(json.loads(printed))

    async def _is_stored(self) -> bool:
        """Tell whether the object has the size and the ETag that the file gives, in parts of that number."""
        found = await self._t.head(self._bucket, KEY)
        size = (await asyncio.to_thread(self._path.stat)).st_size
        count = int(found.etag.partition("-")[2] or 0)
        if count not in self._etags:
            self._etags[count] = await asyncio.to_thread(_etag, self._path, size, count)
        return bool(found.size == size and found.etag == self._etags[count])


def _etag(path: Path, size: int, count: int) -> str:
    """Return the ETag that S3 gives to a file in parts of equal size, in whole MiB; 0 parts are one request."""
    part = -(-size // (max(1, count) * MIB)) * MIB
    digests = []
    with path.open("rb") as file:
        while data := file.read(part):
            digests.append(hashlib.md5(data, usedforsecurity=False))
    if not count:
        return digests[0].hexdigest()
    joined = b"".join(digest.digest() for digest in digests)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{count}"


async def _write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        async for chunk in contents(size):
            file.write(chunk)


async def _run(arguments: argparse.Namespace) -> None:
    clients = [name for name in CLIENTS if name.startswith(tuple(arguments.clients.split(",")))]
    for name in [name for name in clients if find_spec(CLIENTS[name].package) is None]:
        print(f"{name} is not installed")
        clients.remove(name)
    directions = {
        "download": [name for name in clients if not CLIENTS[name].uploads],
        "upload": [name for name in clients if CLIENTS[name].uploads],
    }
    bucket = f"bench-{uuid.uuid4().hex[:16]}"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "object"
        await _write(path, arguments.size * MIB)
        async with open_store(running("ceph").endpoint) as t:
            await t.create_bucket(bucket)
            try:
                await t.put(bucket, KEY, path)
                for rate, latency in ((arguments.rate, arguments.latency), (0.0, 0.0)):
                    link = f"{rate:g} MB/s and {latency * 1000:g} ms for each connection" if rate else "no limit"
                    for direction, chosen in directions.items():
                        if chosen:
                            print(f"\n{direction}, {link}")
                            await _Comparison(t, bucket, path, chosen).run(rate, latency, arguments.rounds)
            finally:
                await t.delete(bucket, KEY)
                await t.delete_bucket(bucket)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limited", description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="MiB of the object (default: 512)")
    parser.add_argument("--rate", type=float, default=15, help="MB/s of a connection (default: 15)")
    parser.add_argument("--latency", type=float, default=0.03, help="seconds of delay, each way (default: 0.03)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each client (default: 3)")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="what their names begin with, separated by commas")
    parser.add_argument("--proxy", nargs=2, type=float, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    if given.proxy:
        asyncio.run(_proxy(*given.proxy))
    elif given.one:
        client, endpoint, bucket, path = given.one
        asyncio.run(_measure(client, endpoint, bucket, Path(path)))
    else:
        asyncio.run(_run(given))
