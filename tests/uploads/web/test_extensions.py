"""What only some servers can do: trailers of requests, and interim answers."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1
from typing import Final

import pytest

from tests.uploads.memory_store import MemoryStore
from tests.uploads.trailer_server import trailer_serving
from tests.uploads.web.apps import asgi_app, served
from tests.uploads.web.talking import BYTES, Peer, peer

pytestmark = pytest.mark.asyncio

DRAFT: Final = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1"}


async def append(client: Peer, path: str, checksum: str | None) -> int:
    """Append ``hello``, with a checksum behind it, and return the status."""
    trailer = "" if checksum is None else f"Upload-Checksum: {checksum}\r\n"
    headers = {**BYTES, "Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
    return (await client.ask("PATCH", path, headers, f"5\r\nhello\r\n0\r\n{trailer}\r\n".encode())).status


async def test_a_checksum_may_follow_the_body_where_the_server_delivers_trailers() -> None:
    store = MemoryStore()
    async with trailer_serving(asgi_app(store)) as port, peer(port) as client:
        assert "checksum-trailer" in (await client.ask("OPTIONS", "/files/")).headers["tus-extension"]
        path = await client.create(5)
        wrong = b64encode(sha1(b"other").digest()).decode()
        assert await append(client, path, f"sha1 {wrong}") == 460
        assert await append(client, path, None) == 400
        assert await client.offset(path) == 0
        right = b64encode(sha1(b"hello").digest()).decode()
        assert await append(client, path, f"sha1 {right}") == 204
        assert store.data(path.removeprefix("/files/")) == b"hello"


async def test_a_client_that_leaves_before_the_trailers_has_sent_nothing() -> None:
    store = MemoryStore()
    async with trailer_serving(asgi_app(store)) as port, peer(port) as client:
        path = await client.create(5)
        async with peer(port) as leaving:
            headers = {**BYTES, "Upload-Offset": "0", "Transfer-Encoding": "chunked", "Trailer": "Upload-Checksum"}
            await leaving.send("PATCH", path, headers, b"5\r\nhello\r\n")
            leaving.writer.write_eof()
            await leaving.rest()
        assert await client.offset(path) == 0


@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_trailers_are_not_promised_where_they_are_dropped(server: str) -> None:
    async with served("uvicorn" if server == "uvicorn" else "aiohttp") as port, peer(port) as client:
        said = await client.ask("OPTIONS", "/files/")
        assert "checksum" in said.headers["tus-extension"].split(",")
        assert "checksum-trailer" not in said.headers["tus-extension"]


async def check_interim(port: int) -> None:
    async with peer(port) as client:
        await client.send("POST", "/files/", {**DRAFT, "Content-Length": "5"})
        interim = await client.head()
        assert interim.status == 104
        assert interim.headers["upload-draft-interop-version"] == "8"
        location = interim.headers["location"]
        async with peer(port) as other:
            assert await other.offset(location) == 0
        await client.send_bytes(b"hello")
        said = await client.answer()
        assert said.status == 201
        assert said.headers["upload-complete"] == "?1"
        assert said.headers["location"] == location
        # Without a version of a draft, 104 is forbidden.
        plain = await client.ask("POST", "/files/", {"Upload-Complete": "?1"}, b"hello")
        assert (plain.status, plain.interim) == (201, [])


async def test_aiohttp_sends_interim_answers() -> None:
    async with served("aiohttp") as port:
        await check_interim(port)


@pytest.mark.parametrize("header", ["Via: 1.1 proxy", "X-Forwarded-For: 192.0.2.1", "Connection: close"])
async def test_interim_answers_are_not_sent_to_proxies(header: str) -> None:
    name, _, value = header.partition(": ")
    async with served("aiohttp") as port, peer(port) as client:
        said = await client.ask("POST", "/files/", {**DRAFT, name: value}, b"hello")
        assert (said.status, said.interim) == (201, [])


async def test_an_asgi_server_sends_interim_answers_if_it_says_so() -> None:
    async with trailer_serving(asgi_app()) as port:
        await check_interim(port)


async def test_without_interim_answers_the_location_comes_at_the_end() -> None:
    async with served("uvicorn") as port, peer(port) as client:
        said = await client.ask("POST", "/files/", DRAFT, b"hello")
        assert (said.status, said.interim) == (201, [])
        assert said.headers["location"].startswith("/files/")
