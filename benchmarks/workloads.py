"""The workloads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.client import Client
from benchmarks.measure import Meter, Result

__all__ = ["STREAM", "WORKLOADS", "Workload", "in_parallel", "random_bytes", "random_chunks", "run_workload"]

TASKS: Final = 100
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

STREAM: Final = "stream"
"""The key of the object that is a stream."""

Operation = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload.

    Attributes:
        name: such as ``put 4 KiB``.
        kind: ``put``, ``put churn``, ``get``, ``put stream``, ``get stream``, ``list``, ``list deep`` or ``list huge``.
        size: bytes of each object.
        operations: the number of operations; for a listing, of objects.
        removed: how many other files are made and removed immediately before.
    """

    name: str
    kind: str
    size: int
    operations: int
    removed: int = 0

    @property
    def reads(self) -> bool:
        """Whether it reads objects that were stored before."""
        return not self.kind.startswith("put")

    @property
    def streams(self) -> bool:
        """Whether it is one large object."""
        return self.kind.endswith("stream")

    @property
    def lists(self) -> bool:
        """Whether it is a listing."""
        return self.kind.startswith("list")

    @property
    def portable(self) -> bool:
        """Whether it makes sense on other backends than local files."""
        return not self.removed and self.kind not in ("list deep", "list huge")

    @property
    def deep(self) -> bool:
        """Whether its objects are in directories of ten."""
        return self.kind == "list deep"

    @property
    def keys(self) -> list[str]:
        """The keys of its objects."""
        if self.deep:
            return [f"{n // 1000:03}/{n // 10 % 100:02}/key-{n % 10}" for n in range(self.operations)]
        return [f"key-{number:06}" for number in range(self.operations)]

    def scaled(self, scale: float) -> Workload:
        """Return the workload with a fraction of its operations, or of the bytes of a stream."""
        if self.streams:
            return replace(self, size=max(1, round(self.size * scale / MIB)) * MIB)
        operations, removed = max(1, round(self.operations * scale)), round(self.removed * scale)
        return replace(self, operations=operations, removed=removed)


def _workloads() -> dict[str, Workload]:
    found: list[Workload] = []
    for label, size, operations in (
        ("1 KiB", KIB, 10_000),
        ("4 KiB", 4 * KIB, 10_000),
        ("64 KiB", 64 * KIB, 4_000),
        ("1 MiB", MIB, 400),
    ):
        found += [Workload(f"{kind} {label}", kind, size, operations) for kind in ("put", "get")]
    found += [Workload(f"{kind} 1 GiB", kind, GIB, 1) for kind in ("put stream", "get stream")]
    found.append(Workload("list 100,000", "list", 16, 100_000))
    found.append(Workload("list deep 100,000", "list deep", 16, 100_000))
    found.append(Workload("list huge 1,000,000", "list huge", 16, 1_000_000))
    for label, size, operations in (("4 KiB", 4 * KIB, 10_000), ("1 MiB", MIB, 400)):
        found.append(Workload(f"put churn {label}", "put churn", size, operations, removed=10_000))
    return {workload.name: workload for workload in found}


WORKLOADS: Final = _workloads()


async def run_workload(client: Client, workload: Workload) -> Result:
    """Measure one workload on an open client.

    The client stores the objects to read before the measurement; on a server they exist already.
    """
    remote = client.target.remote
    if workload.reads and not remote:
        await _prepare(client, workload)
    if workload.kind == "put stream":
        return await _once(workload, lambda: client.put_stream(STREAM, random_chunks(workload.size)))
    if workload.kind == "get stream":
        return await _once(workload, lambda: _expect(client.get_stream(STREAM), workload.size))
    if workload.lists:
        return await _once(replace(workload, size=0), lambda: _expect(client.list(), workload.operations))
    if workload.removed:
        await asyncio.to_thread(_churn, _folder(client), workload.removed)
    operations = _gets(client, workload) if workload.reads else _puts(client, workload)
    if remote:
        await in_parallel([partial(_attempt, operation) for operation in operations[:TASKS]])
    return await _concurrently(workload, operations)


def _puts(client: Client, workload: Workload) -> list[Operation]:
    data = random_bytes(workload.size)
    return [partial(client.put, key, data) for key in workload.keys]


def _gets(client: Client, workload: Workload) -> list[Operation]:
    async def get(key: str) -> None:
        if len(await client.get(key)) != workload.size:
            raise ValueError(f"{key} came back with another size")

    return [partial(get, key) for key in workload.keys]


async def _attempt(operation: Operation) -> None:
    with suppress(Exception):  # the measurement counts missing and refused objects
        await operation()


async def _prepare(client: Client, workload: Workload) -> None:
    """Store the objects to read; the files of a listing directly, which is faster and the same for all clients."""
    if workload.streams:
        await client.put_stream(STREAM, random_chunks(workload.size))
    elif workload.lists and client.target.backend == "local":
        await asyncio.to_thread(_make_files, _folder(client), workload)
    else:
        await in_parallel([partial(_attempt, put) for put in _puts(client, workload)])


def _folder(client: Client) -> Path:
    """Return where a client keeps the files of its objects."""
    return client.target.root / {"TroveClient": "bench", "OpendalClient": "data"}.get(type(client).__name__, "")


def _churn(folder: Path, number: int) -> None:
    """Make files and remove them, so that those of the workload are made while the file system remembers others."""
    folder.mkdir(parents=True, exist_ok=True)
    for made in [folder / f"removed-{n}" for n in range(number)]:
        made.write_bytes(b"x" * 4 * KIB)
    for made in folder.glob("removed-*"):
        made.unlink()


def _make_files(base: Path, workload: Workload) -> None:
    keys = workload.keys
    for folder in {(base / key).parent for key in keys} if workload.deep else {base}:
        folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (base / key).write_bytes(b"x" * workload.size)


def random_bytes(size: int) -> bytes:
    """Return incompressible bytes."""
    return os.urandom(size)


async def random_chunks(size: int) -> AsyncIterator[bytes]:
    """Yield chunks of 1 MiB; each has its own memory, so that memory that a client keeps is visible."""
    chunk = bytearray(os.urandom(MIB))
    for _ in range(size // MIB):
        yield bytes(chunk)


async def _expect(work: Awaitable[int], expected: int) -> None:
    found = await work
    if found != expected:
        raise ValueError(f"{found} instead of {expected}")


async def in_parallel(operations: Sequence[Operation]) -> None:
    """Run operations in 100 tasks, each of which takes one after another."""
    waiting = iter(operations)

    async def work() -> None:
        for operation in waiting:
            await operation()

    await asyncio.gather(*(work() for _ in range(TASKS)))


async def _once(workload: Workload, operation: Operation) -> Result:
    async with Meter() as meter:
        await meter.time(operation)
    return meter.result(workload.operations, workload.size * workload.operations)


async def _concurrently(workload: Workload, operations: Sequence[Operation]) -> Result:
    async with Meter() as meter:
        await in_parallel([partial(meter.time, operation) for operation in operations])
    return meter.result(workload.operations, workload.size * workload.operations)
