"""The end of a response, and the limits on what a server may send (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from tests.wire.serving import Peer, answering, get, serving, transporting
from trove_async.errors import BackendError, TroveError, UnavailableError
from trove_async.wire.chunked import ChunkedDecoder
from trove_async.wire.transport import Response

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(60)]

MIB = 1 << 20
H = b"HTTP/1.1 200 OK\r\n"
CHUNKED = H + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"


async def read_body(response: Response) -> bytes:
    return await response.read_all(16 * MIB)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (H + b"Content-Length: 5\r\n" + FIVE, True),
        (H + b"Content-Length: 5, 5\r\n\r\nhello", True),
        (H + b"Content-Length:5\r\n\r\nhello", True),
        (H + b"Content-Length: 005\r\n\r\nhello", True),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", True),
        (b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 5\r\n\nhello", True),
        (b"HTTP/1.1 200\r\n" + FIVE, True),
        (b"\r\n" + H + FIVE, True),
        (H + b"X-A: a\r\n b\r\n" + FIVE, True),
        (H + b"Content-Length:\r\n 5\r\n\r\nhello", True),
        (H + b"Connection: disclosed\r\n" + FIVE, True),
        (H + b"Connection: a, Close\r\n" + FIVE, False),
        (b"HTTP/1.0 200 OK\r\nConnection: a,keep-alive\r\n" + FIVE, True),
        (H + b"Upgrade: h2c\r\nConnection: Upgrade\r\n" + FIVE, True),
        (CHUNKED + HELLO, True),
        (H + b"Transfer-Encoding: Chunked\r\n\r\n" + HELLO, True),
        (CHUNKED + b'5;a=b;c="d"\r\nhello\r\n0;x\r\nTrailer: 1\r\n\r\n', True),
        (H + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + HELLO, False),
        (H + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, False),
        (CHUNKED + HELLO + H + b"Content-Length: 4\r\n\r\nevil", False),
        (CHUNKED + HELLO + CHUNKED + HELLO, False),
        (CHUNKED + HELLO + b"garbage", False),
        (H + FIVE + H + FIVE, False),
    ],
)
async def test_the_body_ends_where_the_head_says(answer: bytes, kept: bool) -> None:
    async with serving(answering(answer)) as server, transporting() as transport:
        response = await get(transport, server.origin)
        assert await read_body(response) == b"hello"
        assert transport.open_connections == transport.idle_connections == int(kept)
        # An overridden length cannot be mistaken for the length of the body.
        assert response.headers.get("content-length", "5").lstrip("0") == "5"


async def test_folded_values_are_one_line() -> None:
    answer = H + b"X-A: a\r\n \t b\r\n\tc\r\nX-B: \xc3\xa4\r\n" + FIVE
    async with serving(answering(answer)) as server, transporting() as transport:
        response = await get(transport, server.origin)
        assert response.headers == {"x-a": "a b c", "x-b": "ä", "content-length": "5"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (H + b"Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello", "'5, 3'"),
        (H + b"Content-Length: +5\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: -5\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: 1_0\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: 0x5\r\n\r\nhello", "Content-Length"),
        (H + "Content-Length: ٥\r\n\r\nhello".encode(), "Content-Length"),
        (H + b"Content-Length: \r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: 5,\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: " + b"9" * 4400 + b"\r\n\r\nhello", "Content-Length"),
        (H + b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nhello", "Content-Length"),
        (H + b"Transfer-Encoding: identity\r\n" + FIVE, "'identity'"),
        (H + b"Transfer-Encoding: xchunked\r\n\r\n" + HELLO, "'xchunked'"),
        (H + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + HELLO, "coding"),
        (H + b"Transfer-Encoding: chunked, identity\r\n\r\n" + HELLO, "coding"),
        (H + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + HELLO, "coding"),
        (H + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + HELLO, "'gzip, chunked'"),
        (H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, "coding"),
        (H + b"Content-Length : 5\r\n\r\nhello", "header field"),
        (H + b": x\r\n" + FIVE, "header field"),
        (H + b"no colon\r\n" + FIVE, "header field"),
        (H + b"token\r\n" + FIVE, "header field"),
        (H + b"X: a\rContent-Length: 3\r\n" + FIVE, "header field"),
        (H + b"X: a\0b\r\n" + FIVE, "header field"),
        (b"HTTP/1.1 099 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"HTTP/1.1 600 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"HTTP/1.1 999 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"HTTP/1.1 20 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"HTTP/1.1 2000 OK\r\n" + FIVE, "not HTTP/1.1"),
        ("HTTP/1.1 ٢٠٠ OK\r\n".encode() + FIVE, "not HTTP/1.1"),
        (b"HTTP/1.2 200 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"HTTP/2.0 200 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"RTSP/1.0 200 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"ICY 200 OK\r\n" + FIVE, "not HTTP/1.1"),
        (b"hello world\r\n\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + H + FIVE, "protocol"),
        (H + b"X: a\r\n" * 10_000 + FIVE, "header fields"),
        (H + b"X: " + b"a" * 70_000 + b"\r\n" + FIVE, "65536 bytes"),
        (b"HTTP/1.1 103 E\r\nLink: a\r\n\r\n" * 2000 + H + FIVE, "interim"),
        ((b"HTTP/1.1 103 E\r\nX: " + b"a" * 9000 + b"\r\n\r\n") * 8 + H + FIVE, "65536 bytes"),
    ],
)
async def test_an_invalid_or_oversized_head_is_a_backend_error(answer: bytes, words: str) -> None:
    async with serving(answering(answer)) as server, transporting() as transport:
        with pytest.raises(BackendError, match=words) as caught:
            await get(transport, server.origin)
        assert caught.value.ambiguous
        assert len(str(caught.value)) < 300
        assert transport.open_connections == 0


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("fields", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_after_a_response_without_a_body_the_following_bytes_are_not_read_as_one(
    status: int, fields: bytes
) -> None:
    answer = b"HTTP/1.1 %d X\r\n%s\r\n\r\n" % (status, fields)
    async with serving(answering(answer, answer + b"hello")) as server, transporting() as transport:
        for kept in (1, 0):
            assert (await get(transport, server.origin)).content == b""
            assert transport.open_connections == kept


def endless(first: bytes, piece: bytes) -> Iterable[bytes]:
    yield first
    for _ in range(4000):
        yield piece


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b"HTTP/1.1 100 C\r\n\r\n" * 500),
        (b"", b"HTTP/1.1 103 C\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65_536),
        (b"\r\n", b"\r\n" * 4000),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", b"X-A: bbbbbbbbbbbbbbbb\r\n" * 2000),
        (CHUNKED + b"5\r\nhello\r\n0\r\nX: ", b"a" * 65_536),
        (CHUNKED + b"5\r\nhello\r\n0\r\nX", b"a" * 65_536),
        (CHUNKED + b"5\r\nhello\r\n5;", b"a" * 65_536),
        (CHUNKED + b"5\r\nhello\r\n", b"0" * 65_536),
    ],
    ids=["1xx", "large 1xx", "fields", "value", "empty lines", "trailers", "trailer", "name", "extension", "size"],
)
async def test_an_endless_response_is_given_up(first: bytes, piece: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for data in endless(first, piece):
            await peer.send(data)

    async with serving(script) as server, transporting() as transport:
        with pytest.raises(TroveError) as caught:
            await read_body(await get(transport, server.origin))
        assert isinstance(caught.value, BackendError | UnavailableError)
        assert transport.open_connections == 0
        await server.all_gone()


async def test_the_callers_limit_also_bounds_tiny_chunks() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"2\r\nab\r\n" * 5000)

    async with serving(script) as server, transporting() as transport:
        response = await get(transport, server.origin)
        with pytest.raises(BackendError, match="longer than"):
            await response.read_all(MIB)


async def test_tiny_pieces_that_are_not_read_are_joined() -> None:
    sent = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(H + b"Content-Length: 100000\r\n\r\n")
        for _ in range(3000):
            await peer.send(b"ab")
            await asyncio.sleep(0)
        sent.set()
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        response = await get(transport, server.origin)
        await sent.wait()
        while response._buffered < 6000:  # noqa: ASYNC110 - the body arrives unread
            await asyncio.sleep(0)
        assert response._chunks is not None
        assert len(response._chunks) <= 1025
        assert await response.read(6000) == b"ab" * 3000


async def test_a_stalled_body_times_out_for_its_reader_with_any_framing() -> None:
    for start in (H + b"\r\n", CHUNKED + b"5\r\nhe", H + b"Content-Length: 70000\r\n\r\n"):

        async def script(peer: Peer, start: bytes = start) -> None:
            await peer.request()
            await peer.send(start)
            await peer.gone()

        async with serving(script) as server, transporting(idle_timeout=0.05) as transport:
            with pytest.raises(TroveError, match=r"for 0\.05 s"):
                await read_body(await get(transport, server.origin))


async def test_a_chunk_costs_no_call_of_a_python_function() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"1\r\na\r\n" * 1000) == b"a" * 1000
    assert type(decoder.on_body).__name__ == "builtin_function_or_method"
    assert decoder.feed(b"0\r\n\r\n") == b""
    assert (decoder.finished, decoder.surplus, decoder.error) == (True, False, None)
