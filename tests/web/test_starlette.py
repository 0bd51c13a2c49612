"""Behaviour specific to Starlette, FastAPI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

import trove_async as trove
from tests.web.asgi import DATA, Sent, scope_of
from tests.web.sites import starlette_site
from tests.web.streams import Endless, streaming
from trove_async.web.starlette import ObjectResponse, exception_handlers, receive

pytestmark = pytest.mark.asyncio

URL = "http://site.test/o/k"


async def call(app: ASGIApp, method: str, headers: dict[str, str], sent: Sent) -> Sent:
    await app(scope_of(method, URL, headers), sent.receive, sent.send)
    return sent


# Clients that disconnect


@pytest.mark.parametrize("stalls", [False, True])
@pytest.mark.parametrize("middlewares", [0, 1, 2])
async def test_a_client_that_disconnects_ends_its_download(stalls: bool, middlewares: int) -> None:
    async def dispatch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    stream = Endless(stalls=stalls)
    async with trove.open("memory://", layers=[streaming(stream)]) as store:
        app: ASGIApp = starlette_site(store, {}, {})
        for _ in range(middlewares):
            app = BaseHTTPMiddleware(app, dispatch)
        before = asyncio.all_tasks()
        await call(app, "GET", {}, Sent(gone_after=2))
        assert asyncio.all_tasks() == before
    assert stream.ended
    assert stream.reads < 1000


async def test_a_server_that_raises_in_send_ends_the_download() -> None:
    """As servers of ASGI 2.4 may: https://asgi.readthedocs.io/en/stable/specs/www.html#send-event."""
    stream = Endless()
    sent = Sent()

    async def send(message: dict[str, object]) -> None:
        await sent.send(message)
        if len(sent.messages) == 3:
            raise OSError("the client is gone")

    async with trove.open("memory://", layers=[streaming(stream)]) as store:
        await starlette_site(store, {}, {})(scope_of("GET", URL, {}), sent.receive, send)  # type: ignore[arg-type]
    assert stream.ended
    assert stream.reads == 2


async def test_a_download_releases_its_reader_when_the_server_stops() -> None:
    stream = Endless(stalls=True)
    async with trove.open("memory://", layers=[streaming(stream)]) as store:
        serving = asyncio.ensure_future(call(starlette_site(store, {}, {}), "GET", {}, Sent()))
        await stream.stalled.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert stream.ended


async def test_a_download_that_breaks_does_not_end_like_a_complete_one() -> None:
    stream = Endless(breaks=True)
    async with trove.open("memory://", layers=[streaming(stream)]) as store:
        sent = Sent()
        with pytest.raises(RuntimeError) as raised:
            await call(starlette_site(store, {}, {}), "GET", {}, sent)
    assert isinstance(raised.value.__cause__, trove.BackendError)
    assert stream.ended
    assert not sent.whole


async def test_a_client_that_disconnects_during_an_upload_leaves_the_old_object(store: trove.Trove) -> None:
    await store.put("b", "k", b"old")
    before = asyncio.all_tasks()
    for accept in ({}, {"max_size": 1000}):
        sent = await call(starlette_site(store, {}, accept), "PUT", {"content-length": "100"}, Sent([b"new", None]))
        assert sent.status == 499
        assert asyncio.all_tasks() == before
    assert await store.read("b", "k") == b"old"


async def test_a_body_shorter_than_its_length_stores_nothing(store: trove.Trove) -> None:
    sent = await call(starlette_site(store, {}, {}), "PUT", {"content-length": "5"}, Sent([b"ab"]))
    assert (sent.status, sent.json()["code"]) == (400, "BodySize")
    assert not await store.exists("b", "k")


async def test_an_upload_is_read_no_faster_than_it_is_stored(store: trove.Trove) -> None:
    taken: list[int] = []
    received = 0

    async def receive_message() -> dict[str, object]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"x", "more_body": received < 10}

    accept = {"on_progress": lambda done, size: taken.append(received - done)}
    sent = Sent()
    await starlette_site(store, {}, accept)(scope_of("PUT", URL, {}), receive_message, sent.send)
    assert taken == [0] * 10
    assert sent.status == 200


# Features of Starlette


async def test_a_background_task_runs_after_the_response(store: trove.Trove) -> None:
    await store.put("b", "k", DATA)
    sent = Sent()
    order: list[bool] = []
    response = ObjectResponse(store, "b", "k", background=BackgroundTask(lambda: order.append(sent.whole)))
    await call(response, "GET", {}, sent)
    assert order == [True]


async def test_cookies_are_sent(store: trove.Trove) -> None:
    await store.put("b", "k", DATA)
    response = ObjectResponse(store, "b", "k")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    sent = await call(response, "GET", {}, Sent())
    cookies = [value.partition(b";")[0] for name, value in sent.messages[0]["headers"] if name == b"set-cookie"]
    assert cookies == [b"a=1", b"b=2"]


@pytest.mark.parametrize("headers", [{"X-Mine": "a\r\nX-Evil: 1"}, {"X Mine": "a"}, {"X-Mine:": "a"}], ids=str)
async def test_a_header_value_with_line_breaks_is_refused(store: trove.Trove, headers: dict[str, str]) -> None:
    await store.put("b", "k", DATA)
    sent = Sent()
    with pytest.raises(ValueError, match="is not valid in a header"):
        await call(ObjectResponse(store, "b", "k", headers=headers), "GET", {}, sent)
    assert sent.messages == []


async def test_the_response_can_be_compressed_by_middleware(store: trove.Trove) -> None:
    await store.put("b", "k", b"x" * 10_000, content_type="text/plain")
    app = GZipMiddleware(starlette_site(store, {}, {}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        answer = await client.get(URL)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.content == b"x" * 10_000


# FastAPI


async def test_fastapi_handles_errors_and_runs_background_tasks(store: trove.Trove) -> None:
    order: list[str] = []
    await store.put("b", "k", DATA)

    app = FastAPI(exception_handlers=exception_handlers, middleware=[Middleware(GZipMiddleware)])

    @app.get("/o/{key}")
    async def download(key: str, tasks: BackgroundTasks) -> Response:
        tasks.add_task(order.append, "background")
        return ObjectResponse(store, "b", key)

    @app.put("/o/{key}")
    async def upload(key: str, request: Request) -> dict[str, int]:
        return {"size": (await receive(request, store, "missing", key)).size}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        assert (await client.get(URL)).content == DATA
        assert order == ["background"]
        refused = await client.put(URL, content=b"x")
    assert (refused.status_code, refused.json()["code"]) == (404, "BucketNotFound")
