"""The server, with a bucket for the test, and proxies in front of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gcs.stores import MIN_PART, opened
from trove_async.testing.answers import AnsweringProxy
from trove_async.testing.gcs import GCSServer
from trove_async.testing.proxy import FaultProxy

_VARIABLES = (
    "CLOUDSDK_CONFIG",
    "GCLOUD_PROJECT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "PUBSUB_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the machine's own credentials."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[GCSServer]:
    async with GCSServer(minimum_part=MIN_PART) as server:
        yield server
        assert server.open_uploads() == []


@pytest.fixture
def key_file(server: GCSServer, tmp_path: Path) -> str:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(server.service_account_info), encoding="utf-8")
    return str(path)


@pytest_asyncio.fixture
async def bucket(server: GCSServer) -> str:
    async with opened(server) as store:
        await store.create_bucket("bucket")
    return "bucket"


@pytest_asyncio.fixture
async def network(server: GCSServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.host, server.port, transcript=4096) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def service(server: GCSServer) -> AsyncIterator[AnsweringProxy]:
    async with AnsweringProxy(server.host, server.port) as proxy:
        yield proxy
