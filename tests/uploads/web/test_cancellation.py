"""Requests that are cancelled wherever they wait, as servers do at a shutdown: no lock, task or byte is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

import trove_async as trove
from tests.uploads.memory_store import MemoryStore
from tests.uploads.web.talking import BYTES, TUS, Said
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.uploads import TusApp, receiving

pytestmark = pytest.mark.asyncio

DATA: Final = b"0123456789"


async def ask(
    app: TusApp, method: str, path: str, headers: Mapping[str, str], *chunks: bytes, stalls: bool = False
) -> Said:
    """Call an ASGI app without a server; return the answer, whose status is 0 if there was none."""
    said = Said(0, {})
    waiting = list(chunks) or [b""]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if waiting:
            chunk = waiting.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(waiting) or stalls}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        if message["type"] == "http.response.start":
            said.status = message["status"]
            said.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            said.body += message["body"]

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return said


@asynccontextmanager
async def app_over(store: str) -> AsyncIterator[TusApp]:
    if store == "plain":
        async with TusApp(MemoryStore()) as app:
            yield app
        return
    async with trove.open("memory://?min_part_size=1") as opened:
        await opened.create_bucket("uploads")
        async with TusApp(opened, bucket="uploads") as app:
            yield app


def continued(offset: int) -> dict[str, str]:
    return {**BYTES, "Upload-Offset": str(offset), "Transfer-Encoding": "chunked"}


REQUESTS: Final[Mapping[str, tuple[str, Mapping[str, str], tuple[bytes, ...]]]] = {
    "append": ("PATCH", continued(4), (b"4", b"56")),
    "append the end": ("PATCH", continued(4), (b"456", b"789")),
    "append with a checksum": ("PATCH", {**continued(4), "Upload-Checksum": "crc32 rEAlKw=="}, (b"4", b"5")),
    "refuse": ("PATCH", continued(5), (b"5",)),
    "ask": ("HEAD", TUS, ()),
}


@pytest.mark.parametrize("delivery", Delivery)
@pytest.mark.parametrize("store", ["plain", "trove"])
@pytest.mark.parametrize("name", REQUESTS)
async def test_an_upload_goes_on_after_a_cancellation(
    store: str, name: str, delivery: Delivery, await_point_step: int
) -> None:
    method, headers, chunks = REQUESTS[name]
    async with app_over(store) as app:
        path = ""

        async def prepare() -> None:
            nonlocal path
            path = (await ask(app, "POST", "/", {**TUS, "Upload-Length": "10"})).headers["location"]
            assert (await ask(app, "PATCH", path, continued(0), DATA[:4])).status == 204

        async def check(outcome: Outcome[Said]) -> None:
            assert outcome.error is None
            assert outcome.left_running == frozenset()
            offset = int((await ask(app, "HEAD", path, TUS)).headers["upload-offset"])
            assert 4 <= offset <= 10
            assert (await ask(app, "PATCH", path, continued(offset), DATA[offset:])).status == 204
            assert (await ask(app, "GET", path, {})).body == DATA

        points = await cancel_everywhere(
            lambda: ask(app, method, path, headers, *chunks),
            delivery,
            prepare=prepare,
            check=check,
            step=await_point_step,
        )
        assert points >= 2


@pytest.mark.parametrize("delivery", Delivery)
async def test_a_takeover_that_is_cancelled_leaves_the_upload_to_the_next(
    delivery: Delivery, await_point_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_DRAIN_SECONDS", 0.001)
    async with app_over("plain") as app:
        path, stalled = "", asyncio.ensure_future(asyncio.sleep(0, Said(0, {})))

        async def prepare() -> None:
            nonlocal path, stalled
            path = (await ask(app, "POST", "/", {**TUS, "Upload-Length": "10"})).headers["location"]
            stalled = asyncio.ensure_future(ask(app, "PATCH", path, continued(0), DATA[:4], stalls=True))
            for _ in range(50):
                await asyncio.sleep(0)

        async def check(outcome: Outcome[Said]) -> None:
            assert outcome.error is None
            assert outcome.left_running == frozenset()
            if outcome.cancelled:
                said = await ask(app, "PATCH", path, continued(4), DATA[4:])
                offset = int((await ask(app, "HEAD", path, TUS)).headers["upload-offset"])
                assert said.status == 204 or offset > 4
                assert (await ask(app, "PATCH", path, continued(offset), DATA[offset:])).status == 204
            assert (await stalled).status == 423
            assert (await ask(app, "GET", path, {})).body == DATA

        await cancel_everywhere(
            lambda: ask(app, "PATCH", path, continued(4), DATA[4:]),
            delivery,
            prepare=prepare,
            check=check,
            step=await_point_step,
        )
