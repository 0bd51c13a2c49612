"""Uploads to a store that does not go on, and clients that do not wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.web.asgi import Sent, call, scope_of
from tests.web.serving import SECONDS, aiohttp_serving, request, uvicorn_serving
from tests.web.sites import aiohttp_site, starlette_site
from trove_async.driver import Body, PutOptions
from trove_async.layers import LayerDriver
from trove_async.web import signed_urls, uploading
from trove_async.web.uploading import receive_body

pytestmark = pytest.mark.asyncio

URL = "http://files.test/o/k"


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploading, "_LOOK_SECONDS", 0)


class Stalling(LayerDriver):
    """Stops in each put of ``k``, before it reads the body or after it has read it."""

    reads_first = False

    async def start(self) -> None:
        self.stalled = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def put(self, bucket: str, key: str, body: Body, options: PutOptions) -> trove.ObjectInfo:
        if key != "k":
            return await super().put(bucket, key, body, options)
        if self.reads_first:
            await body.read_all()
        self.stalled.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("not reached")


class ReadingFirst(Stalling):
    reads_first = True


@pytest.mark.parametrize("layer", [Stalling, ReadingFirst])
@pytest.mark.parametrize("app", ["starlette", "signed"])
@pytest.mark.parametrize("accept", [{}, {"max_size": 1000}], ids=["unbounded", "bounded"])
async def test_an_upload_to_a_stalled_store_ends_with_its_client(
    layer: type[Stalling], app: str, accept: dict[str, int]
) -> None:
    async with trove.open("memory://", presign_url="http://files.test", layers=[layer]) as store:
        await store.create_bucket("b")
        driver = trove.unwrap(store.driver, layer)
        before = asyncio.all_tasks()
        sent = Sent([b"one", b"two"])
        url = await store.presign_put("b", "k") if app == "signed" else URL
        site = signed_urls(store) if app == "signed" else starlette_site(store, {}, accept)
        serving = asyncio.ensure_future(site(scope_of("PUT", url, {}), sent.receive, sent.send))
        await driver.stalled.wait()
        sent.leave()
        await serving
        assert driver.cancelled.is_set()
        assert asyncio.all_tasks() == before
        assert [message["status"] for message in sent.messages if "status" in message] in ([499], [])
        assert await store.list("b").all() == []


@pytest.mark.parametrize("layer", [Stalling, ReadingFirst])
@pytest.mark.parametrize("server", ["uvicorn", "aiohttp"])
async def test_it_ends_behind_a_real_server(layer: type[Stalling], server: str) -> None:
    async with trove.open("memory://", layers=[layer]) as store:
        await store.create_bucket("b")
        driver = trove.unwrap(store.driver, layer)
        serving = (
            uvicorn_serving(starlette_site(store, {}, {}))
            if server == "uvicorn"
            else aiohttp_serving(aiohttp_site(store, {}, {}))
        )
        async with serving as port:
            async with request(port, "PUT", "/o/k", "Content-Length: 100000\r\n") as (_, writer):
                writer.write(bytes(100_000 if layer is ReadingFirst else 50_000))
                await driver.stalled.wait()
            async with asyncio.timeout(SECONDS):
                await driver.cancelled.wait()


class Source:
    """A body of endless chunks, or of some."""

    def __init__(self, count: int | None = None, error: Exception | None = None) -> None:
        self.taken = 0
        self.full = asyncio.Event()
        self._left = count
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left is None or self.taken < self._left:
            self.taken += 1
            if self.taken * 4096 >= 256 * 1024:
                self.full.set()
            yield bytes([self.taken % 256]) * 4096
        if self._error is not None:
            raise self._error


async def test_what_is_read_ahead_is_bounded_and_comes_in_order() -> None:
    source = Source()

    async def put(chunks: AsyncIterator[bytes]) -> None:
        await source.full.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert source.taken == 64
        for number in range(1, 200):
            assert (await anext(chunks))[0] == number % 256

    await receive_body(source, put)
    assert source.taken <= 264


async def test_a_body_that_breaks_while_it_is_read_ahead_has_not_ended() -> None:
    for reads_on in (False, True):
        source = Source(3, ConnectionResetError("gone"))
        stored: list[bytes] = []

        async def put(chunks: AsyncIterator[bytes], reads_on: bool = reads_on, stored: list[bytes] = stored) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                if reads_on:
                    stored.extend([chunk async for chunk in chunks])

        with pytest.raises(ConnectionResetError, match="gone"):
            await receive_body(source, put)
        assert stored == []


async def test_the_puts_own_error_and_result_go_before_a_client_that_leaves() -> None:
    async def gone() -> None:
        raise ConnectionResetError("gone")

    async def fails(chunks: AsyncIterator[bytes]) -> None:
        raise trove.PreconditionFailedError

    async def ends(chunks: AsyncIterator[bytes]) -> int:
        return sum([len(chunk) async for chunk in chunks])

    with pytest.raises(trove.PreconditionFailedError):
        await receive_body(Source(3), fails, gone)
    assert await receive_body(Source(3), ends, gone) == 3 * 4096


async def test_a_cancellation_ends_the_put_and_the_reading() -> None:
    before = asyncio.all_tasks()
    begun = asyncio.Event()

    async def put(chunks: AsyncIterator[bytes]) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(receive_body(Source(), put))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before


async def test_an_upload_that_is_stored_is_answered(store: trove.Trove) -> None:
    sent = await call(starlette_site(store, {}, {}), "PUT", URL, {}, [b"one", b"two"])
    assert sent.status == 200
    assert await store.read("b", "k") == b"onetwo"
