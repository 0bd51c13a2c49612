"""Changes as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import httpx
import pytest
from aiohttp import web

import trove_async as trove
from tests.web.asgi import Sent, scope_of
from tests.web.serving import SECONDS, aiohttp_serving, until
from tests.web.sites import FRAMEWORKS, site, starlette_site
from trove_async.driver import WatchOptions
from trove_async.layers import LayerDriver
from trove_async.web.aiohttp import EventStreamResponse
from trove_async.web.events import EventStream, encode_event, read_events
from trove_async.web.starlette import EventStreamResponse as StarletteEventStreamResponse

pytestmark = pytest.mark.asyncio

frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)


async def stream_of(store: trove.Trove, keep_alive: float = 60.0, prefix: str = "") -> EventStream:
    answer = await read_events(store, "b", "GET", keep_alive=keep_alive, prefix=prefix)
    assert isinstance(answer.body, EventStream)
    assert dict(answer.headers)["Content-Type"] == "text/event-stream"
    return answer.body


async def test_an_event_has_every_known_property_of_the_change() -> None:
    time = datetime(2026, 1, 2, tzinfo=UTC)
    event = trove.ObjectEvent(trove.EventType.CREATED, "b", "line\nbreak \u2028☃", 5, "etag", time=time)
    encoded = encode_event(event).decode("ascii")
    name, data, *rest = encoded.split("\n")
    assert (name, rest) == ("event: object.created", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "object.created",
        "bucket": "b",
        "key": "line\nbreak \u2028☃",
        "size": 5,
        "etag": "etag",
        "time": "2026-01-02T00:00:00+00:00",
    }


async def test_events_arrive_in_order_from_the_start(store: trove.Trove) -> None:
    async with await stream_of(store, prefix="a/") as stream:
        await store.put("b", "other", b"1")
        await store.put("b", "a/k", b"1")
        await store.delete("b", "a/k")
        assert await anext(stream) == b": subscribed\n\n"
        assert (await anext(stream)).startswith(b"event: object.created\n")
        assert (await anext(stream)).startswith(b"event: object.deleted\n")


async def test_keep_alive_comments_lose_no_event(store: trove.Trove) -> None:
    async with await stream_of(store, keep_alive=0.001) as stream:
        assert await anext(stream) == b": subscribed\n\n"
        for number in range(5):
            assert await anext(stream) == b": keep-alive\n\n"
            await store.put("b", f"{number}", b"")
            while (chunk := await anext(stream)) == b": keep-alive\n\n":
                pass
            assert f'"key": "{number}"'.encode() in chunk


@pytest.mark.parametrize(
    ("error", "code"),
    [(trove.WatchOverflowError(), "WatchOverflow"), (trove.OperationTimeoutError(), "OperationTimeout")],
)
async def test_a_failing_watch_ends_with_an_error_event(error: trove.TroveError, code: str) -> None:
    class Failing(LayerDriver):
        async def watch(self, bucket: str, options: WatchOptions) -> AsyncGenerator[trove.ObjectEvent, None]:
            options.on_ready()
            raise error
            yield

    async with trove.open("memory://", layers=[Failing]) as store, await stream_of(store) as stream:
        chunks = [chunk async for chunk in stream]
    name, data, *_ = chunks[-1].decode().split("\n")
    assert (len(chunks), name) == (2, "event: watch.failed")
    assert json.loads(data.removeprefix("data: "))["code"] == code


async def test_keep_alive_must_be_positive(store: trove.Trove) -> None:
    with pytest.raises(ValueError, match="keep_alive"):
        await read_events(store, "b", "GET", keep_alive=0)


@frameworks
async def test_a_bucket_that_cannot_be_watched_is_answered_with_an_error(framework: str, store: trove.Trove) -> None:
    async with site(framework, store) as client:
        answer = await client.get("/events", params={"bucket": "missing"})
    assert (answer.status_code, answer.json()["code"]) == (404, "BucketNotFound")


@frameworks
async def test_head_starts_no_watch(framework: str, store: trove.Trove) -> None:
    before = asyncio.all_tasks()
    async with site(framework, store) as client:
        answer = await client.head("/events", params={"bucket": "b"})
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"] == "text/event-stream"
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("gone_after", [1, 2, 3])
async def test_a_client_that_disconnects_ends_its_watch(store: trove.Trove, gone_after: int) -> None:
    before = asyncio.all_tasks()
    sent = Sent(gone_after=gone_after)
    scope = scope_of("GET", "http://site.test/events?bucket=b", {})
    serving = asyncio.ensure_future(starlette_site(store, {}, {})(scope, sent.receive, sent.send))
    await until(lambda: len(sent.messages), lambda count: count >= min(gone_after, 2))
    await store.put("b", "k", b"")
    async with asyncio.timeout(SECONDS):
        await serving
    assert asyncio.all_tasks() == before
    assert not sent.whole


async def test_a_stream_ends_when_its_store_is_closed() -> None:
    store = await trove.open("memory://")
    await store.create_bucket("b")
    async with await stream_of(store) as stream:
        await anext(stream)
        await store.aclose()
        async with asyncio.timeout(SECONDS):
            rest = [chunk async for chunk in stream]
    assert [chunk.partition(b"\n")[0] for chunk in rest] == [b"event: watch.failed"]


async def test_aiohttp_sends_the_given_headers(store: trove.Trove) -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        return EventStreamResponse(store, "b", headers={"Access-Control-Allow-Origin": "*"})

    app = web.Application()
    app.router.add_get("/", events)
    async with (
        aiohttp_serving(app) as port,
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://127.0.0.1:{port}/") as answer,
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "no-store"
        lines = answer.aiter_lines()
        assert await anext(lines) == ": subscribed"
        await store.put("b", "k", b"")
        assert [await anext(lines) for _ in range(2)] == ["", "event: object.created"]


@frameworks
async def test_one_stream_too_many_is_answered_with_503(framework: str, store: trove.Trove) -> None:
    streams = [await read_events(store, "b", "GET", max_streams=2) for _ in range(3)]
    assert [answer.status for answer in streams] == [200, 200, 503]
    refused = streams[2]
    assert isinstance(refused.body, bytes)
    assert json.loads(refused.body) == {
        "code": "Unavailable",
        "message": "too many event streams are open; try again later",
    }
    assert dict(refused.headers)["Retry-After"] == "15"
    # The limit is that of the store, whatever serves it, and one that has ended makes room.
    response = {"aiohttp": EventStreamResponse, "starlette": StarletteEventStreamResponse}[framework](
        store, "b", max_streams=2
    )
    assert (await response._read("GET")).status == 503
    for answer in streams[:2]:
        assert isinstance(answer.body, EventStream)
        async with answer.body:
            pass
    again = await response._read("GET")
    assert again.status == 200
    assert isinstance(again.body, EventStream)
    async with again.body:
        pass
