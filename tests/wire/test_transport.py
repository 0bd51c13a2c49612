from __future__ import annotations

import asyncio
import socket

import pytest

import trove_async
from tests.wire.serving import Peer, answering, get, ok, serving, transporting
from trove_async.errors import BackendError, InvalidArgumentError, UnavailableError
from trove_async.wire.transport import Origin, Transport

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(30)]


@pytest.mark.parametrize(
    ("origin", "authority", "url"),
    [
        (Origin("http", "localhost", 80), "localhost", "http://localhost"),
        (Origin("https", "example.org", 443), "example.org", "https://example.org"),
        (Origin("https", "example.org", 80), "example.org:80", "https://example.org:80"),
        (Origin("http", "::1", 7480), "[::1]:7480", "http://[::1]:7480"),
        (Origin("http", "::1", 80), "[::1]", "http://[::1]"),
    ],
)
async def test_the_authority_omits_the_default_port_and_brackets_ipv6(origin: Origin, authority: str, url: str) -> None:
    assert origin.authority == authority
    assert str(origin) == url


async def test_origins_are_equal_by_scheme_host_and_port() -> None:
    assert Origin("http", "a", 1) == Origin("http", "a", 1)
    assert hash(Origin("http", "a", 1)) == hash(Origin("http", "a", 1))
    assert len({Origin("http", "a", 1), Origin("https", "a", 1), Origin("http", "b", 1), Origin("http", "a", 2)}) == 4
    with pytest.raises(InvalidArgumentError, match="'ftp'"):
        Origin("ftp", "a", 21)


async def test_a_request_is_sent_exactly_as_given() -> None:
    async with serving(answering(ok())) as server, transporting() as transport:
        await transport.send(server.origin, "GET", "/a%2Fb/%C3%A4?x=%20&y", [("X-One", "1"), ("x-two", "ä")])
    assert (
        server.requests[0].head
        == (
            f"GET /a%2Fb/%C3%A4?x=%20&y HTTP/1.1\r\nHost: {server.origin.authority}\r\nX-One: 1\r\nx-two: ä\r\n"
            f"User-Agent: trove-async/{trove_async.__version__}\r\n\r\n"
        ).encode()
    )


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", [], None),
        ("HEAD", [], None),
        ("DELETE", [], None),
        ("PUT", [], "0"),
        ("POST", [], "0"),
        ("PUT", [b"ab", bytearray(b"c"), memoryview(b"de")], "5"),
        ("DELETE", [b"abc"], "3"),
    ],
)
async def test_content_length_is_sent_only_where_it_belongs(method: str, body: list[bytes], length: str | None) -> None:
    async with serving(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as server, transporting() as transport:
        await transport.send(server.origin, method, "/", [], body)
    assert server.requests[0].headers.get("content-length") == length
    assert server.requests[0].body == b"".join(body)


async def test_given_host_and_content_length_are_not_added_again() -> None:
    async with serving(answering(ok())) as server, transporting() as transport:
        await transport.send(server.origin, "PUT", "/", [("HOST", "bucket.example"), ("content-length", "3")], [b"abc"])
    head = server.requests[0].head.lower()
    assert head.count(b"host:") == head.count(b"content-length:") == 1
    assert server.requests[0].headers["host"] == "bucket.example"


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/ HTTP/1.1\r\nx: y", []),
        ("/a b", []),
        ("/", [("x", "1\r\ny: 2")]),
        ("/", [("x", "1\n")]),
        ("/", [("x\r", "1")]),
        ("/", [("x", "\0")]),
        ("/", [("Content-Length", "7")]),
    ],
)
async def test_a_request_that_would_be_parsed_differently_is_refused(
    target: str, headers: list[tuple[str, str]]
) -> None:
    async with serving(answering(ok())) as server, transporting() as transport:
        with pytest.raises(InvalidArgumentError):
            await transport.send(server.origin, "GET", target, headers)
        assert server.accepted == 0


