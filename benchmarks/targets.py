"""The targets of a workload's rounds: directories and buckets, created before and removed afterwards.

The objects that a workload reads from S3 are stored once, by the benchmark's own client, for all clients and rounds;
every measurement of writes has a new bucket.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from benchmarks.client import Bucket, Target
from benchmarks.registry import REMOTES, S3_SERVERS
from benchmarks.remote import remote_targets
from benchmarks.s3_clients import AiohttpClient
from benchmarks.workloads import STREAM, Workload, in_parallel, random_bytes, random_chunks
from tests.servers import running

__all__ = ["TargetFactory", "targets"]

TargetFactory = Callable[[str], AbstractContextManager[Target]]
"""Returns the target of one measurement, which has a unique name."""

_DELETED: Final = 1000  # keys in one request, the limit of S3


@contextmanager
def targets(backend: str, workload: Workload, *, fsync: bool, directory: Path | None) -> Iterator[TargetFactory]:
    """Prepare the targets for the rounds of one workload, and remove them at the end."""
    if backend in REMOTES:
        with remote_targets(backend, REMOTES[backend], workload) as targets_of:
            yield targets_of
    elif backend not in S3_SERVERS:
        with tempfile.TemporaryDirectory(prefix="trove-bench-", dir=directory) as root:
            yield lambda name: _folder(backend, workload, Path(root) / name, fsync)
    elif workload.reads:
        with _bucket(backend) as bucket:
            asyncio.run(_fill(bucket, workload))
            yield lambda _: nullcontext(Target(backend, bucket=bucket))
    else:
        yield lambda _: _target(backend)


@contextmanager
def _folder(backend: str, workload: Workload, root: Path, fsync: bool) -> Iterator[Target]:
    root.mkdir()
    try:
        yield Target(backend, root, fsync)
    finally:
        if workload.streams:
            shutil.rmtree(root, ignore_errors=True)  # a gigabyte each


@contextmanager
def _target(backend: str) -> Iterator[Target]:
    with _bucket(backend) as bucket:
        yield Target(backend, bucket=bucket)


@contextmanager
def _bucket(backend: str) -> Iterator[Bucket]:
    """Create a bucket; remove it with its content."""
    server = S3_SERVERS[backend]
    handle: Any = running(server)
    bucket = Bucket(
        server,
        endpoint=handle.endpoint,
        # nginx has no region and no keys, and ignores them.
        region=getattr(handle, "region", "us-east-1"),
        access_key=getattr(handle, "access_key", "trove-access"),
        secret_key=getattr(handle, "secret_key", "trove-secret"),
        name=f"trove-bench-{uuid.uuid4().hex[:12]}",
    )
    if server != "nginx":
        asyncio.run(_make(bucket))
    try:
        yield bucket
    finally:
        asyncio.run(_remove(bucket))


@asynccontextmanager
async def _client(bucket: Bucket) -> AsyncIterator[AiohttpClient]:
    client = AiohttpClient(Target("", bucket=bucket))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def _make(bucket: Bucket) -> None:
    async with _client(bucket) as client:
        await client.fetch("PUT", f"/{bucket.name}")


async def _fill(bucket: Bucket, workload: Workload) -> None:
    """Store the objects that the workload reads."""
    async with _client(bucket) as client:
        if not workload.streams:
            data = random_bytes(workload.size)
            await in_parallel([lambda key=key: client.put(key, data) for key in workload.keys])  # type: ignore[misc]
        elif bucket.server == "nginx":
            await client.put_in_one(STREAM, random_chunks(workload.size))
        else:
            await client.put_stream(STREAM, random_chunks(workload.size))


async def _remove(bucket: Bucket) -> None:
    async with _client(bucket) as client:
        if bucket.server == "nginx":
            await client.fetch("DELETE", f"/{bucket.name}/")  # a directory with its content
            return
        keys = [key async for key, _ in client.entries()]
        for start in range(0, len(keys), _DELETED):
            listed = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys[start : start + _DELETED])
            document = f"<Delete>{listed}<Quiet>true</Quiet></Delete>".encode()
            digest = base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
            await client.fetch("POST", f"/{bucket.name}", "delete=", document, **{"content-md5": digest})
        await client.fetch("DELETE", f"/{bucket.name}")
