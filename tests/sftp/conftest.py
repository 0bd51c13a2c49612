"""The two servers, each with a root for the test, and a proxy in front of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.sftp.stores import ServerName, handle_of, scratch_root
from trove_async.testing.proxy import FaultProxy


@pytest.fixture(params=["sshd", pytest.param("asyncssh", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> ServerName:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def root(server: ServerName) -> Iterator[Path]:
    with scratch_root(server) as path:
        yield path


@pytest_asyncio.fixture
async def network(server: ServerName) -> AsyncIterator[FaultProxy]:
    handle = handle_of(server)
    async with FaultProxy(handle.host, handle.port) as proxy:
        yield proxy
