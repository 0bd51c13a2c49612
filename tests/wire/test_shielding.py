"""Requests that a cancellation must not interrupt: one that was sent is awaited, and none is begun afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.wire.serving import Peer, answering, get, not_of_servers, ok, serving, transporting
from trove_async.cancellation import CleanupWarning, shielded
from trove_async.driver.retry import Attempts, RetryPolicy
from trove_async.errors import TransientError
from trove_async.wire.transport import Origin, Transport

pytestmark = [pytest.mark.asyncio, pytest.mark.every_loop]


async def post(transport: Transport, origin: Origin, done: list[int]) -> None:
    response = await transport.send(origin, "POST", "/", ())
    done.append(response.status)


def shielding(transport: Transport, origin: Origin, done: list[int], timeout: float = 10) -> asyncio.Task[None]:
    return asyncio.create_task(shielded(post(transport, origin, done), timeout=timeout, leftover="a request"))


async def test_a_request_that_waits_for_a_connection_is_never_sent() -> None:
    done: list[int] = []
    async with serving(answering(ok(bytes(16 << 20)))) as server, transporting(connections=1) as transport:
        reader = await get(transport, server.origin)
        task = shielding(transport, server.origin, done)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reader.abort()
        assert (await get(transport, server.origin)).status == 200
        assert [request.method for request in server.requests] == ["GET", "GET"]
        assert done == []


@pytest.mark.parametrize("times", [1, 3])
async def test_a_sent_request_is_awaited(times: int) -> None:
    done: list[int] = []
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await go_on.wait()
        await peer.send(ok())

    async with serving(script) as server, transporting() as transport:
        task = shielding(transport, server.origin, done)
        await arrived.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [200]


async def test_a_request_that_is_never_answered_is_given_up() -> None:
    done: list[int] = []
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.gone()

    async with serving(script) as server, transporting() as transport:
        tasks = asyncio.all_tasks()
        task = shielding(transport, server.origin, done, timeout=0.01)
        await arrived.wait()
        task.cancel()
        with pytest.warns(CleanupWarning, match="a request"), pytest.raises(asyncio.CancelledError):
            await task
        await server.all_gone()
        assert not not_of_servers(asyncio.all_tasks() - tasks)
    assert done == []


async def test_no_attempt_follows_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a request that fails after the cancellation, nor after another request in between."""
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if request.method == "GET":
                arrived.set()
                await go_on.wait()
            await peer.send(ok())

    async def work(transport: Transport, origin: Origin) -> None:
        await post(transport, origin, [])
        await Attempts(RetryPolicy()).failed(TransientError("the answer to a write was lost", retry_after=0))
        await get(transport, origin)
        await post(transport, origin, [])

    async with serving(script) as server, transporting() as transport:
        monkeypatch.setattr("trove_async.jitter.jitter.uniform", lambda low, high: low)
        task: asyncio.Task[Any] = asyncio.create_task(
            shielded(work(transport, server.origin), timeout=10, leftover="requests")
        )
        await arrived.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [request.method for request in server.requests] == ["POST", "GET"]
        assert transport.idle_connections == transport.open_connections == 1
