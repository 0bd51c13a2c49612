"""How each client moves one large object: downloads and uploads."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import trove_async
from tests.servers import running

__all__ = ["CLIENTS", "KEY", "MIB", "Client", "Transfer", "command_environment", "contents", "open_store"]

MIB: Final = 1024 * 1024
KEY: Final = "large"
_BLOCK: Final = bytes(range(256)) * (MIB // 256)

Transfer = Callable[[], Awaitable[object]]
"""Moves the object; that of a download returns the number of bytes that have arrived."""

Opened = Callable[[str, str, Path], AbstractAsyncContextManager[Transfer]]
"""Opens a client for an endpoint, a bucket and a file, which is written by downloads and read by uploads."""


@dataclass(frozen=True, slots=True)
class Client:
    """What is measured.

    Attributes:
        opened: returns the transfer.
        package: what it needs.
        uploads: whether it writes the object.
    """

    opened: Opened
    package: str
    uploads: bool = False


async def contents(size: int) -> AsyncIterator[bytes]:
    """Yield the object in chunks of 1 MiB, each of which is different."""
    for number in range(size // MIB):
        yield number.to_bytes(8, "big") + _BLOCK[8:]


async def _size(path: Path) -> int:
    return (await asyncio.to_thread(path.stat)).st_size


def command_environment() -> dict[str, str]:
    """Return the variables that tell commands the keys of the server, and rclone that its ``ceph:`` is the server."""
    server = running("ceph")
    return {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_DEFAULT_REGION": server.region,
        "RCLONE_CONFIG_CEPH_TYPE": "s3",
        "RCLONE_CONFIG_CEPH_PROVIDER": "Ceph",
        "RCLONE_CONFIG_CEPH_ENDPOINT": server.endpoint,
        "RCLONE_CONFIG_CEPH_REGION": server.region,
        "RCLONE_CONFIG_CEPH_ENV_AUTH": "true",
    }


# This library


def _dsn() -> str:
    handle = running("ceph")
    return f"s3://{handle.access_key}:{handle.secret_key}@{handle.region}/"


def open_store(endpoint: str) -> Any:
    """Return a store at an endpoint of the server, to be entered."""
    return trove_async.open(_dsn(), endpoint=endpoint, profile="ceph")


@asynccontextmanager
async def _get(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Transfer]:
    async def get() -> int:
        total = 0
        async with t.get(bucket, KEY) as reader:
            async for chunk in reader:
                total += len(chunk)
        return total

    async with open_store(endpoint) as t:
        yield get


@asynccontextmanager
async def _read(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Transfer]:
    async def read() -> int:
        return len(await t.read(bucket, KEY))

    async with open_store(endpoint) as t:
        yield read


@asynccontextmanager
async def _download(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    async def download() -> int:
        await t.download(bucket, KEY, path)
        return await _size(path)

    async with open_store(endpoint) as t:
        yield download


@asynccontextmanager
async def _put(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    async with open_store(endpoint) as t:
        yield lambda: t.put(bucket, KEY, path)


@asynccontextmanager
async def _put_stream(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    size = await _size(path)
    async with open_store(endpoint) as t:
        yield lambda: t.put(bucket, KEY, contents(size))


@asynccontextmanager
async def _cp(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    target = f"{_dsn()}{bucket}/{KEY}?endpoint={quote(endpoint)}&profile=ceph"

    async def cp() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "trove_async", "cp", "--quiet", str(path), target
        )
        if await process.wait():
            raise RuntimeError("trove cp failed")

    yield cp


# The others


def _obstore_store(endpoint: str, bucket: str) -> Any:
    from obstore.store import S3Store

    handle = running("ceph")
    return S3Store(
        bucket,
        endpoint=endpoint,
        region=handle.region,
        access_key_id=handle.access_key,
        secret_access_key=handle.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "10 minutes"},
    )


@asynccontextmanager
async def _obstore_get(endpoint: str, bucket: str, _: Path) -> AsyncIterator[Transfer]:
    import obstore

    store = _obstore_store(endpoint, bucket)

    async def get() -> int:
        total = 0
        async for chunk in (await obstore.get_async(store, KEY)).stream():
            total += len(chunk)
        return total

    yield get


@asynccontextmanager
async def _obstore_put(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    import obstore

    store = _obstore_store(endpoint, bucket)
    yield lambda: obstore.put_async(store, KEY, path, max_concurrency=12)


def _boto3(endpoint: str) -> Any:
    import boto3

    handle = running("ceph")
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=handle.region,
        aws_access_key_id=handle.access_key,
        aws_secret_access_key=handle.secret_key,
    )


@asynccontextmanager
async def _s3transfer_get(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    client = _boto3(endpoint)

    async def download() -> int:
        await asyncio.to_thread(client.download_file, bucket, KEY, str(path))
        return await _size(path)

    yield download


@asynccontextmanager
async def _s3transfer_put(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    client = _boto3(endpoint)
    yield lambda: asyncio.to_thread(client.upload_file, str(path), bucket, KEY)


def _awscrt_request(endpoint: str, bucket: str, **arguments: Any) -> Any:
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

    def request(method: str, kind: str, headers: dict[str, str]) -> Any:
        pairs = [("Host", urlsplit(endpoint).netloc), *headers.items()]
        made = client.make_request(
            type=s3.S3RequestType[kind],
            request=http.HttpRequest(method, f"/{bucket}/{KEY}", http.HttpHeaders(pairs)),
            **arguments,
        )
        return asyncio.wrap_future(made.finished_future)

    return request


@asynccontextmanager
async def _awscrt_get(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    request = _awscrt_request(endpoint, bucket, recv_filepath=str(path))

    async def download() -> int:
        await request("GET", "GET_OBJECT", {})
        return await _size(path)

    yield download


@asynccontextmanager
async def _awscrt_put(endpoint: str, bucket: str, path: Path) -> AsyncIterator[Transfer]:
    request = _awscrt_request(endpoint, bucket, send_filepath=str(path))
    headers = {"Content-Length": str(await _size(path)), "Content-Type": "application/octet-stream"}
    yield lambda: request("PUT", "PUT_OBJECT", headers)


CLIENTS: Final[dict[str, Client]] = {
    "trove get": Client(_get, "trove_async"),
    "trove read": Client(_read, "trove_async"),
    "trove download": Client(_download, "trove_async"),
    "obstore": Client(_obstore_get, "obstore"),
    "s3transfer": Client(_s3transfer_get, "boto3"),
    "awscrt": Client(_awscrt_get, "awscrt"),
    "trove put": Client(_put, "trove_async", uploads=True),
    "trove put of a stream": Client(_put_stream, "trove_async", uploads=True),
    "trove cp": Client(_cp, "trove_async", uploads=True),
    "obstore put": Client(_obstore_put, "obstore", uploads=True),
    "s3transfer upload": Client(_s3transfer_put, "boto3", uploads=True),
    "awscrt put": Client(_awscrt_put, "awscrt", uploads=True),
}
"""In the order of the tables; a name is the call, or the package if that has no shorter one."""
