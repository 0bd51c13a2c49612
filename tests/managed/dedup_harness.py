"""Stores with a `Dedup` in the conformance suite."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, select, union_all

import trove_async
from tests.database.conftest import execute
from tests.servers import running
from trove_async.database import connect
from trove_async.driver import Driver, OpenOptions
from trove_async.driver.opening import open_stack
from trove_async.errors import BucketNotFoundError
from trove_async.managed.dedup import Chunking, Dedup
from trove_async.managed.dedup.schema import OBJECTS, PARTS, SEGMENTS, UPLOADS
from trove_async.managed.schema import BLOBS, State
from trove_async.testing.conformance import Harness
from trove_async.testing.conformance.stacks import PLAIN

BUCKET = "blobs"


class DedupHarness(Harness):
    """Drivers that share a database, and the store that each of them opens."""

    outlives_process = False
    stores_in_process = True
    bulk_objects = 500
    await_point_step = 10
    stacks = (PLAIN,)
    part_size = 16 * 1024
    chunking: Chunking | None = None

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="trove-dedup-")
        self._space = uuid4().hex

    @abstractmethod
    def inner(self) -> str:
        """Return the DSN of the store that has the blobs."""

    def database(self) -> str:
        return f"sqlite:///{self._folder.name}/dedup.db?synchronous=0"

    async def driver(self) -> Driver:
        dedup = Dedup(self.database(), bucket=BUCKET, space=self._space, chunking=self.chunking)
        return await open_stack(self.inner(), [dedup], OpenOptions())

    async def residue(self) -> Sequence[str]:
        """Compare the blobs of the catalogue with what refers to them, and with the bytes in the inner store."""
        async with connect(self.database()) as database, trove_async.open(self.inner()) as inner:
            try:
                keys = {info.key async for info in inner.list(BUCKET)}
            except BucketNotFoundError:
                return ()
            return await database.read(lambda connection: faults(connection, self._space, keys))

    async def stop(self) -> None:
        self._folder.cleanup()


def faults(connection: Connection, space: str, keys: set[str]) -> list[str]:
    """Describe what is wrong: counts, bytes without a blob, blobs without bytes, and segments without an owner."""
    count = select(func.count()).where(SEGMENTS.c.blob == BLOBS.c.id).scalar_subquery()
    blobs = connection.execute(select(BLOBS, count.label("segments")).where(BLOBS.c.space == space)).all()
    found = [
        f"{blob.id} has {blob.refs} references, not {blob.segments}" for blob in blobs if blob.refs != blob.segments
    ]
    found += [f"{blob.id} is {blob.state} with {blob.refs} references" for blob in blobs if _is_wrong(blob)]
    found += [f"{key} has no blob" for key in keys - {blob.key for blob in blobs}]
    found += [f"{blob.id} has no bytes" for blob in blobs if blob.key not in keys and blob.state != State.SWEPT]
    owners = union_all(select(OBJECTS.c.id), select(PARTS.c.id).join(UPLOADS, UPLOADS.c.id == PARTS.c.upload))
    found += connection.scalars(select(SEGMENTS.c.owner).where(SEGMENTS.c.owner.not_in(owners))).all()
    return found


def _is_wrong(blob: Row[Any]) -> bool:
    return bool((blob.state == State.STORED) != (blob.refs > 0))


class DedupMemoryHarness(DedupHarness):
    name = "dedup"

    def inner(self) -> str:
        return f"memory://dedup-{self._space}"


class DedupLocalHarness(DedupHarness):
    name = "dedup-local"

    def inner(self) -> str:
        root = Path(self._folder.name, "store")
        root.mkdir(exist_ok=True)
        return f"local://{root}?fsync=0"


class DedupPostgresHarness(DedupMemoryHarness):
    name = "dedup-postgresql"

    def database(self) -> str:
        return f"{running('postgres').url}?search_path={self._schema}"

    async def start(self) -> None:
        self._schema = f"dedup_{self._space}"
        execute(running("postgres").url, f"CREATE SCHEMA {self._schema}")

    async def stop(self) -> None:
        execute(running("postgres").url, f"DROP SCHEMA {self._schema} CASCADE")
        await super().stop()


class DedupChunksHarness(DedupMemoryHarness):
    name = "dedup-chunks"
    chunking = Chunking(4096)


memory = DedupMemoryHarness()
chunks = DedupChunksHarness()
local = DedupLocalHarness()
postgres = DedupPostgresHarness()
