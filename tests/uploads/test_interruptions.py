"""Large uploads from a browser: the server is killed and the network cut in the middle, and nothing is sent anew.

A long run uploads 200 MB with each client to each store; otherwise it is 20 MB with one.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest

from tests.uploads.foreign import ForeignClient, browser, page_serving, tus_js
from tests.uploads.serving import ServerName, tus_server_process
from tests.uploads.stores import StoreName, example_store
from trove_async.testing.helpers import random_bytes
from trove_async.testing.proxy import FaultProxy

pytestmark = pytest.mark.asyncio

Client = Literal["tus", "uppy", "node"]

QUICK = [100] * 200


def write(path: Path, size: int) -> str:
    """Write a file, and return its digest."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, 1_000_000):
            piece = random_bytes(min(size - start, 1_000_000))
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


async def digest_of(url: str) -> str:
    digest = hashlib.sha256()
    async with httpx.AsyncClient() as client, client.stream("GET", url) as answer:
        async for chunk in answer.aiter_raw():
            digest.update(chunk)
    return digest.hexdigest()


@asynccontextmanager
async def uploading(client: Client, file: Path, endpoint: str) -> AsyncIterator[ForeignClient]:
    """Start an upload in one request; those in Chromium are from a page of another origin."""
    if client == "node":
        async with tus_js(file, endpoint, retryDelays=QUICK) as running:
            yield running
        return
    async with page_serving() as origin, browser() as page:
        await page.call("goto", origin)
        await page.upload(client, file, endpoint, retryDelays=QUICK)
        yield page


def heads(client: ForeignClient) -> int:
    """Return how often a client has asked for its offset."""
    return sum(event["event"] == "request" and event["method"] == "HEAD" for event in client.events)


CASES = [
    pytest.param(
        server, store, client, marks=[] if (server, store, client) == ("uvicorn", "local", "tus") else pytest.mark.long
    )
    for store in ("local", "ceph")
    for server, client in (("uvicorn", "tus"), ("aiohttp", "uppy"), ("granian", "tus"), ("hypercorn", "node"))
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("server", "store", "client"), CASES)
async def test_a_large_upload_outlives_kills_and_cuts(
    server: ServerName, store: StoreName, client: Client, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    size = 200_000_000 if request.config.getoption("trove_long") else 20_000_000
    file = tmp_path / "large.bin"
    digest = write(file, size)
    async with (
        example_store(store, tmp_path) as dsn,
        tus_server_process(server, dsn, tmp_path / "log") as process,
        FaultProxy("127.0.0.1", process.port) as proxy,
        uploading(client, file, f"{proxy.url()}/files/") as running,
    ):
        await proxy.until(lambda proxy: proxy.bytes_up > size * 0.2)
        proxy.break_open("reset")
        await proxy.until(lambda proxy: proxy.bytes_up > size * 0.5)
        await process.kill()
        proxy.break_open("reset")
        await process.start()
        await proxy.until(lambda proxy: proxy.bytes_up > size * 0.8)
        with proxy.unreachable():
            asked = heads(running)
            proxy.break_open("cut")
            await running.until(lambda _: heads(running) > asked)
        result = await running.result()
        assert result["ok"], running.events[-10:]
        assert running.creations == 1
        # Each interruption may cost a part, and what the client sends at an offset that the server has passed.
        assert proxy.bytes_up < size + 3 * 20_000_000
        assert await digest_of(f"{process.url}/files/{result['url'].rpartition('/')[2]}") == digest
