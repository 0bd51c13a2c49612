"""What is measured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.clients import Client
from benchmarks.measure import Meter, Result

__all__ = ["WORKLOADS", "Workload", "run_workload"]

TASKS: Final = 100
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing that is measured.

    Attributes:
        name: such as ``put 4 KiB``.
        kind: ``put``, ``get``, ``put stream``, ``get stream`` or ``list``.
        size: bytes of each object.
        operations: how many; objects for a listing.
    """

    name: str
    kind: str
    size: int
    operations: int

    def scaled(self, scale: float) -> Workload:
        """Return the same with so much of the work: of its operations, or of the bytes of a stream."""
        if self.kind.endswith("stream"):
            return replace(self, size=max(1, round(self.size * scale / MIB)) * MIB)
        return replace(self, operations=max(1, round(self.operations * scale)))


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
    return {workload.name: workload for workload in found}


WORKLOADS: Final = _workloads()


async def run_workload(client: Client, workload: Workload) -> Result:
    """Measure one workload on a client that is open."""
    kind = workload.kind
    if kind == "put stream":
        return await _once(workload, lambda: client.put_stream("stream", _chunks(workload.size)))
    if kind == "get stream":
        await client.put_stream("stream", _chunks(workload.size))
        return await _once(workload, lambda: _expect(client.get_stream("stream"), workload.size))
    if kind == "list":
        await _fill(client, workload)
        return await _once(replace(workload, size=0), lambda: _expect(client.list(), workload.operations))
    data = os.urandom(workload.size)
    keys = [f"key-{number:06}" for number in range(workload.operations)]
    if kind == "put":
        return await _concurrently(workload, [lambda key=key: client.put(key, data) for key in keys])  # type: ignore[misc]
    await _concurrently(workload, [lambda key=key: client.put(key, data) for key in keys])  # type: ignore[misc]

    async def get(key: str) -> None:
        if len(await client.get(key)) != workload.size:
            raise ValueError(f"{key} came back with another size")

    return await _concurrently(workload, [lambda key=key: get(key) for key in keys])  # type: ignore[misc]


async def _expect(work: Awaitable[int], expected: int) -> None:
    found = await work
    if found != expected:
        raise ValueError(f"{found} instead of {expected}")


async def _chunks(size: int) -> AsyncIterator[bytes]:
    chunk = os.urandom(MIB)
    for _ in range(size // MIB):
        yield chunk


async def _fill(client: Client, workload: Workload) -> None:
    """Make the objects of a listing; for files directly, which is the same for all clients and quicker."""
    if client.backend == "local":
        folder = {"TroveClient": "bench", "OpendalClient": "data"}.get(type(client).__name__, "")
        base = client.root / folder
        await asyncio.to_thread(_make_files, base, workload)
        return
    data = b"x" * workload.size
    for start in range(0, workload.operations, TASKS):
        end = min(start + TASKS, workload.operations)
        await asyncio.gather(*(client.put(f"key-{n:06}", data) for n in range(start, end)))


def _make_files(base: Path, workload: Workload) -> None:
    base.mkdir(parents=True, exist_ok=True)
    for number in range(workload.operations):
        (base / f"key-{number:06}").write_bytes(b"x" * workload.size)


async def _once(workload: Workload, operation: Callable[[], Awaitable[None]]) -> Result:
    async with Meter() as meter:
        await meter.time(operation)
    return meter.result(workload.operations, workload.size * workload.operations)


async def _concurrently(workload: Workload, operations: list[Callable[[], Awaitable[None]]]) -> Result:
    """Run operations by 100 tasks that take one after another."""
    waiting = iter(operations)

    async with Meter() as meter:

        async def work() -> None:
            for operation in waiting:
                await meter.time(operation)

        await asyncio.gather(*(work() for _ in range(TASKS)))
    return meter.result(workload.operations, workload.size * workload.operations)
