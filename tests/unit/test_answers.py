from __future__ import annotations

import asyncio
import builtins
import gc
import math
import os
import stat
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import h11
import httpx
import pytest

from trove_async.errors import InvalidArgumentError, MissingDependencyError
from trove_async.testing.answers import Answer, AnsweringProxy, s3_error

pytestmark = pytest.mark.asyncio

BODY = os.urandom(300_000)


@dataclass
class Server:
    """An HTTP server that answers with the size of the request, and records the request."""

    port: int = 0
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    connections: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        http = h11.Connection(h11.SERVER)
        while await self._exchange(http, reader, writer):
            http.start_next_cycle()
        writer.transport.abort()
        self.left.set()

    async def _next(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Any:
        while (event := http.next_event()) is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                writer.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            http.receive_data(await reader.read(65536))
        return event

    async def _exchange(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await self._next(http, reader, writer)
        if not isinstance(request, h11.Request):
            return False
        body = b""
        while isinstance(event := await self._next(http, reader, writer), h11.Data):
            body += event.data
        method, target = request.method.decode(), request.target.decode()
        self.seen.append((f"{method} {target}", body))
        if "hang" in target:
            await reader.read()
            return False
        answer = b"server got %d" % len(body)
        headers = [("Content-Length", str(len(answer)))]
        if "close" in target:
            headers = [("Connection", "close")]
        events: list[Any] = [h11.Response(status_code=200, headers=headers)]
        if method != "HEAD":
            events.append(h11.Data(data=answer))
        for sent in [*events, h11.EndOfMessage()]:
            writer.write(http.send(sent) or b"")
        await writer.drain()
        if "drop" in target:
            return False
        return http.our_state is h11.DONE and http.their_state is h11.DONE


@asynccontextmanager
async def proxied(**settings: Any) -> AsyncIterator[tuple[AnsweringProxy, Server]]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await server.serve(reader, writer)
        except (h11.RemoteProtocolError, OSError, asyncio.CancelledError):
            server.left.set()
        finally:
            writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        async with AnsweringProxy("127.0.0.1", server.port, **settings) as proxy:
            yield proxy, server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def http_client(proxy: AnsweringProxy) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=proxy.url(), trust_env=False, timeout=20) as client:
        yield client


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0)


async def chunks() -> AsyncIterator[bytes]:
    for at in range(0, len(BODY), 70_000):
        yield BODY[at : at + 70_000]


def body_of(kind: str) -> Any:
    return BODY if kind == "content-length" else chunks()


framings = pytest.mark.parametrize("framing", ["content-length", "chunked"])


@framings
async def test_without_answers_requests_are_forwarded_on_one_connection(framing: str) -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        for _ in range(3):
            response = await client.put("/b/k?x=1", content=body_of(framing))
            assert (response.status_code, response.content) == (200, b"server got 300000")
        assert (await client.head("/b/k")).headers["content-length"] == "12"
        assert (await client.get("/b/k")).content == b"server got 0"
        assert server.seen[0] == ("PUT /b/k?x=1", BODY)
        assert (proxy.accepted, server.connections) == (1, 1)
        assert proxy.counts == {("PUT", "/b/k"): 3, ("HEAD", "/b/k"): 1, ("GET", "/b/k"): 1}
        assert (proxy.count(), proxy.count("PUT"), proxy.count(path="x=1"), proxy.count("GET", "x=1")) == (5, 3, 3, 0)
        seen = proxy.requests[0]
        assert (seen.body_size, seen.complete, seen.forwarded, seen.answer, seen.status) == (
            300_000,
            True,
            True,
            None,
            200,
        )
        assert (seen.header("Host"), seen.header("X-None")) == (f"127.0.0.1:{proxy.port}", None)
        assert (("transfer-encoding", "chunked") in seen.headers) is (framing == "chunked")


