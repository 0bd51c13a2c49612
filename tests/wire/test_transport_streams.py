"""Requests whose body is made while it is sent, and interim responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from tests.wire.serving import Peer, ok, serving, transporting
from trove_async.errors import BodySizeError, UnavailableError

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(60)]

MIB = 1 << 20


class SourceError(Exception):
    pass


async def chunks(*sizes: int) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size


async def answering(peer: Peer) -> None:
    while True:
        request = await peer.request()
        await peer.send(ok(b"%d" % len(request.body)))


@pytest.mark.parametrize("sizes", [(), (1,), (10, 20), (3 * MIB, 1, 2 * MIB)])
async def test_the_server_gets_all_chunks(sizes: tuple[int, ...]) -> None:
    async with serving(answering) as server, transporting() as transport:
        for _ in range(2):
            response = await transport.send_stream(server.origin, "PUT", "/", [], chunks(*sizes), sum(sizes))
            assert response.content == b"%d" % sum(sizes)
        assert server.accepted == 1
        assert server.requests[0].headers["content-length"] == str(sum(sizes))


@pytest.mark.parametrize("declared", [29, 31])
async def test_a_body_of_another_size_is_an_error_and_no_whole_request(declared: int) -> None:
    async with serving(answering) as server, transporting() as transport:
        with pytest.raises(BodySizeError):
            await transport.send_stream(server.origin, "PUT", "/", [], chunks(10, 20), declared)
        await server.all_gone()
        assert transport.open_connections == 0


async def test_what_the_source_raises_passes_and_drops_the_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise SourceError

    async with serving(answering) as server, transporting() as transport:
        with pytest.raises(SourceError):
            await transport.send_stream(server.origin, "PUT", "/", [], broken(), 10)
        await server.all_gone()
        assert transport.open_connections == 0


async def test_an_early_answer_ends_the_body() -> None:
    answered = asyncio.Event()

    async def refuse(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        answered.set()
        await peer.gone()

    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            if taken:
                await answered.wait()
            taken += 1
            yield b"x" * MIB

    async with serving(refuse) as server, transporting() as transport:
        response = await transport.send_stream(server.origin, "PUT", "/", [], endless(), 1 << 40)
        assert response.status == 413
        await server.all_gone()
    assert taken < 1000


async def test_a_connection_that_breaks_while_the_source_waits() -> None:
    gone = asyncio.Event()

    async def leave(peer: Peer) -> None:
        await peer.head()
        peer.reset()
        gone.set()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"x"
        await gone.wait()
        while True:
            await asyncio.sleep(0)
            yield b"x"

    async with serving(leave) as server, transporting() as transport:
        with pytest.raises(UnavailableError):
            await transport.send_stream(server.origin, "PUT", "/", [], waiting(), 1 << 40)


async def test_interim_responses_are_passed_on() -> None:
    seen: list[tuple[int, str | None]] = []

    def take(status: int, headers: Mapping[str, str]) -> None:
        seen.append((status, headers.get("location")))

    async def informing(peer: Peer) -> None:
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 104 Upload\r\nLocation: /1\r\n\r\n")
            await peer.send(ok(b""))

    async with serving(informing) as server, transporting() as transport:
        await transport.send_stream(server.origin, "POST", "/", [], chunks(), 0, on_interim=take)
        assert seen == [(100, None), (104, "/1")]
        await transport.send(server.origin, "POST", "/", [])  # nobody wants to know here
    assert len(seen) == 2
