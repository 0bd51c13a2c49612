"""Copies and moves between every two drivers: what they keep, their memory, and their state after a failure."""

from __future__ import annotations

import hashlib
import itertools
import re
import tracemalloc
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import trove_async as trove
from tests.azure.harness import azurite as azure
from tests.drivers.local_harness import harness as local
from tests.drivers.memory_harness import harness as memory
from tests.gcs.harness import gcs
from tests.s3.harness import ceph as s3
from tests.sftp.harness import openssh as sftp
from trove_async.testing.conformance import Harness
from trove_async.testing.faults import Fault, Faults
from trove_async.transfers import Job, Outcome, Result, StoredObject, Transfer, copy

DRIVERS: dict[str, Harness] = {
    "memory": memory,
    "local": local,
    "s3": s3,
    "gcs": gcs,
    "azure": azure,
    "sftp": sftp,
}


def pairs(names: Sequence[str]) -> list[Any]:
    """Return all pairs; a short run takes each driver with itself and with the next one."""
    short = {*zip(names, names, strict=True), *zip(names, [*names[1:], names[0]], strict=True)}
    return [
        pytest.param(*pair, id="-to-".join(pair), marks=() if pair in short else pytest.mark.long)
        for pair in itertools.product(names, repeat=2)
    ]


# If this process holds the objects, its memory proves nothing. Each of the others reads once and writes once.
OUTSIDE = [name for name, harness in DRIVERS.items() if not harness.stores_in_process]

PART = 256 * 1024
SIZE = 3 * PART + 1
LARGE = 32 * 1024 * 1024
MEMORY = 16 * 1024 * 1024
BOUND = MEMORY + 12 * 1024 * 1024
METADATA = {"camera": "X100", "title": "Ein schöner Tag"}
TYPE = "image/x-test"
KEY = "2024/a photo (1).jpg"


@dataclass
class FaultyBucket:
    """A bucket of a store, and a connection to it on which faults are injected."""

    store: trove.Trove
    bucket: str
    faults: Faults

    def end(self, key: str = KEY) -> StoredObject:
        return StoredObject(self.store, self.bucket, key)

    async def put(self, data: bytes) -> trove.ObjectInfo:
        return await self.store.put(self.bucket, KEY, data, content_type=TYPE, metadata=METADATA)

    async def digest(self) -> str:
        found = hashlib.sha256()
        async with self.store.get(self.bucket, KEY) as reader:
            async for chunk in reader:
                found.update(chunk)
        return found.hexdigest()


@asynccontextmanager
async def faulty_bucket(name: str) -> AsyncIterator[FaultyBucket]:
    harness, faults, bucket = DRIVERS[name], Faults(), f"matrix-{uuid.uuid4().hex[:12]}"
    dsn = harness.dsn()
    assert dsn is not None
    dsn = re.sub(r"(?<=[?&])part_size=\d+", f"part_size={PART}", dsn)
    async with trove.open(dsn, layers=[faults], transfer_memory=MEMORY) as store:
        await store.create_bucket(bucket)
        try:
            yield FaultyBucket(store, bucket, faults)
        finally:
            faults.clear()
            await store.delete_many(bucket, [info.key async for info in store.list(bucket)])
            await store.delete_bucket(bucket)
    assert list(await harness.residue()) == []


def content(size: int, seed: int = 0) -> bytes:
    """Return bytes in which no piece occurs at another position."""
    return b"".join((number + seed).to_bytes(8, "big") for number in range(-(-size // 8)))[:size]


async def chunks(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 1 << 18):
        yield start.to_bytes(8, "big") * (1 << 15)


async def transfer(source: FaultyBucket, target: FaultyBucket, *, move: bool) -> Result:
    results: list[Result] = []

    async def jobs() -> AsyncIterator[Job]:
        yield Job(source.end(), target.end(), SIZE)

    await Transfer(move=move).run(jobs(), results.append)
    [result] = results
    return result


@pytest.mark.parametrize(("source_name", "target_name"), pairs([*DRIVERS]))
@pytest.mark.parametrize("move", [False, True], ids=["copy", "move"])
@pytest.mark.asyncio
async def test_bytes_type_and_metadata_are_copied(source_name: str, target_name: str, move: bool) -> None:
    body = content(SIZE)
    async with faulty_bucket(source_name) as source, faulty_bucket(target_name) as target:
        await source.put(body)
        result = await transfer(source, target, move=move)
        assert (result.outcome, result.error) == (Outcome.COPIED, None)
        info = await target.store.head(target.bucket, KEY)
        assert (info.size, info.content_type) == (SIZE, TYPE)
        assert METADATA.items() <= info.metadata.items()
        assert await target.digest() == hashlib.sha256(body).hexdigest()
        assert await source.store.exists(source.bucket, KEY) is not move


@pytest.mark.parametrize(("source_name", "target_name"), pairs([*DRIVERS]))
@pytest.mark.parametrize("leg", ["get", "put"])
@pytest.mark.asyncio
async def test_a_move_that_breaks_on_either_side_changes_neither(source_name: str, target_name: str, leg: str) -> None:
    old, new = content(SIZE, 1 << 40), content(SIZE)
    async with faulty_bucket(source_name) as source, faulty_bucket(target_name) as target:
        await source.put(new)
        await target.put(old)
        broken = source if leg == "get" else target
        broken.faults.add(
            Fault(leg, key=KEY, reset_after=SIZE // 2, error=trove.BackendError("the connection was lost"))
        )
        result = await transfer(source, target, move=True)
        assert result.outcome is Outcome.FAILED
        assert isinstance(result.error, trove.CopyError)
        assert isinstance(result.error.__cause__, trove.BackendError)
        assert str(result.error) == f"{'read' if leg == 'get' else 'write'}: {result.error.__cause__}"
        assert await source.digest() == hashlib.sha256(new).hexdigest()
        assert await target.digest() == hashlib.sha256(old).hexdigest()
        # Nothing prevents another attempt.
        broken.faults.clear()
        assert (await transfer(source, target, move=True)).outcome is Outcome.COPIED
        assert await target.digest() == hashlib.sha256(new).hexdigest()
        assert not await source.store.exists(source.bucket, KEY)


@pytest.mark.parametrize(("source_name", "target_name"), [*zip(OUTSIDE, [*OUTSIDE[1:], OUTSIDE[0]], strict=True)])
@pytest.mark.asyncio
async def test_large_objects_are_copied_in_bounded_memory(source_name: str, target_name: str) -> None:
    async with faulty_bucket(source_name) as source, faulty_bucket(target_name) as target:
        await source.store.put(source.bucket, KEY, chunks(LARGE), size=LARGE)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await copy(source.end(), target.end())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < BOUND
        assert (await target.store.head(target.bucket, KEY)).size == LARGE