@framings
async def test_a_request_that_is_answered_before_does_not_reach_the_server(framing: str) -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.answer(s3_error(503, "SlowDown", headers={"Retry-After": "1"}), method="PUT", path="/b/k")
        refused = await client.put("/b/k", content=body_of(framing))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert b"<Code>SlowDown</Code>" in refused.content
        assert (await client.put("/b/k", content=body_of(framing))).status_code == 200
        assert [line for line, _ in server.seen] == ["PUT /b/k"]
        assert [(seen.status, seen.body_size, seen.forwarded) for seen in proxy.requests] == [
            (503, 300_000, False),
            (200, 300_000, True),
        ]
        assert proxy.accepted == 1


@framings
async def test_a_request_that_is_answered_after_was_carried_out_by_the_server(framing: str) -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        failed = s3_error(200, "InternalError")
        proxy.answer(failed, method="POST", path="uploadId=", when="after")
        responses = [await client.post("/b/k?uploadId=1", content=body_of(framing)) for _ in range(2)]
        assert b"<Code>InternalError</Code>" in responses[0].content
        assert responses[1].content == b"server got 300000"
        assert [body for _, body in server.seen] == [BODY, BODY]
        assert [(seen.answer, seen.forwarded, seen.status) for seen in proxy.requests] == [
            (failed, True, 200),
            (None, True, 200),
        ]
        assert (proxy.accepted, server.connections) == (1, 1)


async def test_an_answer_after_the_servers_connection_has_ended() -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.answer(Answer(500), path="close", when="after")
        assert (await client.get("/close")).status_code == 500
        assert (await client.get("/b")).content == b"server got 0"
        assert (proxy.accepted, server.connections) == (1, 2)
        assert (await client.get("/close")).content == b"server got 0"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_truncated_body_ends_the_connection(when: Any) -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.answer(Answer(200, body=b"half", content_length=8), when=when)
        with pytest.raises(httpx.RemoteProtocolError, match="received 4 bytes, expected 8"):
            await client.get("/b/k")
        assert len(server.seen) == (when == "after")
        assert (await client.get("/b/k")).content == b"server got 0"
        assert proxy.accepted == 2


async def test_rules_apply_in_turn() -> None:
    async with proxied() as (proxy, _), http_client(proxy) as client:
        proxy.answer(Answer(503), skip=1, times=2, method="GET")
        proxy.answer(Answer(403, {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}), path="/b")
        proxy.answer(Answer(301, {"x-amz-bucket-region": "eu-west-1"}), path="/c", times=None)
        paths = ["/b", "/a", "/a", "/a", "/b", "/c", "/c"]
        responses = [await client.get(path) for path in paths]
        assert [response.status_code for response in responses] == [403, 503, 503, 200, 200, 301, 301]
        assert responses[0].headers["date"].startswith("Thu, 01 Jan 1970")
        assert responses[5].headers["x-amz-bucket-region"] == "eu-west-1"
        proxy.clear()
        assert (await client.get("/c")).status_code == 200
        assert proxy.count() == 8


async def test_only_what_exceeds_a_rate_is_answered() -> None:
    now = 0.0
    async with proxied(clock=lambda: now) as (proxy, server), http_client(proxy) as client:
        proxy.answer(s3_error(503, "SlowDown"), method="PUT", above=2, times=None)

        async def put(times: int) -> list[int]:
            return [(await client.put("/k", content=b"data")).status_code for _ in range(times)]

        assert await put(4) == [200, 200, 503, 503]  # those of a second may come at once
        assert (await client.get("/k")).status_code == 200
        now = 0.5
        assert await put(2) == [200, 503]
        now = 100.0
        assert await put(3) == [200, 200, 503]
        assert len(server.seen) == 6


async def test_of_what_exceeds_a_rate_some_is_skipped_and_some_is_answered() -> None:
    async with proxied(clock=lambda: 0.0) as (proxy, _), http_client(proxy) as client:
        proxy.answer(Answer(503), above=1, skip=1, times=2)
        assert [(await client.get("/k")).status_code for _ in range(5)] == [200, 200, 503, 503, 200]


