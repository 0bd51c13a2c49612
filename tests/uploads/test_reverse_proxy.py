"""nginx in front of an app, with and without buffering of requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.uploads.counting import lifespan
from tests.uploads.reverse_proxy import location, nginx_process
from tests.uploads.serving import serving

pytestmark = pytest.mark.asyncio

HEAD = b"PATCH /files/a HTTP/1.1\r\nHost: files.test\r\nContent-Length: 100000\r\n\r\n"


class Reader:
    """An app that keeps the paths of its requests and the size of their bodies so far."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.hosts: set[bytes] = set()
        self.come = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        self.hosts |= {value for name, value in scope["headers"] if name == b"host"}
        self.sizes[scope["path"]] = 0
        more = True
        while more:
            message = await receive()
            self.sizes[scope["path"]] += len(message.get("body", b""))
            if self.sizes[scope["path"]] >= 50_000:
                self.come.set()
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


async def test_without_buffering_the_app_gets_what_has_arrived(tmp_path: Path) -> None:
    app = Reader()
    async with (
        serving("uvicorn", app) as port,
        nginx_process(port, tmp_path, location(buffering=False)) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(HEAD + bytes(50_000))
        await app.come.wait()
        writer.write(bytes(50_000))
        assert b" 204 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert app.sizes == {"/files/a": 100_000}
    assert app.hosts == {b"files.test"}


async def test_with_buffering_the_app_gets_no_part_of_an_unfinished_request(tmp_path: Path) -> None:
    app = Reader()
    async with (
        serving("uvicorn", app) as port,
        nginx_process(port, tmp_path, location(buffering=True)) as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(HEAD + bytes(50_000))
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        async with httpx.AsyncClient() as client:
            assert (await client.patch(f"{proxy.url}/files/b", content=bytes(3))).status_code == 204
    assert app.sizes == {"/files/b": 3}
