"""104 (Upload Resumption Supported): what a client knows before the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uploads.client.serving import AT_ONCE, HOST
from tests.uploads.memory_store import MemoryStore
from tests.uploads.trailer_server import trailer_serving
from tests.uploads.web.apps import asgi_app
from tests.wire.serving import Peer, serving
from trove_async.uploads import Client

pytestmark = pytest.mark.asyncio


async def test_an_upload_whose_creation_lost_its_answer_is_continued() -> None:
    """The server says where the upload is, and leaves before it answers."""
    bodies: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.method == "OPTIONS":
                await peer.send(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif request.method == "POST":
                await peer.send(b"HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /uploads/7\r\n\r\n")
                return
            elif request.method == "HEAD":
                await peer.send(b"HTTP/1.1 204 No Content\r\nUpload-Offset: 0\r\nUpload-Complete: ?0\r\n\r\n")
            else:
                bodies.append(request.body)
                await peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nUpload-Complete: ?1\r\n\r\n")

    async with (
        serving(script) as server,
        Client(f"http://{HOST}:{server.port}/uploads", fingerprints=None, retries=AT_ONCE) as client,
    ):
        found = await client.upload(b"hello")
    assert [(request.method, request.target) for request in server.requests] == [
        ("OPTIONS", "/uploads"),
        ("POST", "/uploads"),
        ("HEAD", "/uploads/7"),
        ("PATCH", "/uploads/7"),
    ]
    assert bodies == [b"hello"]
    assert found.url == f"http://{HOST}:{server.port}/uploads/7"


async def test_a_server_that_reports_its_progress(file: Path, data: bytes) -> None:
    store = MemoryStore()
    async with trailer_serving(asgi_app(store)) as port:
        url = f"http://{HOST}:{port}/files/"
        async with Client(url, protocol="ietf", fingerprints=None, retries=AT_ONCE) as client:
            found = await client.upload(file)
    assert store.data(found.url.rpartition("/")[2]) == data
