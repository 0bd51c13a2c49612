from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

import trove_async as trove
from tests.azure.harness import azurite
from tests.drivers.local_harness import harness as local
from tests.drivers.memory_harness import harness as memory
from tests.s3.harness import ceph
from tests.sftp.harness import openssh
from trove_async.testing.conformance import Harness

BACKENDS: dict[str, Harness] = {"memory": memory, "local": local, "ceph": ceph, "azurite": azurite, "sshd": openssh}


class Place(NamedTuple):
    """An empty bucket of a store."""

    store: trove.Trove
    bucket: str


@pytest_asyncio.fixture(params=BACKENDS)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    dsn = BACKENDS[request.param].dsn()
    assert dsn is not None
    bucket = f"fs-{uuid.uuid4().hex[:12]}"
    async with trove.open(dsn) as store:
        await store.create_bucket(bucket)
        yield Place(store, bucket)
        await store.empty_bucket(bucket)
        await store.delete_bucket(bucket)


@pytest_asyncio.fixture
async def store() -> AsyncIterator[trove.Trove]:
    """A store in memory with the bucket ``b``."""
    async with trove.open("memory://") as opened:
        await opened.create_bucket("b")
        yield opened


@pytest_asyncio.fixture
async def local_store(tmp_path: Path) -> AsyncIterator[trove.Trove]:
    """A store of local files with the bucket ``b``."""
    async with trove.open(f"local://{tmp_path}?fsync=0") as opened:
        await opened.create_bucket("b")
        yield opened
