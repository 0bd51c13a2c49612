"""The servers, each with a bucket for the test, and proxies in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.s3.stores import ServerName, address, scratch
from trove_async.testing.answers import AnsweringProxy
from trove_async.testing.proxy import FaultProxy


@pytest.fixture(params=["ceph", pytest.param("moto", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> ServerName:
    return request.param  # type: ignore[no-any-return]


@pytest_asyncio.fixture
async def bucket(server: ServerName) -> AsyncIterator[str]:
    async with scratch(server) as name:
        yield name


@pytest_asyncio.fixture
async def network(server: ServerName) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(*address(server), transcript=4096) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def service(server: ServerName) -> AsyncIterator[AnsweringProxy]:
    async with AnsweringProxy(*address(server)) as proxy:
        yield proxy