async def test_delayed_requests_wait_before_they_are_forwarded() -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.delay(math.inf, method="GET", path="/slow", skip=1, every=2, times=2)
        reads: list[asyncio.Task[httpx.Response]] = []

        def settled() -> bool:
            return len(proxy.requests) == len(reads) and (proxy.requests[-1] in proxy.delayed or reads[-1].done())

        for number in range(1, 7):
            reads.append(asyncio.create_task(client.get(f"/slow/{number}")))
            await until(settled)
        assert [request.target[-1] for request in proxy.delayed] == ["3", "5"]
        assert sorted(line[-1] for line, _ in server.seen) == ["1", "2", "4", "6"]
        assert (await client.put("/slow/7", content=b"data")).status_code == 200
        proxy.clear()
        assert [(await read).status_code for read in reads] == [200] * 6
        assert proxy.delayed == []


async def test_a_delay_ends_by_itself_and_an_answer_comes_after_it() -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.delay(0.001, times=2)
        proxy.answer(Answer(503))
        assert [(await client.put("/k", content=BODY)).status_code for _ in range(3)] == [503, 200, 200]
        assert [len(body) for _, body in server.seen] == [len(BODY)] * 2


async def test_a_delayed_request_whose_client_disconnects_is_not_forwarded() -> None:
    async with proxied() as (proxy, server):
        proxy.delay(math.inf)
        async with raw(proxy) as (_, writer):
            writer.write(b"GET /k HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: bool(proxy.delayed))
        await until(lambda: not proxy.delayed)
        proxy.clear()
        assert (proxy.requests[0].forwarded, proxy.requests[0].status, server.seen) == (False, None, [])


async def test_closing_ends_delays() -> None:
    async with proxied() as (proxy, server):
        proxy.delay(math.inf)
        async with raw(proxy) as (reader, writer):
            writer.write(b"GET /k HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda: bool(proxy.delayed))
            await proxy.aclose()
            assert proxy.delayed == []
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert server.seen == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda proxy: proxy.answer(Answer(503), above=0),
            "above is a number of requests a second, more than 0, not 0",
        ),
        (lambda proxy: proxy.delay(-1), "delay and jitter are 0 seconds or more, not -1 and 0"),
        (lambda proxy: proxy.delay(math.nan), "delay and jitter are 0 seconds or more, not nan and 0"),
        (lambda proxy: proxy.delay(1, jitter=math.inf), "delay and jitter are 0 seconds or more, not 1 and inf"),
        (lambda proxy: proxy.delay(1, every=0), "every is 1 or more, not 0"),
    ],
)
async def test_rates_and_delays_that_make_no_sense_are_refused(
    call: Callable[[AnsweringProxy], None], message: str
) -> None:
    async with AnsweringProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(InvalidArgumentError, match=message):
            call(proxy)


async def test_answers_to_head_and_without_a_body_keep_the_connection() -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        proxy.answer(s3_error(400, "ExpiredToken"), method="HEAD")
        proxy.answer(Answer(204), method="DELETE")
        proxy.answer(Answer(599, reason="Odd"), method="POST", times=1)
        proxy.answer(Answer(799), method="POST")
        head = await client.head("/k")
        assert (head.status_code, head.content, int(head.headers["content-length"]) > 0) == (400, b"", True)
        deleted = await client.delete("/k")
        assert (deleted.status_code, "content-length" in deleted.headers) == (204, False)
        assert [(await client.post("/k")).reason_phrase for _ in range(2)] == ["Odd", "Unknown"]
        assert (proxy.accepted, server.connections) == (1, 0)


async def test_an_answer_may_close_the_connection() -> None:
    async with proxied() as (proxy, _), http_client(proxy) as client:
        proxy.answer(Answer(503, close=True))
        assert (await client.get("/k")).headers["connection"] == "close"
        assert (await client.get("/k", headers={"Connection": "close"})).status_code == 200
        proxy.answer(Answer(503))
        assert (await client.get("/k", headers={"Connection": "close"})).headers["connection"] == "close"
        assert proxy.accepted == 3


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def raw(proxy: AnsweringProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


EXPECTING = b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


@pytest.mark.parametrize("answered", [False, True])
async def test_the_100_continue_of_the_server_is_forwarded(answered: bool) -> None:
    async with proxied() as (proxy, server), raw(proxy) as (reader, writer):
        if answered:
            proxy.answer(Answer(500, body=b"failed"), when="after", times=None)
        for _ in range(2):
            writer.write(EXPECTING)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"hello")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 500 " if answered else b"HTTP/1.1 200 ")
            await reader.readexactly(6 if answered else len(b"server got 5"))
        assert [body for _, body in server.seen] == [b"hello", b"hello"]
        assert (proxy.accepted, server.connections) == (1, 1)


