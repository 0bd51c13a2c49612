"""The app behind a real server, with clients that disconnect."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

import trove_async as trove
from trove_async.driver import Body, GetOptions, PutOptions
from trove_async.layers import LayerDriver
from trove_async.reader import ObjectReader
from trove_async.web import signed_urls

pytestmark = pytest.mark.asyncio


class Ends(LayerDriver):
    """Records how each upload ended, and when a reader was released."""

    uploads: asyncio.Queue[str]
    readers: asyncio.Queue[ObjectReader]

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> trove.ObjectInfo:
        outcome = "failed"
        try:
            info = await super().put(bucket, key, body, options)
            outcome = "stored"
        finally:
            self.uploads.put_nowait(outcome)
        return info

    async def get(self, bucket: str, key: str, options: GetOptions) -> ObjectReader:
        reader = await super().get(bucket, key, options)
        self.readers.put_nowait(reader)
        return reader


@asynccontextmanager
async def served() -> AsyncIterator[tuple[trove.Trove, Ends]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with trove.open("memory://", presign_url=base, layers=[Ends]) as store:
            ends = trove.unwrap(store.driver, Ends)
            ends.uploads, ends.readers = asyncio.Queue(), asyncio.Queue()
            await store.create_bucket("b")
            config = uvicorn.Config(signed_urls(store), log_level="error", lifespan="on", ws="none")
            server = uvicorn.Server(config)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                yield store, ends
            finally:
                server.should_exit = True
                await serving


async def test_a_round_trip_over_a_socket() -> None:
    key, data = "a/../b//c %2F☃", bytes(3_000_000)
    async with served() as (store, ends), httpx.AsyncClient() as client:
        assert (await client.put(await store.presign_put("b", key), content=data)).status_code == 200
        assert await ends.uploads.get() == "stored"
        answer = await client.get(await store.presign_get("b", key), headers={"Range": "bytes=1000000-"})
        assert (answer.status_code, answer.content) == (206, data[1_000_000:])
        assert (await client.delete(await store.presign_delete("b", key))).status_code == 204


async def test_an_interrupted_upload_stores_nothing() -> None:
    async with served() as (store, ends):
        await store.put("b", "k", b"old")
        assert await ends.uploads.get() == "stored"
        _, writer = await request(await store.presign_put("b", "k"), "PUT", "Content-Length: 1000\r\n")
        writer.write(b"x" * 999)
        await writer.drain()
        writer.close()
        assert await asyncio.wait_for(ends.uploads.get(), 30) == "failed"
        assert await store.read("b", "k") == b"old"


async def test_an_interrupted_download_closes_its_reader() -> None:
    async with served() as (store, ends):
        await store.put("b", "k", bytes(64 * 1024 * 1024))
        answer, writer = await request(await store.presign_get("b", "k"), "GET", "")
        await answer.readexactly(100_000)
        writer.transport.abort()
        reader = await ends.readers.get()
        async with asyncio.timeout(30):
            while not reader.closed:  # noqa: ASYNC110 - a reader has no event to wait for
                await asyncio.sleep(0.01)


async def request(url: str, method: str, headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    answer, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
    await writer.drain()
    return answer, writer
