"""What is measured: uploads over sockets, by a process of their own."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Final

from benchmarks.uploads.client import Connection, ResponseError, create, head_of, offset_of, patch_head

__all__ = ["ROWS", "Load", "Row", "content", "digest", "missing", "run", "warm_up"]

_MIB: Final = 1024 * 1024

_STEP: Final = 64 * 1024
"""Bytes that a slow client sends at once."""

_PAUSE: Final = 0.05
_SLOW_PAUSE: Final = 0.5
_HEADS: Final = 20
_PATIENCE: Final = 10.0
_WARM_UPS: Final = 8
_WARM_UP_SIZE: Final = 300_000

_LARGEST: Final = 256 * _MIB
_PERIOD: Final = 1_048_583
"""A prime number: bytes at a wrong offset are noticed."""

_SEED: Final = 20
_SHIFT: Final = 61
"""Bytes between the beginnings of two contents."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement.

    Attributes:
        name: as it is printed.
        kind: how bytes are sent: ``bulk``, or what else happens.
        uploads: so many at once.
        size: bytes of each.
        patch: bytes of each PATCH.
    """

    name: str
    kind: str
    uploads: int
    size: int
    patch: int

    def scaled(self, scale: float) -> Row:
        """Return the row with a fraction of the uploads, or of the size of one."""
        if scale == 1:
            return self
        if self.uploads > 1:
            return replace(self, uploads=max(2, round(self.uploads * scale)))
        size = max(_STEP, round(self.size * scale))
        return replace(self, size=size, patch=min(self.patch, size))


ROWS: Final = {
    row.name: row
    for row in (
        Row("256 MiB", "bulk", 1, 256 * _MIB, 256 * _MIB),
        Row("50 x 8 MiB", "bulk", 50, 8 * _MIB, 8 * _MIB),
        Row("1-MiB PATCHes", "bulk", 4, 32 * _MIB, _MIB),
        Row("100 slow uploads", "slow", 100, 4 * _STEP, 4 * _STEP),
        Row("take-over", "take-over", 4, 2 * _MIB, 2 * _MIB),
        Row("HEAD during PATCH", "head", 4, _HEADS * _STEP, _HEADS * _STEP),
    )
}


@dataclass(slots=True)
class Load:
    """What a client has seen.

    Attributes:
        elapsed: seconds in all.
        times: seconds of each request: PATCHes; of the row with HEADs those, and of take-overs the time from the first
            request of the second client until its upload is complete.
        errors: of uploads that failed.
    """

    elapsed: float = 0.0
    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@cache
def _bytes() -> memoryview:
    period = random.Random(_SEED).randbytes(_PERIOD)
    return memoryview(period * (_LARGEST // _PERIOD + 2))


def content(number: int, size: int) -> memoryview:
    """Return the bytes of an upload: others for each number, and without a copy."""
    start = number * _SHIFT
    return _bytes()[start : start + size]


def digest(data: bytes | memoryview) -> str:
    """Return the digest by which stored bytes are compared."""
    return sha256(data).hexdigest()


def missing(row: Row, stored: Counter[str]) -> int:
    """Return how many uploads of a row are not among what is stored, given by digests."""
    return (Counter(digest(content(number, row.size)) for number in range(row.uploads)) - stored).total()


async def run(row: Row, port: int, path: str) -> Load:
    """Upload as a row says; what fails is counted."""
    load = Load()
    upload = _KINDS[row.kind]

    async def one(number: int) -> None:
        try:
            async with Connection(port) as connection:
                await upload(row, port, path, number, connection, load.times)
        except (OSError, ResponseError, KeyError, ValueError, TimeoutError) as error:
            load.errors.append(f"{type(error).__name__}: {error}")

    content(0, row.size)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(row.uploads):
            group.create_task(one(number))
    load.elapsed = time.perf_counter() - began
    return load


async def warm_up(port: int, path: str) -> None:
    """Upload a little, so that the server has imported and opened what it needs, and has its threads."""
    row = Row("warm-up", "bulk", 1, _WARM_UP_SIZE, _WARM_UP_SIZE // 2)

    async def one(number: int) -> None:
        async with Connection(port) as connection:
            await _bulk(row, port, path, number, connection, [])

    async with asyncio.TaskGroup() as group:
        for number in range(_WARM_UPS):
            group.create_task(one(1000 + number))


_Upload = Callable[[Row, int, str, int, Connection, list[float]], Awaitable[None]]


async def _bulk(row: Row, port: int, path: str, number: int, connection: Connection, times: list[float]) -> None:
    data = content(number, row.size)
    place = await create(connection, path, number, row.size)
    for offset in range(0, row.size, row.patch):
        began = time.perf_counter()
        response = await connection.request("PATCH", place, patch_head(offset), data[offset : offset + row.patch])
        times.append(time.perf_counter() - began)
        response.expect(204)


async def _slow(row: Row, port: int, path: str, number: int, connection: Connection, times: list[float]) -> None:
    place = await create(connection, path, number, row.size)
    began = time.perf_counter()
    await _send_slowly(connection, place, content(number, row.size), _SLOW_PAUSE)
    (await connection.response()).expect(204)
    times.append(time.perf_counter() - began)


async def _send_slowly(connection: Connection, place: str, data: memoryview, pause: float) -> None:
    await connection.send(head_of("PATCH", place, {**patch_head(0), "Content-Length": str(len(data))}))
    for start in range(0, len(data), _STEP):
        await connection.send(data[start : start + _STEP])
        await asyncio.sleep(pause)


async def _take_over(row: Row, port: int, path: str, number: int, connection: Connection, times: list[float]) -> None:
    """Continue an upload whose first request has stalled: its client has gone without a word."""
    data = content(number, row.size)
    place = await create(connection, path, number, row.size)
    await connection.send(head_of("PATCH", place, {**patch_head(0), "Content-Length": str(len(data))}))
    await connection.send(data[: row.size // 2])
    await asyncio.sleep(_SLOW_PAUSE)
    async with Connection(port) as second, asyncio.timeout(_PATIENCE):
        began = time.perf_counter()
        while True:
            response = await second.request("HEAD", place)
            if response.status in (200, 204):
                offset = int(response.headers["upload-offset"])
                response = await second.request("PATCH", place, patch_head(offset), data[offset:])
            if response.status == 204:
                break
            response.expect(409, 423)  # it may be tried again
            await asyncio.sleep(_PAUSE)
        times.append(time.perf_counter() - began)


async def _head(row: Row, port: int, path: str, number: int, connection: Connection, times: list[float]) -> None:
    place = await create(connection, path, number, row.size)

    async def describe() -> None:
        async with Connection(port) as second:
            for _ in range(_HEADS // 2):
                await asyncio.sleep(_PAUSE)
                began = time.perf_counter()
                await offset_of(second, place)
                times.append(time.perf_counter() - began)

    describing = asyncio.create_task(describe())
    try:
        await _send_slowly(connection, place, content(number, row.size), _PAUSE)
        (await connection.response()).expect(204)
        await describing
    finally:
        describing.cancel()


_KINDS: Final[dict[str, _Upload]] = {"bulk": _bulk, "slow": _slow, "take-over": _take_over, "head": _head}
