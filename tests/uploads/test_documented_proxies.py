"""The blocks for nginx in the documentation, as a reader would use them."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

import trove_async as trove
from tests.payload import pattern
from tests.servers.folder import REPOSITORY
from tests.uploads.foreign import tus_js
from tests.uploads.processes import ServerProcess
from tests.uploads.reverse_proxy import nginx_process
from tests.uploads.serving import ServerName, serving
from tests.uploads.test_curl import curl
from tests.uploads.web.apps import asgi_app, web_app
from tests.uploads.web.talking import BYTES, TUS, Peer, peer
from tests.web.serving import SECONDS
from trove_async.uploads import Hooks, TroveDataStore, UploadEvent

pytestmark = pytest.mark.asyncio

PAGE: Final = REPOSITORY / "docs" / "uploads-proxies.md"
STREAMED, BUFFERED = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
SIZE: Final = 3_000_000


class Progress(Hooks):
    """Notes that bytes have arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def on_progress(self, event: UploadEvent) -> None:
        self.arrived.set()


@asynccontextmanager
async def behind(
    block: str, folder: Path, *, server: ServerName = "uvicorn", **options: Any
) -> AsyncIterator[ServerProcess]:
    """Serve uploads at ``/files/`` behind nginx."""
    async with trove.open("memory://") as store:
        await store.create_bucket("uploads")
        app = (web_app if server == "aiohttp" else asgi_app)(TroveDataStore(store, "uploads"), **options)
        async with serving(server, app) as port, nginx_process(port, folder, block) as proxy:
            yield proxy


async def begin(client: Peer) -> str:
    """Create an upload, send half of it in a request that does not end, and return its path."""
    path = await client.create(SIZE)
    await client.send_bytes(
        b"\r\n".join(
            [
                f"PATCH {path} HTTP/1.1".encode(),
                b"Host: example.com",
                *(f"{name}: {value}".encode() for name, value in BYTES.items()),
                b"Upload-Offset: 0",
                f"Content-Length: {SIZE}".encode(),
                b"",
                pattern(SIZE)[: SIZE // 2],
            ]
        )
    )
    return path


@pytest.mark.parametrize("block", [STREAMED, BUFFERED], ids=["streamed", "buffered"])
async def test_tus_js_client_uploads(block: str, tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(pattern(SIZE))
    async with behind(block, tmp_path) as proxy:
        async with tus_js(file, f"{proxy.url}/files/", chunkSize=1 << 20) as client:
            result = await client.result()
        assert result["ok"], client.events[-5:]
        got = tmp_path / "got"
        await curl(result["url"], output=got)
        assert got.read_bytes() == pattern(SIZE)


@pytest.mark.parametrize("block", [STREAMED, BUFFERED], ids=["streamed", "buffered"])
async def test_metadata_that_nginx_takes_it_passes_back(block: str, tmp_path: Path) -> None:
    """A client that is answered with 502 when it asks for the offset takes its upload for lost."""
    name = b64encode(("\u65e5" * 1900 + ".txt").encode()).decode()
    async with behind(block, tmp_path) as proxy, peer(proxy.port) as client:
        path = await client.create(3, **{"Upload-Metadata": f"filename {name}"})
        assert (await client.ask("HEAD", path, TUS)).headers["upload-metadata"] == f"filename {name}"
        assert (await client.ask("PATCH", path, {**BYTES, "Upload-Offset": "0"}, b"abc")).status == 204
        assert (await client.ask("GET", path)).body == b"abc"


async def test_bytes_arrive_while_the_client_sends(tmp_path: Path) -> None:
    hooks = Progress()
    async with behind(STREAMED, tmp_path, hooks=hooks, progress_seconds=1e-6) as proxy, peer(proxy.port) as client:
        path = await begin(client)
        async with asyncio.timeout(SECONDS):
            await hooks.arrived.wait()
        client.writer.write_eof()
        async with peer(proxy.port) as other:
            async with asyncio.timeout(SECONDS):
                while (offset := await other.offset(path)) == 0:  # noqa: ASYNC110 - nginx has no event
                    await asyncio.sleep(0.005)
            assert offset <= SIZE // 2


async def test_with_buffering_the_server_gets_no_part_of_an_unfinished_request(tmp_path: Path) -> None:
    hooks = Progress()
    async with behind(BUFFERED, tmp_path, hooks=hooks, progress_seconds=1e-6) as proxy, peer(proxy.port) as client:
        path = await begin(client)
        client.writer.write_eof()
        await client.rest()
        async with peer(proxy.port) as other:
            assert await other.offset(path) == 0
    assert not hooks.arrived.is_set()


async def test_the_server_knows_how_clients_see_it(tmp_path: Path) -> None:
    said = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil", "Forwarded": "host=evil.example"}
    served = behind(STREAMED, tmp_path, absolute_location=True, trusted_proxies=["127.0.0.1"])
    async with served as proxy, peer(proxy.port) as client:
        assert (await client.create(1, **said)).startswith("http://example.com/files/")


async def test_interim_answers_are_not_sent_to_nginx(tmp_path: Path) -> None:
    headers = ["Upload-Draft-Interop-Version: 8", "Upload-Complete: ?1"]
    async with behind(STREAMED, tmp_path, server="aiohttp") as proxy:
        [said] = await curl("--data-binary", "content", f"{proxy.url}/files/", headers=headers)
    assert (said.status, said.headers["upload-offset"]) == (201, "7")