async def test_a_client_that_waits_for_100_continue_is_answered_immediately_and_its_connection_ends() -> None:
    async with proxied() as (proxy, server), raw(proxy) as (reader, writer):
        proxy.answer(s3_error(503, "SlowDown"))
        writer.write(EXPECTING)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert server.seen == []
        assert (proxy.requests[0].body_size, proxy.requests[0].complete) == (0, False)


async def test_an_idle_connection_that_the_server_ended_is_replaced() -> None:
    async with proxied() as (proxy, server), http_client(proxy) as client:
        for turn in range(3):
            assert (await client.get("/drop")).content == b"server got 0"
            await server.left.wait()
            server.left.clear()
            assert (proxy.accepted, server.connections) == (1, turn + 1)


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with proxied() as (proxy, server), raw(proxy) as (reader, writer):
        for byte in b"PUT /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        await reader.readuntil(b"server got 3")
        assert server.seen == [("PUT /b", b"abc")]
        assert (proxy.requests[0].body_size, proxy.requests[0].complete) == (3, True)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
async def test_an_unsupported_request_is_a_bad_request(sent: bytes) -> None:
    async with proxied() as (proxy, server):
        async with raw(proxy) as (reader, writer):
            writer.write(sent)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert server.seen == []
        async with http_client(proxy) as client:
            assert (await client.get("/k")).status_code == 200


async def test_a_missing_server_or_one_without_http_resets_the_client() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 ready\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with AnsweringProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy, http_client(proxy) as client:
        with pytest.raises(httpx.ReadError):
            await client.get("/k")
        server.close()
        await server.wait_closed()
        with pytest.raises(httpx.ReadError):
            await client.get("/k")
        assert [(seen.forwarded, seen.status) for seen in proxy.requests] == [(True, None), (False, None)]


@pytest.mark.parametrize("sent", [b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n", EXPECTING + b"he"])
async def test_the_server_sees_that_a_client_disconnected(sent: bytes) -> None:
    async with proxied() as (proxy, server):
        async with raw(proxy) as (_, writer):
            writer.write(sent)
            await until(lambda: bool(proxy.requests) and proxy.requests[0].forwarded)
        await server.left.wait()
        assert [body for _, body in server.seen] == ([b""] if b"hang" in sent else [])


@pytest.mark.parametrize("sent", [b"", b"GET /ha", b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n", EXPECTING])
async def test_closing_leaves_no_task_or_socket_or_warning(sent: bytes) -> None:
    def sockets() -> int:
        """Count only sockets: once uvloop has listened, it keeps a spare descriptor of another kind."""
        found = 0
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):  # the descriptor that listed the folder is closed
                found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
        return found

    gc.collect()
    tasks, before = asyncio.all_tasks(), sockets()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with proxied() as (proxy, _):
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            writer.write(sent)
            await until(lambda: proxy.accepted == 1 and (b"\r\n\r\n" not in sent or proxy.count() == 1))
            if sent == EXPECTING:
                await reader.readuntil(b"\r\n\r\n")
            await proxy.aclose()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.transport.abort()
        await until(lambda: asyncio.all_tasks() <= tasks)
        gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sockets() == before


async def test_invalid_answers_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="final status"):
        Answer(100)
    with pytest.raises(InvalidArgumentError, match="content_length"):
        Answer(200, body=b"abc", content_length=2)


async def test_without_httptools_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "httptools":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[testing\]"):
        AnsweringProxy("127.0.0.1", 1)


async def test_an_unknown_when_is_refused() -> None:
    async with AnsweringProxy("127.0.0.1", 1) as proxy:
        with pytest.raises(InvalidArgumentError, match="when is 'before' or 'after', not 'later'"):
            proxy.answer(Answer(500), when="later")  # type: ignore[arg-type]
