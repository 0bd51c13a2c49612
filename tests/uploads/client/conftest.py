"""Fixtures of the tests of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from tests.uploads.client.serving import Peer, peer_serving

SIZE = 1_500_000


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[Peer]:
    async with peer_serving() as peer:
        yield peer


@pytest.fixture(params=["tus", "ietf"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def data() -> bytes:
    return Random(15).randbytes(SIZE)


@pytest.fixture
def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a file.bin"
    path.write_bytes(data)
    return path
