"""The server that delivers request trailers and sends interim answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.uploads.counting import lifespan
from tests.uploads.trailer_server import trailer_serving

pytestmark = pytest.mark.asyncio


class Recorder:
    """An ASGI app that keeps the messages of each request up to ``last``, and then answers 200."""

    def __init__(self, last: str = "http.request.trailers", interim: tuple[int, ...] = ()) -> None:
        self.messages: list[Any] = []
        self.scopes: list[Any] = []
        self._last = last
        self._interim = interim

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        self.scopes.append(scope)
        for status in self._interim:
            headers = [(b"upload-offset", b"%d" % len(self.messages))]
            await send({"type": "http.response.informational", "status": status, "headers": headers})
        while self._last and (not self.messages or self.messages[-1]["type"] not in (self._last, "http.disconnect")):
            self.messages.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages if message["type"] == "http.request")


@asynccontextmanager
async def connected(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with trailer_serving(app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


async def head(reader: asyncio.StreamReader) -> list[str]:
    return (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]


async def test_trailers_come_after_the_body() -> None:
    app = Recorder()
    async with connected(app) as (reader, writer):
        writer.write(b"PATCH /files/a%20b?x=1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n")
        writer.write(b"Trailer: Upload-Checksum\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nUpload-Checksum: sha1 AAAA\r\n\r\n")
        assert (await head(reader))[0] == "HTTP/1.1 200 "
    assert app.body == b"abcde"
    assert app.messages[-2] == {"type": "http.request", "body": b"", "more_body": False}
    headers = [(b"upload-checksum", b"sha1 AAAA")]
    assert app.messages[-1] == {"type": "http.request.trailers", "headers": headers, "more_trailers": False}
    (scope,) = app.scopes
    assert scope["path"] == "/files/a b"
    assert scope["raw_path"] == b"/files/a%20b"
    assert scope["query_string"] == b"x=1"
    assert set(scope["extensions"]) == {"http.request.trailers", "http.response.informational"}


async def test_a_request_without_trailers_has_the_message_too() -> None:
    app = Recorder()
    async with trailer_serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.put("/", content=b"abc")).text == "ok"
        assert app.messages[-1] == {"type": "http.request.trailers", "headers": [], "more_trailers": False}
        app.messages.clear()
        assert (await client.get("/")).text == "ok"
        assert [message["type"] for message in app.messages] == ["http.request", "http.request.trailers"]
        assert (await client.head("/")).headers["content-length"] == "2"
    assert len({scope["client"] for scope in app.scopes}) == 1, "the connection is used again"


async def test_interim_answers_come_before_the_final_one() -> None:
    app = Recorder(interim=(104, 104))
    async with connected(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        assert await head(reader) == ["HTTP/1.1 104 ", "upload-offset: 0"]
        assert await head(reader) == ["HTTP/1.1 104 ", "upload-offset: 0"]
        writer.write(b"abc")
        assert (await head(reader))[0] == "HTTP/1.1 200 "
    assert app.body == b"abc"


async def test_a_client_is_told_to_continue_when_the_app_reads() -> None:
    expecting = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    async with connected(Recorder()) as (reader, writer):
        writer.write(expecting)
        assert (await head(reader))[0] == "HTTP/1.1 100 "
        writer.write(b"abc")
        assert (await head(reader))[0] == "HTTP/1.1 200 "
    async with connected(Recorder(last="")) as (reader, writer):
        writer.write(expecting)
        assert (await head(reader))[0] == "HTTP/1.1 200 "


async def test_what_a_client_sent_before_it_left_is_delivered() -> None:
    app = Recorder(last="http.disconnect")
    async with connected(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc")
        writer.write_eof()
        await reader.read()
    assert app.body == b"abc"
    assert app.messages[-1] == {"type": "http.disconnect"}
    assert "http.request.trailers" not in [message["type"] for message in app.messages]


async def test_a_client_that_leaves_after_its_body_is_noticed() -> None:
    app = Recorder(last="http.disconnect")
    async with connected(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        writer.write_eof()
        await reader.read()
    assert [message["type"] for message in app.messages[-2:]] == ["http.request.trailers", "http.disconnect"]


async def test_the_answer_reaches_a_client_whose_body_is_not_read() -> None:
    async with connected(Recorder(last="")) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))
        assert (await reader.read()).endswith(b"ok")


async def test_what_is_not_http_is_a_bad_request() -> None:
    async with connected(Recorder()) as (reader, writer):
        writer.write(b"no HTTP\r\n\r\n")
        assert (await head(reader))[0] == "HTTP/1.1 400 "


async def test_an_app_that_fails_fails_the_test() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise ValueError("broken")
        await lifespan(receive, send)

    answer = None
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trailer_serving(broken) as port, httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/")
    assert answer is not None
    assert answer.status_code == 500
    assert [str(error) for error in caught.value.exceptions] == ["broken"]


async def test_the_app_has_a_lifespan() -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def recording() -> Any:
            message = await receive()
            events.append(message["type"])
            return message

        await lifespan(recording, send)

    async with trailer_serving(app):
        assert events == ["lifespan.startup"]
    assert events == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_app_that_cannot_start_fails_the_test() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no such store")

    with pytest.raises(ValueError, match="no such store"):
        async with trailer_serving(app):
            pytest.fail("it is served")
