"""``python -m benchmarks.limited``: one large object over a link that limits each connection.

Ceph's radosgw is reached through a proxy of this project, in a process of its own, which delays what passes and limits
the rate of each connection. Every measurement has a process of its own, and the clients take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trove_async
from benchmarks.measure import Meter
from tests.servers import running
from trove_async.testing.proxy import ConnectionFault, FaultProxy

MIB: Final = 1024 * 1024
_KEY: Final = "large"

Download = Callable[[], Awaitable[int]]
"""Reads the object, some clients into a file, and returns its size."""

Opened = Callable[[str, str, Path], AbstractAsyncContextManager[Download]]
"""Opens a client for an endpoint, a bucket and a file."""


def _store(endpoint: str) -> Any:
    handle = running("ceph")
    return trove_async.open(
        f"s3://{handle.region}/",
        endpoint=endpoint,
        profile="ceph",
        access_key=handle.access_key,
        secret_key=handle.secret_key,
    )


async def _size(path: Path) -> int:
    return (await asyncio.to_thread(path.stat)).st_size


@asynccontextmanager
async def _get(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Download]:
    async def get() -> int:
        total = 0
        async with t.get(bucket, _KEY) as reader:
            async for chunk in reader:
                total += len(chunk)
        return total

    async with _store(endpoint) as t:
        yield get


@asynccontextmanager
async def _read(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Download]:
    async def read() -> int:
        return len(await t.read(bucket, _KEY))

    async with _store(endpoint) as t:
        yield read


@asynccontextmanager
async def _download(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Download]:
    async def download() -> int:
        await t.download(bucket, _KEY, path)
        return await _size(path)

    async with _store(endpoint) as t:
        yield download


@asynccontextmanager
async def _obstore(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Download]:
    import obstore
    from obstore.store import S3Store

    handle = running("ceph")
    store = S3Store(
        bucket,
        endpoint=endpoint,
        region=handle.region,
        access_key_id=handle.access_key,
        secret_access_key=handle.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "10 minutes"},
    )

    async def get() -> int:
        total = 0
        async for chunk in (await obstore.get_async(store, _KEY)).stream():
            total += len(chunk)
        return total

    yield get


@asynccontextmanager
async def _s3transfer(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Download]:
    import boto3

    handle = running("ceph")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=handle.region,
        aws_access_key_id=handle.access_key,
        aws_secret_access_key=handle.secret_key,
    )

    async def download() -> int:
        await asyncio.to_thread(client.download_file, bucket, _KEY, str(path))
        return await _size(path)

    yield download


@asynccontextmanager
async def _awscrt(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Download]:
    from awscrt import auth, http, io, s3

    handle = running("ceph")
    loops = io.EventLoopGroup()
    keys = auth.AwsCredentialsProvider.new_static(handle.access_key, handle.secret_key)
    client = s3.S3Client(
        bootstrap=io.ClientBootstrap(loops, io.DefaultHostResolver(loops)),
        region=handle.region,
        tls_mode=s3.S3RequestTlsMode.DISABLED,
        signing_config=s3.create_default_s3_signing_config(region=handle.region, credential_provider=keys),
    )
    headers = http.HttpHeaders([("Host", urlsplit(endpoint).netloc)])

    async def download() -> int:
        request = client.make_request(
            type=s3.S3RequestType.GET_OBJECT,
            request=http.HttpRequest("GET", f"/{bucket}/{_KEY}", headers),
            recv_filepath=str(path),
        )
        await asyncio.wrap_future(request.finished_future)
        return await _size(path)

    yield download


CLIENTS: Final[dict[str, tuple[Opened, str]]] = {
    "trove get": (_get, "trove_async"),
    "trove read": (_read, "trove_async"),
    "trove download": (_download, "trove_async"),
    "obstore": (_obstore, "obstore"),
    "s3transfer": (_s3transfer, "boto3"),
    "awscrt": (_awscrt, "awscrt"),
}
"""What is measured, each with the package that it needs. s3transfer, awscrt and ``trove download`` write a file."""


async def _measure(client: str, endpoint: str, bucket: str, size: int) -> None:
    """Measure one download, and print the result."""
    found: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        async with CLIENTS[client][0](endpoint, bucket, Path(directory) / "file") as download:

            async def timed() -> None:
                found.append(await download())

            async with Meter() as meter:
                await meter.time(timed)
    if found != [size]:
        raise SystemExit(f"{client} read {found} of {size} bytes")
    result = meter.result(1, size)
    print(json.dumps({"rate": result.bytes_per_second, "cpu": result.cpu, "memory": result.memory}))


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


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MIB):
        yield os.urandom(MIB)


async def _run(arguments: argparse.Namespace) -> None:
    size = arguments.size * MIB
    clients = [name for name in CLIENTS if name.startswith(tuple(arguments.clients.split(",")))]
    for name in [name for name in clients if find_spec(CLIENTS[name][1]) is None]:
        print(f"{name} is not installed")
        clients.remove(name)
    bucket = f"bench-{uuid.uuid4().hex[:16]}"
    async with _store(running("ceph").endpoint) as t:
        await t.create_bucket(bucket)
        try:
            await t.put(bucket, _KEY, _chunks(size))
            for rate, latency in ((arguments.rate, arguments.latency), (0.0, 0.0)):
                print(f"\n{rate:g} MB/s and {latency * 1000:g} ms for each connection" if rate else "\nno limit")
                await asyncio.to_thread(_compare, clients, bucket, size, rate, latency, arguments.rounds)
        finally:
            await t.delete(bucket, _KEY)
            await t.delete_bucket(bucket)


def _compare(clients: list[str], bucket: str, size: int, rate: float, latency: float, rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in clients}
    with _process("--proxy", str(rate), str(latency)) as proxy:
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        endpoint = proxy.stdout.readline().strip()
        if not rate:
            endpoint = running("ceph").endpoint  # the proxy would be the limit
        for number in range(rounds):
            for name in clients if number % 2 == 0 else reversed(clients):
                with _process("--one", name, endpoint, bucket, str(size)) as one:
                    assert one.stdout is not None
                    printed = one.stdout.readline()
                if not printed:
                    raise SystemExit(f"{name} failed")
                proxy.stdin.write("\n")
                proxy.stdin.flush()
                found[name].append({**json.loads(printed), "connections": float(proxy.stdout.readline())})
    print("| client | MB/s | connections | CPU s | peak MiB |\n|---|--:|--:|--:|--:|")
    for name, results in found.items():
        median = {column: statistics.median(result[column] for result in results) for column in results[0]}
        connections = f"{median['connections']:.0f}" if rate else ""
        columns = f"{median['rate'] / 1e6:.0f} | {connections} | {median['cpu']:.2f} | {median['memory'] / MIB:.0f}"
        print(f"| {name} | {columns} |")


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
        client, endpoint, bucket, size = given.one
        asyncio.run(_measure(client, endpoint, bucket, int(size)))
    else:
        asyncio.run(_run(given))
