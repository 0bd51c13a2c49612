"""A store of each driver, with a bucket, and the uploads in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

import trove_async as trove
from tests.uploads.store.stores import PART, bucket_in, opened
from trove_async.uploads import TroveDataStore

SERVERS = ["ceph", "azure", "gcs", "sftp", pytest.param("moto", marks=pytest.mark.long)]


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **duration: float) -> None:
        self.time += timedelta(**duration)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "parts", "local", *SERVERS])
def driver(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


@pytest_asyncio.fixture
async def store(driver: str, tmp_path: Path) -> AsyncIterator[trove.Trove]:
    async with opened(driver, tmp_path) as opened_store:
        yield opened_store


@pytest_asyncio.fixture
async def bucket(store: trove.Trove) -> AsyncIterator[str]:
    async with bucket_in(store) as name:
        yield name


@pytest.fixture
def uploads(store: trove.Trove, bucket: str, clock: Clock) -> TroveDataStore:
    return TroveDataStore(store, bucket, part_size=PART, memory=8 * PART, now=clock)


@pytest.fixture
def other(store: trove.Trove, bucket: str, clock: Clock) -> TroveDataStore:
    """The same uploads in another process."""
    return TroveDataStore(store, bucket, part_size=PART, memory=8 * PART, now=clock)
