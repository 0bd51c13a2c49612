from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.wire.serving import Peer, Server, answering, get, ok, proxied, serving, transporting
from trove_async.errors import ClosedError, OperationTimeoutError, UnavailableError
from trove_async.testing.proxy import ConnectionFault
from trove_async.wire.pool import Pool
from trove_async.wire.protocol import Connection
from trove_async.wire.transport import Origin, Response, Transport

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop, pytest.mark.timeout(30)]


class HeldAnswers:
    """A server that sends its answers one by one, when the test says so."""

    def __init__(self) -> None:
        self.waiting = 0
        self._turns = asyncio.Semaphore(0)

    async def script(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.waiting += 1
            await self._turns.acquire()
            self.waiting -= 1
            await peer.send(ok(request.target.encode()))

    def release(self, count: int) -> None:
        for _ in range(count):
            self._turns.release()

    async def until_waiting(self, count: int) -> None:
        while self.waiting != count:  # noqa: ASYNC110 - the test has a timeout
            await asyncio.sleep(0)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_number_of_connections_does_not_exceed_the_limit() -> None:
    held = HeldAnswers()
    async with serving(held.script) as server, transporting(connections=3) as transport:
        tasks = [asyncio.ensure_future(get(transport, server.origin)) for _ in range(10)]
        await held.until_waiting(3)
        await settle()
        assert held.waiting == transport.open_connections == 3
        held.release(10)
        await asyncio.gather(*tasks)
        assert server.accepted == 3
        assert transport.idle_connections == 3


async def test_connections_are_lent_in_the_order_of_the_requests() -> None:
    held = HeldAnswers()
    async with serving(held.script) as server, transporting(connections=1) as transport:
        done: list[str] = []

        async def ask(number: int) -> None:
            response = await get(transport, server.origin, f"/{number}")
            done.append(response.content.decode() if response.content else "")
            if number < 5:  # a request that is made now waits behind the others
                again = await get(transport, server.origin, f"/{number + 100}")
                done.append(again.content.decode() if again.content else "")

        tasks = []
        for number in range(10):
            tasks.append(asyncio.ensure_future(ask(number)))
            await asyncio.sleep(0)
        held.release(15)
        await asyncio.gather(*tasks)
        assert done == [f"/{number}" for number in [*range(10), *range(100, 105)]]
        assert server.accepted == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_cancelled_waiter_loses_no_connection(times: int) -> None:
    held = HeldAnswers()
    async with serving(held.script) as server, transporting(connections=1) as transport:
        tasks = []
        for number in range(6):
            tasks.append(asyncio.ensure_future(get(transport, server.origin, f"/{number}")))
            await asyncio.sleep(0)
        await held.until_waiting(1)
        for _ in range(times):
            tasks[1].cancel()
            tasks[3].cancel()
            if times == 2:
                await asyncio.sleep(0)
        held.release(6)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [
            number in (1, 3) for number in range(6)
        ]
        assert [request.target for request in server.requests] == ["/0", "/2", "/4", "/5"]
        assert transport.open_connections == transport.idle_connections == 1


@asynccontextmanager
async def two_waiters(
    transport: Transport, server: Server
) -> AsyncIterator[tuple[Pool, Connection, asyncio.Task[Response], asyncio.Task[Response]]]:
    """Lend the only connection, and let two requests wait for it."""
    pool = transport._pool
    await get(transport, server.origin)
    connection = pool.take(server.origin)
    assert connection is not None
    second = asyncio.create_task(get(transport, server.origin))
    third = asyncio.create_task(get(transport, server.origin))
    await settle()
    yield pool, connection, second, third
    assert (await third).status == 200
    assert transport.open_connections == transport.idle_connections == 1
    assert not pool._connecting


async def test_a_connection_given_to_a_waiter_that_is_being_cancelled_goes_to_the_next() -> None:
    async with serving(answering(ok())) as server, transporting(connections=1) as transport:
        async with two_waiters(transport, server) as (pool, connection, second, _):
            pool.release(connection)
            second.cancel()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        assert server.accepted == 1


async def test_a_slot_given_to_a_waiter_that_is_being_cancelled_goes_to_the_next() -> None:
    async with serving(answering(ok())) as server, transporting(connections=1) as transport:
        async with two_waiters(transport, server) as (_, connection, second, _):
            connection.drop()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        assert server.accepted == 2


async def test_a_connection_that_breaks_while_it_is_handed_to_a_waiter_is_replaced() -> None:
    async with serving(answering(ok())) as server, transporting(connections=1) as transport:
        async with two_waiters(transport, server) as (pool, connection, second, _):
            pool.release(connection)
            connection.drop()
            assert (await second).status == 200
        assert server.accepted == 2


async def test_a_connection_that_breaks_while_it_is_handed_to_a_cancelled_waiter_frees_its_slot() -> None:
    async with serving(answering(ok())) as server, transporting(connections=1) as transport:
        async with two_waiters(transport, server) as (pool, connection, second, _):
            pool.release(connection)
            connection.drop()
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        assert server.accepted == 2


async def test_no_request_waits_longer_than_the_timeout() -> None:
    held = HeldAnswers()
    async with serving(held.script) as server, transporting(connections=1, pool_timeout=0.02) as transport:
        first = asyncio.ensure_future(get(transport, server.origin))
        await held.until_waiting(1)
        with pytest.raises(OperationTimeoutError, match="none of 1 connections") as caught:
            await get(transport, server.origin)
        assert not caught.value.ambiguous
        held.release(2)
        await first
        assert (await get(transport, server.origin)).status == 200


async def test_an_idle_connection_is_closed_for_one_to_another_origin() -> None:
    async with (
        serving(answering(ok(b"a"))) as a,
        serving(answering(ok(b"b"))) as b,
        transporting(connections=2) as transport,
    ):
        await asyncio.gather(get(transport, a.origin), get(transport, a.origin))
        assert transport.idle_connections == 2
        assert (await get(transport, b.origin)).content == b"b"
        assert transport.open_connections == 2
        assert (a.accepted, b.accepted) == (2, 1)
        assert (await get(transport, a.origin)).content == b"a"
        assert a.accepted == 2


async def test_a_waiter_for_another_origin_gets_the_slot() -> None:
    held = HeldAnswers()
    async with (
        serving(held.script) as a,
        serving(answering(ok(b"b"))) as b,
        transporting(connections=1) as transport,
    ):
        first = asyncio.ensure_future(get(transport, a.origin))
        await held.until_waiting(1)
        second = asyncio.ensure_future(get(transport, b.origin))
        third = asyncio.ensure_future(get(transport, a.origin))
        await settle()
        held.release(2)
        await first
        assert (await second).content == b"b"
        await third
        assert (a.accepted, b.accepted) == (2, 1)


async def test_a_failed_connection_attempt_frees_its_slot() -> None:
    async with (
        serving(answering(ok())) as server,
        proxied(server) as (proxy, origin),
        transporting(connections=1) as transport,
    ):
        with proxy.unreachable():
            results = await asyncio.gather(*(get(transport, origin) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, UnavailableError) for result in results)
        assert (await get(transport, origin)).status == 200


async def test_an_idle_connection_that_the_server_ends_is_noticed_immediately() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())

    async with serving(script) as server, transporting() as transport:
        for number in range(1, 6):
            assert (await get(transport, server.origin)).status == 200
            assert server.accepted == number
            while transport.open_connections:  # noqa: ASYNC110 - the loop notices by itself
                await asyncio.sleep(0)


