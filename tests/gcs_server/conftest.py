"""A running server, clients for it, and a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import pytest_asyncio

from trove_async.testing.gcs import GCSServer

Put = Callable[..., Awaitable[dict[str, Any]]]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[GCSServer]:
    async with GCSServer(pull_wait=5) as opened:
        yield opened


@pytest_asyncio.fixture
async def client(server: GCSServer) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {server.issue_token()}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as opened:
        yield opened


@pytest_asyncio.fixture
async def stranger(server: GCSServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as opened:
        yield opened


@pytest_asyncio.fixture
async def bucket(client: httpx.AsyncClient) -> str:
    answer = await client.post("/storage/v1/b", params={"project": "p"}, json={"name": "my-bucket"})
    assert answer.status_code == 200
    return "my-bucket"


@pytest.fixture
def put(client: httpx.AsyncClient, bucket: str) -> Put:
    """Put an object with one request, and return its resource."""

    async def put(name: str, data: bytes = b"", into: str = bucket, **parameters: str) -> dict[str, Any]:
        answer = await client.post(
            f"/upload/storage/v1/b/{into}/o",
            params={"uploadType": "media", "name": name, **parameters},
            content=data,
            headers={"Content-Type": "text/plain"},
        )
        assert answer.status_code == 200, answer.text
        resource: dict[str, Any] = answer.json()
        return resource

    return put
