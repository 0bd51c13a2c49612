"""Cancellations outside the conformance suite: while connecting, while waiting, and when the connection is lost."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.sftp.residue import residue_of
from tests.sftp.stores import ServerName, opened, pattern, remote
from trove_async.driver import OpenOptions
from trove_async.drivers.sftp.connection import Connection
from trove_async.drivers.sftp.protocol import Kind, OpenFlag, pack_u32
from trove_async.drivers.sftp.settings import SFTPSettings
from trove_async.drivers.sftp.statuses import path_bytes
from trove_async.dsn import parse_dsn
from trove_async.testing.injection import Delivery, Outcome, cancel_everywhere
from trove_async.testing.proxy import ConnectionFault, FaultProxy

pytestmark = pytest.mark.asyncio


async def nothing() -> None:
    """Prepare nothing."""


@pytest.mark.parametrize("delivery", list(Delivery), ids=lambda delivery: delivery.name)
async def test_opening_leaves_no_connection_and_nothing_on_the_disk(
    server: ServerName, root: Path, network: FaultProxy, delivery: Delivery, await_point_step: int
) -> None:
    async def open_and_close() -> None:
        async with opened(server, root, port=network.port, clean=False):
            pass

    async def check(outcome: Outcome[None]) -> None:
        await network.until(lambda proxy: proxy.open == 0)
        tmp = root / ".trove/tmp"
        assert not tmp.exists() or os.listdir(tmp) == []
        assert residue_of(root) == []

    points = await cancel_everywhere(open_and_close, delivery, prepare=nothing, check=check, step=await_point_step)
    assert points > 1


@pytest.mark.parametrize("kind", ["reset", "stall"])
async def test_a_put_that_is_cancelled_while_it_reconnects_leaves_nothing(
    server: ServerName, root: Path, network: FaultProxy, kind: str, await_point_step: int
) -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    idle_timeout = 0.3 if kind == "stall" else 30.0
    async with opened(server, root, port=network.port, idle_timeout=idle_timeout, clean=False) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"old", metadata={"a": "b"})

        async def put() -> None:
            network.inject_open(ConnectionFault(**{f"{kind}_up_after": 30_000}))  # type: ignore[arg-type]
            await store.put("bucket", "key", pattern(200_000), metadata={"c": "d"})

        async def check(outcome: Outcome[None]) -> None:
            async with store.get("bucket", "key") as reader:
                data = await reader.read()
                assert (data, reader.info.metadata) in (
                    (b"old", {"a": "b"}),
                    (pattern(200_000), {"c": "d"}),
                )
            assert remote(store).held_handles == 0
            assert residue_of(root) == []

        await cancel_everywhere(put, Delivery.PENDING, prepare=nothing, check=check, step=await_point_step)
    gc.collect()
    assert unheard == []


async def test_a_cancelled_wait_for_the_connection_does_not_affect_the_others(
    server: ServerName, root: Path, network: FaultProxy
) -> None:
    async with opened(server, root, port=network.port) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data")
        network.inject(ConnectionFault(latency=0.02), times=None)
        network.break_open("reset")
        reading = [asyncio.create_task(store.read("bucket", "key")) for _ in range(10)]
        await network.until(lambda proxy: proxy.accepted == 2)
        for task in reading[:5]:
            task.cancel()
        outcomes = await asyncio.gather(*reading, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:5]] == [asyncio.CancelledError] * 5
        assert outcomes[5:] == [b"data"] * 5
        assert network.accepted == 2


async def test_a_cancelled_wait_for_a_handle_leaves_the_queue(server: ServerName, root: Path) -> None:
    async with opened(server, root, handles=4) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", pattern(1_000_000))
        readers = [await store.get("bucket", "key") for _ in range(3)]
        waiting = [asyncio.create_task(store.put("bucket", f"{number}", b"data")) for number in range(6)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        for reader in readers:
            await reader.aclose()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(outcome, trove.ObjectInfo) for outcome in outcomes] == [False, True] * 3


async def test_closing_ends_operations_under_way(server: ServerName, root: Path, network: FaultProxy) -> None:
    async with opened(server, root, port=network.port, clean=False) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", pattern(6_000_000))
        network.inject_open(ConnectionFault(latency=0.01))
        reader = await store.get("bucket", "key")
        reading = asyncio.create_task(reader.read())
        putting = asyncio.create_task(store.put("bucket", "other", pattern(6_000_000)))
        await asyncio.sleep(0.02)
    outcomes = await asyncio.gather(reading, putting, return_exceptions=True)
    assert all(isinstance(outcome, trove.ClosedError | trove.ObjectInfo | bytes) for outcome in outcomes), outcomes
    await network.until(lambda proxy: proxy.open == 0)
    assert residue_of(root) == []
    assert os.listdir(root / ".trove/tmp") == []


async def test_closing_during_puts_leaves_nothing(
    server: ServerName, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"half"
        await closed.wait()
        yield b"half"

    async with opened(server, root) as store:
        await store.create_bucket("bucket")
    for turns in range(0, 60, 6):  # how far the puts have come
        closed.clear()
        async with opened(server, root, clean=False) as store:
            await store.put("bucket", "first", b"data")
            bodies: list[Any] = [pattern(1000), slow(), pattern(200_000), slow(), *[pattern(70_000)] * 12]
            putting = [asyncio.create_task(store.put("bucket", f"{n}", body)) for n, body in enumerate(bodies)]
            for _ in range(turns):
                await asyncio.sleep(0)
        closed.set()
        outcomes = await asyncio.gather(*putting, return_exceptions=True)
        assert all(isinstance(outcome, trove.ClosedError | trove.ObjectInfo) for outcome in outcomes), outcomes
        assert os.listdir(root / ".trove/tmp") == []
    assert residue_of(root) == []
    assert caplog.records == []


async def test_closing_ends_operations_that_wait_for_a_connection() -> None:
    accepted = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        settings = SFTPSettings.of(parse_dsn(f"sftp://user:password@127.0.0.1:{port}/root?agent=none"), OpenOptions())
        connection = Connection(settings, cleanup_timeout=5.0)
        waiting = [asyncio.ensure_future(connection.channel()) for _ in range(3)]
        await accepted.wait()
        waiting[0].cancel()
        await connection.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, trove.ClosedError, trove.ClosedError]


async def test_a_handle_that_arrives_with_a_cancellation_is_closed(server: ServerName, root: Path) -> None:
    async with opened(server, root) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "key", b"data")
        channel = await remote(store).connection.channel()
        path = path_bytes(str(root / "bucket/key"))
        opening = channel.request(Kind.OPEN, path, pack_u32(OpenFlag.READ), pack_u32(0))
        # The cancellation comes after the answer, and before the caller can take it.
        opening.add_done_callback(lambda _: waiting.cancel())
        waiting = asyncio.ensure_future(channel.handle_of(opening))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert channel.open_handles == 1  # the server is told, and has not answered
        await channel.lstat(path)
        assert channel.open_handles == 0