async def test_an_end_that_the_loop_has_not_seen_is_noticed_when_the_connection_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = Origin("http", "127.0.0.1", listener.getsockname()[1])

        def serve_one() -> socket.socket:
            listener.settimeout(5)  # the thread ends even if the test fails
            peer = listener.accept()[0]
            peer.settimeout(5)
            peer.recv(65536)
            peer.sendall(ok())
            return peer

        async with transporting() as transport:
            asking = asyncio.ensure_future(get(transport, origin))
            peer = await asyncio.to_thread(serve_one)
            await asking
            peer.close()  # until the next request the loop has no turn in which it could look
            asking = asyncio.ensure_future(get(transport, origin))
            (await asyncio.to_thread(serve_one)).close()
            assert (await asking).status == 200


async def test_data_on_an_idle_connection_drops_it() -> None:
    speak = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await speak.wait()
        await peer.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        await get(transport, server.origin)
        assert transport.idle_connections == 1
        speak.set()
        await server.all_gone()
        assert transport.open_connections == 0


async def test_a_connection_is_closed_after_its_idle_time() -> None:
    async with serving(answering(ok())) as server, transporting(keep_alive=0.02) as transport:
        await asyncio.gather(get(transport, server.origin), get(transport, server.origin))
        assert transport.idle_connections == 2
        await server.all_gone()
        assert transport.open_connections == 0
        await get(transport, server.origin)
        assert server.accepted == 3


