"""Processes that serve the same uploads: one continues what another has begun, or still receives."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import httpx
import pytest

from tests.database.conftest import postgres, postgres_url  # noqa: F401 - fixtures
from tests.payload import pattern
from tests.uploads.foreign import tus_js
from tests.uploads.processes import ServerProcess
from tests.uploads.serving import tus_server_process
from tests.uploads.stores import StoreName, example_store
from tests.uploads.web.talking import BYTES, peer
from trove_async.testing.proxy import FaultProxy

pytestmark = pytest.mark.asyncio

SIZE: Final = 6_000_000
QUICK: Final = [50] * 100

Locks = Literal["files", "postgresql"]
KINDS: Final = [
    pytest.param("local", "files", id="files"),
    pytest.param("local", "postgresql", id="postgresql"),
    pytest.param("ceph", "postgresql", id="postgresql, ceph", marks=pytest.mark.long),
]


@asynccontextmanager
async def two_servers(
    store: StoreName, locks: Locks, folder: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    """Start two processes of the example server with one store and its locks."""
    if locks == "files":
        options = ["--locks", str(folder / "locks")]
    else:
        options = ["--database", str(request.getfixturevalue("postgres_url"))]
    async with (
        example_store(store, folder) as dsn,
        tus_server_process("uvicorn", dsn, folder / "first.log", *options) as first,
        tus_server_process("uvicorn", dsn, folder / "second.log", *options) as second,
    ):
        yield first, second


async def digest(url: str) -> str:
    async with httpx.AsyncClient() as client:
        return hashlib.sha256((await client.get(url)).content).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.bin"
    path.write_bytes(pattern(SIZE))
    return path


@pytest.mark.parametrize(("store", "locks"), KINDS)
async def test_a_client_goes_from_server_to_server(
    store: StoreName, locks: Locks, file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with (
        two_servers(store, locks, tmp_path, request) as servers,
        FaultProxy("127.0.0.1", servers[0].port) as proxy,
        tus_js(file, f"{proxy.url()}/files/", retryDelays=QUICK, chunkSize=SIZE // 8) as client,
    ):
        for turn in range(1, 4):
            await client.progress(turn * SIZE // 4)
            proxy.server = ("127.0.0.1", servers[turn % 2].port)
            proxy.break_open("reset")
        result = await client.result()
        assert result["ok"], client.events[-10:]
        assert client.creations == 1
        for server in servers:
            url = f"{server.url}/files/{result['url'].rpartition('/')[2]}"
            assert await digest(url) == hashlib.sha256(pattern(SIZE)).hexdigest()


@pytest.mark.parametrize(("store", "locks"), KINDS)
async def test_a_server_takes_over_from_one_whose_client_has_gone_without_a_word(
    store: StoreName, locks: Locks, file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    async with two_servers(store, locks, tmp_path, request) as (first, second), peer(first.port) as stalled:
        path = await stalled.create(SIZE)
        # It sends half, and then nothing: the first server waits, and holds the lock.
        await stalled.send("PATCH", path, {**BYTES, "Upload-Offset": "0", "Content-Length": str(SIZE)}, b"")
        await stalled.send_bytes(pattern(SIZE)[: SIZE // 2])
        async with tus_js(file, "", uploadUrl=f"{second.url}{path}", retryDelays=QUICK) as client:
            result = await client.result()
        assert (await stalled.answer()).status == 423
        assert result["ok"], client.events[-10:]
        assert client.creations == 0
        assert await digest(f"{first.url}{path}") == hashlib.sha256(pattern(SIZE)).hexdigest()