async def test_header_names_are_lower_cased_and_values_joined_and_decoded_as_utf8_or_latin1() -> None:
    head = (
        b'HTTP/1.1 200 OK\r\nETag: "x"\r\nX-A:  1 \r\nx-a: 2\r\nX-U: \xc3\xa4\r\nX-L: \xe4\r\nContent-Length: 0\r\n\r\n'
    )
    async with serving(answering(head)) as server, transporting() as transport:
        response = await get(transport, server.origin)
    assert response.status == 200
    assert response.headers == {"etag": '"x"', "x-a": "1, 2", "x-u": "ä", "x-l": "ä", "content-length": "0"}


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000000\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_an_answer_without_a_body_leaves_the_connection_usable(method: str, answer: bytes) -> None:
    async with serving(answering(answer)) as server, transporting() as transport:
        for _ in range(3):
            response = await transport.send(server.origin, method, "/", [])
            assert response.content == b""
            assert response.length == 0
            assert await response.read(10) == b""
            assert transport.idle_connections == 1
        assert server.accepted == 1


async def test_connections_are_reused() -> None:
    async with serving(answering(ok(b"x" * 4096))) as server, transporting() as transport:

        async def client() -> None:
            for _ in range(10):
                response = await get(transport, server.origin)
                assert response.content == b"x" * 4096

        await asyncio.gather(*(client() for _ in range(5)))
        assert transport.open_connections == transport.idle_connections == server.accepted == 5
    assert len(server.requests) == 50


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
async def test_a_connection_is_kept_only_if_the_answer_permits_it(answer: bytes, kept: bool, piecewise: bool) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for place in range(len(answer)) if piecewise else [0]:
                await peer.send(answer[place : place + 1] if piecewise else answer)
                await asyncio.sleep(0)

    async with serving(script) as server, transporting() as transport:
        for number in (1, 2):
            response = await get(transport, server.origin)
            assert await response.read_all(100) == b"ok"
            if kept:
                assert transport.idle_connections == server.accepted == 1
            elif not piecewise:  # otherwise the surplus arrives when the connection is idle, and may be noticed later
                assert transport.open_connections == 0
                assert server.accepted == number


async def test_interim_answers_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(interim * 400 + ok(b"one"))
        await peer.request()
        await peer.send(interim)
        await asyncio.sleep(0.01)
        await peer.send(ok(b"two"))
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        first = await get(transport, server.origin)
        second = await get(transport, server.origin)
        assert (first.content, second.content) == (b"one", b"two")
        assert "link" not in first.headers
        assert server.accepted == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: one\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
async def test_an_answer_that_is_not_http_is_an_error_that_names_the_origin(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        with pytest.raises(BackendError) as caught:
            await get(transport, server.origin)
        assert str(server.origin) in str(caught.value)
        assert caught.value.ambiguous
        assert not caught.value.retryable
        assert ("https" in str(caught.value)) is answer.startswith(b"\x15")
        assert transport.open_connections == 0


@pytest.mark.parametrize(
    ("answer", "ambiguous"),
    [
        (b"", True),
        (b"HTTP/1.1 2", True),
        (b"HTTP/1.1 200 OK\r\nContent-Le", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", True),
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_truncated_answer_is_an_error(answer: bytes, ambiguous: bool, how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if how == "reset":
            await asyncio.sleep(0.02)
            peer.reset()

    async with serving(script) as server, transporting() as transport:
        with pytest.raises(UnavailableError) as caught:
            await get(transport, server.origin)
        assert caught.value.retryable
        assert caught.value.ambiguous is ambiguous
        assert isinstance(caught.value.__cause__, ConnectionResetError) is (how == "reset")
        assert transport.open_connections == 0


async def test_a_refused_connection_is_unavailable_and_not_ambiguous() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origin = Origin("http", "127.0.0.1", unused.getsockname()[1])
        async with transporting() as transport:
            with pytest.raises(UnavailableError, match="refused") as caught:
                await get(transport, origin)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert not caught.value.ambiguous
    assert caught.value.retryable


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 80, "a..b"])
async def test_a_name_without_an_address_is_unavailable(host: str) -> None:
    async with transporting() as transport:
        with pytest.raises(UnavailableError, match="no address"):
            await get(transport, Origin("http", host, 80))


async def test_the_next_address_of_a_name_is_tried() -> None:
    # Nothing listens on ::1, which most systems have as the first address of this name.
    async with serving(answering(ok(b"here"))) as server, transporting() as transport:
        response = await get(transport, Origin("http", "localhost", server.port))
        assert response.content == b"here"


async def test_invalid_numbers_are_refused() -> None:
    for options in ({"connections": 0}, {"idle_timeout": 0}, {"keep_alive": -1}):
        with pytest.raises(InvalidArgumentError):
            Transport(**options)  # type: ignore[arg-type]