async def test_a_connection_is_not_used_after_its_idle_time() -> None:
    async with serving(answering(ok())) as server, transporting(keep_alive=30) as transport:
        await get(transport, server.origin)
        next(iter(transport._pool._connections)).idle_since -= 31
        await get(transport, server.origin)
        assert server.accepted == 2
        assert transport.open_connections == 1


async def test_closing_drops_open_and_lent_and_awaited_connections_and_those_being_made() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        if request.target == "/large":
            await peer.send(ok(b"x" * 10_000_000))
        await peer.gone()

    async with serving(script) as server, proxied(server) as (proxy, origin):
        proxy.inject(ConnectionFault(blackhole=True), skip=2)
        async with transporting(connections=3) as transport:
            reader = await get(transport, origin, "/large")
            await reader.read(10)

            async def read_on() -> None:
                while await reader.read(1 << 20):
                    pass

            tasks = [asyncio.ensure_future(get(transport, origin)) for _ in range(4)]
            await settle()
            await transport.aclose()
            assert transport.open_connections == 0
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [ClosedError] * 4
            with pytest.raises(ClosedError):
                await read_on()
            with pytest.raises(ClosedError):
                await get(transport, origin)
            await transport.aclose()


async def test_two_concurrent_calls_of_close_both_return() -> None:
    async with serving(answering(ok())) as server, transporting() as transport:
        await asyncio.gather(*(get(transport, server.origin) for _ in range(3)))
        first, second, third = (asyncio.ensure_future(transport.aclose()) for _ in range(3))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.gather(second, third)
        assert not transport._pool._transports


async def test_closing_ends_connection_attempts() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as server:
        async with transporting(proxy=f"http://127.0.0.1:{server.port}", connect_timeout=600) as transport:
            origin = Origin("https", "example.invalid", 443)
            task = asyncio.ensure_future(get(transport, origin))
            while not server.accepted:  # noqa: ASYNC110 - the test has a timeout
                await asyncio.sleep(0)
            await transport.aclose()
            with pytest.raises(ClosedError):
                await task
        await server.all_gone()


async def test_many_requests_that_are_cancelled_at_random_lose_no_connection() -> None:
    async with (
        serving(answering(ok(b"x" * 5000), ok(b"x" * 80_000))) as server,
        transporting(connections=4) as transport,
    ):

        async def ask() -> bytes:
            response = await get(transport, server.origin)
            return await response.read_all(100_000)

        for _ in range(30):
            tasks = [asyncio.ensure_future(ask()) for _ in range(20)]
            for place, task in enumerate(tasks):
                if place % 3:
                    asyncio.get_running_loop().call_later(0.0001 * place, task.cancel)
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert not [result for result in results if isinstance(result, Exception)]
            assert transport.open_connections <= 4
        assert transport.open_connections == transport.idle_connections
        assert not transport._pool._connecting
        await asyncio.gather(*(ask() for _ in range(8)))
