"""Bodies over sockets: refused, held back, cut off, stalled, and too large."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.uploads.memory_store import MemoryStore
from tests.uploads.serving import ServerName
from tests.uploads.web.apps import EVERY_SERVER, IN_LOOP_OR_LONG, IN_LOOP_SERVERS, WatchedStore, served
from tests.uploads.web.talking import BYTES, TUS, peer
from tests.web.serving import until
from trove_async.uploads.lockers.memory import MemoryLocker

pytestmark = pytest.mark.asyncio

LARGE: Final = 8 * 1024 * 1024


def continued(offset: int, **headers: str) -> dict[str, str]:
    return {**BYTES, "Upload-Offset": str(offset), **headers}


@pytest.mark.parametrize("server", EVERY_SERVER)
async def test_the_answer_to_a_large_body_that_is_refused_can_be_read(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(LARGE)
        await client.send("PATCH", path, continued(1, **{"Content-Length": str(LARGE - 1)}))
        sending = asyncio.ensure_future(client.send_bytes(bytes(LARGE - 1)))
        said = await client.answer()
        assert said.status == 409
        assert said.headers["connection"] == "close"
        with contextlib.suppress(ConnectionError):
            await sending
        assert await client.rest() == b""


async def test_a_body_that_is_refused_over_http2_ends_no_other_request() -> None:
    """hypercorn ends the connection if bytes come for a request that it has answered."""
    async with served("hypercorn") as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=url) as client:
            created = await client.post("/files/", headers={**TUS, "Upload-Length": "1000000"})
            assert created.http_version == "HTTP/2"
            path = created.headers["location"]
            refused = await client.patch(path, headers=continued(5), content=bytes(900_000))
            assert refused.status_code == 409
            assert "connection" not in refused.headers
            again = await client.patch(path, headers=continued(0), content=bytes(1_000_000))
            assert again.status_code == 204


@pytest.mark.parametrize("server", IN_LOOP_OR_LONG)
async def test_a_short_body_that_is_refused_is_answered(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        assert (await client.ask("PATCH", path, continued(1), b"12345")).status == 409
        assert await client.rest() == b""


@pytest.mark.parametrize("server", IN_LOOP_OR_LONG)
async def test_a_connection_serves_many_requests(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        assert (await client.ask("PATCH", path, continued(0), b"01234")).status == 204
        assert await client.offset(path) == 5
        assert (await client.ask("HEAD", "/files/nothing", TUS)).status == 404
        assert (await client.ask("DELETE", path, TUS)).status == 204


@pytest.mark.parametrize("server", EVERY_SERVER)
async def test_what_arrived_before_a_client_left_is_kept(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(LARGE)
        async with peer(port) as leaving:
            await leaving.send("PATCH", path, continued(0, **{"Content-Length": str(LARGE)}))
            await leaving.send_bytes(bytes(300_000))
            leaving.writer.write_eof()
            await leaving.rest()
        await client.until_offset(path, 300_000)
        last = bytes(LARGE - 300_000)
        assert (await client.ask("PATCH", path, continued(300_000), last)).status == 204


@pytest.mark.parametrize("server", EVERY_SERVER)
async def test_a_client_is_told_to_continue_only_when_its_body_is_wanted(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        expecting = {"Expect": "100-continue", "Content-Length": "5"}
        await client.send("PATCH", path, continued(0, **expecting))
        assert (await client.head()).status == 100
        await client.send_bytes(b"01234")
        assert (await client.answer()).status == 204
        await client.send("PATCH", path, continued(1, **expecting))
        said = await client.answer()
        assert said.status == 409
        # hypercorn says it before the app is called.
        assert [each.status for each in said.interim] == ([100] if server == "hypercorn" else [])
        assert said.headers["connection"] == "close"


async def test_aiohttp_knows_no_other_expectation() -> None:
    async with served("aiohttp") as port, peer(port) as client:
        said = await client.ask("POST", "/files/", {**TUS, "Upload-Length": "1", "Expect": "tea"}, b"")
        assert said.status == 417


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn"])
async def test_encoded_bodies_are_refused(server: ServerName) -> None:
    """They would be decoded (by aiohttp), or would become the upload as they are."""
    async with served(server) as port, peer(port) as client:
        path = await client.create(10)
        said = await client.ask("PATCH", path, continued(0, **{"Content-Encoding": "gzip"}), b"01234")
        assert said.status == 415
        assert said.headers["tus-resumable"] == "1.0.0"
        assert said.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("server", IN_LOOP_OR_LONG)
async def test_malformed_chunks_are_no_bytes_of_the_upload(server: ServerName, tmp_path: Path) -> None:
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        async with peer(port) as wrong:
            await wrong.send("PATCH", path, continued(0, **{"Transfer-Encoding": "chunked"}), b"zz\r\nabc\r\n")
            with contextlib.suppress(EOFError, OSError):
                assert (await wrong.answer()).status in (400, 423)  # granian calls it a client that left
        assert await client.offset(path) == 0


@pytest.mark.parametrize("server", IN_LOOP_SERVERS)
async def test_a_second_patch_takes_over_from_a_stalled_one(server: ServerName) -> None:
    store = WatchedStore()
    async with served(server, store) as port, peer(port) as client, peer(port) as stalled, peer(port) as other:
        path = await client.create(10)
        await stalled.send("PATCH", path, continued(0, **{"Content-Length": "10"}), b"0123")
        await store.at(4).wait()
        second = asyncio.ensure_future(client.ask("PATCH", path, continued(4), b"456789"))
        answered = 0
        while not second.done():
            assert (await other.ask("OPTIONS", "/files/")).status == 204
            answered += 1
        assert answered
        said = await second
        assert (said.status, said.headers["upload-offset"]) == (204, "10")
        assert (await stalled.answer()).status == 423
        assert store.data(path.removeprefix("/files/")) == b"0123456789"


@pytest.mark.parametrize("server", IN_LOOP_SERVERS)
async def test_a_head_does_not_disturb_a_patch(server: ServerName) -> None:
    store = WatchedStore()
    async with served(server, store) as port, peer(port) as client, peer(port) as sending:
        path = await client.create(10)
        await sending.send("PATCH", path, continued(0, **{"Content-Length": "10"}), b"0123")
        await store.at(4).wait()
        assert (await client.ask("HEAD", path, TUS)).status == 200
        await sending.send_bytes(b"456789")
        assert (await sending.answer()).status == 204


@pytest.mark.parametrize("server", IN_LOOP_SERVERS)
async def test_a_silent_client_keeps_what_it_sent(server: ServerName) -> None:
    async with served(server, idle_timeout=0.05) as port, peer(port) as client:
        path = await client.create(10)
        await client.send("PATCH", path, continued(0, **{"Content-Length": "10"}), b"0123")
        said = await client.answer()
        assert said.status == 503
        assert said.headers["connection"] == "close"
        async with peer(port) as again:
            assert await again.offset(path) == 4


async def test_aiohttp_stops_bodies_when_it_is_shut_down() -> None:
    store = WatchedStore()
    async with contextlib.AsyncExitStack() as stack:
        async with served("aiohttp", store) as port:
            client = await stack.enter_async_context(peer(port))
            path = await client.create(10)
            await client.send("PATCH", path, continued(0, **{"Content-Length": "10"}), b"0123")
            await store.at(4).wait()
        said = await client.answer()
    assert said.status == 503
    assert int(said.headers["retry-after"]) > 0
    assert store.data(path.removeprefix("/files/")) == b"0123"


class CancelledStore(MemoryStore):
    """A store in which a test cancels the request that creates an upload."""

    def __init__(self) -> None:
        super().__init__()
        self.task: asyncio.Task[object] | None = None

    async def write_chunk(self, upload_id: str, offset: int, src: AsyncIterator[bytes]) -> int:
        self.task = asyncio.current_task()
        return await super().write_chunk(upload_id, offset, src)


async def test_a_cancelled_request_releases_its_lock() -> None:
    store, locker = CancelledStore(), MemoryLocker()
    async with served("uvicorn", store, locker=locker) as port, peer(port) as client:
        path = await client.create(10)
        async with peer(port) as stalled:
            await stalled.send("PATCH", path, continued(0, **{"Content-Length": "10"}), b"0123")
            await until(lambda: store.task, lambda task: task is not None)
            assert store.task is not None
            store.task.cancel()
            with contextlib.suppress(EOFError, OSError):
                await stalled.answer()
        offset = await client.offset(path)
        said = await client.ask("PATCH", path, continued(offset), b"0123456789"[offset:])
        assert (said.status, said.headers["upload-offset"]) == (204, "10")
    await locker.aclose()


@pytest.mark.parametrize("server", IN_LOOP_OR_LONG)
async def test_an_empty_body_ends(server: ServerName, tmp_path: Path) -> None:
    """Also if it is asked for again: aiohttp then says for ever that a chunk has ended."""
    async with served(server, log=tmp_path / "log") as port, peer(port) as client:
        path = await client.create(10)
        for _ in range(2):
            await client.send("PATCH", path, continued(0, **{"Upload-Length": "10", "Content-Length": "0"}))
            assert (await client.answer()).status == 204
        draft = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?0", "Content-Length": "0"}
        await client.send("POST", "/files/", draft)
        assert (await client.answer()).status == 201
