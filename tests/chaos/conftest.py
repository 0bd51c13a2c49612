"""A gateway that a test may kill, proxies in front of it, and a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.chaos.gateway import Gateway
from tests.s3.stores import opened
from tests.servers.launch import HOST
from trove_async.testing.proxy import FaultProxy


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


@pytest_asyncio.fixture
async def network(gateway: Gateway) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(HOST, gateway.port) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def bucket() -> AsyncIterator[str]:
    """Create a bucket; what a killed gateway left in it is removed with it."""
    name = f"chaos-{uuid4().hex[:16]}"
    async with opened("ceph") as store:
        await store.create_bucket(name)
        try:
            yield name
        finally:
            for upload in await store.list_multipart_uploads(name):
                await store.abort_multipart(name, upload.key, upload.upload_id)
            await store.empty_bucket(name)
            await store.delete_bucket(name)
