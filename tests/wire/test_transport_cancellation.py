"""Requests and reads, cancelled at each of their await points with each kind of delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.wire.serving import Peer, Server, answering, get, not_of_servers, ok, serving, transporting
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.wire.transport import Origin, Response, Transport

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.every_loop,
    pytest.mark.timeout(20),
    pytest.mark.parametrize("delivery", Delivery),
]

MIB = 1 << 20
LARGE = ok(bytes(3 * MIB))


async def nothing() -> None:
    pass


class Case:
    """An operation to cancel; checks that nothing is left of it and that the transport still works."""

    def __init__(self, transport: Transport, server: Server, operation: Callable[[], Awaitable[object]]) -> None:
        self.transport = transport
        self.server = server
        self.operation = operation

    async def check(self, outcome: Outcome[object]) -> None:
        assert outcome.error is None
        assert outcome.cancelled or outcome.result is not None
        assert not not_of_servers(outcome.left_running)
        if isinstance(outcome.result, Response):
            outcome.result.abort()
        transport = self.transport
        assert transport.open_connections == transport.idle_connections <= 1
        assert not transport._pool._connecting
        assert not transport._pool._waiters
        await self.probe()

    async def probe(self) -> None:
        response = await get(self.transport, self.server.origin, "/probe")
        assert response.content == b"probe"
        assert self.transport.open_connections == 1

    async def run(self, delivery: Delivery, prepare: Callable[[], Awaitable[object]] = nothing) -> int:
        return await cancel_everywhere(self.operation, delivery, prepare=prepare, check=self.check)


async def script(peer: Peer) -> None:
    while True:
        request = await peer.request()
        await peer.send({"/large": LARGE, "/probe": ok(b"probe")}.get(request.target, ok(b"small")))


async def test_a_small_request_on_a_new_connection(delivery: Delivery) -> None:
    async with serving(script) as server, transporting(connections=1) as transport:

        async def drop_idle() -> None:
            for connection in list(transport._pool._connections):
                connection.drop()

        case = Case(transport, server, lambda: get(transport, server.origin))
        assert await case.run(delivery, drop_idle) >= 2


async def test_a_request_to_a_name(delivery: Delivery) -> None:
    async with serving(script) as server, transporting(connections=1) as transport:
        by_name = Origin("http", "localhost", server.port)
        case = Case(transport, server, lambda: get(transport, by_name))
        assert await case.run(delivery) >= 3


async def test_a_small_request_on_a_kept_connection(delivery: Delivery) -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            asked = [seen.target for seen in peer.server.requests].count(request.target)
            if delivery is not Delivery.DONE and request.target == "/cancelled" and asked == 1:
                await peer.gone()  # the cancellation comes before the answer, whatever the order of the loop's events
                return
            await peer.send(ok(b"probe"))

    async with serving(script) as server, transporting(connections=1) as transport:
        case = Case(transport, server, lambda: get(transport, server.origin, "/cancelled"))
        await case.probe()
        assert await case.run(delivery) == 1
        # Only a request that was cancelled before its answer arrived costs a connection.
        assert server.accepted == (1 if delivery is Delivery.DONE else 2)


async def test_a_large_upload(delivery: Delivery) -> None:
    async with serving(script) as server, transporting(connections=1) as transport:
        body = [bytes(16 * MIB)]
        case = Case(transport, server, lambda: transport.send(server.origin, "PUT", "/", [], body))
        assert await case.run(delivery) >= 2


@pytest.mark.parametrize("whole", [True, False])
async def test_reading_a_body(delivery: Delivery, whole: bool) -> None:
    async with serving(script) as server, transporting(connections=1) as transport:

        async def read() -> object:
            response = await get(transport, server.origin, "/large")
            if whole:
                return len(await response.read_all(4 * MIB))
            count = 0
            while piece := await response.read(MIB):
                count += len(piece)
            assert count == 3 * MIB
            return count

        case = Case(transport, server, read)
        await case.probe()
        assert await case.run(delivery) >= 2


async def test_closing_a_response(delivery: Delivery) -> None:
    async with (
        serving(answering(ok(b"probe"), *[ok(bytes(70_000))[:-1], ok(b"probe")] * 20)) as server,
        transporting(connections=1) as transport,
    ):
        responses: list[Response] = []

        async def prepare() -> None:
            response = await get(transport, server.origin)
            responses.append(response)
            await response.read(MIB)

        async def close() -> bool:
            await responses[-1].aclose()
            return True

        case = Case(transport, server, close)
        await case.probe()
        assert await case.run(delivery, prepare) == 2


async def test_waiting_for_a_connection(delivery: Delivery) -> None:
    async with serving(script) as server, transporting(connections=1) as transport:
        held: list[Response] = []

        async def hold() -> None:
            held.append(await get(transport, server.origin, "/large"))

        async def wait() -> Response:
            asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, held[-1].abort)
            return await get(transport, server.origin)

        class Waiting(Case):
            async def check(self, outcome: Outcome[object]) -> None:
                held[-1].abort()
                await super().check(outcome)

        assert await Waiting(transport, server, wait).run(delivery, hold) >= 3
